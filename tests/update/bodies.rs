//! Bodies that come cut, short, wrong, too slowly or without end.

use super::*;

#[test]
fn a_good_server_is_asked_once() {
    let server = server_of(files(&[("p", one())]));
    let place = Place::new(&server.url("/p"));
    let report = place.updates();
    place.is(2);
    place.is_tidy();
    assert_eq!((report.fetched, report.patches.len(), report.trial), (one().len() as u64, 1, true));
    assert_eq!(report.to.version, "v2");
    let asked = server.asked("/p");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    assert_eq!(asked[0].header("range"), None);
}

#[test]
fn a_cut_anywhere_is_continued() {
    let whole = one().len();
    // In the magic, in the header, at its end, in the index, in the payload, before the last byte.
    for at in [0, 5, 383, 384, 400, 100_000, whole - 1] {
        let server = bad(1, move |r| r.sending(at));
        let place = Place::new(&server.url("/p"));
        place.updates();
        place.is(2);
        place.is_tidy();
        let asked = server.asked("/p");
        let range = (at >= 384).then(|| format!("bytes={at}-"));
        assert_eq!(asked[1].header("range"), range.as_deref(), "cut at {at}");
        assert_eq!(asked[1].header("if-range").is_some(), range.is_some(), "cut at {at}");
        assert_eq!(asked.len(), 2, "cut at {at}");
    }
}

#[test]
fn what_was_fetched_is_kept_for_the_next_run() {
    let server = bad_server(files(&[("p", one())]), |a, r| {
        if a.before < 3 {
            r.sending(if a.before == 0 { 90_000 } else { 10 })
        } else {
            r
        }
    });
    let place = Place::new(&server.url("/p"));
    let e = place.refuses(&["given up after 3 attempts", "kept"]);
    assert_eq!(e.kind(), Kind::Io);
    assert_eq!(place.kept(), 90_020);
    place.updates();
    place.is(2);
    assert_eq!(server.asked("/p")[3].header("range"), Some("bytes=90020-"));
}

#[test]
fn a_new_signature_of_the_address_does_not_lose_what_was_kept() {
    let server = bad(99, |r| r.sending(5000));
    let place = Place::new(&server.url("/p?signature=1"));
    place.refuses(&["3 attempts"]);
    assert!(place.kept() > 384);
    let kept = place.kept();
    let good = server_of(files(&[("p", one())]));
    // Another port is another address, so this one starts anew; the same address with another query goes on.
    let again = Place { options: Options { url: server.url("/p?signature=2"), ..place.options.clone() }, ..place };
    again.refuses(&[]);
    let asked = server.asked("/p?signature=2");
    assert_eq!(asked[0].header("range"), Some(format!("bytes={kept}-").as_str()));
    assert_eq!(again.from(&good.url("/p")).unwrap().status, Status::Updated);
    assert_eq!(good.asked("/p")[0].header("range"), None);
}

#[test]
fn a_wrong_content_range_starts_anew_once() {
    for wrong in ["bytes 0-99/200", "bytes 100001-200923/200924", "bytes 100000-100001/*", "items 1-2/3", ""] {
        let server = bad_server(files(&[("p", one())]), move |a, r| match a.header("range") {
            Some(_) => r.with("Content-Range", wrong),
            None if a.before == 0 => r.sending(100_000),
            None => r,
        });
        let place = Place::new(&server.url("/p"));
        place.updates();
        place.is(2);
        assert_eq!(server.asked("/p")[2].header("range"), None, "{wrong}");
    }
    let server = bad_server(files(&[("p", one())]), |a, r| match a.header("range") {
        Some(_) => r.with("Content-Range", "bytes 0-1/2"),
        None => r.sending(100_000),
    });
    let place = Place::new(&server.url("/p"));
    place.refuses(&["another part than was asked for"]);
    assert_eq!(server.asked("/p").len(), 4);
}

#[test]
fn a_server_that_knows_no_ranges_starts_anew() {
    let whole = one();
    let server = bad_server(files(&[]), move |a, _| match a.before {
        0 => Reply::new(200, whole.clone()).sending(50_000),
        _ => Reply::new(200, whole.clone()),
    });
    let place = Place::new(&server.url("/p"));
    place.updates();
    place.is(2);
}

