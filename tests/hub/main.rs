//! Models from a hub that is on loopback and means no good.
#![cfg(feature = "hub")]

mod answers;
mod bodies;
mod cache;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;
mod mock;

use self::http::{Asked, Reply, Server, Then};
use bitnet_convert::error::{Error, Kind};
use bitnet_convert::import::hub::{fetch, obtain, Id, Settings, Token, Url};
use bitnet_convert::progress::{Progress, Silent};
use mock::{bad_hub, git_blob, hub_of, sha256, weights, Repo, COMMIT};
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
fn bad_store(times: usize, bad: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    bad_hub(Repo::small(), move |a, reply| if is_store(a) && a.before < times { bad(reply) } else { reply })
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
