//! What the hub says: listings, redirects, refusals, and who gets the token.

use super::*;

#[test]
fn an_error_page_after_a_good_head_is_not_stored() {
    // Without trees the sizes come from HEAD.
    let hub = bad_hub(Repo::small(), |a, r| match &a.path {
        p if p.contains("/tree/") => Reply::new(404, "no trees here"),
        p if a.method == "GET" && p.contains("/resolve/") && p.ends_with(".safetensors") => {
            Reply::new(403, vec![b'x'; 200_000])
        }
        _ => r,
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["status 403"]);
    place.nothing_is_stored();
    assert_eq!(hub.asked("HEAD ").len(), 4, "three files and a redirect within the hub");
}

#[test]
fn a_mirror_without_trees_works_by_head() {
    let hub = bad_hub(Repo::small(), |a, r| if a.path.contains("/tree/") { Reply::new(404, "") } else { r });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
}

#[test]
fn a_head_is_not_followed_to_the_store() {
    // A signed address is good for GET alone.
    let store = bad_hub(Repo::small(), |a, r| if a.method == "HEAD" { Reply::new(403, "") } else { r });
    let hub = bad_hub(Repo { store: store.url(""), ..Repo::small() }, |a, r| match a.path.contains("/tree/") {
        true => Reply::new(404, ""),
        false => r,
    });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    assert!(store.asked("HEAD").is_empty());
}

#[test]
fn a_file_of_another_commit_is_refused() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.ends_with("/config.json") {
        true => r.with("X-Repo-Commit", COMMIT.replace('0', "1")),
        false => r,
    });
    Place::new(&hub.url("")).refuses(&["`config.json`", "another commit"]);
}

#[test]
fn a_size_at_the_end_of_the_numbers_is_no_trouble() {
    let hub = bad_hub(Repo::small(), |a, r| match &a.path {
        p if p.contains("/tree/") => {
            let text = String::from_utf8(r.body).unwrap();
            Reply::new(200, text.replace("\"size\":200000", &format!("\"size\":{}", u64::MAX)))
        }
        p if p.contains("/resolve/") && p.ends_with(".safetensors") => r.with("X-Linked-Size", u64::MAX),
        _ if is_store(a) => r.announcing(0),
        _ => r,
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["fetching `model.safetensors` fails"]);
    place.nothing_is_stored();
}

#[test]
fn a_file_without_a_digest_is_refused() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.contains("/tree/") {
        true => Reply::new(404, ""),
        false => r.with("ETag", "\"abc\"").with("X-Linked-Etag", "\"abc\""),
    });
    Place::new(&hub.url("")).refuses(&["no size and digest of `config.json`"]);
}

#[test]
fn two_server_errors_and_then_a_good_answer() {
    let hub = bad_hub(Repo::small(), |a, r| if a.before < 2 && !is_store(a) { Reply::new(500, "oops") } else { r });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    assert_eq!(hub.asked("GET /api/models/org/name/revision/main").len(), 3);
}

#[test]
fn a_wish_to_wait_an_hour_is_capped() {
    let hub = bad_hub(Repo::small(), |a, r| match a.before {
        0 => Reply::new(429, "").with("Retry-After", 3600),
        _ => r,
    });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    let hub = bad_hub(Repo::small(), |_, _| Reply::new(429, "").with("Retry-After", 99));
    Place::new(&hub.url("")).refuses(&["status 429", "4 attempts", "HF_TOKEN"]);
}

#[test]
fn a_hub_that_never_answers_is_given_up() {
    let hub = bad_hub(Repo::small(), |_, r| r.sending(3).then(Then::Stall));
    let mut place = Place::new(&hub.url(""));
    place.settings.stall_timeout = Duration::from_millis(50);
    place.settings.attempts = 2;
    place.refuses(&["does not answer", "2 attempts"]);
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let store = hub_of(Repo::small());
    let hub = hub_of(Repo { store: store.other(""), ..Repo::small() });
    is_good(&Place::with_token(&hub.url("")).fetch("org/name").unwrap());
    let bearer = format!("Bearer {SECRET}");
    assert!(hub.asked("").iter().all(|a| a.header("authorization") == Some(&bearer)));
    assert_eq!(hub.asked("").len(), 5);
    let there = store.asked("");
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].header("authorization"), None);
    assert!(there.iter().all(|a| !format!("{a:?}").contains(SECRET)));
}