#[test]
fn a_range_that_is_not_there_starts_anew() {
    let server = bad_server(files(&[("p", one())]), |a, r| match (a.before, a.header("range")) {
        (0, _) => r.sending(50_000),
        (_, Some(_)) => Reply::new(416, "").with("Content-Range", "bytes */10"),
        _ => r,
    });
    let place = Place::new(&server.url("/p"));
    place.updates();
    place.is(2);
    assert_eq!(server.asked("/p").len(), 3);
}

#[test]
fn a_patch_that_changes_midway_is_not_mixed() {
    // The server is honest about it: the new etag makes it send all of the new patch.
    let (old, new) = (one(), Made { block: 4096, ..patch(1, 2) }.bytes());
    let (a, b) = (old.clone(), new.clone());
    let server = bad_server(files(&[]), move |asked, _| match asked.before {
        0 => Reply::tagged_part(asked, &a).sending(70_000),
        _ => Reply::tagged_part(asked, &b),
    });
    let place = Place::new(&server.url("/p"));
    place.updates();
    place.is(2);
    assert_eq!(server.asked("/p").len(), 2);
    // It sends the rest of the new one under a new etag, or even under the old one.
    for lie in [false, true] {
        let (a, b) = (old.clone(), [&new[..384], &old[384..]].concat());
        let etag = Reply::tagged_part(&Asked::default(), &old).headers[0].1.clone();
        let server = bad_server(files(&[]), move |asked, _| match (asked.before, asked.header("range")) {
            (0, _) => Reply::tagged_part(asked, &a).sending(70_000),
            (_, Some(range)) => {
                let from: usize = range[6..range.len() - 1].parse().unwrap();
                let rest = b[from..].iter().map(|b| b ^ 1).collect::<Vec<_>>();
                let to = a.len() - 1;
                let r = Reply::new(206, rest).with("Content-Range", format!("bytes {from}-{to}/{}", a.len()));
                r.with("ETag", if lie { etag.clone() } else { "\"new\"".into() })
            }
            _ => Reply::tagged_part(asked, &a),
        });
        let place = Place::new(&server.url("/p"));
        place.updates();
        place.is(2);
        assert_eq!(server.asked("/p")[2].header("range"), None);
    }
}

#[test]
fn a_weak_etag_is_not_sent_back() {
    let server =
        bad(
            99,
            |r| if r.status == 200 { r.with("ETag", "W/\"a\"").sending(60_000) } else { r.with("ETag", "W/\"a\"") },
        );
    let place = Place::new(&server.url("/p"));
    place.updates();
    place.is(2);
    let asked = server.asked("/p");
    assert_eq!((asked[1].header("range"), asked[1].header("if-range")), (Some("bytes=60000-"), None));
}

#[test]
fn a_stall_is_given_up_and_what_came_is_kept() {
    let server = bad(99, |r| r.sending(1000).then(Then::Stall));
    let mut place = Place::new(&server.url("/p"));
    place.options.idle = Duration::from_millis(200);
    place.options.attempts = 2;
    let e = place.refuses(&["2 attempts"]);
    assert_eq!(e.kind(), Kind::Io);
    assert_eq!(place.kept(), 2000);
    let server = bad(99, |r| r.sending(0).then(Then::Stall));
    place.options.url = server.url("/p");
    place.refuses(&["does not answer, or stopped in the middle"]);
}

#[test]
fn a_slow_drip_is_given_up_and_what_came_is_kept() {
    let server = bad(99, |r| r.sending(1000).then(Then::Drip(1)));
    let mut place = Place::new(&server.url("/p"));
    place.options.idle = Duration::from_millis(300);
    place.options.attempts = 2;
    assert_eq!(place.refuses(&["2 attempts"]).kind(), Kind::Io);
    assert!(place.kept() > 1000, "{}", place.kept());
}

#[test]
fn the_time_for_everything_ends_a_drip_that_is_just_fast_enough() {
    let server = bad(99, |r| r.sending(1000).then(Then::Drip(300)));
    let mut place = Place::new(&server.url("/p"));
    place.options.total = Duration::from_millis(600);
    assert_eq!(place.refuses(&[]).kind(), Kind::Io);
    assert!(place.kept() >= 1000);
}

