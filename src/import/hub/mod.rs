//! Checkpoints from a Hugging Face hub, into the cache that all clients share and from it.
//!
//! Nothing counts as present before its length and digest are those that the hub lists; what is damaged, cut or swapped on the way is fetched
//! again or refused. docs/hub.md is for users, docs/decisions/0006-hub-client.md says why this is our own.

mod cache;
mod client;
mod digest;
mod download;
mod env;
mod id;
mod listing;
mod select;

pub use crate::http::{Token, Url};
pub use env::Settings;
pub use id::{is_hub_id, Id};

use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::limits::{MAX_JSON_BYTES, MAX_TOKENIZER_BYTES};
use crate::progress::{Progress, Silent};
use cache::Repo;
use client::Client;
use download::{bring, is_right, Meter, Wanted};
use listing::Listing;
use select::{choose, shards, Choice, Weights};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A checkpoint in the cache.
pub struct Found {
    /// The snapshot, or the file in it that the importer must be pointed at (a GGUF file, or one that was asked for).
    pub path: PathBuf,
    /// What the revision stands for.
    pub commit: String,
    /// Why this is not what the hub has now, if so.
    pub warning: Option<String>,
}

/// Fetches what the importer needs of a model, as far as the cache does not have it, and returns where it is ([`Found::path`]).
///
/// # Errors
/// `Usage` for what the user can settle (spelling, licence, token), `Io` for a hub or disk that fails, `Input` for a hub that lies.
pub fn fetch(id: &Id, settings: &Settings, progress: &dyn Progress) -> Result<PathBuf> {
    obtain(id, settings, progress).map(|f| f.path)
}

/// As [`fetch`], with what else is known.
///
/// # Errors
/// Those of [`fetch`].
pub fn obtain(id: &Id, settings: &Settings, progress: &dyn Progress) -> Result<Found> {
    let progress = if settings.progress { progress } else { &Silent };
    let repo = Repo::new(&settings.cache, id);
    if let Some(variable) = settings.offline {
        return cached(id, &repo, progress).map_err(|e| {
            Error::new(e.kind(), format!("{} and {variable} forbids to fetch it", e.message()))
                .at_file(repo.dir())
                .hint(format!("unset {variable}, or give a local folder"))
        });
    }
    let client = Client::new(settings, id)?;
    // Whoever has a copy does not wait long for a hub that is not there.
    let hasty = Settings { attempts: settings.attempts.min(2), ..settings.clone() };
    let first = match repo.commit_of(id.revision()) {
        Some(_) => &Client::new(&hasty, id)?,
        None => &client,
    };
    let mut listing = match Listing::ask(first, id) {
        Ok(l) => l,
        // Better the model as it was last seen than none, but not in silence.
        Err(failure) if failure.unreachable => {
            let mut found = cached(id, &repo, progress).map_err(|_| failure.error.clone())?;
            let why = failure.error.message();
            found.warning = Some(format!("{why}; `{id}` is taken from the cache, commit {}", found.commit));
            return Ok(found);
        }
        Err(failure) => return Err(failure.error),
    };
    let commit = listing.commit.clone();
    let choice = choose(&listing.names, id.repo(), id.file())?;
    repo.create()?;
    let one = |wanted: &Wanted, meter: &mut Meter| {
        bring(&client, &repo, &commit, wanted, &listing::file_url(&client, id, &commit, &wanted.name), meter)
    };
    let mut wanted = Vec::new();
    for name in &choice.side {
        wanted.push(listing.find(&client, id, name, MAX_TOKENIZER_BYTES)?);
    }
    let weights: BTreeSet<String> = match &choice.weights {
        Weights::Found(name) | Weights::Named(name) => [name.clone()].into(),
        Weights::Index(name) => {
            // The sizes of the shards belong to the total, so the index comes first and on its own.
            let index = listing.find(&client, id, name, MAX_JSON_BYTES)?;
            one(&index, &mut Meter::new(&Silent))?;
            wanted.push(index);
            read_shards(&repo.snapshot(&commit), name, &listing.names)?
        }
    };
    for name in &weights {
        wanted.push(listing.find(&client, id, name, u64::MAX)?);
    }
    let total = wanted.iter().fold(0u64, |sum, w| sum.saturating_add(w.size));
    progress.stage(&format!("fetching {id}"), total);
    let done = wanted.iter().try_for_each(|w| one(w, &mut Meter::new(progress)));
    progress.done();
    done?;
    repo.write_ref(id.revision(), &commit)?;
    Ok(found(&repo, commit, &choice))
}

/// What the cache has of a model, without the network: complete by its own index, and with the digests that its links promise.
fn cached(id: &Id, repo: &Repo, progress: &dyn Progress) -> Result<Found> {
    let absent = || Error::usage(format!("`{id}` is not in the cache"));
    let commit = repo.commit_of(id.revision()).ok_or_else(absent)?;
    let names = select::checked(repo.names(&commit))?;
    if names.is_empty() {
        return Err(absent());
    }
    let incomplete = |e: Error| Error::usage(format!("the cache holds only a part of `{id}` ({})", e.message()));
    let choice = choose(&names, id.repo(), id.file()).map_err(incomplete)?;
    let mut needed: Vec<String> = choice.side.clone();
    match &choice.weights {
        Weights::Found(name) | Weights::Named(name) => needed.push(name.clone()),
        Weights::Index(name) => {
            needed.push(name.clone());
            needed.extend(read_shards(&repo.snapshot(&commit), name, &names).map_err(incomplete)?);
        }
    }
    let snapshot = repo.snapshot(&commit);
    let sizes = needed.iter().map(|n| std::fs::metadata(snapshot.join(n)).map_or(0, |m| m.len()));
    progress.stage(&format!("checking {id}"), sizes.sum());
    // A copy in the place of a link has no digest to be held against.
    let damaged = needed.iter().find(|n| {
        repo.digest_of(&commit, n).is_some_and(|digest| {
            let mut lock = repo.lock(&digest);
            !is_right(&snapshot.join(n), &mut lock, None, &digest, &mut Meter::new(progress))
        })
    });
    progress.done();
    match damaged {
        Some(n) => Err(Error::input(format!("`{n}` of `{id}` is damaged in the cache"))),
        None => Ok(found(repo, commit, &choice)),
    }
}

fn read_shards(snapshot: &Path, index: &str, names: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    shards(index, &read_capped(&snapshot.join(index), MAX_JSON_BYTES)?, names)
}

fn found(repo: &Repo, commit: String, choice: &Choice) -> Found {
    let snapshot = repo.snapshot(&commit);
    let path = match &choice.weights {
        Weights::Named(name) => snapshot.join(name),
        Weights::Found(_) | Weights::Index(_) => snapshot,
    };
    Found { path, commit, warning: None }
}
