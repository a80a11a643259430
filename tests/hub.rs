//! Models from a hub that is on loopback and means no good.
#![cfg(feature = "hub")]

mod common;
mod hub_support;

use bitnet_convert::error::{Error, Kind};
use bitnet_convert::import::hub::{fetch, obtain, Id, Settings, Token, Url};
use bitnet_convert::progress::{Progress, Silent};
use hub_support::{git_blob, sha256, weights, Asked, Hub, Reply, Repo, COMMIT};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "hf_thisIsSecret";
const WEIGHTS: &str = "GET /store/model.safetensors";

/// A cache of its own, and settings that do not wait.
struct Place {
    dir: TempDir,
    settings: Settings,
}

impl Place {
    fn new(endpoint: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            endpoint: Url::parse(endpoint).unwrap(),
            cache: dir.path().join("hub"),
            token: None,
            offline: None,
            answer_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            progress: true,
            attempts: 4,
            backoff: Duration::from_millis(1),
            longest_wait: Duration::from_millis(4),
        };
        Place { dir, settings }
    }

    fn with_token(endpoint: &str) -> Place {
        let mut place = Place::new(endpoint);
        place.settings.token = Token::new(SECRET, "HF_TOKEN").unwrap();
        place
    }

    fn fetch(&self, id: &str) -> Result<PathBuf, Error> {
        fetch(&Id::parse(id).unwrap(), &self.settings, &Silent)
    }

    #[track_caller]
    fn refuses(&self, parts: &[&str]) -> Error {
        let e = self.fetch("org/name").expect_err("an error is expected");
        let text = format!("{e}\n{}", e.next_step().unwrap_or(""));
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        for secret in [SECRET, "signature"] {
            assert!(!text.contains(secret), "a secret is in: {text}");
        }
        e
    }

    fn repo(&self) -> PathBuf {
        self.settings.cache.join("models--org--name")
    }

    fn blob(&self, name: &str) -> PathBuf {
        self.repo().join("blobs").join(name)
    }

    fn nothing_is_stored(&self) {
        let blobs = self.repo().join("blobs");
        let names = if blobs.is_dir() { common::listing(&blobs) } else { Vec::new() };
        assert!(names.iter().all(|n| n != &sha256(&weights(1))), "{names:?}");
        assert!(!self.repo().join(format!("snapshots/{COMMIT}/model.safetensors")).exists());
        assert!(!self.repo().join("refs/main").exists());
    }
}

#[track_caller]
fn is_good(snapshot: &Path) {
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), weights(1));
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), b"{\"a\": 1}");
}

fn is_store(a: &Asked) -> bool {
    a.path.starts_with("/store/model.safetensors")
}

/// A hub whose store misbehaves in the first `times` answers.
fn bad_store(times: usize, bad: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Hub {
    Hub::with(Repo::small(), move |a, reply| if is_store(a) && a.before < times { bad(reply) } else { reply })
}

#[test]
fn a_good_download_has_the_layout_of_other_clients() {
    let hub = Hub::new(Repo::small());
    let place = Place::new(&hub.url());
    let snapshot = place.fetch("org/name").unwrap();
    is_good(&snapshot);
    assert_eq!(snapshot, place.repo().join("snapshots").join(COMMIT));
    assert_eq!(common::listing(&snapshot), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read_to_string(place.repo().join("refs/main")).unwrap(), COMMIT);
    let mut digests = vec![sha256(&weights(1)), git_blob(b"{\"a\": 1}"), git_blob(b"{}")];
    digests.sort();
    assert_eq!(common::listing(&place.repo().join("blobs")), digests);
    let link = fs::read_link(snapshot.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(sha256(&weights(1))));
    assert!(place.settings.cache.join(".locks/models--org--name").is_dir());
    // The second time only the listing is asked for.
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked("/resolve/").len(), 3);
    assert_eq!(hub.asked("GET /api/").len(), 4);
    assert!(hub.asked("xet-read-token").is_empty());
}

