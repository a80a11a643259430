//! What a server answers.

use super::url::Url;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::HeaderMap;
use ureq::Body;

/// The answer at the end of the redirects, whatever its status.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Who gave it.
    pub url: Url,
    /// The answers that led there, each with the address it came from.
    pub before: Vec<(Url, HeaderMap)>,
    pub body: Body,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Whether all is well, or (416) a part was asked for that is not there.
    pub fn is_good(&self) -> bool {
        self.status < 400 || self.status == 416
    }

    /// Whether a later attempt may get another status.
    pub fn is_passing(&self) -> bool {
        self.status >= 500 || self.status == 429 || self.status == 408
    }

    /// How long the server wants to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        wait_of(self.header("retry-after")?, SystemTime::now())
    }

    /// The length that is announced.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The part of the content that is announced.
    pub fn part(&self) -> Option<Part> {
        self.header("content-range").and_then(Part::parse)
    }
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// `bytes FROM-LAST/TOTAL`; the total may be `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub from: u64,
    /// One behind the last byte.
    pub to: u64,
    pub total: Option<u64>,
}

impl Part {
    pub fn parse(text: &str) -> Option<Part> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (from, last) = range.split_once('-')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some(Part { from: from.parse().ok()?, to: last.parse::<u64>().ok()?.checked_add(1)?, total })
    }

    /// Whether it is all from this byte on of a content of this length.
    pub fn is_rest(&self, from: u64, length: u64) -> bool {
        self.from == from && self.to == length && self.total.is_none_or(|n| n == length)
    }
}

/// The value of `Retry-After`: seconds, or a date like `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7); a date that is over is no wait.
pub fn wait_of(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let words: Vec<&str> = value.split_once(", ")?.1.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second, "GMT"] = words[..] else { return None };
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        .iter()
        .position(|m| *m == month)? as u64;
    let number = |text: &str, below: u64| text.parse::<u64>().ok().filter(|n| *n < below);
    let (day, year) = (number(day, 32)?, number(year, 10_000).filter(|y| *y >= 1970)?);
    // Years that begin in March have the leap day at their end: 153 days are five months from March on.
    let (y, m) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day).checked_sub(719_469)?;
    let time = number(hour, 24)? * 3600 + number(minute, 60)? * 60 + number(second, 61)?;
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(days * 86_400 + time).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_answers() {
        let part = |from, to, total| Some(Part { from, to, total });
        assert_eq!(Part::parse("bytes 5-9/10"), part(5, 10, Some(10)));
        assert_eq!(Part::parse("bytes 0-0/*"), part(0, 1, None));
        for bad in [
            "",
            "bytes */10",
            "bytes 5-/10",
            "bytes 5-9",
            "items 5-9/10",
            "bytes -5-9/10",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(Part::parse(bad), None, "{bad}");
        }
        assert!(Part { from: 5, to: 10, total: None }.is_rest(5, 10));
        for (from, to, total) in [(4, 10, None), (5, 9, None), (5, 10, Some(11))] {
            assert!(!Part { from, to, total }.is_rest(5, 10));
        }
    }

    #[test]
    fn waits_in_seconds_and_until_a_date() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let wait = |text, now| wait_of(text, at(now)).map(|d| d.as_secs());
        assert_eq!(wait(" 120 ", 0), Some(120));
        // The example of the RFC is second 784111777.
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(7));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_780), Some(0));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:01 GMT", 0), Some(1));
        assert_eq!(wait("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_700), Some(100));
        for bad in
            ["", "soon", "-1", "1.5", "Sun, 06 Nov 1994", "x, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1 1:1:1 GMT"]
        {
            assert_eq!(wait(bad, 0), None, "{bad}");
        }
    }
}
