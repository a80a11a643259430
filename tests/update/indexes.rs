//! Which way is taken, and indexes that lie.

use super::*;
use bitnet_convert::update::Kind as Way;
use patches::{hex, sha};
use serde_json::{json, Value};

type Edge<'a> = (u64, u64, usize, &'a str);

/// An index of these versions, none with a full patch, and these patches.
pub fn index(versions: &[u64], edges: &[Edge]) -> Vec<u8> {
    value(versions, edges).to_string().into_bytes()
}

fn value(versions: &[u64], edges: &[Edge]) -> Value {
    let name = |n: u64| hex(&sha(&version(n)));
    let files: Vec<_> = versions
        .iter()
        .map(|n| json!({"version": format!("v{n}"), "sequence": n, "sha256": name(*n), "length": 200_000}))
        .collect();
    let patches: Vec<_> = edges
        .iter()
        .map(|(a, b, bytes, url)| json!({"from_sha256": name(*a), "to_sha256": name(*b), "bytes": bytes, "url": url, "in_place": true}))
        .collect();
    json!({"format": 1, "model": "intent", "files": files, "patches": patches})
}

fn with_full(mut index: Value, i: usize, bytes: usize, url: &str) -> Vec<u8> {
    index["files"][i]["bytes"] = json!(bytes);
    index["files"][i]["url"] = json!(url);
    index.to_string().into_bytes()
}

/// Versions 2 to 5: each step, a direct patch that is larger than the chain, a full patch.
fn release() -> (Files, Vec<u8>) {
    let (s, t, u) = (patch(2, 3).bytes(), patch(3, 4).bytes(), patch(4, 5).bytes());
    let direct = Made { block: 1 << 16, ..patch(2, 5) }.bytes();
    let whole = full(5).bytes();
    assert!(s.len() + t.len() + u.len() < direct.len() && direct.len() < whole.len());
    let edges = [(2, 3, s.len(), "s"), (3, 4, t.len(), "d/t"), (4, 5, u.len(), "u"), (2, 5, direct.len(), "direct")];
    let index = with_full(value(&[2, 3, 4, 5], &edges), 3, whole.len(), "full%2Ebin");
    (files(&[("s", s), ("d/t", t), ("u", u), ("direct", direct), ("full%2Ebin", whole), ("i", index.clone())]), index)
}

#[test]
fn a_chain_of_three_keeps_the_version_before_it() {
    let server = server_of(release().0);
    let place = Place::at(2, &server.url("/i"));
    let report = place.updates();
    place.is(5);
    place.is_tidy();
    assert_eq!((report.way, report.patches.len()), (Some(Way::Chain), 3));
    assert_eq!(report.from.map(|v| v.version).as_deref(), Some("v2"));
    assert!(fs::read(place.file(".prev")).unwrap() == version(2), "the version before the chain is kept");
    assert!(server.asked("/direct").is_empty() && server.asked("/full").is_empty());
}

#[test]
fn a_chain_in_place_goes_step_by_step() {
    let server = server_of(release().0);
    let mut place = Place::at(2, &server.url("/i"));
    place.options.in_place = true;
    place.options.confirm = true;
    let report = place.updates();
    place.is(5);
    place.is_tidy();
    assert!(!report.trial);
    assert_eq!(place.run().unwrap().status, Status::UpToDate);
}

#[test]
fn a_cut_in_the_middle_of_a_chain_goes_on_there() {
    let server = bad_server(release().0, |a, r| if a.path == "/u" && a.before < 3 { r.sending(5000) } else { r });
    let place = Place::at(2, &server.url("/i"));
    place.refuses(&["3 attempts"]);
    place.updates();
    place.is(5);
    assert_eq!((server.asked("/s").len(), server.asked("/d/t").len()), (1, 1), "what was whole is not fetched again");
    assert!(server.asked("/u")[3].header("range").is_some());
}

#[test]
fn a_chain_that_is_shorter_now_finds_its_downloads() {
    let server = bad_server(release().0, |a, r| if a.path == "/u" && a.before < 3 { r.sending(5000) } else { r });
    let mut place = Place::at(2, &server.url("/i"));
    place.options.in_place = true;
    place.refuses(&["3 attempts"]);
    // As after the first of the three steps.
    fs::write(&place.options.model, version(3)).unwrap();
    fs::remove_file(place.file(".download")).unwrap();
    assert_eq!(place.updates().patches.len(), 2);
    place.is(5);
    place.is_tidy();
    assert_eq!((server.asked("/d/t").len(), server.asked("/s").len()), (1, 1));
    assert!(server.asked("/u")[3].header("range").is_some());
}