#[test]
fn a_cut_body_is_continued_with_a_range() {
    let hub = bad_store(1, |r| r.sending(70_000));
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
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
    let hub = Hub::with(Repo::small(), |a, r| {
        if is_store(a) && a.before < 4 {
            let n = r.body.len() / 2;
            r.sending(n)
        } else {
            r
        }
    });
    let place = Place::new(&hub.url());
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
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    let hub = bad_store(99, |r| {
        let n = r.body.len().min(10);
        r.sending(n).announcing(0)
    });
    let place = Place::new(&hub.url());
    place.refuses(&["the body ended after 40 of 200000 bytes", "4 attempts"]);
    place.nothing_is_stored();
}

#[test]
fn wrong_bytes_of_the_right_length_are_thrown_away() {
    let wrong = |r: Reply| Reply { body: r.body.iter().map(|b| b ^ 1).collect(), ..r };
    let hub = bad_store(1, wrong);
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), None);
    let hub = bad_store(99, wrong);
    let place = Place::new(&hub.url());
    assert_eq!(place.refuses(&["`model.safetensors`: the hub delivers other bytes than it lists"]).kind(), Kind::Input);
    place.nothing_is_stored();
}

#[test]
fn wrong_bytes_of_a_small_file_are_thrown_away() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.ends_with("/config.json") {
        true => Reply { body: b"{\"a\": 2}".to_vec(), ..r },
        false => r,
    });
    let place = Place::new(&hub.url());
    place.refuses(&["`config.json`: the hub delivers other bytes"]);
    place.nothing_is_stored();
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let hub = bad_store(99, |mut r| {
        r.body.push(0);
        r.announcing(0)
    });
    let place = Place::new(&hub.url());
    place.refuses(&["more than the listed 200000 bytes"]);
    place.nothing_is_stored();
}

#[test]
fn an_error_page_after_a_good_head_is_not_stored() {
    // Without trees the sizes come from HEAD.
    let hub = Hub::with(Repo::small(), |a, r| match &a.path {
        p if p.contains("/tree/") => Reply::new(404, "no trees here"),
        p if a.method == "GET" && p.contains("/resolve/") && p.ends_with(".safetensors") => {
            Reply::new(403, vec![b'x'; 200_000])
        }
        _ => r,
    });
    let place = Place::new(&hub.url());
    place.refuses(&["status 403"]);
    place.nothing_is_stored();
    assert_eq!(hub.asked("HEAD ").len(), 4, "three files and one redirect");
}

#[test]
fn a_mirror_without_trees_works_by_head() {
    let hub = Hub::with(Repo::small(), |a, r| if a.path.contains("/tree/") { Reply::new(404, "") } else { r });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
}

#[test]
fn a_file_without_a_digest_is_refused() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.contains("/tree/") {
        true => Reply::new(404, ""),
        false => r.with("ETag", "\"abc\"").with("X-Linked-Etag", "\"abc\""),
    });
    Place::new(&hub.url()).refuses(&["no size and digest of `config.json`"]);
}

#[test]
fn an_expired_signature_is_asked_for_anew() {
    // At another host a status 403 is one of the signature, not of the licence.
    let store = bad_store(2, |_| Reply::new(403, "expired"));
    let hub = Hub::new(Repo { store: store.url(), ..Repo::small() });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    assert_eq!(hub.asked(&format!("/resolve/{COMMIT}/model.safetensors")).len(), 3);
}

#[test]
fn two_server_errors_and_then_a_good_answer() {
    let hub = Hub::with(Repo::small(), |a, r| if a.before < 2 && !is_store(a) { Reply::new(500, "oops") } else { r });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    assert_eq!(hub.asked("GET /api/models/org/name/revision/main").len(), 3);
}

#[test]
fn a_wish_to_wait_an_hour_is_capped() {
    let hub = Hub::with(Repo::small(), |a, r| match a.before {
        0 => Reply::new(429, "").with("Retry-After", 3600),
        _ => r,
    });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    let hub = Hub::with(Repo::small(), |_, _| Reply::new(429, "").with("Retry-After", 99));
    Place::new(&hub.url()).refuses(&["status 429", "4 attempts", "HF_TOKEN"]);
}

#[test]
fn a_stalled_body_is_left_and_continued() {
    let hub = bad_store(1, |r| r.sending(50_000).stalling());
    let mut place = Place::new(&hub.url());
    place.settings.stall_timeout = Duration::from_millis(300);
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), Some("bytes=50000-"));
}

