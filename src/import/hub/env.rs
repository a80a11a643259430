//! Settings of the hub client, from the variables that the other clients of the hub read, too.

use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::http::{Token, Url};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What a fetch needs to know. Tests make their own; the program takes [`Settings::from_env`].
#[derive(Debug, Clone)]
pub struct Settings {
    pub endpoint: Url,
    /// The folder with `models--org--name`.
    pub cache: PathBuf,
    pub token: Option<Token>,
    /// The variable that forbids the network, if one does.
    pub offline: Option<&'static str>,
    /// For the connection and for the head of an answer.
    pub answer_timeout: Duration,
    /// For a body that stops coming.
    pub stall_timeout: Duration,
    pub progress: bool,
    /// Attempts without anything gained before a request is given up.
    pub attempts: u32,
    /// Wait after the first failed attempt; it doubles with each further one.
    pub backoff: Duration,
    /// Cap of the waits, also of those that a server asks for.
    pub longest_wait: Duration,
}

impl Settings {
    /// # Errors
    /// `Usage` naming the variable that makes no sense.
    pub fn from_env() -> Result<Settings> {
        Settings::from_lookup(&|name| std::env::var_os(name))
    }

    /// As [`Settings::from_env`], with the variables from elsewhere. An empty variable counts as absent.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let raw = |name: &str| lookup(name).filter(|v| !v.is_empty());
        let text = |name: &str| raw(name).map(|v| v.to_string_lossy().trim().to_string());
        let flag = |name: &str| {
            text(name).is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_ascii_lowercase().as_str()))
        };
        let home = raw("HOME").or_else(|| raw("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| raw(name).map(|v| expand(PathBuf::from(v), home.as_ref()));
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|p| p.join("huggingface")))
            .or_else(|| home.as_ref().map(|h| h.join(".cache/huggingface")));
        let below_home = |name: &str| hf_home.as_ref().map(|h| h.join(name));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| below_home("hub"));
        let cache = cache.ok_or_else(|| {
            Error::usage("there is no folder for downloads: HOME is not set").hint("set HF_HOME or HF_HUB_CACHE")
        })?;
        let seconds = |name: &str| match text(name) {
            None => Ok(Duration::from_secs(10)),
            Some(v) => match v.parse::<u64>() {
                Ok(n @ 1..=86_400) => Ok(Duration::from_secs(n)),
                _ => Err(Error::usage(format!("{name} is `{v}`, a number of seconds from 1 to 86400 is expected"))),
            },
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = Url::parse(&endpoint).and_then(|u| match u.has_query() {
            true => Err("it has a query".into()),
            false => Ok(u),
        });
        let endpoint = endpoint.map_err(|e| {
            Error::usage(format!("HF_ENDPOINT is no address of a hub: {e}")).hint("e.g. `https://huggingface.co`")
        })?;
        let token = if flag("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            let variable = |name: &str| text(name).map(|v| Token::new(&v, name));
            match variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")) {
                Some(t) => t?,
                // No file is no token; so is one that cannot be read, the hub then says what is missing.
                None => match path("HF_TOKEN_PATH").or_else(|| below_home("token")) {
                    Some(p) => match read_capped(&p, 16 << 10) {
                        Ok(data) => Token::new(&String::from_utf8_lossy(&data), format!("`{}`", p.display()))?,
                        Err(_) => None,
                    },
                    None => None,
                },
            }
        };
        Ok(Settings {
            endpoint,
            cache,
            token,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|n| flag(n)),
            answer_timeout: seconds("HF_HUB_ETAG_TIMEOUT")?,
            stall_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
            progress: !flag("HF_HUB_DISABLE_PROGRESS_BARS"),
            attempts: 5,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
        })
    }
}

/// `~/x` as a shell would read it: the variables are often set in files that no shell expands.
fn expand(path: PathBuf, home: Option<&PathBuf>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_lookup(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn the_cache_is_where_other_clients_have_it() {
        let cache = |vars: &[(&str, &str)]| settings(vars).unwrap().cache;
        let all = [
            ("HF_HUB_CACHE", "/1"),
            ("HUGGINGFACE_HUB_CACHE", "/2"),
            ("HF_HOME", "~/3"),
            ("XDG_CACHE_HOME", "/4"),
            ("HOME", "/5"),
        ];
        assert_eq!(cache(&all), Path::new("/1"));
        assert_eq!(cache(&all[1..]), Path::new("/2"));
        assert_eq!(cache(&all[2..]), Path::new("/5/3/hub"));
        assert_eq!(cache(&all[3..]), Path::new("/4/huggingface/hub"));
        assert_eq!(cache(&all[4..]), Path::new("/5/.cache/huggingface/hub"));
        assert!(settings(&[]).unwrap_err().to_string().contains("HOME"));
    }

    #[test]
    fn the_token_comes_from_the_first_place_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("token"), "t_file\n").unwrap();
        let other = dir.path().join("other");
        std::fs::write(&other, "t_other").unwrap();
        let token = |vars: &[(&str, &str)]| settings(vars).unwrap().token.map(|t| t.secret().to_string());
        let all = [
            ("HF_TOKEN", " t_new "),
            ("HUGGING_FACE_HUB_TOKEN", "t_old"),
            ("HF_TOKEN_PATH", other.to_str().unwrap()),
            ("HF_HOME", d),
        ];
        assert_eq!(token(&all).as_deref(), Some("t_new"));
        assert_eq!(token(&all[1..]).as_deref(), Some("t_old"));
        assert_eq!(token(&all[2..]).as_deref(), Some("t_other"));
        assert_eq!(token(&all[3..]).as_deref(), Some("t_file"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), all[0], all[3]]), None);
        let shown = format!("{:?}", settings(&all).unwrap());
        assert!(!shown.contains("t_new"), "{shown}");
        let e = settings(&[("HF_HOME", d), ("HF_TOKEN", "t\u{1}secret")]).unwrap_err().to_string();
        assert!(e.contains("HF_TOKEN") && !e.contains("secret"), "{e}");
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (name, value) in [
            ("HF_ENDPOINT", "huggingface.co"),
            ("HF_ENDPOINT", "ftp://huggingface.co"),
            ("HF_ENDPOINT", "https://me:pw@huggingface.co"),
            ("HF_ENDPOINT", "https://huggingface.co/?a"),
            ("HF_HUB_ETAG_TIMEOUT", "0"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ] {
            let e = settings(&[("HOME", "/h"), (name, value)]).unwrap_err().to_string();
            assert!(e.contains(name), "{e}");
        }
        let s = settings(&[
            ("HOME", "/h"),
            ("HF_ENDPOINT", "http://127.0.0.1:1/mirror/"),
            ("TRANSFORMERS_OFFLINE", "True"),
        ]);
        let s = s.unwrap();
        assert_eq!(
            (s.endpoint.shown().as_str(), s.offline),
            ("http://127.0.0.1:1/mirror", Some("TRANSFORMERS_OFFLINE"))
        );
    }
}
