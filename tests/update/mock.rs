//! A server of files on loopback that can be told to misbehave, on `std::net` alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// How often this path was asked before.
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

/// What comes after the bytes of the body.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Then {
    #[default]
    Close,
    Stall,
    /// Bytes without end.
    Endless(u8),
    /// The rest, a few bytes at a time with a pause after each.
    Drip(usize),
}

#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Send only so many bytes of the body.
    pub send: Option<usize>,
    pub then: Then,
    /// Announce no length.
    pub unannounced: bool,
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

    pub fn cut(self, bytes: usize) -> Reply {
        Reply { send: Some(bytes), ..self }
    }

    pub fn then(self, then: Then) -> Reply {
        Reply { then, ..self }
    }

    pub fn to(location: &str) -> Reply {
        Reply::new(302, "<html>").with("Location", location)
    }
}

type Mischief = dyn Fn(&Asked, Reply) -> Reply + Send + Sync;
pub type Files = Vec<(String, Vec<u8>)>;

pub struct Server {
    addr: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// All of it, or the range that was asked for if it has not changed.
pub fn part(asked: &Asked, data: &[u8]) -> Reply {
    let etag = format!("\"{:08x}\"", crc32fast::hash(data));
    let same = asked.header("if-range").is_none_or(|e| e == etag);
    let reply = match asked.range().filter(|_| same) {
        Some(from) if from < data.len() => Reply::new(206, &data[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", data.len() - 1, data.len())),
        Some(_) => Reply::new(416, "").with("Content-Range", format!("bytes */{}", data.len())),
        None => Reply::new(200, data),
    };
    reply.with("ETag", etag)
}

impl Server {
    pub fn new(files: Files) -> Server {
        Server::with(files, |_, reply| reply)
    }

    /// `mischief` gets each request and the right answer to it.
    pub fn with(files: Files, mischief: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().unwrap();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (files, mischief): (_, Arc<Mischief>) = (Arc::new(files), Arc::new(mischief));
        let (l, s) = (log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if s.load(Ordering::SeqCst) {
                    break;
                }
                let (files, mischief, log, stop) = (files.clone(), mischief.clone(), l.clone(), s.clone());
                let Ok(stream) = stream else { continue };
                // A client that goes away in the middle is what the tests are about.
                open.push(std::thread::spawn(move || drop(serve(stream, &files, &*mischief, &log, &stop))));
            }
            open.into_iter().for_each(|t| t.join().unwrap());
        });
        Server { addr, log, stop, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The same place under another name, which makes it another host.
    pub fn other(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.addr.port())
    }

    /// What was asked so far for this path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.log.lock().unwrap().iter().filter(|a| a.path.starts_with(path)).cloned().collect()
    }

    /// Waits until so much was asked.
    pub fn wait_for(&self, path: &str, times: usize) {
        let start = Instant::now();
        while self.asked(path).len() < times {
            assert!(start.elapsed() < Duration::from_secs(60), "`{path}` is not asked for");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
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
    files: &Files,
    mischief: &Mischief,
    log: &Mutex<Vec<Asked>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(64 << 10));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(path) = line.split_whitespace().nth(1).map(str::to_string) else { return Ok(()) };
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
        let before = log.iter().filter(|a| a.path == path).count();
        let asked = Asked { path, headers, before };
        log.push(asked.clone());
        asked
    };
    let name = asked.path.split('?').next().unwrap_or("").trim_start_matches('/');
    let right = files.iter().find(|(n, _)| n == name).map_or(Reply::new(404, "no such file"), |(_, d)| part(&asked, d));
    let reply = mischief(&asked, right);
    let mut out = stream;
    write!(out, "HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status)?;
    if !reply.unannounced {
        write!(out, "Content-Length: {}\r\n", reply.body.len())?;
    }
    for (n, v) in &reply.headers {
        write!(out, "{n}: {v}\r\n")?;
    }
    write!(out, "\r\n")?;
    let (now, rest) = reply.body.split_at(reply.send.unwrap_or(reply.body.len()).min(reply.body.len()));
    out.write_all(now)?;
    out.flush()?;
    let start = Instant::now();
    let goes_on = || !stop.load(Ordering::SeqCst) && start.elapsed() < Duration::from_secs(60);
    match reply.then {
        Then::Close => {}
        Then::Stall => {
            while goes_on() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Then::Endless(byte) => {
            while goes_on() {
                out.write_all(&[byte; 4096])?;
            }
        }
        Then::Drip(bytes) => {
            for part in rest.chunks(bytes) {
                if !goes_on() {
                    break;
                }
                out.write_all(part)?;
                out.flush()?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}