#[test]
fn a_hub_that_never_answers_is_given_up() {
    let hub = Hub::with(Repo::small(), |_, r| r.sending(3).stalling());
    let mut place = Place::new(&hub.url());
    place.settings.stall_timeout = Duration::from_millis(50);
    place.settings.attempts = 2;
    place.refuses(&["does not answer", "2 attempts"]);
}

#[test]
fn a_file_that_changes_between_attempts_is_started_anew() {
    let hub = Hub::with(Repo::small(), |a, r| match (is_store(a), a.before) {
        (true, 0) => r.sending(60_000),
        (true, _) => r.with("ETag", "\"two\""),
        _ => r,
    });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    let ranges: Vec<_> = hub.asked(WEIGHTS).iter().map(|a| a.header("range").map(str::to_string)).collect();
    assert_eq!(ranges, [None, Some("bytes=60000-".into()), None]);
}

#[test]
fn another_content_than_listed_is_refused_when_announced() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.ends_with("model.safetensors") {
        true => r.with("X-Linked-Etag", format!("\"{}\"", sha256(b"other"))),
        false => r,
    });
    let place = Place::new(&hub.url());
    place.refuses(&["announces another content than it lists"]);
    place.nothing_is_stored();
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let store = Hub::new(Repo::small());
    let hub = Hub::new(Repo { store: store.other_name(), ..Repo::small() });
    is_good(&Place::with_token(&hub.url()).fetch("org/name").unwrap());
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
    let other = Hub::new(Repo::small());
    let to = other.other_name();
    let hub = Hub::with(Repo::small(), move |a, _| Reply::new(302, "").with("Location", format!("{to}{}", a.path)));
    is_good(&Place::with_token(&hub.url()).fetch("org/name").unwrap());
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
    let hub = Hub::with(Repo::small(), |a, r| match a.path.contains("/old/name") {
        true => Reply::new(307, "").with("Location", a.path.replace("/old/name", "/org/name")),
        false => r,
    });
    let place = Place::new(&hub.url());
    let snapshot = place.fetch("old/name").unwrap();
    is_good(&snapshot);
    assert!(snapshot.starts_with(place.settings.cache.join("models--old--name")));
}

#[test]
fn redirects_in_a_circle_end() {
    let hub = Hub::with(Repo::small(), |a, _| Reply::new(302, "").with("Location", a.path.clone()));
    Place::new(&hub.url()).refuses(&["redirects more than 10 times"]);
    assert_eq!(hub.asked("").len(), 11);
}

#[test]
fn redirects_to_other_schemes_are_refused() {
    let hub = Hub::with(Repo::small(), |_, _| Reply::new(302, "").with("Location", "file:///etc/passwd"));
    Place::new(&hub.url()).refuses(&["redirects to nowhere"]);
}

#[test]
fn a_server_that_ignores_ranges_starts_over() {
    let hub = Hub::with(Repo::small(), |a, r| match (is_store(a), a.before) {
        (true, 0) => r.sending(90_000),
        (true, _) => Reply::new(200, weights(1)).with("ETag", "\"one\""),
        _ => r,
    });
    let place = Place::new(&hub.url());
    let bar = Counting::default();
    is_good(&fetch(&Id::parse("org/name").unwrap(), &place.settings, &bar).unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), Some("bytes=90000-"));
    // What came twice counts once.
    assert_eq!((bar.done.get(), bar.stages.get()), (bar.total.get(), 1));
}

#[test]
fn a_part_from_an_earlier_run_is_continued() {
    let hub = Hub::new(Repo::small());
    let place = Place::new(&hub.url());
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
    let hub = Hub::new(Repo::small());
    let place = Place::new(&hub.url());
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![7; 150_000]).unwrap();
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[1].header("range"), None);
    // Longer than the file: no part of it.
    let place = Place::new(&hub.url());
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![7; 250_000]).unwrap();
    is_good(&place.fetch("org/name").unwrap());
}

#[test]
fn a_complete_part_needs_no_request() {
    let hub = Hub::new(Repo::small());
    let place = Place::new(&hub.url());
    let partial = place.blob(&format!("{}.incomplete", sha256(&weights(1))));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, weights(1)).unwrap();
    is_good(&place.fetch("org/name").unwrap());
    assert!(hub.asked(WEIGHTS).is_empty());
}

