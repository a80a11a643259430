//! What the hub says: the facts of its answers, and its refusals in words.

use super::digest::Digest;
use super::env::Settings;
use super::id::Id;
use crate::error::{Error, Kind, Result};
use crate::http;
use crate::http::{Failure, Patience, Rules, Token, Url};
use crate::limits::MAX_JSON_BYTES;
use serde::de::DeserializeOwned;
use std::io;
use std::io::Read;
use ureq::http::{HeaderMap, Method};

const MAX_REDIRECTS: usize = 10;
const NO_HUB: &str = "check the connection, HF_ENDPOINT and HTTPS_PROXY, or give a local folder";
const NO_TRUST: &str = "the connection cannot be trusted: check HF_ENDPOINT, the clock, and proxies in between";

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

    fn learn(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let digest = |name: &str| text(name).and_then(Digest::parse);
        self.commit = self.commit.take().or_else(|| text("x-repo-commit").map(str::to_string));
        self.size = self.size.take().or_else(|| text("x-linked-size")?.trim().parse().ok());
        self.linked = self.linked.take().or_else(|| digest("x-linked-etag"));
        self.plain = digest("etag").or(self.plain.take());
    }
}

/// An answer with a status below 400 or 416. That to a HEAD may be the redirect to another host.
pub struct Answer {
    pub meta: Meta,
    pub http: http::Answer,
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
    http: http::Client,
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
        let http = http::Client::new(Rules {
            home: endpoint.clone(),
            token: settings.token.clone(),
            connect: settings.answer_timeout,
            stall: settings.stall_timeout,
            redirects: MAX_REDIRECTS,
            // The user chose the address of the hub, and every file is held against a digest.
            plain: true,
            check_connection: NO_HUB,
            check_trust: NO_TRUST,
        });
        Ok(Client { settings, id, http })
    }

    pub fn endpoint(&self) -> &Url {
        &self.settings.endpoint
    }

    /// Repeats what fails for a reason that may pass, with growing waits.
    pub fn retry<T>(&self, attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let s = self.settings;
        let patience = Patience { attempts: s.attempts, backoff: s.backoff, longest_wait: s.longest_wait, until: None };
        patience.retry(attempt)
    }

    /// A body that broke off.
    pub fn cut(&self, url: &Url, e: io::Error) -> Failure {
        self.http.cut(url, e)
    }

    /// A small JSON answer and its `Link` header.
    pub fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<(T, Option<String>), Failure> {
        self.retry(|| {
            let answer = self.send(&Ask { method: Method::GET, url, range: None, file: false })?;
            let link = answer.http.header("link").map(str::to_string);
            let mut data = Vec::new();
            let read = answer.http.body.into_reader().take(MAX_JSON_BYTES + 1).read_to_end(&mut data);
            read.map_err(|e| self.cut(url, e))?;
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
        let s = self.settings;
        let (head, body) = match ask.file {
            true => (s.stall_timeout.max(s.answer_timeout), None),
            // A small answer that trickles in is as bad as none.
            false => (s.answer_timeout, Some(s.answer_timeout.saturating_mul(10))),
        };
        let ask = http::Ask { method: ask.method.clone(), url: ask.url, range: ask.range, head, body };
        let answer = self.http.send(&ask)?;
        let mut meta = Meta::default();
        for (url, headers) in answer.before.iter().map(|(u, h)| (u, h)).chain([(&answer.url, &answer.headers)]) {
            if url.same_origin(self.endpoint()) {
                meta.learn(headers);
            }
        }
        match answer.is_good() {
            true => Ok(Answer { meta, http: answer }),
            false => Err(self.refused(&answer)),
        }
    }

    /// An answer that says no.
    fn refused(&self, answer: &http::Answer) -> Failure {
        let (url, status) = (&answer.url, answer.status);
        let what = format!("`{}` answers with status {status}", url.shown());
        if answer.is_passing() {
            let hint = match status {
                429 => "the hub is asked too often from here: wait, or log in (HF_TOKEN) for a higher limit",
                _ => "try again later; what was fetched is kept",
            };
            return Failure::later(Error::new(Kind::Io, what).hint(hint), answer.wait());
        }
        if !url.same_origin(self.endpoint()) {
            // A signed address may have expired; the next attempt asks the hub for a new one.
            return Failure::again(Error::new(Kind::Io, what));
        }
        let error = self.explain(status, answer.header("x-error-code"));
        if matches!(status, 404 | 405) {
            Failure::missing(error)
        } else {
            Failure::from(error)
        }
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
