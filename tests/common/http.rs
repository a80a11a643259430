//! A server on loopback that can be told to misbehave, on `std::net` alone.
// Each test program uses the part of it that its server needs.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a client asked.
#[derive(Debug, Clone, Default)]
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
    /// Announce this length; 0 announces none, so that the end of the connection is the end of the body.
    pub announce: Option<usize>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    /// All of `data`, or the range that was asked for.
    pub fn part(asked: &Asked, data: &[u8]) -> Reply {
        Reply::range(asked.range(), data)
    }

    /// As [`Reply::part`], with an ETag; a range only if the data has still the tag that the client knows.
    pub fn tagged_part(asked: &Asked, data: &[u8]) -> Reply {
        let etag = format!("\"{:08x}\"", crc32fast::hash(data));
        let same = asked.header("if-range").is_none_or(|e| e == etag);
        Reply::range(asked.range().filter(|_| same), data).with("ETag", etag)
    }

    fn range(from: Option<usize>, data: &[u8]) -> Reply {
        match from {
            Some(from) if from < data.len() => Reply::new(206, &data[from..])
                .with("Content-Range", format!("bytes {from}-{}/{}", data.len() - 1, data.len())),
            Some(_) => Reply::new(416, "").with("Content-Range", format!("bytes */{}", data.len())),
            None => Reply::new(200, data),
        }
    }

    pub fn to(location: &str) -> Reply {
        Reply::new(302, "<html>").with("Location", location)
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

    pub fn then(self, then: Then) -> Reply {
        Reply { then, ..self }
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

pub struct Server {
    addr: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().unwrap();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let answer: Arc<Answer> = Arc::new(answer);
        let (l, s) = (log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if s.load(Ordering::SeqCst) {
                    break;
                }
                let (answer, log, stop) = (answer.clone(), l.clone(), s.clone());
                let Ok(stream) = stream else { continue };
                // A client that goes away in the middle is what the tests are about.
                open.push(std::thread::spawn(move || drop(serve(stream, &*answer, &log, &stop))));
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

    /// What was asked so far, with this in method and path.
    pub fn asked(&self, what: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|a| format!("{} {}", a.method, a.path).contains(what)).cloned().collect()
    }

    /// Waits until so much was asked.
    pub fn wait_for(&self, what: &str, times: usize) {
        let start = Instant::now();
        while self.asked(what).len() < times {
            assert!(start.elapsed() < Duration::from_secs(60), "`{what}` is not asked for");
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

fn serve(stream: TcpStream, answer: &Answer, log: &Mutex<Vec<Asked>>, stop: &AtomicBool) -> std::io::Result<()> {
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
    let reply = answer(&asked);
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
    let (now, rest) = reply.body.split_at(reply.send.unwrap_or(reply.body.len()).min(reply.body.len()));
    if asked.method != "HEAD" {
        out.write_all(now)?;
    }
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