#[test]
fn a_wrong_content_range_is_not_appended() {
    for range in ["bytes 0-199999/200000", "bytes 80000-199998/200000", "bytes 80000-199999/300000", "bytes x", ""] {
        let hub = Hub::with(Repo::small(), move |a, r| match (is_store(a), a.before) {
            (true, 0) => r.sending(80_000),
            (true, 1) => r.with("Content-Range", range),
            _ => r,
        });
        is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
        assert_eq!(hub.asked(WEIGHTS)[2].header("range"), None, "{range}");
    }
}

#[test]
fn a_range_that_cannot_be_satisfied_starts_over() {
    let hub = Hub::with(Repo::small(), |a, r| match (is_store(a), a.before) {
        (true, 0) => r.sending(80_000),
        (true, 1) => Reply::new(416, ""),
        _ => r,
    });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    assert_eq!(hub.asked(WEIGHTS)[2].header("range"), None);
}

#[test]
fn a_gated_model_says_where_to_accept_the_licence() {
    for status in [401, 403] {
        let gated = move || {
            Hub::with(Repo::small(), move |a, r| match a.path.contains("/resolve/") {
                true => Reply::new(status, "Access is restricted").with("X-Error-Code", "GatedRepo"),
                false => r,
            })
        };
        let hub = gated();
        let page = format!("{}/org/name", hub.url());
        Place::new(&hub.url()).refuses(&["is gated", "licence", &page, "HF_TOKEN"]);
        let hub = gated();
        Place::with_token(&hub.url()).refuses(&["is gated", "the account whose token is in HF_TOKEN"]);
    }
}

#[test]
fn a_token_that_is_not_accepted_is_named_not_shown() {
    let hub = Hub::with(Repo::small(), |_, _| Reply::new(401, format!("bad token {SECRET}")));
    Place::with_token(&hub.url()).refuses(&["does not accept the token in HF_TOKEN", "status 401"]);
    Place::new(&hub.url()).refuses(&["no public model `org/name`", "check the spelling", "HF_TOKEN"]);
    assert_eq!(hub.asked("").len(), 2, "no second attempt for a plain no");
}

#[test]
fn what_is_not_there_is_said() {
    let hub = Hub::new(Repo::small());
    let place = Place::new(&hub.url());
    let e = place.fetch("org/nome").unwrap_err();
    assert!(e.to_string().contains("no model `org/nome` (status 404)"), "{e}");
    let hub = Hub::with(Repo::small(), |_, _| Reply::new(404, "").with("X-Error-Code", "RevisionNotFound"));
    let e = Place::new(&hub.url()).fetch("org/name@v9").unwrap_err();
    assert!(e.to_string().contains("`org/name` has no revision `v9`"), "{e}");
}

#[test]
fn a_listing_that_leaves_the_folder_is_refused() {
    for name in ["../../../evil.safetensors", "/etc/passwd", "a/../../b.json", "a\0b", "", "a//b", "..\\evil"] {
        let mut repo = Repo::small();
        repo.files.push((name.into(), b"x".to_vec(), false));
        let hub = Hub::new(repo);
        let place = Place::new(&hub.url());
        assert_eq!(place.refuses(&["would leave its folder"]).kind(), Kind::Input);
        assert!(hub.asked("/resolve/").is_empty(), "{name:?}");
        assert!(!place.settings.cache.exists());
    }
}

#[test]
fn a_commit_that_is_a_path_is_refused() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.contains("/revision/") {
        true => Reply::new(200, r#"{"sha": "../../../0123456789abcdef0123456789abcdef0123", "siblings": []}"#),
        false => r,
    });
    let place = Place::new(&hub.url());
    place.refuses(&["another commit"]);
    assert!(!place.settings.cache.exists());
}

#[test]
fn a_huge_answer_is_not_read_whole() {
    let hub = Hub::with(Repo::small(), |_, _| Reply::new(200, vec![b' '; 17 << 20]));
    Place::new(&hub.url()).refuses(&["larger than 16777216 bytes"]);
}

