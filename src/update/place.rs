//! Where an update comes from: an address on the network, or a file of this machine.

use crate::error::{Error, Result};
use crate::http::{Client, Url};
use std::path::{Path, PathBuf};

/// Longest address in an index.
const MAX_ADDRESS: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Remote(Url),
    Local(PathBuf),
}

impl Place {
    /// The address that the user gave.
    ///
    /// # Errors
    /// `Usage` if it is none, or plain http to another machine and that is not allowed.
    pub fn parse(text: &str, plain: bool) -> Result<Place> {
        let bad = |why: &str| Error::usage(format!("this is no address of an update: {why}"));
        if let Some(rest) = text.strip_prefix("file://") {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            let path = decode(path).filter(|p| p.starts_with('/') && !p.contains('\0'));
            let path = path.ok_or_else(|| bad("a file is `file:///folder/name`"))?;
            return Ok(Place::Local(path.into()));
        }
        if !text.contains("://") && Path::new(text).exists() {
            let path = std::fs::canonicalize(text).unwrap_or_else(|_| text.into());
            return Err(bad("it does not start with https://").hint(format!("give `file://{}`", path.display())));
        }
        let url = Url::parse(text).map_err(|e| bad(&e).hint("e.g. `https://example.org/model/index.json`"))?;
        if !plain && !url.is_https() && !url.is_loopback() {
            return Err(Error::usage(format!(
                "`{}` is plain http, where anybody on the way sees and delays updates",
                url.shown()
            ))
            .hint("use https, or allow it with `--allow-http` (patches are checked all the same)"));
        }
        Ok(Place::Remote(url))
    }

    /// What an index found here means by an address: a name below its own folder, or an address on the network that a redirect might lead to as well.
    ///
    /// # Errors
    /// Why it is not followed, in words.
    pub fn join(&self, address: &str, client: &Client) -> Result<Place, String> {
        if address.is_empty() || address.len() > MAX_ADDRESS {
            return Err(format!("an address has 1 to {MAX_ADDRESS} bytes"));
        }
        if address.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err("white space, control characters and backslashes are in no address".into());
        }
        if address.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':')) {
            let to = Url::parse(address)?;
            match self {
                Place::Remote(from) => client.leads(from, &to)?,
                Place::Local(_) if to.is_https() || to.is_loopback() || client.rules().plain => {}
                Place::Local(_) => return Err("to plain http".into()),
            }
            return Ok(Place::Remote(to));
        }
        let path = address.split(['?', '#']).next().unwrap_or("");
        for part in path.split('/') {
            let part = decode(part).ok_or("it has a broken percent sign")?;
            if matches!(part.as_str(), "" | "." | "..") || part.contains(['/', '\\', '\0']) {
                return Err("it leads out of the folder of the index".into());
            }
        }
        match self {
            Place::Remote(from) => from.join(address).map(Place::Remote),
            Place::Local(from) => {
                let name = decode(path).filter(|_| path == address).ok_or("a file has no query")?;
                Ok(Place::Local(from.parent().unwrap_or(Path::new("/")).join(name)))
            }
        }
    }

    /// For messages and notes: without a query, which may hold a signature that opens the file.
    pub fn shown(&self) -> String {
        match self {
            Place::Remote(url) => url.shown(),
            Place::Local(path) => format!("file://{}", path.display()),
        }
    }
}

/// Resolves percent signs (RFC 3986, section 2.1); `None` if one is broken or the result is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Rules;
    use std::time::Duration;

    fn client(plain: bool) -> Client {
        Client::new(Rules {
            home: Url::parse("https://h/").unwrap(),
            token: None,
            connect: Duration::from_secs(1),
            stall: Duration::from_secs(1),
            redirects: 5,
            plain,
            check_connection: "",
            check_trust: "",
        })
    }

    #[test]
    fn addresses_of_users() {
        let shown = |text| Place::parse(text, false).map(|p| p.shown()).map_err(|e| e.to_string());
        assert_eq!(shown("https://a/b?secret"), Ok("https://a/b".into()));
        assert_eq!(shown("file:///a%20b/c"), Ok("file:///a b/c".into()));
        assert_eq!(shown("file://localhost/c"), Ok("file:///c".into()));
        assert_eq!(shown("http://127.0.0.1:1/c"), Ok("http://127.0.0.1:1/c".into()));
        for bad in ["", "x", "ftp://a/b", "file://other/c", "file:c", "http://a/b", "https://u:p@a/", "file:///%zz"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
        assert!(Place::parse("http://a/b", true).is_ok());
        assert!(shown("http://a/b").unwrap_err().contains("plain http"));
    }

    #[test]
    fn addresses_in_an_index_stay_below_it() {
        let remote = Place::parse("https://a/m/index.json?key", false).unwrap();
        let local = Place::parse("file:///m/index.json", false).unwrap();
        let to = |from: &Place, address: &str| from.join(address, &client(false)).map(|p| p.shown()).ok();
        assert_eq!(to(&remote, "v1/a%20b.bin").as_deref(), Some("https://a/m/v1/a%20b.bin"));
        assert_eq!(to(&remote, "https://cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(to(&local, "v1/a%20b.bin").as_deref(), Some("file:///m/v1/a b.bin"));
        assert_eq!(to(&local, "https://cdn/x").as_deref(), Some("https://cdn/x"));
        let bad = [
            "",
            "/etc/passwd",
            "//other/x",
            "../x",
            "a/../../x",
            "%2e%2e/x",
            "..%2fx",
            "a%5c..%5cx",
            "a\\b",
            "./x",
            "a//x",
            "a b",
            "a\nb",
            "%",
            "%zz",
            "file:///etc/passwd",
            "file:x",
            "http://a/x",
            "http://127.0.0.1/x",
            "https://localhost/x",
            "ftp://a/x",
            "data:,x",
            "https://u:p@a/x",
        ];
        for address in bad {
            assert_eq!(to(&remote, address), None, "{address}");
        }
        for address in bad.iter().filter(|a| !a.contains("127.0.0.1") && !a.contains("localhost")) {
            assert_eq!(to(&local, address), None, "{address}");
        }
        assert_eq!(to(&local, "x?y"), None);
        assert_eq!(to(&remote, &"x".repeat(3000)), None);
        let plain = Place::parse("http://a/index.json", true).unwrap();
        assert!(plain.join("http://b/x", &client(true)).is_ok());
    }
}
