//! One request for a patch or an index, and what the server's answer means.

use super::fetch::{Got, Job, Source};
use super::intake::{Bad, Intake};
use crate::error::{Error, Kind, Result};
use crate::http::{Answer, Ask, Failure, Url};
use std::time::{Duration, Instant};
use ureq::http::Method;

/// So many new bytes and an attempt counts as a success, however it ended.
const GAIN: u64 = 64 << 10;
/// Whoever sends less than this in the time of a stall is as good as silent.
const DRIP: usize = 1 << 10;
/// Where the token comes from.
pub const TOKEN: &str = "BITNET_UPDATE_TOKEN";
const RUN_AGAIN: &str = "what was fetched is kept: run the same command again, or allow more with `--total-timeout`";

impl<'a> Job<'a> {
    /// Leaves a complete patch in the partial file, or as much of one as can be continued.
    pub fn attempt(&mut self, url: &Url) -> Result<Got, Failure> {
        let mut intake = Intake::new(self.want.gate);
        match self.known(&mut intake) {
            Ok(Some(got)) => return Ok(got),
            Ok(None) => {}
            // What was kept has gone bad or is of another version than is wanted now; the server may have better.
            Err(Bad::Damaged(_) | Bad::Refused(_)) => intake = Intake::new(self.want.gate),
        }
        let have = intake.have();
        let etag = self.want.partial.as_ref().and_then(|p| p.etag().map(str::to_string));
        let answer = self.ask(url, have, etag.as_deref())?;
        let length = intake.header().map_or(0, |h| h.patch_len);
        let whole = match answer.status {
            200 => {
                intake = Intake::new(self.want.gate);
                answer.length()
            }
            206 if have > 0 => {
                let other = |e: &str| etag.as_deref().is_some_and(|old| old != e);
                if answer.header("etag").is_some_and(other) {
                    return Err(self.distrust(fails(url, "the patch changed while it was fetched")));
                }
                let right = answer.part().is_some_and(|p| p.is_rest(have, length));
                if !right || answer.length().is_some_and(|n| n != length - have) {
                    return Err(self.distrust(fails(url, "the server answers with another part than was asked for")));
                }
                Some(length)
            }
            416 => return Err(self.distrust(fails(url, "the server does not have the part that was asked for"))),
            status if !answer.is_good() => return Err(self.refused(&answer, status)),
            status => return Err(fails(url, &format!("the answer has the unexpected status {status}")).into()),
        };
        let encoding = answer.header("content-encoding").map(|e| e.trim().to_ascii_lowercase());
        if encoding.is_some_and(|e| e != "identity") {
            let what = format!("`{}` answers with a compressed body, which was not asked for", answer.url.shown());
            return Err(Error::input(what).hint("neither the server nor a proxy may compress patches").into());
        }
        let tag = answer.header("etag").map(str::to_string);
        let client = self.fetcher.client;
        let fetcher = self.fetcher;
        let mut pace = Pace { since: Instant::now(), bytes: 0, idle: client.rules().stall };
        let mut gained = 0;
        let mut watch = |n: usize| {
            fetcher.fetched.set(fetcher.fetched.get() + n as u64);
            if fetcher.patience.until.is_some_and(|u| Instant::now() >= u) {
                return Err(fails(url, "the time for all of it is over").hint(RUN_AGAIN).into());
            }
            match pace.keeps_up(n) {
                true => Ok(()),
                false => {
                    Err(Failure::again(fails(url, &format!("less than {DRIP} bytes come before it counts as a stall"))))
                }
            }
        };
        let before = fetcher.fetched.get();
        let source = Source {
            body: &mut answer.body.into_reader(),
            whole,
            etag: tag.as_deref(),
            watch: &mut watch,
            broken: &|e| client.cut(url, e),
        };
        let got = self.receive(intake, source);
        gained += fetcher.fetched.get() - before;
        got.map_err(|f| f.gained(gained >= GAIN))
    }

    fn ask(&self, url: &Url, have: u64, etag: Option<&str>) -> Result<Answer, Failure> {
        let rules = self.fetcher.client.rules();
        let left = self.fetcher.patience.until.map(|u| u.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(fails(url, "the time for all of it is over").hint(RUN_AGAIN).into());
        }
        let head = rules.stall.max(rules.connect);
        self.fetcher.client.send(&Ask {
            method: Method::GET,
            url,
            range: (have > 0).then_some((have, etag)),
            head: left.map_or(head, |l| l.min(head)),
            body: left,
        })
    }

    /// An answer that says no.
    fn refused(&self, answer: &Answer, status: u16) -> Failure {
        let what = format!("`{}` answers with status {status}", answer.url.shown());
        let with_token = self.fetcher.client.rules().token.is_some();
        let at_home = answer.url.same_origin(&self.fetcher.client.rules().home);
        match status {
            _ if answer.is_passing() => {
                let hint = match status {
                    429 => "the server is asked too often from here; what was fetched is kept, run the same command again later",
                    _ => "the server is in trouble; what was fetched is kept, run the same command again later",
                };
                Failure::later(Error::new(Kind::Io, what).hint(hint), answer.wait())
            }
            401 | 403 => {
                let e = Error::usage(format!("{what}: it does not give out the update"));
                e.hint(match (with_token, at_home) {
                    (true, true) => format!("the token in {TOKEN} is not accepted, or lacks the right to read this"),
                    (true, false) => format!("a redirect leads to this host, which never gets the token in {TOKEN}"),
                    (false, _) => {
                        format!("if a token is needed, set {TOKEN}; if the address is signed, it may have expired")
                    }
                })
                .into()
            }
            404 | 410 => {
                let e = Error::usage(format!("there is no update at `{}` (status {status})", answer.url.shown()));
                Failure::missing(e.hint("check the address"))
            }
            _ => Error::new(Kind::Io, what).hint("is this the address of a patch or an index?").into(),
        }
    }
}

fn fails(url: &Url, what: &str) -> Error {
    Error::new(Kind::Io, format!("fetching `{}` fails: {what}", url.shown()))
}

/// Tells a trickle from a slow line.
struct Pace {
    since: Instant,
    bytes: usize,
    idle: Duration,
}

impl Pace {
    fn keeps_up(&mut self, n: usize) -> bool {
        self.bytes += n;
        if self.since.elapsed() < self.idle {
            return true;
        }
        let enough = self.bytes >= DRIP;
        (self.since, self.bytes) = (Instant::now(), 0);
        enough
    }
}