#[test]
fn answers_that_are_no_listing_are_refused() {
    for answer in ["", "<html>", "[]", "{}", r#"{"sha": 1}"#, &"[".repeat(100_000)] {
        let answer = answer.to_string();
        let hub = Hub::with(Repo::small(), move |_, _| Reply::new(200, answer.clone()));
        Place::new(&hub.url()).refuses(&["not what a hub answers", "HF_ENDPOINT"]);
    }
}

#[test]
fn a_side_file_of_absurd_size_is_not_fetched() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.contains("/tree/") {
        true => Reply::new(200, String::from_utf8(r.body).unwrap().replace("\"size\":8", "\"size\":999999999999")),
        false => r,
    });
    Place::new(&hub.url()).refuses(&["`config.json`", "999999999999 bytes"]);
}

#[test]
fn offline_without_a_cache_names_the_variable() {
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let mut place = Place::new("http://127.0.0.1:1");
        place.settings.offline = Some(variable);
        place.refuses(&["`org/name` is not in the cache", variable]);
    }
}

#[test]
fn offline_with_a_cache_asks_nobody() {
    let hub = Hub::new(Repo::small());
    let mut place = Place::new(&hub.url());
    place.fetch("org/name").unwrap();
    let before = hub.asked("").len();
    place.settings.offline = Some("HF_HUB_OFFLINE");
    is_good(&place.fetch("org/name").unwrap());
    is_good(&place.fetch(&format!("org/name@{COMMIT}")).unwrap());
    assert_eq!(hub.asked("").len(), before);
    place.settings.offline = None;
    drop(hub);
    // Not told to be offline, but without a hub: the same, and said.
    let found = obtain(&Id::parse("org/name").unwrap(), &place.settings, &Silent).unwrap();
    is_good(&found.path);
    assert!(found.warning.unwrap().contains("taken from the cache"));
}

#[test]
fn without_a_hub_and_a_cache_the_reason_is_the_connection() {
    let gone = Hub::new(Repo::small()).url();
    assert_eq!(Place::new(&gone).refuses(&["cannot fetch from", "HF_ENDPOINT"]).kind(), Kind::Io);
}

/// The folder as another client leaves it.
fn by_another_client(place: &Place, content: &[u8]) {
    let repo = place.repo();
    let snapshot = repo.join("snapshots").join(COMMIT);
    for dir in [repo.join("blobs"), repo.join("refs"), snapshot.clone()] {
        fs::create_dir_all(dir).unwrap();
    }
    for (name, data, etag) in [
        ("config.json", &b"{\"a\": 1}"[..], git_blob(b"{\"a\": 1}")),
        ("model.safetensors", content, sha256(&weights(1))),
    ] {
        fs::write(repo.join("blobs").join(&etag), data).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(&etag), snapshot.join(name)).unwrap();
    }
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
}

#[test]
fn what_another_client_fetched_is_used() {
    let hub = Hub::new(Repo::small());
    let mut place = Place::new(&hub.url());
    by_another_client(&place, &weights(1));
    place.settings.offline = Some("HF_HUB_OFFLINE");
    is_good(&place.fetch("org/name").unwrap());
    assert!(hub.asked("").is_empty());
    place.settings.offline = None;
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked("/resolve/").len(), 1, "only the tokenizer was missing");
}

#[test]
fn damage_in_the_cache_is_found_and_mended() {
    let mut damaged = weights(1);
    damaged[1234] ^= 1;
    let hub = Hub::new(Repo::small());
    let mut place = Place::new(&hub.url());
    by_another_client(&place, &damaged);
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.refuses(&["`model.safetensors` of `org/name` is damaged", "HF_HUB_OFFLINE"]);
    place.settings.offline = None;
    is_good(&place.fetch("org/name").unwrap());
    fs::write(place.blob(&sha256(&weights(1))), b"shorter").unwrap();
    is_good(&place.fetch("org/name").unwrap());
}

#[test]
fn half_a_snapshot_is_no_model() {
    let mut place = Place::new("http://127.0.0.1:1");
    by_another_client(&place, &weights(1));
    fs::remove_file(place.blob(&sha256(&weights(1)))).unwrap();
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.refuses(&["only a part of `org/name`", "HF_HUB_OFFLINE"]);
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    let mut repo = Repo::small();
    repo.files.push(("1_Pooling/config.json".into(), b"{}".to_vec(), false));
    let hub = Hub::new(repo);
    let place = Place::new(&hub.url());
    let outside = place.dir.path().join("outside");
    let snapshot = place.repo().join("snapshots").join(COMMIT);
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(&outside, snapshot.join("1_Pooling")).unwrap();
    place.refuses(&["is a link"]);
    assert!(common::listing(&outside).is_empty());
}

