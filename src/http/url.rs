//! Addresses: where a request goes decides whether the token may go with it, so nothing here is guessed.

use std::net::{Ipv4Addr, Ipv6Addr};
use ureq::http::Uri;

/// An absolute `http` or `https` address without user, password and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// Lower case, without port.
    host: String,
    port: u16,
    /// Starts with `/`; with the query.
    path: String,
}

impl Url {
    /// # Errors
    /// What is wrong, in words, without the address itself: it may carry a signature.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.split('#').next().unwrap_or(text);
        let uri: Uri = text.parse().map_err(|_| "it is no valid address".to_string())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it does not start with https:// or http://".into()),
        };
        let authority = uri.authority().map_or("", |a| a.as_str());
        if authority.contains('@') {
            return Err("it holds a user name or password".into());
        }
        let host = uri.host().unwrap_or("").to_ascii_lowercase();
        if host.is_empty() {
            return Err("it has no host".into());
        }
        // `http` accepts a port that is no number and then has none.
        let given = authority.rsplit_once(':').filter(|(_, p)| !p.ends_with(']')).map(|(_, p)| p);
        let port = match given {
            Some(p) => p.parse().map_err(|_| "its port is no number".to_string())?,
            None if https => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_string();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Ok(Url { https, host, port, path })
    }

    /// The address that a `Location` or `Link` header at this address means.
    pub fn join(&self, location: &str) -> Result<Url, String> {
        let scheme_end = location.find(':').filter(|i| !location[..*i].contains(['/', '?', '#']));
        if scheme_end.is_some() {
            return Url::parse(location);
        }
        if location.starts_with("//") {
            return Url::parse(&format!("{}:{location}", self.scheme()));
        }
        let here = self.path.split('?').next().unwrap_or("/");
        let path = match location {
            l if l.starts_with('/') => l.to_string(),
            l if l.starts_with('?') => format!("{here}{l}"),
            l => format!("{}/{l}", here.rsplit_once('/').map_or("", |(dir, _)| dir)),
        };
        Url::parse(&format!("{}{path}", self.origin()))
    }

    /// This address with more path behind it; `tail` is already percent-encoded and starts with `/`.
    pub fn with(&self, tail: &str) -> Url {
        Url { path: format!("{}{tail}", self.path.trim_end_matches('/')), ..self.clone() }
    }

    /// This address with a query; it must have none yet.
    pub fn with_query(&self, query: &str) -> Url {
        Url { path: format!("{}?{query}", self.path), ..self.clone() }
    }

    pub fn has_query(&self) -> bool {
        self.path.contains('?')
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether requests stay on this machine.
    pub fn is_loopback(&self) -> bool {
        let v6 = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost"
            || self.host.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
            || v6.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback())
    }

    pub fn same_origin(&self, other: &Url) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    fn scheme(&self) -> &'static str {
        if self.https {
            "https"
        } else {
            "http"
        }
    }

    fn origin(&self) -> String {
        let standard = if self.https { 443 } else { 80 };
        let port = if self.port == standard { String::new() } else { format!(":{}", self.port) };
        format!("{}://{}{port}", self.scheme(), self.host)
    }

    /// For the request itself.
    pub fn full(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// For messages: without the query, which may hold a signature that opens the file.
    pub fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or("");
        format!("{}{}", self.origin(), path.trim_end_matches('/'))
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3) and those in `keep`.
pub fn encode(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn addresses_are_joined() {
        let base = url("https://hub.example/a/b?x=1");
        for (location, full) in [
            ("/c?y", "https://hub.example/c?y"),
            ("c", "https://hub.example/a/c"),
            ("?z", "https://hub.example/a/b?z"),
            ("//other.example/c", "https://other.example/c"),
            ("http://other.example:81/c#d", "http://other.example:81/c"),
            ("HTTPS://Hub.Example:443/", "https://hub.example/"),
            ("/c:d", "https://hub.example/c:d"),
        ] {
            assert_eq!(base.join(location).map(|u| u.full()), Ok(full.to_string()), "{location}");
        }
        for bad in
            ["ftp://x/", "javascript:x", "https://u:p@x/", "https:///x", "http://x:99999/", "/a b", "https://x:y/"]
        {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_and_loopback() {
        assert!(url("https://a/").same_origin(&url("https://A:443/x")));
        for other in ["http://a/", "https://a:444/", "https://b/", "https://a.b/"] {
            assert!(!url("https://a/").same_origin(&url(other)), "{other}");
        }
        for yes in ["http://localhost:1/", "http://127.0.0.1/", "http://127.9.9.9/", "http://[::1]:8/"] {
            assert!(url(yes).is_loopback(), "{yes}");
        }
        for no in ["http://127.0.0.1.example/", "http://localhost.example/", "http://10.0.0.1/", "http://[::2]/"] {
            assert!(!url(no).is_loopback(), "{no}");
        }
        assert_eq!(url("http://[::1]:8/x").full(), "http://[::1]:8/x");
    }

    #[test]
    fn a_signature_is_not_shown() {
        assert_eq!(url("https://cdn.example/f?X-Amz-Signature=s").shown(), "https://cdn.example/f");
        assert_eq!(encode("a b/ä@x", b"/"), "a%20b/%C3%A4%40x");
    }
}
