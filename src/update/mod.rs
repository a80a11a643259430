//! Updates of a model over a network or from a folder: which patches to fetch, fetching them so that a cut costs little, checking each before it
//! is used, and applying them through [`crate::delta::apply`].
//!
//! A run may be cut anywhere; the same call then goes on. Beside the model lie meanwhile `FILE.download` (`.1`, `.2`, … for a chain), each with
//! a note `….json`, and while a chain is applied `FILE.step…`; at the end they are gone. docs/delta.md is for users.

mod fetch;
mod index;
mod install;
mod intake;
mod partial;
mod place;
mod remote;
mod route;
mod run;

pub use index::{Index, Release, Sha, MAX_BYTES, MAX_ENTRIES};
pub use remote::TOKEN;
pub use route::Kind;

use crate::delta::apply::{self, Site};
use crate::delta::keys::Keyring;
use crate::delta::state::Version;
use crate::delta::store::Std;
use crate::error::{Error, Result};
use crate::http::{Client, Patience, Rules, Token, Url};
use crate::progress::Progress;
use fetch::Fetcher;
use place::Place;
use serde::Serialize;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MAX_REDIRECTS: usize = 5;
const NO_SERVER: &str =
    "check the connection, the address and HTTPS_PROXY; what was fetched is kept, run the same command again";
const NO_TRUST: &str = "the connection cannot be trusted: check the address, the clock, and proxies in between";

/// What to update, from where, and what is allowed.
#[derive(Debug, Clone)]
pub struct Options {
    pub model: PathBuf,
    /// Of a patch or of an index.
    pub url: String,
    pub keys: Keyring,
    pub allow_unsigned: bool,
    pub allow_downgrade: bool,
    pub allow_http: bool,
    pub in_place: bool,
    /// Accepts the new version at once.
    pub confirm: bool,
    /// Says what would be fetched, and changes nothing.
    pub dry_run: bool,
    /// Goes to the host of `url` only.
    pub token: Option<Token>,
    pub connect: Duration,
    pub idle: Duration,
    /// For everything that is fetched.
    pub total: Duration,
    /// Attempts without anything gained before a request is given up, and the waits between them.
    pub attempts: u32,
    pub backoff: Duration,
    pub longest_wait: Duration,
    /// Largest patch. Without one, those that no key vouches for may have twice the model and 64 MiB.
    pub max_download: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The file is the newest version.
    UpToDate,
    Updated,
    /// It is not, and this was only a question.
    WouldUpdate,
}

/// One patch of the way.
#[derive(Debug, Clone, Serialize)]
pub struct Piece {
    /// Without a query.
    pub url: String,
    pub bytes: u64,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub status: Status,
    pub file: String,
    pub model: String,
    pub from: Option<Version>,
    pub to: Version,
    pub way: Option<Kind>,
    pub patches: Vec<Piece>,
    /// Bytes that came over the network in this run, the index with them.
    pub fetched: u64,
    /// Number of the key that signed, if a signature was asked for.
    pub signed_by: Option<String>,
    /// The version is on trial until it is confirmed.
    pub trial: bool,
    pub notes: Vec<String>,
}

/// Brings the model to the newest version that the address has.
///
/// # Errors
/// `Usage` for what the caller can settle, `Input` for what is refused, `Io` for a server or disk that fails. The model is then as it was, or, after a
/// cut update in place, marked as unfinished; the same call goes on.
pub fn run(o: &Options, progress: &dyn Progress) -> Result<Report> {
    let place = Place::parse(&o.url, o.allow_http)?;
    let client = client(o, &place)?;
    let patience = Patience {
        attempts: o.attempts,
        backoff: o.backoff,
        longest_wait: o.longest_wait,
        until: Instant::now().checked_add(o.total),
    };
    let fetcher = Fetcher { client: &client, patience, progress, fetched: Cell::new(0) };
    let disk = Std;
    let site = Site::lock(&disk, &o.model)?;
    run::Run::new(o, &disk, &site, &fetcher)?.update(&place)
}

fn client(o: &Options, place: &Place) -> Result<Client> {
    let home = match place {
        Place::Remote(url) => url.clone(),
        // An index in a file may lead to the network; nobody there gets a token.
        Place::Local(_) => Url::parse("https://localhost/").map_err(Error::usage)?,
    };
    let token = o.token.clone().filter(|_| matches!(place, Place::Remote(_)));
    if let Some(token) = token.as_ref().filter(|_| !home.is_https() && !home.is_loopback()) {
        let what = format!("the token in {} is not sent to `{}` over plain http", token.source, home.shown());
        return Err(Error::usage(what).hint(format!("use https, or unset {TOKEN}")));
    }
    Ok(Client::new(Rules {
        home,
        token,
        connect: o.connect,
        stall: o.idle,
        redirects: MAX_REDIRECTS,
        plain: o.allow_http,
        check_connection: NO_SERVER,
        check_trust: NO_TRUST,
    }))
}