#[test]
fn a_listing_of_many_pages_is_read() {
    let hub = Hub::new(Repo { page: 1, ..Repo::small() });
    is_good(&Place::new(&hub.url()).fetch("org/name").unwrap());
    assert_eq!(hub.asked("/tree/").len(), 4);
}

#[test]
fn a_listing_that_goes_on_elsewhere_is_refused() {
    let other = Hub::new(Repo::small());
    let next = format!("<{}/api/models/org/name/tree/{COMMIT}>; rel=\"next\"", other.url());
    let hub = Hub::with(Repo { page: 1, ..Repo::small() }, move |a, r| match a.path.contains("/tree/") {
        true => r.with("Link", &next),
        false => r,
    });
    Place::new(&hub.url()).refuses(&["goes on at another host"]);
    assert!(other.asked("").is_empty());
}

#[test]
fn a_listing_without_end_ends() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.contains("/tree/") {
        true => Reply::new(200, "[]").with("Link", format!("<{}>; rel=\"next\"", a.path)),
        false => r,
    });
    Place::new(&hub.url()).refuses(&["more than 1000 pages"]);
}

#[test]
fn a_revision_may_have_a_slash() {
    let hub = Hub::new(Repo { revision: "refs/pr/1".into(), ..Repo::small() });
    let mut place = Place::new(&hub.url());
    is_good(&place.fetch("org/name@refs/pr/1").unwrap());
    assert_eq!(hub.asked("/api/models/org/name/revision/refs%2Fpr%2F1").len(), 1);
    assert_eq!(fs::read_to_string(place.repo().join("refs/refs/pr/1")).unwrap(), COMMIT);
    place.settings.offline = Some("HF_HUB_OFFLINE");
    is_good(&place.fetch("org/name@refs/pr/1").unwrap());
}

#[test]
fn short_names_work() {
    let hub = Hub::new(Repo { id: "gpt2".into(), ..Repo::small() });
    let place = Place::new(&hub.url());
    let snapshot = place.fetch("gpt2").unwrap();
    is_good(&snapshot);
    assert!(snapshot.starts_with(place.settings.cache.join("models--gpt2")));
}

#[test]
fn an_endpoint_may_have_a_path() {
    let hub = Hub::with(Repo::small(), |a, r| match a.path.starts_with("/mirror/") {
        true => Reply::new(307, "").with("Location", a.path.replace("/mirror/", "/")),
        false => r,
    });
    is_good(&Place::new(&format!("{}/mirror/", hub.url())).fetch("org/name").unwrap());
    assert!(hub.asked("GET /mirror/api/models/org/name/revision/main").len() == 1);
}

#[test]
fn shards_come_by_their_index() {
    let index = r#"{"metadata":{"total_size":1},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    let files = vec![
        ("config.json".to_string(), b"{}".to_vec(), false),
        ("m-1.safetensors".to_string(), weights(2), true),
        ("m-2.safetensors".to_string(), weights(3), true),
        ("m-3.safetensors".to_string(), weights(4), true),
        ("model.safetensors.index.json".to_string(), index.as_bytes().to_vec(), false),
    ];
    let hub = Hub::new(Repo { files, ..Repo::small() });
    let mut place = Place::new(&hub.url());
    let bar = Counting::default();
    let snapshot = fetch(&Id::parse("org/name").unwrap(), &place.settings, &bar).unwrap();
    assert_eq!(fs::read(snapshot.join("m-2.safetensors")).unwrap(), weights(3));
    assert!(!snapshot.join("m-3.safetensors").exists());
    assert_eq!((bar.total.get(), bar.done.get()), (400_002 + index.len() as u64, 400_002 + index.len() as u64));
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.fetch("org/name").unwrap();
    fs::remove_file(snapshot.join("m-2.safetensors")).unwrap();
    place.refuses(&["only a part", "m-2.safetensors"]);
}

