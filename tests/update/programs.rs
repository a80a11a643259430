//! The program itself: its exit codes and output, killed and started again.

use super::*;
use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn program() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"));
    c.env_remove("BITNET_UPDATE_TOKEN").stdin(Stdio::null());
    c
}

fn update(place: &Place) -> Command {
    let mut c = program();
    c.args(["update", "--json", "--model"]).arg(&place.options.model).args(["--delta-url", &place.options.url]);
    c
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn killed_in_the_middle_it_goes_on() {
    // A patch of some megabytes, so that much of it is on the disk when the program is killed.
    let big = |n: u64| -> Vec<u8> { (0..30).flat_map(|_| version(n)).collect() };
    let bytes = patches::of(&big(1), &big(2), 1, 2);
    assert!(bytes.len() > 5 << 20);
    let server =
        bad_server(files(&[("p", bytes)]), |a, r| if a.before == 0 { r.sending(5 << 20).then(Then::Stall) } else { r });
    let place = Place::new(&server.url("/p"));
    fs::write(&place.options.model, big(1)).unwrap();
    let mut child = update(&place).stdout(Stdio::null()).spawn().unwrap();
    let start = std::time::Instant::now();
    let noted = || {
        let text = fs::read_to_string(place.file(".download.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).ok().and_then(|v| v["verified"].as_u64()).unwrap_or(0)
    };
    while noted() < 4 << 20 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is kept");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fs::read(&place.options.model).unwrap() == big(1));
    let kept = noted();
    let out = update(&place).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(json(&out)["status"], "updated");
    assert!(fs::read(&place.options.model).unwrap() == big(2));
    assert_eq!(server.asked("/p")[1].header("range"), Some(format!("bytes={kept}-").as_str()));
    place.is_tidy();
}

#[test]
fn exit_codes_and_json() {
    let server = server_of(files(&[("p", one())]));
    let place = Place::new(&server.url("/p"));
    let out = update(&place).arg("--dry-run").output().unwrap();
    assert_eq!((out.status.code(), &json(&out)["status"]), (Some(0), &Value::from("would-update")));
    let out = update(&place).output().unwrap();
    let report = json(&out);
    assert_eq!(
        (out.status.code(), &report["status"], &report["trial"]),
        (Some(0), &Value::from("updated"), &Value::from(true))
    );
    assert_eq!((&report["way"], &report["to"]["version"]), (&Value::from("direct"), &Value::from("v2")));
    let out = update(&place).output().unwrap();
    assert_eq!((out.status.code(), &json(&out)["status"]), (Some(0), &Value::from("up-to-date")));
    drop(server);
    let out = update(&place).args(["--attempts", "1", "--connect-timeout", "5"]).output().unwrap();
    assert_eq!((out.status.code(), &json(&out)["error"]["code"]), (Some(2), &Value::from("io")));
}

#[test]
fn a_folder_gets_the_same_index_every_time_and_updates_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("releases");
    fs::create_dir(&folder).unwrap();
    let list = [
        ("a b.bin", patch(2, 3).bytes()),
        ("z", patch(3, 4).bytes()),
        ("full.bin", full(4).bytes()),
        ("README", b"no patch".to_vec()),
    ];
    for (name, data) in &list {
        fs::write(folder.join(name), data).unwrap();
    }
    let make = |folder: &Path| program().args(["delta", "index", "--json"]).arg(folder).output().unwrap();
    let out = make(&folder);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(json(&out)["newest"], "v4");
    let text = fs::read(folder.join("index.json")).unwrap();
    make(&folder);
    assert!(fs::read(folder.join("index.json")).unwrap() == text);
    let index: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(index["patches"][0]["url"], "a%20b.bin");
    assert_eq!(index["files"][2]["url"], "full.bin");
    assert_eq!(index["files"].as_array().map(Vec::len), Some(3));
    let place = Place::at(2, &format!("file://{}", folder.join("index.json").display()));
    let report = place.updates();
    place.is(4);
    assert_eq!(report.patches.len(), 2);
    // A damaged patch is not listed, and nothing is written.
    fs::remove_file(folder.join("index.json")).unwrap();
    let mut damaged = list[1].1.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(folder.join("z"), damaged).unwrap();
    let out = make(&folder);
    assert_eq!((out.status.code(), folder.join("index.json").exists()), (Some(2), false));
    assert!(json(&out)["error"]["file"].as_str().is_some_and(|f| f.ends_with("/z")));
    // Nor are patches of two models, or of two opinions about one file.
    fs::write(folder.join("z"), Made { model: "stories".into(), ..patch(3, 4) }.bytes()).unwrap();
    assert!(json(&make(&folder))["error"]["message"].as_str().is_some_and(|m| m.contains("`stories`")));
    fs::remove_file(folder.join("z")).unwrap();
    let mut renamed = patch(2, 3).bytes();
    renamed[256] = b'w';
    fs::write(folder.join("z"), renamed).unwrap();
    assert!(json(&make(&folder))["error"]["message"].as_str().is_some_and(|m| m.contains("name one file differently")));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(json(&make(&empty))["error"]["message"].as_str().is_some_and(|m| m.contains("there is no patch")));
}
