//! Updates from a server that is on loopback and means no good, and from folders.
#![cfg(feature = "hub")]

mod answers;
mod bodies;
mod cuts;
#[path = "../common/http.rs"]
mod http;
mod indexes;
mod mock;
mod patches;
mod programs;
mod runs;
#[path = "../common/disk.rs"]
mod watched;

use self::http::{Asked, Reply, Server, Then};
use bitnet_convert::delta::keys::{Keyring, SecretKey};
use bitnet_convert::error::{Error, Kind};
use bitnet_convert::http::Token;
use bitnet_convert::progress::Silent;
use bitnet_convert::update::{run, Options, Report, Status};
use mock::{bad_server, server_of, Files};
use patches::{full, patch, version, Made};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "thisIsSecret";

/// A folder with `model.bitnet` in version 1, and options that do not wait.
struct Place {
    dir: TempDir,
    options: Options,
}

impl Place {
    fn new(url: &str) -> Place {
        Place::at(1, url)
    }

    fn at(n: u64, url: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.bitnet");
        fs::write(&model, version(n)).unwrap();
        let options = Options {
            model,
            url: url.into(),
            keys: Keyring::default(),
            allow_unsigned: false,
            allow_downgrade: false,
            allow_http: false,
            in_place: false,
            confirm: false,
            dry_run: false,
            token: None,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            total: Duration::from_secs(100),
            attempts: 3,
            backoff: Duration::from_millis(1),
            longest_wait: Duration::from_millis(4),
            max_download: None,
        };
        Place { dir, options }
    }

    fn run(&self) -> Result<Report, Error> {
        run(&self.options, &Silent)
    }

    /// Another address for the same model.
    fn from(&self, url: &str) -> Result<Report, Error> {
        run(&Options { url: url.into(), ..self.options.clone() }, &Silent)
    }

    #[track_caller]
    fn updates(&self) -> Report {
        let report = self.run().unwrap_or_else(|e| panic!("{e}\n{:?}", e.next_step()));
        assert_eq!(report.status, Status::Updated);
        report
    }

    #[track_caller]
    fn refuses(&self, parts: &[&str]) -> Error {
        let before = fs::read(&self.options.model).unwrap();
        let e = self.run().expect_err("an error is expected");
        let text = format!("{e}\n{}", e.next_step().unwrap_or(""));
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        assert!(!text.contains(SECRET), "a secret is in: {text}");
        assert_eq!(fs::read(&self.options.model).unwrap(), before, "the model changed");
        e
    }

    #[track_caller]
    fn is(&self, n: u64) {
        assert!(fs::read(&self.options.model).unwrap() == version(n), "the model is not version {n}");
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("model.bitnet{suffix}"))
    }

    /// Bytes of the download that are kept.
    fn kept(&self) -> u64 {
        fs::metadata(self.file(".download")).map_or(0, |m| m.len())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing is left of what was fetched.
    #[track_caller]
    fn is_tidy(&self) {
        let names = self.names();
        assert!(
            names.iter().all(|n| !n.contains("download") && !n.contains("step") && !n.ends_with(".new")),
            "{names:?}"
        );
    }
}

/// One patch from version 1 to 2.
fn one() -> Vec<u8> {
    patch(1, 2).bytes()
}

fn files(list: &[(&str, Vec<u8>)]) -> Files {
    list.iter().map(|(n, d)| (n.to_string(), d.clone())).collect()
}

/// A server of that patch that misbehaves in its first answers.
fn bad(times: usize, mischief: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    bad_server(files(&[("p", one())]), move |a, r| if a.before < times { mischief(r) } else { r })
}
