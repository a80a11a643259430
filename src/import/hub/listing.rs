//! What a hub has under a revision: the commit, the names, and of each needed file its size and digest.

use super::cache::is_commit;
use super::client::{Ask, Client};
use super::digest::Digest;
use super::download::Wanted;
use super::id::Id;
use super::select::checked;
use crate::error::{Error, Result};
use crate::http::{encode, Failure, Url};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use ureq::http::Method;

/// Pages of a tree, of up to a thousand names each.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// The listing of one commit.
pub struct Listing {
    pub commit: String,
    pub names: BTreeSet<String>,
    /// Of the pages read so far.
    tree: BTreeMap<String, (u64, Digest)>,
    next: Option<Url>,
    pages: usize,
}

/// Where the content of a file is asked for.
pub fn file_url(client: &Client, id: &Id, commit: &str, name: &str) -> Url {
    client.endpoint().with(&format!("/{}/resolve/{commit}/{}", id.repo(), encode(name, b"/")))
}

impl Listing {
    /// Asks for the commit of the revision and the names in it.
    ///
    /// # Errors
    /// A failure of the hub; `Input` for an answer that makes no sense.
    pub fn ask(client: &Client, id: &Id) -> Result<Listing, Failure> {
        let api = client.endpoint().with(&format!("/api/models/{}", id.repo()));
        // The slash of a branch name is not one of the path.
        let (info, _) = client.json::<Info>(&api.with(&format!("/revision/{}", encode(id.revision(), b""))))?;
        let commit = info.sha.to_ascii_lowercase();
        if !is_commit(&commit) || (is_commit(id.revision()) && commit != id.revision()) {
            return Err(Error::input(format!("the hub answers with another commit than `{}`", id.revision())).into());
        }
        let names = checked(info.siblings.into_iter().map(|s| s.rfilename))?;
        let tree = api.with(&format!("/tree/{commit}")).with_query("recursive=true");
        Ok(Listing { commit, names, tree: BTreeMap::new(), next: Some(tree), pages: 0 })
    }

    /// Size and digest of a file, which may have at most `cap` bytes.
    ///
    /// # Errors
    /// A failure of the hub; `Input` if it does not tell, or tells nonsense.
    pub fn find(&mut self, client: &Client, id: &Id, name: &str, cap: u64) -> Result<Wanted> {
        while !self.tree.contains_key(name) && self.next.is_some() {
            self.page(client).map_err(|f| f.error)?;
        }
        let (size, digest) = match self.tree.get(name) {
            Some(known) => known.clone(),
            None => self.head(client, id, name).map_err(|f| f.error)?,
        };
        if size > cap {
            let what = format!("`{name}` of `{id}` has {size} bytes, more than {cap}, the limit for its kind");
            return Err(Error::input(what));
        }
        Ok(Wanted { name: name.into(), size, digest })
    }

    /// Reads one more page.
    fn page(&mut self, client: &Client) -> Result<(), Failure> {
        let Some(url) = self.next.take() else { return Ok(()) };
        self.pages += 1;
        if self.pages > MAX_PAGES {
            return Err(Error::input(format!("the list of files has more than {MAX_PAGES} pages")).into());
        }
        let (entries, link) = match client.json::<Vec<Entry>>(&url) {
            // Some mirrors have no trees; each file can still be asked about.
            Err(f) if f.missing => return Ok(()),
            answer => answer?,
        };
        for e in entries.into_iter().filter(|e| e.kind == "file" && self.names.contains(&e.path)) {
            let (size, oid) = e.lfs.map_or((e.size, e.oid), |l| (l.size, l.oid));
            let digest = Digest::parse(&oid)
                .ok_or_else(|| Error::input(format!("the hub lists `{}` with `{oid}`, which is no digest", e.path)))?;
            self.tree.entry(e.path).or_insert((size, digest));
        }
        if let Some(next) = link.as_deref().and_then(next_of) {
            let next = url.join(next).ok().filter(|n| n.same_origin(client.endpoint()));
            // Elsewhere someone else would tell what belongs to the repository.
            let next =
                next.ok_or_else(|| Error::input("the list of files goes on at another host, which is not followed"))?;
            self.next = Some(next);
        }
        Ok(())
    }

    /// Asks about one file that no tree tells of.
    fn head(&self, client: &Client, id: &Id, name: &str) -> Result<(u64, Digest), Failure> {
        let url = file_url(client, id, &self.commit, name);
        client.retry(|| {
            let answer = client.send(&Ask { method: Method::HEAD, url: &url, range: None, file: false })?;
            // The length of a redirect is that of its page.
            let length = answer.http.header("content-length").filter(|_| answer.http.status == 200);
            match (answer.meta.size.or_else(|| length?.trim().parse().ok()), answer.meta.digest()) {
                (Some(size), Some(digest)) => Ok((size, digest.clone())),
                _ => {
                    Err(Error::input(format!("the hub tells no size and digest of `{name}`, so it cannot be checked"))
                        .hint("fetch it by other means and give the folder, or set another HF_ENDPOINT")
                        .into())
                }
            }
        })
    }
}

/// The target of `<…>; rel="next"` in a `Link` header.
fn next_of(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (target, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        let next = rest.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_of_a_link_header() {
        assert_eq!(next_of("<https://h/a?c=1>; rel=\"next\""), Some("https://h/a?c=1"));
        assert_eq!(next_of("<https://h/p>; rel=\"prev\", <https://h/n>; x=1; rel=next"), Some("https://h/n"));
        for none in ["", "<https://h/a>", "<https://h/a>; rel=\"last\"", "https://h/a; rel=next"] {
            assert_eq!(next_of(none), None, "{none}");
        }
    }
}
