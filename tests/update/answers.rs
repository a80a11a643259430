//! What servers say: redirects, refusals, and who gets the token.

use super::*;

fn with_token(url: &str) -> Place {
    let mut place = Place::new(url);
    place.options.token = Token::new(SECRET, "BITNET_UPDATE_TOKEN").unwrap();
    place
}

#[test]
fn five_redirects_are_followed_and_no_more() {
    let hops = |n: usize| {
        bad_server(files(&[("p", one())]), move |a, r| {
            let at: usize = a.path.trim_start_matches("/hop").parse().unwrap_or(n);
            if at < n {
                Reply::to(&if at + 1 == n { "/p".into() } else { format!("hop{}", at + 1) })
            } else {
                r
            }
        })
    };
    let server = hops(5);
    let place = Place::new(&server.url("/hop0"));
    place.updates();
    place.is(2);
    let server = hops(6);
    let place = Place::new(&server.url("/hop0"));
    place.refuses(&["redirects more than 5 times"]);
    let server = bad_server(files(&[]), |_, _| Reply::to("/p"));
    Place::new(&server.url("/p")).refuses(&["redirects more than 5 times"]);
    assert_eq!(server.asked("/p").len(), 6);
}

#[test]
fn the_token_goes_home_and_to_no_other_host() {
    let server = server_of(files(&[("p", one())]));
    let place = with_token(&server.url("/p"));
    place.updates();
    assert_eq!(server.asked("/p")[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let store = server_of(files(&[("p", one())]));
    let to = store.other("/p");
    let server = bad_server(files(&[]), move |_, _| Reply::to(&to));
    let place = with_token(&server.url("/p"));
    place.updates();
    assert!(server.asked("/p")[0].header("authorization").is_some());
    let there = store.asked("/p");
    assert_eq!(there.len(), 1);
    assert!(!format!("{there:?}").contains(SECRET));
}

#[test]
fn the_token_does_not_go_to_other_hosts_of_an_index() {
    let store = server_of(files(&[("p", one())]));
    let index = indexes::index(&[2], &[(1, 2, one().len(), &store.other("/p"))]);
    let server = server_of(files(&[("i", index)]));
    let place = with_token(&server.url("/i"));
    place.updates();
    assert!(!format!("{:?}", store.asked("/p")).contains(SECRET));
}

#[test]
fn redirects_to_other_schemes_and_to_plain_http_are_refused() {
    for to in
        ["file:///etc/passwd", "ftp://127.0.0.1/p", "http://example.invalid/p", "http://user:pw@127.0.0.1/p", "//"]
    {
        let server = bad_server(files(&[]), move |_, _| Reply::to(to));
        Place::new(&server.url("/p")).refuses(&["redirects to nowhere"]);
    }
}

#[test]
fn plain_http_and_odd_addresses_are_refused_before_anything_is_sent() {
    for (url, what) in [
        ("http://example.invalid/p", "--allow-http"),
        ("ftp://example.invalid/p", "https://"),
        ("example.invalid/p", "https://"),
        ("https://me:thisIsNot@example.invalid/p", "password"),
        ("file://host/p", "file:///"),
    ] {
        let e = Place::new(url).refuses(&[what]);
        assert_eq!(e.kind(), Kind::Usage);
    }
    let mut place = with_token("http://example.invalid/p");
    place.options.allow_http = true;
    place.refuses(&["is not sent to", "over plain http"]);
}

#[test]
fn a_wish_to_wait_is_honoured_and_capped() {
    let server = bad(1, |_| Reply::new(429, "slow down").with("Retry-After", 3600));
    let place = Place::new(&server.url("/p"));
    place.updates();
    let server = bad(99, |_| Reply::new(503, "").with("Retry-After", "Sun, 06 Nov 2044 08:49:37 GMT"));
    Place::new(&server.url("/p")).refuses(&["status 503", "3 attempts", "run the same command again"]);
    // A wait that ends after the time for everything is not begun.
    let server = bad(99, |_| Reply::new(429, "").with("Retry-After", 1000));
    let mut place = Place::new(&server.url("/p"));
    place.options.longest_wait = Duration::from_secs(1000);
    place.refuses(&["status 429", "time for all of it is over"]);
    assert_eq!(server.asked("/p").len(), 1);
}

#[test]
fn two_server_errors_and_then_a_good_answer() {
    let server = bad(2, |_| Reply::new(500, "oops"));
    let place = Place::new(&server.url("/p"));
    place.updates();
    place.is(2);
    assert_eq!(server.asked("/p").len(), 3);
}

#[test]
fn refusals_are_explained_and_their_pages_not_stored() {
    let page = vec![b'x'; 100_000];
    for (status, parts, times) in [
        (401, &["status 401", "set BITNET_UPDATE_TOKEN"][..], 1),
        (403, &["status 403", "may have expired"], 1),
        (404, &["no update", "check the address"], 1),
        (410, &["no update"], 1),
        (500, &["status 500", "3 attempts"], 3),
        (418, &["status 418"], 1),
        (204, &["unexpected status 204"], 1),
    ] {
        let page = page.clone();
        let server = bad(99, move |_| Reply::new(status, page.clone()));
        let place = Place::new(&server.url("/p"));
        place.refuses(parts);
        assert_eq!((place.kept(), server.asked("/p").len()), (0, times), "{status}");
    }
    let server = bad(99, |_| Reply::new(403, "no"));
    with_token(&server.url("/p")).refuses(&["the token in BITNET_UPDATE_TOKEN is not accepted"]);
}

#[test]
fn a_refusal_does_not_cost_what_was_kept() {
    let server = bad_server(files(&[("p", one())]), |a, r| match a.before {
        0..3 => r.sending(40_000),
        3 => Reply::new(403, "expired"),
        _ => r,
    });
    let place = Place::new(&server.url("/p"));
    place.refuses(&["3 attempts"]);
    place.refuses(&["status 403"]);
    assert!(place.kept() >= 40_000);
    place.updates();
    place.is(2);
}

#[test]
fn a_server_that_is_not_there() {
    let url = server_of(files(&[])).url("/p");
    assert_eq!(Place::new(&url).refuses(&["cannot fetch from", "HTTPS_PROXY"]).kind(), Kind::Io);
}