#[test]
fn a_body_without_end_is_read_to_the_end_of_the_patch() {
    let server = bad(99, |r| Reply { announce: Some(0), ..r.then(Then::Endless(7)) });
    let place = Place::new(&server.url("/p"));
    place.updates();
    place.is(2);
}

#[test]
fn rubbish_without_end_is_not_read() {
    for (start, what) in [
        (one()[..100].to_vec(), "patch"),
        (b"{".to_vec(), "larger than"),
        (b"   ".to_vec(), "neither"),
        (vec![0], "neither"),
    ] {
        let byte = if start[0] == b'{' { b' ' } else { 0 };
        let server = bad_server(files(&[]), move |_, _| Reply {
            announce: Some(0),
            ..Reply::new(200, start.clone()).then(Then::Endless(byte))
        });
        let place = Place::new(&server.url("/p"));
        assert_ne!(place.refuses(&[what]).kind(), Kind::Io);
        assert_eq!(place.kept(), 0);
    }
}

#[test]
fn an_announced_length_that_is_not_the_patch_is_refused() {
    let server = server_of(files(&[("p", [&one()[..], b"more"].concat())]));
    let place = Place::new(&server.url("/p"));
    place.refuses(&["by its header"]);
    assert_eq!(place.kept(), 0);
}

#[test]
fn a_patch_that_nobody_vouches_for_cannot_fill_the_disk() {
    let mut huge = one();
    huge[24..32].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let server = bad_server(files(&[]), move |_, _| Reply {
        announce: Some(0),
        ..Reply::new(200, huge.clone()).then(Then::Endless(0))
    });
    let mut place = Place::new(&server.url("/p"));
    place.refuses(&["1099511627776 bytes", "allowed"]);
    let server = server_of(files(&[("p", one())]));
    place.options.url = server.url("/p");
    place.options.max_download = Some(1000);
    place.refuses(&["more than the 1000", "--max-download"]);
    assert_eq!(place.kept(), 0);
}

#[test]
fn compressed_bodies_and_web_pages_are_refused() {
    let server = bad_server(files(&[("p", one())]), |_, r| r.with("Content-Encoding", "gzip"));
    Place::new(&server.url("/p")).refuses(&["compressed", "not asked for"]);
    for (body, what) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0"[..], "gzip"),
        (b"\n<!DOCTYPE html>", "web page"),
        (b"<html>", "web page"),
        (b"PK\x03\x04aaaa", "neither"),
    ] {
        let server = bad_server(files(&[]), move |_, _| Reply::new(200, body));
        let place = Place::new(&server.url("/p"));
        place.refuses(&[what]);
        assert_eq!(place.kept(), 0);
    }
}

#[test]
fn the_page_of_a_portal_does_not_cost_what_was_kept() {
    let server = bad_server(files(&[("p", one())]), |a, r| match a.before {
        0..3 => r.sending(40_000),
        3 => Reply::new(200, "<html>log in to this network"),
        _ => r,
    });
    let place = Place::new(&server.url("/p"));
    place.refuses(&["3 attempts"]);
    let kept = place.kept();
    assert!(kept >= 40_000);
    place.refuses(&["web page"]);
    assert_eq!(place.kept(), kept);
    place.updates();
    assert_eq!(server.asked("/p")[4].header("range"), Some(format!("bytes={kept}-").as_str()));
}

#[test]
fn damage_on_the_way_is_fetched_again_once_and_then_refused() {
    for at in [390, 100_000, one().len() - 1] {
        let flip = move |mut r: Reply| {
            let at = at.min(r.body.len() - 1);
            r.body[at] ^= 1;
            r
        };
        let server = bad(1, flip);
        let place = Place::new(&server.url("/p"));
        place.updates();
        place.is(2);
        let server = bad(99, flip);
        let place = Place::new(&server.url("/p"));
        place.refuses(&["not the one that its header names"]);
        assert_eq!((place.kept(), server.asked("/p").len()), (0, 2));
    }
}

#[test]
fn damage_of_what_was_kept_is_found() {
    let server = bad(2, |r| r.sending(20_000));
    let mut place = Place::new(&server.url("/p"));
    place.options.attempts = 1;
    place.refuses(&[]);
    let mut kept = fs::read(place.file(".download")).unwrap();
    kept[15_000] ^= 1;
    fs::write(place.file(".download"), kept).unwrap();
    place.options.attempts = 5;
    place.updates();
    place.is(2);
}
