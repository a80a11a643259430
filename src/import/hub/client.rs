//! Requests: redirects followed by hand, the token only to its own host, every status looked at, failures told apart.

use super::digest::Digest;
use super::env::{Settings, Token};
use super::id::Id;
use super::url::Url;
use crate::error::{Error, Kind, Result};
use crate::limits::MAX_JSON_BYTES;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::thread::sleep;
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, StatusCode};
use ureq::{Agent, Body};

const MAX_REDIRECTS: usize = 10;
const NO_TRUST: &str = "the connection cannot be trusted: check HF_ENDPOINT, the clock, and proxies in between";

/// A request that gave nothing, and whether another one may.
pub struct Failure {
    pub error: Error,
    /// Worth another attempt, after this wait if the server named one.
    again: Option<Option<Duration>>,
    /// The hub was not there, or not in order: the reason to look into the cache instead.
    pub unreachable: bool,
    /// The hub has nothing at this address.
    pub missing: bool,
    /// Something was gained before it failed, so that the count of attempts starts anew.
    pub gained: bool,
}

impl Failure {
    /// Another attempt may do better.
    pub fn again(error: Error) -> Failure {
        Failure { again: Some(None), ..Failure::from(error) }
    }

    pub fn gained(self, gained: bool) -> Failure {
        Failure { gained, ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, again: None, unreachable: false, missing: false, gained: false }
    }
}

/// What the hub itself (not a host that it redirects to) tells about a file.
#[derive(Default, Debug, Clone)]
pub struct Meta {
    pub commit: Option<String>,
    pub size: Option<u64>,
    /// Of the content behind a redirect.
    linked: Option<Digest>,
    /// Of the last answer; beside a linked one it is that of a pointer.
    plain: Option<Digest>,
}

impl Meta {
    pub fn digest(&self) -> Option<&Digest> {
        self.linked.as_ref().or(self.plain.as_ref())
    }
}

/// The answer at the end of the redirects, with a status below 400 or 416. That to a HEAD may be the redirect to another host.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub meta: Meta,
    pub body: Body,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// One request.
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// From this byte on, if the file still has this etag.
    pub range: Option<(u64, Option<&'a str>)>,
    /// Of a whole file, not a small answer.
    pub file: bool,
}

pub struct Client<'a> {
    settings: &'a Settings,
    id: &'a Id,
    agent: Agent,
    /// For this machine: a proxy would see a token that goes over plain http.
    direct: Agent,
}

