//! Contents that come cut, short, wrong or not at all.

use super::*;

#[test]
fn a_cut_body_is_continued_with_a_range() {
    let hub = bad_store(1, |r| r.sending(70_000));
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    let asked = hub.asked(WEIGHTS);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("range"), None);
    assert_eq!(asked[1].header("range"), Some("bytes=70000-"));
    assert_eq!(asked[1].header("if-range"), Some("\"one\""));
    // The signed address may have expired, so the hub was asked for a new one.
    assert_eq!(hub.asked(&format!("/resolve/{COMMIT}/model.safetensors")).len(), 2);
}

#[test]
fn a_body_that_is_always_cut_is_given_up_and_kept_for_later() {
    let hub = bad_hub(Repo::small(), |a, r| {
        if is_store(a) && a.before < 4 {
            let n = r.body.len() / 2;
            r.sending(n)
        } else {
            r
        }
    });
    let place = Place::new(&hub.url(""));
    assert_eq!(place.refuses(&["model.safetensors", "4 attempts"]).kind(), Kind::Io);
    place.nothing_is_stored();
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    assert_eq!(fs::metadata(&partial).unwrap().len(), 187_500);
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[4].header("range"), Some("bytes=187500-"));
    assert!(!partial.exists());
}

#[test]
fn a_short_body_with_a_clean_end_is_not_taken_for_the_file() {
    // Once without any announced length, once with the short one announced.
    let hub =
        bad_store(2, |r| if r.status == 200 { r.sending(1000).announcing(0) } else { r.sending(500).announcing(500) });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    let hub = bad_store(99, |r| {
        let n = r.body.len().min(10);
        r.sending(n).announcing(0)
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["the body ended after 40 of 200000 bytes", "4 attempts"]);
    place.nothing_is_stored();
}

#[test]
fn wrong_bytes_of_the_right_length_are_thrown_away() {
    let wrong = |r: Reply| Reply { body: r.body.iter().map(|b| b ^ 1).collect(), ..r };
    let hub = bad_store(1, wrong);
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), None);
    let hub = bad_store(99, wrong);
    let place = Place::new(&hub.url(""));
    assert_eq!(place.refuses(&["`model.safetensors`: the hub delivers other bytes than it lists"]).kind(), Kind::Input);
    place.nothing_is_stored();
}

#[test]
fn wrong_bytes_of_a_small_file_are_thrown_away() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.ends_with("/config.json") {
        true => Reply { body: b"{\"a\": 2}".to_vec(), ..r },
        false => r,
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["`config.json`: the hub delivers other bytes"]);
    place.nothing_is_stored();
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let hub = bad_store(99, |mut r| {
        r.body.push(0);
        r.announcing(0)
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["more than the listed 200000 bytes"]);
    place.nothing_is_stored();
}

#[test]
fn an_expired_signature_is_asked_for_anew() {
    // At another host a status 403 is one of the signature, not of the licence.
    let store = bad_store(2, |_| Reply::new(403, "expired"));
    let hub = hub_of(Repo { store: store.url(""), ..Repo::small() });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    assert_eq!(hub.asked(&format!("/resolve/{COMMIT}/model.safetensors")).len(), 3);
}

#[test]
fn a_stalled_body_is_left_and_continued() {
    let hub = bad_store(1, |r| r.sending(50_000).then(Then::Stall));
    let mut place = Place::new(&hub.url(""));
    place.settings.stall_timeout = Duration::from_millis(300);
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), Some("bytes=50000-"));
}

#[test]
fn a_file_that_changes_between_attempts_is_started_anew() {
    let hub = bad_hub(Repo::small(), |a, r| match (is_store(a), a.before) {
        (true, 0) => r.sending(60_000),
        (true, _) => r.with("ETag", "\"two\""),
        _ => r,
    });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    let ranges: Vec<_> = hub.asked(WEIGHTS).iter().map(|a| a.header("range").map(str::to_string)).collect();
    assert_eq!(ranges, [None, Some("bytes=60000-".into()), None]);
}

#[test]
fn another_content_than_listed_is_refused_when_announced() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.ends_with("model.safetensors") {
        true => r.with("X-Linked-Etag", format!("\"{}\"", sha256(b"other"))),
        false => r,
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["announces another content than it lists"]);
    place.nothing_is_stored();
}

#[test]
fn a_server_that_ignores_ranges_starts_over() {
    let hub = bad_hub(Repo::small(), |a, r| match (is_store(a), a.before) {
        (true, 0) => r.sending(90_000),
        (true, _) => Reply::new(200, weights(1)).with("ETag", "\"one\""),
        _ => r,
    });
    let place = Place::new(&hub.url(""));
    let bar = Counting::default();
    is_good(&fetch(&Id::parse("org/name").unwrap(), &place.settings, &bar).unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), Some("bytes=90000-"));
    // What came twice counts once.
    assert_eq!((bar.done.get(), bar.stages.get()), (bar.total.get(), 1));
}

#[test]
fn a_part_from_an_earlier_run_is_continued() {
    let hub = hub_of(Repo::small());
    let place = Place::new(&hub.url(""));
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights(1)[..150_000]).unwrap();
    is_good(&place.fetch("org/name").unwrap());
    let asked = hub.asked(WEIGHTS);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("range"), Some("bytes=150000-"));
}

#[test]
fn a_part_with_wrong_bytes_is_noticed_and_fetched_again() {
    let hub = hub_of(Repo::small());
    let place = Place::new(&hub.url(""));
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![7; 150_000]).unwrap();
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), None);
    // Longer than the file: no part of it.
    let place = Place::new(&hub.url(""));
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![7; 250_000]).unwrap();
    is_good(&place.fetch("org/name").unwrap());
}

#[test]
fn a_complete_part_needs_no_request() {
    let hub = hub_of(Repo::small());
    let place = Place::new(&hub.url(""));
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, weights(1)).unwrap();
    is_good(&place.fetch("org/name").unwrap());
    assert!(hub.asked(WEIGHTS).is_empty());
}

#[test]
fn a_wrong_content_range_is_not_appended() {
    for range in ["bytes 0-199999/200000", "bytes 80000-199998/200000", "bytes 80000-199999/300000", "bytes x", ""] {
        let hub = bad_hub(Repo::small(), move |a, r| match (is_store(a), a.before) {
            (true, 0) => r.sending(80_000),
            (true, 1) => r.with("Content-Range", range),
            _ => r,
        });
        is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
        assert_eq!(hub.asked(WEIGHTS)[2].header("range"), None, "{range}");
    }
}

#[test]
fn a_range_that_cannot_be_satisfied_starts_over() {
    let hub = bad_hub(Repo::small(), |a, r| match (is_store(a), a.before) {
        (true, 0) => r.sending(80_000),
        (true, 1) => Reply::new(416, ""),
        _ => r,
    });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[2].header("range"), None);
}
