//! What failed, whether another attempt may do better, and how long to wait before it.

use crate::error::{Error, Result};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A request that gave nothing, and whether another one may.
pub struct Failure {
    pub error: Error,
    /// Worth another attempt, after this wait if the server named one.
    pub(super) again: Option<Option<Duration>>,
    /// The server was not there, or not in order.
    pub unreachable: bool,
    /// The server has nothing at this address.
    pub missing: bool,
    /// Something was gained before it failed, so that the count of attempts starts anew.
    pub(super) gained: bool,
}

impl Failure {
    /// Another attempt may do better.
    pub fn again(error: Error) -> Failure {
        Failure { again: Some(None), ..Failure::from(error) }
    }

    /// As [`Failure::again`], but not before this wait, if there is one.
    pub fn later(error: Error, wait: Option<Duration>) -> Failure {
        Failure { again: Some(wait), unreachable: true, ..Failure::from(error) }
    }

    /// Nothing is there.
    pub fn missing(error: Error) -> Failure {
        Failure { missing: true, ..Failure::from(error) }
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

/// How often and how long a request is tried.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Attempts without anything gained before a request is given up.
    pub attempts: u32,
    /// Wait after the first failed attempt; it doubles with each further one.
    pub backoff: Duration,
    /// Cap of the waits, also of those that a server asks for.
    pub longest_wait: Duration,
    /// No wait ends and no attempt begins after this.
    pub until: Option<Instant>,
}

impl Patience {
    /// Repeats what fails for a reason that may pass, with growing waits.
    ///
    /// # Errors
    /// That of the last attempt.
    pub fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut failed = 0;
        loop {
            let mut failure = match attempt() {
                Ok(v) => return Ok(v),
                Err(f) => f,
            };
            failed = if failure.gained { 1 } else { failed + 1 };
            let Some(wanted) = failure.again else { return Err(failure) };
            let wait = wanted.unwrap_or(Duration::ZERO).max(self.pause(failed)).min(self.longest_wait);
            let too_late = self.until.is_some_and(|until| Instant::now() + wait >= until);
            if too_late || failed >= self.attempts.max(1) {
                let what = match too_late {
                    true => format!("{} (given up: the time for all of it is over)", failure.error.message()),
                    false => format!("{} (given up after {failed} attempts)", failure.error.message()),
                };
                let hint = failure.error.next_step().unwrap_or("try again later; what was fetched is kept").to_string();
                let mut error = Error::new(failure.error.kind(), what).hint(hint);
                if let Some(file) = failure.error.file() {
                    error = error.at_file(file);
                }
                failure.error = error;
                return Err(failure);
            }
            sleep(wait);
        }
    }

    /// Doubles with each failed attempt; up to a quarter less, by the number of the process, so that many machines that failed at one
    /// moment do not all come back at one moment.
    fn pause(&self, failed: u32) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << (failed - 1).min(16));
        let scattered = std::process::id().wrapping_mul(0x9E37_79B1).wrapping_add(failed.wrapping_mul(0x85EB_CA6B));
        doubled - doubled / 1024 * (scattered >> 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        attempts: 3,
        backoff: Duration::from_micros(64),
        longest_wait: Duration::from_millis(1),
        until: None,
    };

    fn count(patience: &Patience, fail: impl Fn(u32) -> Failure) -> (u32, String) {
        let mut n = 0;
        let e = patience.retry(|| -> Result<(), Failure> {
            n += 1;
            Err(fail(n))
        });
        (n, e.err().map_or(String::new(), |f| f.error.to_string()))
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let error = || Error::input("no");
        assert_eq!(count(&PATIENCE, |_| error().into()), (1, "no".into()));
        assert_eq!(count(&PATIENCE, |_| Failure::again(error())), (3, "no (given up after 3 attempts)".into()));
        let gaining = |n| Failure::again(error()).gained(n < 5);
        assert_eq!(count(&PATIENCE, gaining).0, 6, "the count starts anew with the fourth");
    }

    #[test]
    fn a_wait_beyond_the_end_is_not_begun() {
        let until = Some(Instant::now() + Duration::from_secs(1000));
        let patience = Patience { longest_wait: Duration::from_secs(5000), until, ..PATIENCE };
        let (n, text) = count(&patience, |_| Failure::later(Error::input("no"), Some(Duration::from_secs(4000))));
        assert!(n == 1 && text.contains("time for all of it is over"), "{text}");
    }

    #[test]
    fn pauses_grow_and_stay_within_a_quarter() {
        let patience = Patience { backoff: Duration::from_millis(512), ..PATIENCE };
        for failed in 1..40 {
            let doubled = Duration::from_millis(512) * (1 << (failed - 1).min(16));
            let pause = patience.pause(failed);
            assert!(pause <= doubled && pause >= doubled * 3 / 4, "{failed}: {pause:?}");
        }
    }
}