#[test]
fn the_token_does_not_follow_a_redirect_of_the_listing() {
    let other = hub_of(Repo::small());
    let to = other.other("");
    let hub = bad_hub(Repo::small(), move |a, _| Reply::new(302, "").with("Location", format!("{to}{}", a.path)));
    is_good(&Place::with_token(&hub.url("")).fetch("org/name").unwrap());
    assert!(other.asked("").iter().all(|a| a.header("authorization").is_none()));
}

#[test]
fn the_token_is_not_sent_in_the_clear() {
    // No such host is asked for: the refusal comes first.
    let e = Place::with_token("http://hub.invalid").refuses(&[
        "plain http",
        "http://hub.invalid",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    ]);
    assert_eq!(e.kind(), Kind::Usage);
}

#[test]
fn a_renamed_repository_is_found_by_its_relative_redirect() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.contains("/old/name") {
        true => Reply::new(307, "").with("Location", a.path.replace("/old/name", "/org/name")),
        false => r,
    });
    let place = Place::new(&hub.url(""));
    let snapshot = place.fetch("old/name").unwrap();
    is_good(&snapshot);
    assert!(snapshot.starts_with(place.settings.cache.join("models--old--name")));
}

#[test]
fn redirects_in_a_circle_end() {
    let hub = bad_hub(Repo::small(), |a, _| Reply::new(302, "").with("Location", a.path.clone()));
    Place::new(&hub.url("")).refuses(&["redirects more than 10 times"]);
    assert_eq!(hub.asked("").len(), 11);
}

#[test]
fn redirects_to_other_schemes_are_refused() {
    let hub = bad_hub(Repo::small(), |_, _| Reply::new(302, "").with("Location", "file:///etc/passwd"));
    Place::new(&hub.url("")).refuses(&["redirects to nowhere"]);
}

#[test]
fn a_gated_model_says_where_to_accept_the_licence() {
    for status in [401, 403] {
        let gated = move || {
            bad_hub(Repo::small(), move |a, r| match a.path.contains("/resolve/") {
                true => Reply::new(status, "Access is restricted").with("X-Error-Code", "GatedRepo"),
                false => r,
            })
        };
        let hub = gated();
        let page = format!("{}/org/name", hub.url(""));
        Place::new(&hub.url("")).refuses(&["is gated", "licence", &page, "HF_TOKEN"]);
        let hub = gated();
        Place::with_token(&hub.url("")).refuses(&["is gated", "the account whose token is in HF_TOKEN"]);
    }
}

#[test]
fn a_token_that_is_not_accepted_is_named_not_shown() {
    let hub = bad_hub(Repo::small(), |_, _| Reply::new(401, format!("bad token {SECRET}")));
    Place::with_token(&hub.url("")).refuses(&["does not accept the token in HF_TOKEN", "status 401"]);
    Place::new(&hub.url("")).refuses(&["no public model `org/name`", "check the spelling", "HF_TOKEN"]);
    assert_eq!(hub.asked("").len(), 2, "no second attempt for a plain no");
}

#[test]
fn what_is_not_there_is_said() {
    let hub = hub_of(Repo::small());
    let place = Place::new(&hub.url(""));
    let e = place.fetch("org/nome").unwrap_err();
    assert!(e.to_string().contains("no model `org/nome` (status 404)"), "{e}");
    let hub = bad_hub(Repo::small(), |_, _| Reply::new(404, "").with("X-Error-Code", "RevisionNotFound"));
    let e = Place::new(&hub.url("")).fetch("org/name@v9").unwrap_err();
    assert!(e.to_string().contains("`org/name` has no revision `v9`"), "{e}");
}

#[test]
fn a_listing_that_leaves_the_folder_is_refused() {
    for name in ["../../../evil.safetensors", "/etc/passwd", "a/../../b.json", "a\0b", "", "a//b", "..\\evil"] {
        let mut repo = Repo::small();
        repo.files.push((name.into(), b"x".to_vec(), false));
        let hub = hub_of(repo);
        let place = Place::new(&hub.url(""));
        assert_eq!(place.refuses(&["would leave its folder"]).kind(), Kind::Input);
        assert!(hub.asked("/resolve/").is_empty(), "{name:?}");
        assert!(!place.settings.cache.exists());
    }
}