impl<'a> Client<'a> {
    /// # Errors
    /// `Usage` if the token would travel in the clear. Nothing is sent before.
    pub fn new(settings: &'a Settings, id: &'a Id) -> Result<Client<'a>> {
        let endpoint = &settings.endpoint;
        if let Some(token) = &settings.token {
            if !endpoint.is_https() && !endpoint.is_loopback() {
                let what =
                    format!("the token in {} is not sent to `{}` over plain http", token.source, endpoint.shown());
                return Err(Error::usage(what).hint(
                    "set HF_ENDPOINT to an https address, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to go without the token",
                ));
            }
        }
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("bitnet-convert/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(settings.answer_timeout))
                .timeout_connect(Some(settings.answer_timeout))
                .timeout_per_read(Some(settings.stall_timeout))
                .timeout_per_write(Some(settings.stall_timeout))
        };
        let direct = config().proxy(None).build().new_agent();
        Ok(Client { settings, id, agent: config().build().new_agent(), direct })
    }

    pub fn endpoint(&self) -> &Url {
        &self.settings.endpoint
    }

    /// Repeats what fails for a reason that may pass, with growing waits.
    pub fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut failed = 0;
        loop {
            let mut failure = match attempt() {
                Ok(v) => return Ok(v),
                Err(f) => f,
            };
            failed = if failure.gained { 1 } else { failed + 1 };
            let Some(wanted) = failure.again else { return Err(failure) };
            if failed >= self.settings.attempts.max(1) {
                let what = format!("{} (given up after {failed} attempts)", failure.error.message());
                let hint = failure.error.next_step().unwrap_or("try again later; what was fetched is kept").to_string();
                failure.error = Error::new(failure.error.kind(), what).hint(hint);
                return Err(failure);
            }
            let doubled = self.settings.backoff.saturating_mul(1 << (failed - 1).min(16));
            sleep(wanted.unwrap_or(Duration::ZERO).max(doubled).min(self.settings.longest_wait));
        }
    }

    /// A small JSON answer and its `Link` header.
    pub fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<(T, Option<String>), Failure> {
        self.retry(|| {
            let answer = self.send(&Ask { method: Method::GET, url, range: None, file: false })?;
            let link = answer.header("link").map(str::to_string);
            let mut data = Vec::new();
            let read = answer.body.into_reader().take(MAX_JSON_BYTES + 1).read_to_end(&mut data);
            read.map_err(|e| self.broken(url, &ureq::Error::from(e)))?;
            if data.len() as u64 > MAX_JSON_BYTES {
                let what = format!("the answer of `{}` is larger than {MAX_JSON_BYTES} bytes", url.shown());
                return Err(Error::input(what).hint("is HF_ENDPOINT the address of a hub?").into());
            }
            let parsed = serde_json::from_slice(&data).map_err(|e| {
                Error::input(format!("the answer of `{}` is not what a hub answers: {e}", url.shown()))
                    .hint("is HF_ENDPOINT the address of a hub?")
            })?;
            Ok((parsed, link))
        })
    }

    /// Sends one request and follows its redirects.
    pub fn send(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut url = ask.url.clone();
        let mut meta = Meta::default();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(ask, &url)?;
            let (status, headers) = (response.status(), response.headers());
            if url.same_origin(self.endpoint()) {
                learn(&mut meta, headers);
            }
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let to = self.follow(&url, headers)?;
                // What is to be known about a file the hub has said; an address that is signed for GET answers no HEAD.
                if ask.method == Method::GET || to.same_origin(self.endpoint()) {
                    url = to;
                    continue;
                }
            }
            if status.is_client_error() && status != StatusCode::RANGE_NOT_SATISFIABLE || status.is_server_error() {
                return Err(self.refused(&url, status.as_u16(), headers));
            }
            let (parts, body) = response.into_parts();
            return Ok(Answer { status: status.as_u16(), headers: parts.headers, meta, body });
        }
        Err(Error::input(format!("`{}` redirects more than {MAX_REDIRECTS} times", ask.url.shown())).into())
    }

    fn send_once(&self, ask: &Ask, url: &Url) -> Result<ureq::http::Response<Body>, Failure> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url.full());
        // A compressed answer would have another length and other positions.
        request = request.header("accept-encoding", "identity");
        if let Some(token) = self.settings.token.as_ref().filter(|_| url.same_origin(self.endpoint())) {
            request = request.header("authorization", format!("Bearer {}", token.secret()));
        }
        if let Some((from, etag)) = ask.range {
            request = request.header("range", format!("bytes={from}-"));
            if let Some(etag) = etag {
                request = request.header("if-range", etag);
            }
        }
        let request = request.body(());
        let request = request.map_err(|_| Error::input(format!("`{}` cannot be asked for", url.shown())))?;
        let agent = if url.is_loopback() { &self.direct } else { &self.agent };
        let limits = agent.configure_request(request);
        let limits = match ask.file {
            true => limits.timeout_recv_response(Some(self.settings.stall_timeout.max(self.settings.answer_timeout))),
            // A small answer that trickles in is as bad as none.
            false => limits
                .timeout_recv_response(Some(self.settings.answer_timeout))
                .timeout_recv_body(Some(self.settings.answer_timeout.saturating_mul(10))),
        };
        agent.run(limits.build()).map_err(|e| self.broken(url, &e))
    }

    fn follow(&self, from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
        let bad = |what: &str| Error::input(format!("`{}` redirects to nowhere: {what}", from.shown()));
        let location = header(headers, "location").ok_or_else(|| bad("it gives no address"))?;
        let to = from.join(location).map_err(|e| bad(&e))?;
        if from.is_https() && !to.is_https() && !(from.is_loopback() && to.is_loopback()) {
            return Err(bad("from https to plain http").hint("nothing was fetched; do not trust this hub").into());
        }
        Ok(to)
    }

    /// A connection that failed. Messages of the library hold addresses and causes, no headers.
    pub fn broken(&self, url: &Url, e: &ureq::Error) -> Failure {
        let (why, hint, passing) = match e {
            ureq::Error::Timeout(_) => ("it does not answer, or stopped in the middle".to_string(), None, true),
            ureq::Error::HostNotFound => ("there is no host of this name".to_string(), None, false),
            // The TLS library reports through the connection. A certificate does not get better by asking again.
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                (e.to_string(), Some(NO_TRUST), !e.to_string().contains("certificate"))
            }
            ureq::Error::Io(e) => (e.to_string(), None, true),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
                (e.to_string(), Some(NO_TRUST), false)
            }
            ureq::Error::BadUri(_) => ("it is no valid address".to_string(), None, false),
            e => (e.to_string(), None, true),
        };
        let error = Error::new(Kind::Io, format!("cannot fetch from `{}`: {why}", url.shown()));
        let hint = hint.unwrap_or("check the connection, HF_ENDPOINT and HTTPS_PROXY, or give a local folder");
        Failure { again: passing.then_some(None), unreachable: true, ..Failure::from(error.hint(hint)) }
    }

    /// An answer that says no.
    fn refused(&self, url: &Url, status: u16, headers: &HeaderMap) -> Failure {
        if status >= 500 || status == 429 || status == 408 {
            let what = format!("`{}` answers with status {status}", url.shown());
            let wait = header(headers, "retry-after").and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
            let hint = match status {
                429 => "the hub is asked too often from here: wait, or log in (HF_TOKEN) for a higher limit",
                _ => "try again later; what was fetched is kept",
            };
            let error = Error::new(Kind::Io, what).hint(hint);
            return Failure { again: Some(wait), unreachable: true, ..Failure::from(error) };
        }
        let error = if url.same_origin(self.endpoint()) {
            self.explain(status, header(headers, "x-error-code"))
        } else {
            // A signed address may have expired; the next attempt asks the hub for a new one.
            let what = format!("`{}` answers with status {status}", url.shown());
            return Failure::again(Error::new(Kind::Io, what));
        };
        Failure { missing: matches!(status, 404 | 405), ..Failure::from(error) }
    }

    fn explain(&self, status: u16, code: Option<&str>) -> Error {
        let (id, page) = (self.id, self.endpoint().with(&format!("/{}", self.id.repo())).shown());
        let token = self.settings.token.as_ref();
        let log_in = "log in with `hf auth login`, or set HF_TOKEN";
        match (status, code) {
            (401 | 403, Some("GatedRepo")) => {
                let next = match token {
                    None => format!("accept its licence at {page}, then {log_in}"),
                    Some(t) => format!("accept its licence at {page} with the account whose token is in {}", t.source),
                };
                Error::usage(format!("`{id}` is gated: its licence must be accepted first (status {status})"))
                    .hint(next)
            }
            (_, Some("RevisionNotFound")) => {
                Error::usage(format!("`{}` has no revision `{}`", id.repo(), id.revision())).hint(format!("see {page}"))
            }
            (401, _) => match token {
                // The hub does not tell strangers whether a private repository exists.
                None => {
                    Error::usage(format!("the hub knows no public model `{}` (status 401)", id.repo())).hint(format!(
                    "check the spelling, and the path if a local folder is meant; if it is private or gated, {log_in}"
                ))
                }
                Some(Token { source, .. }) => Error::usage(format!(
                    "the hub does not accept the token in {source} for `{}` (status 401)",
                    id.repo()
                ))
                .hint("check the spelling of the model; log in again if the token is old"),
            },
            (403, _) => Error::usage(format!("the hub does not give out `{id}` (status 403)")).hint(format!(
                "see {page} whether access must be asked for; {}",
                if token.is_some() { "the token may lack the right to read it" } else { log_in }
            )),
            (404, Some("EntryNotFound")) => {
                Error::input(format!("the hub lists a file of `{id}` that it does not have (status 404)"))
            }
            (404, _) => {
                Error::usage(format!("the hub has no model `{id}` (status 404), and there is no such local folder"))
                    .hint("check the spelling, the revision, and the path if a local folder is meant")
            }
            _ => Error::new(Kind::Io, format!("the hub answers with status {status} to the request for `{id}`")),
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn learn(meta: &mut Meta, headers: &HeaderMap) {
    let digest = |name: &str| header(headers, name).and_then(Digest::parse);
    meta.commit = meta.commit.take().or_else(|| header(headers, "x-repo-commit").map(str::to_string));
    meta.size = meta.size.take().or_else(|| header(headers, "x-linked-size")?.trim().parse().ok());
    meta.linked = meta.linked.take().or_else(|| digest("x-linked-etag"));
    meta.plain = digest("etag").or(meta.plain.take());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn no_redirect_leaves_https() {
        let settings = Settings::from_lookup(&|name| (name == "HOME").then(|| OsString::from("/h"))).unwrap();
        let id = Id::parse("o/n").unwrap();
        let client = Client::new(&settings, &id).unwrap();
        let follow = |from: &str, to: &str| {
            let headers = HeaderMap::from_iter([(ureq::http::header::LOCATION, to.parse().unwrap())]);
            client.follow(&Url::parse(from).unwrap(), &headers).map(|u| u.full()).ok()
        };
        assert_eq!(follow("https://a/x", "https://b/y").as_deref(), Some("https://b/y"));
        assert_eq!(follow("http://a/x", "http://b/y").as_deref(), Some("http://b/y"));
        assert_eq!(follow("https://localhost/x", "http://127.0.0.1/y").as_deref(), Some("http://127.0.0.1/y"));
        for to in ["http://a/x", "http://127.0.0.1/x", "HTTP://b/", "ftp://b/", "//user@b/"] {
            assert_eq!(follow("https://a/x", to), None, "{to}");
        }
    }
}