#[test]
fn the_full_image_where_nothing_else_leads_there() {
    let server = server_of(release().0);
    let place = Place::at(1, &server.url("/i"));
    assert_eq!(place.updates().way, Some(Way::Full));
    place.is(5);
    assert!(fs::read(place.file(".prev")).unwrap() == version(1));
    // Also where there is no file at all.
    let place = Place::at(1, &server.url("/i"));
    fs::remove_file(&place.options.model).unwrap();
    assert_eq!(place.updates().way, Some(Way::Full));
    place.is(5);
}

#[test]
fn a_way_that_fails_gives_way_to_the_next() {
    // The chain is not there, the direct patch is damaged, the full patch is left.
    let server = bad_server(release().0, |a, mut r| {
        if a.path == "/direct" && r.status == 200 {
            r.body[5000] ^= 1;
        }
        if a.path == "/d/t" {
            Reply::new(404, "")
        } else {
            r
        }
    });
    let place = Place::at(2, &server.url("/i"));
    let report = place.updates();
    place.is(5);
    place.is_tidy();
    assert_eq!(report.way, Some(Way::Full));
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
    assert!(report.notes[0].contains("chain") && report.notes[1].contains("direct"), "{:?}", report.notes);
}

#[test]
fn nothing_to_do_is_said_and_nothing_fetched() {
    let server = server_of(release().0);
    let place = Place::at(5, &server.url("/i"));
    let report = place.run().unwrap();
    assert_eq!((report.status, report.to.sequence), (Status::UpToDate, 5));
    assert_eq!(server.asked("").len(), 1);
    let server = server_of(files(&[("p", one())]));
    let place = Place::at(2, &server.url("/p"));
    assert_eq!(place.run().unwrap().status, Status::UpToDate);
    place.is_tidy();
}

#[test]
fn an_older_index_is_no_way_back() {
    let server = server_of(release().0);
    let mut place = Place::at(4, &server.url("/i"));
    place.options.confirm = true;
    place.updates();
    let old = with_full(value(&[2, 3, 4], &[]), 2, full(4).bytes().len(), "full");
    let replay = server_of(files(&[("i", old), ("full", full(4).bytes()), ("p", patch(3, 4).bytes())]));
    place.options.url = replay.url("/i");
    place.refuses(&["the index is an old one", "sequence 4, 5 was accepted", "--allow-downgrade"]);
    assert!(replay.asked("/full").is_empty());
    // Without an index, the header says so.
    place.options.url = replay.url("/full");
    place.refuses(&["the patch is an old one"]);
    // An index that calls the old version new is found out by the header, too.
    let lying = String::from_utf8(with_full(value(&[4], &[]), 0, full(4).bytes().len(), "full")).unwrap();
    let lying = server_of(files(&[
        ("i", lying.replace("\"sequence\":4", "\"sequence\":9").into_bytes()),
        ("full", full(4).bytes()),
    ]));
    place.options.url = lying.url("/i");
    place.refuses(&["the patch is an old one"]);
    place.options.url = replay.url("/i");
    place.options.allow_downgrade = true;
    place.updates();
    place.is(4);
}

#[test]
fn what_an_index_promises_must_be_so() {
    let p = one();
    for (edge, what) in [
        ((1, 2, p.len() + 1, "p"), "has another length"),
        ((1, 3, p.len(), "p"), "leads to another file"),
        ((1, 2, p.len(), "q"), "starts from another file"),
        ((1, 2, p.len(), "i"), "JSON comes where a patch should be"),
    ] {
        let q = patch(3, 2).bytes();
        let server = server_of(files(&[("p", p.clone()), ("q", q), ("i", index(&[1, edge.1], &[edge]))]));
        let place = Place::new(&server.url("/i"));
        place.refuses(&[what]);
        assert_eq!(place.kept(), 0);
    }
}

