//! A hub on loopback that can be told to misbehave, on `std::net` alone.

use sha2::Digest as _;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// How often this method and path were asked before.
    pub before: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the hub answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Send only so many bytes of the body.
    pub send: Option<usize>,
    /// After that, keep the connection open and silent.
    pub stall: bool,
    /// Announce this length; 0 announces none, so that the end of the connection is the end of the body.
    pub announce: Option<usize>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn sending(self, bytes: usize) -> Reply {
        Reply { send: Some(bytes), ..self }
    }

    pub fn announcing(self, bytes: usize) -> Reply {
        Reply { announce: Some(bytes), ..self }
    }

    pub fn stalling(self) -> Reply {
        Reply { stall: true, ..self }
    }
}

/// Gets the request and the well-behaved answer to it.
pub type Mischief = dyn Fn(&Asked, Reply) -> Reply + Send + Sync;

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

pub struct Hub {
    addr: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
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
                false => part(asked, data).with("ETag", format!("\"{}\"", git_blob(data))),
            }
            .with("X-Repo-Commit", COMMIT);
        }
        if let Some((_, data, _)) = path.strip_prefix("/store/").and_then(|n| self.content(n)) {
            return part(asked, data).with("ETag", "\"one\"");
        }
        Reply::new(404, "{}").with("X-Error-Code", "RepoNotFound")
    }
}

pub fn weights(seed: u8) -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

/// All of it, or the range that was asked for.
fn part(asked: &Asked, data: &[u8]) -> Reply {
    match asked.range() {
        Some(from) if from < data.len() => Reply::new(206, &data[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", data.len() - 1, data.len())),
        Some(_) => Reply::new(416, "").with("Content-Range", format!("bytes */{}", data.len())),
        None => Reply::new(200, data),
    }
}

impl Hub {
    pub fn new(repo: Repo) -> Hub {
        Hub::with(repo, |_, reply| reply)
    }

    pub fn with(repo: Repo, mischief: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().unwrap();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (repo, mischief): (_, Arc<Mischief>) = (Arc::new(repo), Arc::new(mischief));
        let (l, s) = (log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if s.load(Ordering::SeqCst) {
                    break;
                }
                let (repo, mischief, log, stop) = (repo.clone(), mischief.clone(), l.clone(), s.clone());
                let Ok(stream) = stream else { continue };
                // A client that goes away in the middle is what the tests are about.
                open.push(std::thread::spawn(move || drop(serve(stream, &repo, &*mischief, &log, &stop))));
            }
            open.into_iter().for_each(|t| t.join().unwrap());
        });
        Hub { addr, log, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The same place under another name, which makes it another host.
    pub fn other_name(&self) -> String {
        format!("http://localhost:{}", self.addr.port())
    }

    /// What was asked so far, with this in method and path.
    pub fn asked(&self, what: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|a| format!("{} {}", a.method, a.path).contains(what)).cloned().collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.addr);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    repo: &Repo,
    mischief: &Mischief,
    log: &Mutex<Vec<Asked>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(64 << 10));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_string);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((n, v)) = line.split_once(':') {
            headers.insert(n.to_ascii_lowercase(), v.trim().to_string());
        }
    }
    let asked = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|a| a.method == method && a.path == path).count();
        let asked = Asked { method, path, headers, before };
        log.push(asked.clone());
        asked
    };
    let reply = mischief(&asked, repo.answer(&asked));
    let mut out = stream;
    write!(out, "HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status)?;
    match reply.announce {
        Some(0) => {}
        n => write!(out, "Content-Length: {}\r\n", n.unwrap_or(reply.body.len()))?,
    }
    for (n, v) in &reply.headers {
        write!(out, "{n}: {v}\r\n")?;
    }
    write!(out, "\r\n")?;
    if asked.method != "HEAD" {
        out.write_all(&reply.body[..reply.send.unwrap_or(reply.body.len()).min(reply.body.len())])?;
    }
    out.flush()?;
    let start = Instant::now();
    while reply.stall && !stop.load(Ordering::SeqCst) && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