#[test]
fn one_gguf_is_taken_and_several_are_listed() {
    let one = vec![("sub/x.gguf".to_string(), b"GGUF".to_vec(), true)];
    let mut two = one.clone();
    two.push(("y.gguf".into(), b"GGUF2".to_vec(), true));
    let hub = Hub::new(Repo { files: one, ..Repo::small() });
    let place = Place::new(&hub.url());
    let file = place.fetch("org/name").unwrap();
    assert!(file.ends_with("sub/x.gguf"), "{file:?}");
    let hub = Hub::new(Repo { files: two, ..Repo::small() });
    let place = Place::new(&hub.url());
    place.refuses(&["2 GGUF files: `sub/x.gguf`, `y.gguf`", "name one of them: `org/name:sub/x.gguf`"]);
    let file = place.fetch("org/name@main:y.gguf").unwrap();
    assert_eq!((file.file_name().unwrap().to_str(), fs::read(&file).unwrap()), (Some("y.gguf"), b"GGUF2".to_vec()));
}

#[test]
fn two_at_the_same_time_fetch_once() {
    let hub = bad_store(1, |r| {
        std::thread::sleep(Duration::from_millis(100));
        r
    });
    let place = Place::new(&hub.url());
    std::thread::scope(|s| {
        let both = [0, 1].map(|_| s.spawn(|| place.fetch("org/name").unwrap()));
        both.into_iter().for_each(|t| is_good(&t.join().unwrap()));
    });
    assert_eq!(hub.asked(WEIGHTS).len(), 1);
}

/// Sums what a bar would show.
#[derive(Default)]
struct Counting {
    total: Cell<u64>,
    done: Cell<u64>,
    stages: Cell<u64>,
}

impl Progress for Counting {
    fn stage(&self, _: &str, total: u64) {
        self.total.set(total);
        self.stages.set(self.stages.get() + 1);
    }

    fn advance(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
    }

    fn done(&self) {}
}

#[test]
fn the_bar_counts_everything_once_also_what_is_there() {
    let hub = Hub::new(Repo::small());
    let place = Place::new(&hub.url());
    for _ in 0..2 {
        let bar = Counting::default();
        fetch(&Id::parse("org/name").unwrap(), &place.settings, &bar).unwrap();
        assert_eq!((bar.stages.get(), bar.total.get(), bar.done.get()), (1, 200_010, 200_010));
    }
}

#[test]
fn the_program_fetches_a_model_and_finds_it_again() {
    let folder = common::fixture("models/intent-w1a2");
    let read = |n: String| fs::read(folder.join(&n)).map(|d| (n.clone(), d, n.ends_with(".safetensors"))).unwrap();
    let files = common::listing(&folder).into_iter().map(read).collect();
    let hub = Hub::new(Repo { id: "org/intent".into(), files, ..Repo::small() });
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("m.bitnet");
    let run = |args: &[&str], offline: &str| {
        let mut c = common::command();
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"] {
            c.env_remove(name);
        }
        // Long time-outs, because the machine may be busy.
        c.env("HF_ENDPOINT", hub.url()).env("HF_HOME", home.path()).env("HF_HUB_OFFLINE", offline);
        common::finish(c.current_dir(home.path()).args(args))
    };
    let by_hand = common::tool("inspect {} --json", &[&folder]).ok().json();
    let info = run(&["inspect", "org/intent", "--json"], "0").ok().json();
    assert_eq!(info["model"], "intent");
    assert_eq!((&info["layers"], &info["architecture"]), (&by_hand["layers"], &by_hand["architecture"]));
    assert!(hub.asked("golden.safetensors").iter().all(|a| a.path.starts_with("/api/")));
    let export = ["export", "--model", "org/intent", "--target", "host", "-o", out.to_str().unwrap()];
    run(&export, "1").ok();
    let local = home.path().join("local.bitnet");
    common::tool("export --model {} --target host -o {} --quiet", &[&folder, &local]).ok();
    let tensors = |p: &Path| common::tool("inspect {} --json", &[p]).ok().json()["tensors"].clone();
    assert_eq!(tensors(&out), tensors(&local));
    let refused = run(&["inspect", "org/other"], "1");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("HF_HUB_OFFLINE"), "{}", refused.stderr);
}
