//! One request and its redirects.

use super::answer::{header, Answer};
use super::retry::Failure;
use super::token::Token;
use super::url::Url;
use crate::error::{Error, Kind, Result};
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request};
use ureq::{Agent, Body};

/// How requests are made.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Only this scheme, host and port get the token.
    pub home: Url,
    pub token: Option<Token>,
    /// To find the host and to connect.
    pub connect: Duration,
    /// A read or write that takes longer has failed.
    pub stall: Duration,
    pub redirects: usize,
    /// Plain http to other machines is allowed.
    pub plain: bool,
    /// What to do about a connection that fails, and about one that cannot be trusted.
    pub check_connection: &'static str,
    pub check_trust: &'static str,
}

/// One request.
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// From this byte on, if the file still has this etag.
    pub range: Option<(u64, Option<&'a str>)>,
    /// Time for the head of the answer.
    pub head: Duration,
    /// Time for the body, if there is a limit to it.
    pub body: Option<Duration>,
}

pub struct Client {
    rules: Rules,
    agent: Agent,
    /// For this machine: a proxy would see a token that goes over plain http.
    direct: Agent,
}

impl Client {
    pub fn new(rules: Rules) -> Client {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("bitnet-convert/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(rules.connect))
                .timeout_connect(Some(rules.connect))
                .timeout_per_read(Some(rules.stall))
                .timeout_per_write(Some(rules.stall))
        };
        let direct = config().proxy(None).build().new_agent();
        Client { agent: config().build().new_agent(), direct, rules }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Sends one request and follows its redirects. A HEAD is not followed away from home: an address that is signed for GET answers none.
    ///
    /// # Errors
    /// No connection, or redirects that are not followed. Any status is an answer.
    pub fn send(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut url = ask.url.clone();
        let mut before = Vec::new();
        for _ in 0..=self.rules.redirects {
            let (parts, body) = self.send_once(ask, &url)?.into_parts();
            let status = parts.status.as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let to = self.follow(&url, &parts.headers)?;
                if ask.method == Method::GET || to.same_origin(&self.rules.home) {
                    before.push((std::mem::replace(&mut url, to), parts.headers));
                    continue;
                }
            }
            return Ok(Answer { status, headers: parts.headers, url, before, body });
        }
        let most = self.rules.redirects;
        Err(Error::input(format!("`{}` redirects more than {most} times", ask.url.shown())).into())
    }

    fn send_once(&self, ask: &Ask, url: &Url) -> Result<ureq::http::Response<Body>, Failure> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url.full());
        // A compressed answer would have another length and other positions.
        request = request.header("accept-encoding", "identity");
        if let Some(token) = self.rules.token.as_ref().filter(|_| url.same_origin(&self.rules.home)) {
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
        let request =
            agent.configure_request(request).timeout_recv_response(Some(ask.head)).timeout_recv_body(ask.body);
        agent.run(request.build()).map_err(|e| self.broken(url, &e))
    }

    fn follow(&self, from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
        let bad = |what: &str| Error::input(format!("`{}` redirects to nowhere: {what}", from.shown()));
        let location = header(headers, "location").ok_or_else(|| bad("it gives no address"))?;
        let to = from.join(location).map_err(|e| bad(&e))?;
        self.leads(from, &to).map_err(|e| bad(e).hint("nothing was fetched; do not trust this server"))?;
        Ok(to)
    }

    /// Whether an address may send to another one.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn leads(&self, from: &Url, to: &Url) -> Result<(), &'static str> {
        let at_home = from.is_loopback() && to.is_loopback();
        if from.is_https() && !to.is_https() && !at_home {
            return Err("from https to plain http");
        }
        if to.is_loopback() && !from.is_loopback() {
            return Err("from another machine into this one");
        }
        if !to.is_https() && !to.is_loopback() && !self.rules.plain {
            return Err("to plain http");
        }
        Ok(())
    }

    /// A connection that failed. Messages of the library hold addresses and causes, no headers.
    pub fn broken(&self, url: &Url, e: &ureq::Error) -> Failure {
        let no_trust = Some(self.rules.check_trust);
        let (why, hint, passing) = match e {
            ureq::Error::Timeout(_) => ("it does not answer, or stopped in the middle".to_string(), None, true),
            ureq::Error::HostNotFound => ("there is no host of this name".to_string(), None, false),
            // The TLS library reports through the connection. A certificate does not get better by asking again.
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                (e.to_string(), no_trust, !e.to_string().contains("certificate"))
            }
            ureq::Error::Io(e) => (e.to_string(), None, true),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => (e.to_string(), no_trust, false),
            ureq::Error::BadUri(_) => ("it is no valid address".to_string(), None, false),
            e => (e.to_string(), None, true),
        };
        let error = Error::new(Kind::Io, format!("cannot fetch from `{}`: {why}", url.shown()));
        let error = error.hint(hint.unwrap_or(self.rules.check_connection));
        let failure = if passing { Failure::again(error) } else { Failure::from(error) };
        Failure { unreachable: true, ..failure }
    }

    /// A body that broke off.
    pub fn cut(&self, url: &Url, e: std::io::Error) -> Failure {
        self.broken(url, &ureq::Error::from(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redirects_may_do() {
        let follow = |plain: bool, from: &str, to: &str| {
            let rules = Rules {
                home: Url::parse("https://h/").unwrap(),
                token: None,
                connect: Duration::from_secs(1),
                stall: Duration::from_secs(1),
                redirects: 5,
                plain,
                check_connection: "",
                check_trust: "",
            };
            let headers = HeaderMap::from_iter([(ureq::http::header::LOCATION, to.parse().unwrap())]);
            Client::new(rules).follow(&Url::parse(from).unwrap(), &headers).map(|u| u.full()).ok()
        };
        for plain in [false, true] {
            assert_eq!(follow(plain, "https://a/x", "https://b/y").as_deref(), Some("https://b/y"));
            assert_eq!(
                follow(plain, "https://localhost/x", "http://127.0.0.1/y").as_deref(),
                Some("http://127.0.0.1/y")
            );
            for to in [
                "http://a/x",
                "http://127.0.0.1/x",
                "https://localhost/x",
                "HTTP://b/",
                "ftp://b/",
                "file:///x",
                "//user@b/",
            ] {
                assert_eq!(follow(plain, "https://a/x", to), None, "{to}");
            }
        }
        assert_eq!(follow(true, "http://a/x", "http://b/y").as_deref(), Some("http://b/y"));
        assert_eq!(follow(false, "http://127.0.0.1/x", "http://b/y"), None);
    }
}