#[test]
fn addresses_of_an_index_lead_nowhere_else() {
    for url in [
        "../p",
        "/p",
        "//127.0.0.1/p",
        "a/../../p",
        "%2e%2e/p",
        "..%2fp",
        "file:///etc/passwd",
        "ftp://127.0.0.1/p",
        "http://example.invalid/p",
        "a\\p",
        "",
        "http://u:p@127.0.0.1/p",
    ] {
        let server = server_of(files(&[("d/i", index(&[1, 2], &[(1, 2, 1000, url)])), ("p", one())]));
        Place::new(&server.url("/d/i")).refuses(&["not followed"]);
        assert_eq!(server.asked("").len(), 1, "{url}");
    }
}

#[test]
fn circles_lead_nowhere() {
    let edges = [(1, 3, 500, "a"), (3, 1, 500, "b"), (3, 4, 500, "c"), (4, 3, 500, "d"), (1, 1, 500, "e")];
    let server = server_of(files(&[("i", index(&[1, 2, 3, 4, 9], &edges))]));
    Place::new(&server.url("/i")).refuses(&["has no way from this file", "--full"]);
}

#[test]
fn indexes_that_are_none() {
    let good = String::from_utf8(index(&[1, 2], &[(1, 2, 1000, "p")])).unwrap();
    let sha1 = hex(&sha(&version(1)));
    let cases = [
        ("{".to_string(), "cannot be read"),
        ("{}".into(), "cannot be read"),
        ("{\"a\":".repeat(100_000), "cannot be read"),
        (good.replace("\"format\":1", "\"format\":2"), "format 2"),
        (good.replace(&sha1, &sha1[1..]), "64 hexadecimal digits"),
        (good.replace(&sha1, &sha1.replace(&sha1[..1], "x")), "64 hexadecimal digits"),
        (good.replace("\"bytes\":1000", "\"bytes\":-1"), "cannot be read"),
        (good.replace("\"bytes\":1000", "\"bytes\":384"), "a patch of 384 bytes"),
        (good.replace("\"bytes\":1000", "\"bytes\":18446744073709551615"), "a patch of 18446744073709551615 bytes"),
        (good.replace("\"sequence\":2", "\"sequence\":1"), "two files with the sequence 1"),
        (good.replace("\"length\":200000", "\"length\":200000,\"url\":\"x\""), "without its size"),
        (json!({"format": 1, "model": "intent", "files": [], "patches": []}).to_string(), "lists no file"),
        (format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20)), "larger than 1048576 bytes"),
    ];
    for (text, what) in cases {
        let server = server_of(files(&[("i", text.into_bytes())]));
        Place::new(&server.url("/i")).refuses(&[what]);
    }
    let many: Vec<Edge> = vec![(1, 2, 1000, ""); 4096];
    let server = server_of(files(&[("i", index(&[1, 2], &many))]));
    Place::new(&server.url("/i")).refuses(&["index of the updates"]);
}

#[test]
fn an_index_of_another_model_is_refused() {
    let server = server_of(release().0);
    let place = Place::at(4, &server.url("/i"));
    place.updates();
    let other = String::from_utf8(release().1).unwrap().replace("intent", "stories");
    let server = server_of(files(&[("i", other.into_bytes())]));
    let e = place.from(&server.url("/i")).unwrap_err().to_string();
    assert!(e.contains("`stories`") && e.contains("`intent`"), "{e}");
}

#[test]
fn a_question_changes_nothing() {
    let server = server_of(release().0);
    let mut place = Place::at(2, &server.url("/i"));
    place.options.dry_run = true;
    let report = place.run().unwrap();
    assert_eq!((report.status, report.way), (Status::WouldUpdate, Some(Way::Chain)));
    assert_eq!(report.patches.iter().map(|p| p.url.as_str()).collect::<Vec<_>>(), ["s", "d/t", "u"]);
    assert_eq!(server.asked("").len(), 1);
    let server = server_of(files(&[("p", patch(2, 3).bytes())]));
    place.options.url = server.url("/p");
    let report = place.run().unwrap();
    assert_eq!((report.status, report.patches[0].bytes), (Status::WouldUpdate, patch(2, 3).bytes().len() as u64));
    place.is(2);
    assert_eq!(place.names(), ["model.bitnet", "model.bitnet.lock"]);
}