#[test]
fn a_commit_that_is_a_path_is_refused() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.contains("/revision/") {
        true => Reply::new(200, r#"{"sha": "../../../0123456789abcdef0123456789abcdef0123", "siblings": []}"#),
        false => r,
    });
    let place = Place::new(&hub.url(""));
    place.refuses(&["another commit"]);
    assert!(!place.settings.cache.exists());
}

#[test]
fn a_huge_answer_is_not_read_whole() {
    let hub = bad_hub(Repo::small(), |_, _| Reply::new(200, vec![b' '; 17 << 20]));
    Place::new(&hub.url("")).refuses(&["larger than 16777216 bytes"]);
}

#[test]
fn answers_that_are_no_listing_are_refused() {
    for answer in ["", "<html>", "[]", "{}", r#"{"sha": 1}"#, &"[".repeat(100_000)] {
        let answer = answer.to_string();
        let hub = bad_hub(Repo::small(), move |_, _| Reply::new(200, answer.clone()));
        Place::new(&hub.url("")).refuses(&["not what a hub answers", "HF_ENDPOINT"]);
    }
}

#[test]
fn a_side_file_of_absurd_size_is_not_fetched() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.contains("/tree/") {
        true => Reply::new(200, String::from_utf8(r.body).unwrap().replace("\"size\":8", "\"size\":999999999999")),
        false => r,
    });
    Place::new(&hub.url("")).refuses(&["`config.json`", "999999999999 bytes"]);
}

#[test]
fn a_listing_of_many_pages_is_read() {
    let hub = hub_of(Repo { page: 1, ..Repo::small() });
    is_good(&Place::new(&hub.url("")).fetch("org/name").unwrap());
    assert_eq!(hub.asked("/tree/").len(), 4);
}

#[test]
fn a_listing_that_goes_on_elsewhere_is_refused() {
    let other = hub_of(Repo::small());
    let next = format!("<{}/api/models/org/name/tree/{COMMIT}>; rel=\"next\"", other.url(""));
    let hub = bad_hub(Repo { page: 1, ..Repo::small() }, move |a, r| match a.path.contains("/tree/") {
        true => r.with("Link", &next),
        false => r,
    });
    Place::new(&hub.url("")).refuses(&["goes on at another host"]);
    assert!(other.asked("").is_empty());
}

#[test]
fn a_listing_without_end_ends() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.contains("/tree/") {
        true => Reply::new(200, "[]").with("Link", format!("<{}>; rel=\"next\"", a.path)),
        false => r,
    });
    Place::new(&hub.url("")).refuses(&["more than 1000 pages"]);
}

#[test]
fn a_revision_may_have_a_slash() {
    let hub = hub_of(Repo { revision: "refs/pr/1".into(), ..Repo::small() });
    let mut place = Place::new(&hub.url(""));
    is_good(&place.fetch("org/name@refs/pr/1").unwrap());
    assert_eq!(hub.asked("/api/models/org/name/revision/refs%2Fpr%2F1").len(), 1);
    assert_eq!(fs::read_to_string(place.repo().join("refs/refs/pr/1")).unwrap(), COMMIT);
    place.settings.offline = Some("HF_HUB_OFFLINE");
    is_good(&place.fetch("org/name@refs/pr/1").unwrap());
}

#[test]
fn short_names_work() {
    let hub = hub_of(Repo { id: "gpt2".into(), ..Repo::small() });
    let place = Place::new(&hub.url(""));
    let snapshot = place.fetch("gpt2").unwrap();
    is_good(&snapshot);
    assert!(snapshot.starts_with(place.settings.cache.join("models--gpt2")));
}

#[test]
fn an_endpoint_may_have_a_path() {
    let hub = bad_hub(Repo::small(), |a, r| match a.path.starts_with("/mirror/") {
        true => Reply::new(307, "").with("Location", a.path.replace("/mirror/", "/")),
        false => r,
    });
    is_good(&Place::new(&format!("{}/mirror/", hub.url(""))).fetch("org/name").unwrap());
    assert!(hub.asked("GET /mirror/api/models/org/name/revision/main").len() == 1);
}
