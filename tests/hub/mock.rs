//! A hub on loopback that can be told to misbehave.

use crate::http::{Asked, Reply, Server};
use sha2::Digest as _;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Default)]
pub struct Repo {
    pub id: String,
    pub revision: String,
    /// Name, content, and whether it is stored apart (LFS).
    pub files: Vec<(String, Vec<u8>, bool)>,
    /// Names of a tree's page.
    pub page: usize,
    /// Where redirects to stored contents go; the hub itself if empty.
    pub store: String,
}

pub fn sha256(data: &[u8]) -> String {
    sha2::Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn git_blob(data: &[u8]) -> String {
    let mut h = sha1::Sha1::new_with_prefix(format!("blob {}\0", data.len()));
    h.update(data);
    h.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

impl Repo {
    /// `org/name` with a small configuration and 200,000 bytes of weights.
    pub fn small() -> Repo {
        let files = vec![
            ("README.md".into(), b"not fetched".to_vec(), false),
            ("config.json".into(), b"{\"a\": 1}".to_vec(), false),
            ("model.safetensors".into(), weights(1), true),
            ("tokenizer.json".into(), b"{}".to_vec(), false),
        ];
        Repo { id: "org/name".into(), revision: "main".into(), files, page: 1000, store: String::new() }
    }

    pub fn content(&self, name: &str) -> Option<&(String, Vec<u8>, bool)> {
        self.files.iter().find(|(n, ..)| n == name)
    }

    /// The answer of a hub in good order.
    fn answer(&self, asked: &Asked) -> Reply {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let revision = self.revision.replace('/', "%2F");
        if path == format!("/api/models/{}/revision/{revision}", self.id) {
            let siblings: Vec<_> = self.files.iter().map(|(n, ..)| serde_json::json!({"rfilename": n})).collect();
            let info = serde_json::json!({"id": self.id, "sha": COMMIT, "siblings": siblings, "private": false});
            return Reply::new(200, info.to_string());
        }
        if path == format!("/api/models/{}/tree/{COMMIT}", self.id) {
            let from = query.split("cursor=").nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
            let entries = self.files.iter().skip(from).take(self.page).map(|(n, data, lfs)| {
                let mut e = serde_json::json!({"type": "file", "path": n, "size": data.len(), "oid": git_blob(data)});
                if *lfs {
                    e["lfs"] = serde_json::json!({"oid": sha256(data), "size": data.len(), "pointerSize": 134});
                    e["xetHash"] = serde_json::json!("ignored");
                }
                e
            });
            let reply = Reply::new(200, serde_json::Value::Array(entries.collect()).to_string());
            return match from + self.page < self.files.len() {
                true => {
                    reply.with("Link", format!("<{path}?recursive=true&cursor={}>; rel=\"next\"", from + self.page))
                }
                false => reply,
            };
        }
        if let Some((_, data, lfs)) =
            path.strip_prefix(&format!("/{}/resolve/{COMMIT}/", self.id)).and_then(|n| self.content(n))
        {
            let name = path.split(COMMIT).nth(1).unwrap_or("").trim_start_matches('/');
            return match lfs {
                true => Reply::new(302, "")
                    .with("Location", format!("{}/store/{name}?signature=secret", self.store))
                    .with("ETag", format!("\"{}\"", git_blob(b"pointer")))
                    .with("X-Linked-Etag", format!("\"{}\"", sha256(data)))
                    .with("X-Linked-Size", data.len())
                    .with("X-Xet-Hash", "ignored"),
                false => Reply::part(asked, data).with("ETag", format!("\"{}\"", git_blob(data))),
            }
            .with("X-Repo-Commit", COMMIT);
        }
        if let Some((_, data, _)) = path.strip_prefix("/store/").and_then(|n| self.content(n)) {
            return Reply::part(asked, data).with("ETag", "\"one\"");
        }
        Reply::new(404, "{}").with("X-Error-Code", "RepoNotFound")
    }
}

pub fn weights(seed: u8) -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

/// `mischief` gets each request and the well-behaved answer to it.
pub fn bad_hub(repo: Repo, mischief: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Server {
    Server::new(move |asked| mischief(asked, repo.answer(asked)))
}

pub fn hub_of(repo: Repo) -> Server {
    bad_hub(repo, |_, reply| reply)
}
