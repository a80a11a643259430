//! `delta keygen` on the command line, and minisign with the same files.

use super::common::{command, finish, tool};
use bitnet_convert::delta::keys::{sign, verify, Keyring, PublicKey, SecretKey};
use std::path::Path;
use std::process::Command;

#[test]
fn keygen_makes_a_pair_once() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("release-1.0");
    let made = tool("delta keygen --json --comment fleet -o {}", &[&name]).ok().json();
    let (secret, public) = (dir.path().join("release-1.0.key"), dir.path().join("release-1.0.pub"));
    assert_eq!(made["secret"], secret.to_str().unwrap());
    let text = std::fs::read_to_string(&public).unwrap();
    assert_eq!(text, format!("untrusted comment: fleet\n{}\n", made["key"].as_str().unwrap()));
    assert_eq!(PublicKey::read(&public).unwrap().number().to_string(), made["number"].as_str().unwrap());
    assert_eq!(SecretKey::read(&secret).unwrap().public().unwrap(), PublicKey::read(&public).unwrap());
    let before = std::fs::read(&secret).unwrap();
    let again = tool("delta keygen -o {}", &[&name]).never_panicked();
    assert!(again.code == Some(2) && again.stderr.contains("never overwritten"), "{again:?}");
    assert_eq!(std::fs::read(&secret).unwrap(), before);
    // Nothing that the program prints is the secret.
    let hidden = String::from_utf8(before).unwrap().lines().nth(1).unwrap().to_string();
    assert!(!made.to_string().contains(&hidden[100..150]));
    let nowhere = finish(command().args(["delta", "keygen", "-o", "/nowhere/at/all"])).never_panicked();
    assert!(nowhere.code == Some(2) && nowhere.stderr.contains("/nowhere/at"), "{nowhere:?}");
}

/// Its own program reads ours, and the other way round. Runs where it is installed.
#[test]
fn minisign_has_the_same_keys() {
    let minisign = |args: &[&str], files: &[&Path]| {
        let mut c = Command::new("minisign");
        let mut files = files.iter();
        args.iter().for_each(|a| {
            if *a == "{}" {
                c.arg(files.next().unwrap())
            } else {
                c.arg(a)
            };
        });
        finish(&mut c)
    };
    if Command::new("minisign").arg("-v").output().is_err() {
        println!("not run: minisign is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    tool("delta keygen --quiet -o {}", &[&at("ours")]).ok();
    std::fs::write(at("text"), "a message").unwrap();
    minisign(&["-S", "-s", "{}", "-m", "{}"], &[&at("ours.key"), &at("text")]).ok();
    minisign(&["-V", "-p", "{}", "-m", "{}"], &[&at("ours.pub"), &at("text")]).ok();
    minisign(&["-R", "-s", "{}", "-p", "{}"], &[&at("ours.key"), &at("again.pub")]).ok();
    assert_eq!(PublicKey::read(&at("again.pub")).unwrap(), PublicKey::read(&at("ours.pub")).unwrap());
    minisign(&["-G", "-W", "-s", "{}", "-p", "{}"], &[&at("theirs.key"), &at("theirs.pub")]).ok();
    let header = sign(&[7; 384], &SecretKey::read(&at("theirs.key")).unwrap());
    assert!(verify(&header, &Keyring::read(&[at("theirs.pub"), at("ours.pub")]).unwrap()).is_ok());
    assert!(verify(&header, &Keyring::read(&[at("ours.pub")]).unwrap()).is_err());
}
