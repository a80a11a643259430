//! Folders, signatures, and runs that are cut between any two steps.

use super::*;

fn url_of(path: &Path) -> String {
    format!("file://{}", path.display().to_string().replace(' ', "%20"))
}

#[test]
fn patches_and_indexes_in_folders() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a stick");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("one.bin"), one()).unwrap();
    fs::write(folder.join("i.json"), indexes::index(&[1, 2], &[(1, 2, one().len(), "one.bin")])).unwrap();
    for name in ["one.bin", "i.json"] {
        let place = Place::new(&url_of(&folder.join(name)));
        place.updates();
        place.is(2);
        place.is_tidy();
    }
    for (text, what) in [
        (indexes::index(&[1, 2], &[(1, 2, 1000, "../one.bin")]), "not followed"),
        (indexes::index(&[1, 2], &[(1, 2, 1000, "file:///etc/passwd")]), "not followed"),
        (indexes::index(&[1, 2], &[(1, 2, one().len(), "gone.bin")]), "gone.bin"),
        (one()[..1000].to_vec(), "by its header"),
        (one()[..100].to_vec(), "ended after 100 bytes"),
        (b"hello world".to_vec(), "neither"),
        (Vec::new(), "ended after 0 bytes"),
    ] {
        fs::write(folder.join("x"), text).unwrap();
        let place = Place::new(&url_of(&folder.join("x")));
        place.refuses(&[what]);
        place.is_tidy();
    }
    Place::new(&url_of(&folder)).refuses(&["not a regular file"]);
    Place::new(&url_of(&folder.join("gone"))).refuses(&["gone"]);
    Place::new(&folder.join("one.bin").display().to_string()).refuses(&["give `file:///"]);
}

#[test]
fn only_what_a_key_signed_is_fetched() {
    let (mine, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let signed = patch(1, 2).signed(&mine);
    let server = server_of(files(&[
        ("signed", signed.clone()),
        ("plain", one()),
        ("other", patch(1, 2).signed(&other)),
        ("next", patch(2, 3).bytes()),
    ]));
    let mut place = Place::new(&server.url("/plain"));
    place.options.keys.add(mine.public().unwrap()).unwrap();
    place.refuses(&["not signed"]);
    place.options.url = server.url("/other");
    place.refuses(&["not trusted"]);
    let mut forged = signed;
    forged[56] ^= 1;
    let forger = server_of(files(&[("forged", forged)]));
    place.options.url = forger.url("/forged");
    place.refuses(&["signature"]);
    assert_eq!(place.kept(), 0);
    place.options.url = server.url("/signed");
    assert_eq!(place.updates().signed_by, Some(mine.number().to_string()));
    // The key is remembered.
    place.options.keys = Keyring::default();
    place.options.url = server.url("/next");
    place.refuses(&["not signed"]);
    assert!(server.asked("/").iter().all(|a| a.header("range").is_none()));
}

#[test]
fn a_patch_for_another_file_or_model_is_not_fetched() {
    let server = server_of(files(&[
        ("p", patch(3, 4).bytes()),
        ("q", Made { model: "stories".into(), ..patch(2, 3) }.bytes()),
        ("ok", one()),
    ]));
    let mut place = Place::new(&server.url("/p"));
    place.refuses(&["starts from another file", "`v3`"]);
    place.options.url = server.url("/ok");
    place.updates();
    place.options.url = server.url("/q");
    place.refuses(&["model `stories`"]);
    place.is_tidy();
}

#[test]
fn what_is_whole_is_not_fetched_again() {
    // Cut between the download and its use: the folder cannot be written, or the power fails.
    let server = bad(1, |r| r.sending(150_000));
    let mut place = Place::new(&server.url("/p"));
    place.options.attempts = 1;
    place.refuses(&[]);
    fs::write(place.file(".download"), one()).unwrap();
    let note = fs::read_to_string(place.file(".download.json")).unwrap();
    fs::write(place.file(".download.json"), note.replace("150000", &one().len().to_string())).unwrap();
    let report = place.updates();
    place.is(2);
    place.is_tidy();
    assert_eq!((report.fetched, server.asked("/p").len()), (0, 1));
}

#[test]
fn leftovers_of_a_cut_run_are_cleared() {
    let server = server_of(files(&[("p", one())]));
    let place = Place::new(&server.url("/p"));
    for suffix in [".step0", ".step3", ".new", ".download", ".download.2"] {
        fs::write(place.file(suffix), b"half").unwrap();
    }
    place.updates();
    place.is(2);
    place.is_tidy();
}

#[test]
fn a_run_that_was_cut_before_it_confirmed_confirms() {
    let server = server_of(files(&[("p", one())]));
    let mut place = Place::new(&server.url("/p"));
    assert!(place.updates().trial);
    let report = place.run().unwrap();
    assert_eq!((report.status, report.trial), (Status::UpToDate, true));
    place.options.confirm = true;
    let report = place.run().unwrap();
    assert_eq!((report.status, report.trial), (Status::UpToDate, false));
    let state = fs::read_to_string(place.file(".state")).unwrap();
    assert!(state.contains("\"trial\": null"), "{state}");
}

#[test]
fn in_place_needs_a_patch_that_can() {
    let server = server_of(files(&[("full", full(2).bytes()), ("p", one())]));
    let mut place = Place::new(&server.url("/full"));
    place.options.in_place = true;
    place.refuses(&["cannot be applied in place"]);
    place.options.url = server.url("/p");
    place.updates();
    place.is(2);
    place.is_tidy();
    assert!(!place.file(".prev").exists() && !place.file(".journal").exists());
}

#[test]
fn two_updaters_at_once() {
    let server = bad(1, |r| r.sending(100_000).then(Then::Stall));
    let mut place = Place::new(&server.url("/p"));
    place.options.idle = Duration::from_secs(3);
    std::thread::scope(|s| {
        let first = s.spawn(|| place.run());
        server.wait_for("/p", 1);
        place.refuses(&["another update of this file is at work"]);
        assert_eq!(first.join().unwrap().unwrap().status, Status::Updated);
    });
    place.is(2);
    assert_eq!(server.asked("/p").len(), 2);
}

#[cfg(unix)]
#[test]
fn readers_keep_the_file_that_they_opened() {
    use std::io::Read;
    let server = server_of(files(&[("p", one())]));
    let place = Place::new(&server.url("/p"));
    let mut reader = fs::File::open(&place.options.model).unwrap();
    let mut seen = vec![0; 1000];
    reader.read_exact(&mut seen).unwrap();
    place.updates();
    reader.read_to_end(&mut seen).unwrap();
    assert!(seen == version(1));
}
