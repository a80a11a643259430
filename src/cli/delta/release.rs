//! Names and numbers of releases, from what the files say of themselves.

use crate::delta::create::{Release, Side};
use crate::error::{Error, Result};
use std::ops::Range;

/// Most bytes of a name and of a version in a patch.
const MODEL: usize = 32;
const VERSION: usize = 24;

/// A version like 0.4.3, with its place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    text: String,
    sequence: u64,
    /// With what introduces it: `-v`, `v`, `-`.
    place: Range<usize>,
}

/// The last version in a text: three numbers with dots between them.
fn find(text: &str) -> Option<Found> {
    let of_version = |c: char| c.is_ascii_digit() || c == '.';
    let mut end = text.len();
    while let Some(last) = text[..end].rfind(of_version) {
        let start = text[..=last]
            .rfind(|c| !of_version(c))
            .map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
        let word = text[start..=last].trim_matches('.');
        let from = start + text[start..=last].find(word).unwrap_or(0);
        if let Some(sequence) = sequence(word) {
            let before = text[..from].trim_end_matches(['v', 'V']).trim_end_matches(['-', '_', ' ']);
            return Some(Found { text: word.to_string(), sequence, place: before.len()..from + word.len() });
        }
        end = start;
    }
    None
}

/// The number of a version `major.minor.patch`; a later version has a higher one.
pub fn sequence(version: &str) -> Option<u64> {
    let numbers: Vec<u64> = version.split('.').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [major, minor, patch] if major < 1 << 20 && minor < 1 << 20 && patch < 1 << 20 => {
            Some(major << 40 | minor << 20 | patch)
        }
        _ => None,
    }
}

/// What a file calls itself: its name, if it is not just `model`, the folder it is in, or its manifest.
fn names(side: &Side) -> Vec<String> {
    // A version has dots, so what looks like an extension may be a part of it.
    let name = |p: &std::path::Path| p.file_name().map(|s| s.to_string_lossy().into_owned());
    let file = name(&side.path);
    let file = file.map(|f| f.strip_suffix(".bitnet").or(f.strip_suffix(".bin")).map_or(f.clone(), str::to_string));
    let folder = side.path.parent().and_then(name);
    let plain = |n: &String| !n.is_empty() && n != "model";
    let mut all: Vec<String> = [side.layout.model.clone(), file].into_iter().flatten().filter(plain).collect();
    if all.is_empty() {
        all.extend(folder.filter(plain));
    }
    all
}

/// What the user said of a patch.
pub struct Said<'a> {
    pub model: Option<&'a str>,
    pub versions: [Option<&'a str>; 2],
    pub sequences: [Option<u64>; 2],
}

/// The name of the model and the releases of base and target.
///
/// # Errors
/// `Usage` for a name or version that does not fit.
pub fn releases(base: &Side, target: &Side, said: &Said, notes: &mut Vec<String>) -> Result<(String, [Release; 2])> {
    let [of_base, of_target] = [base, target].map(names);
    let found = [&of_base, &of_target].map(|n| n.iter().find_map(|n| find(n)));
    let version = |i: usize| -> String {
        let other = || found[i].as_ref().map(|f| f.text.clone());
        said.versions[i].map(str::to_string).or_else(other).unwrap_or_default()
    };
    let versions = [version(0), version(1)];
    let known = [0, 1].map(|i| said.sequences[i].or_else(|| sequence(&versions[i])));
    let first = known[0].unwrap_or(0);
    let second = known[1].unwrap_or_else(|| {
        let next = first.saturating_add(1);
        notes.push(format!(
            "the new version is not known, so its sequence is {next}; count releases with `--to-version` or `--to-sequence`"
        ));
        next
    });
    if second <= first {
        notes.push(format!(
            "sequence {second} is not above that of the old file, {first}: devices take this patch only with `--allow-downgrade`"
        ));
    }
    let model = match said.model {
        Some(name) => checked("name of the model", name, MODEL)?,
        None => {
            let name = of_target.first().or(of_base.first()).map_or("model", String::as_str);
            let name = match find(name) {
                Some(f) => format!("{}{}", &name[..f.place.start], &name[f.place.end..]),
                None => name.to_string(),
            };
            let name: String = name.chars().filter(|c| !c.is_control()).collect();
            let fits =
                name.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|n| *n <= MODEL).last().unwrap_or(0);
            if fits == 0 {
                "model".to_string()
            } else {
                name[..fits].to_string()
            }
        }
    };
    let [a, b] = versions;
    let (a, b) = (checked("version", &a, VERSION)?, checked("version", &b, VERSION)?);
    Ok((model, [Release { version: a, sequence: first }, Release { version: b, sequence: second }]))
}

fn checked(what: &str, text: &str, most: usize) -> Result<String> {
    if text.len() > most || text.chars().any(char::is_control) || what.starts_with("name") && text.is_empty() {
        return Err(Error::usage(format!("the {what} must be plain text of at most {most} bytes")));
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_names() {
        let f = |s: &str| find(s).map(|f| (f.text.clone(), format!("{}{}", &s[..f.place.start], &s[f.place.end..])));
        assert_eq!(f("intent-w1a2-v0.4.3"), Some(("0.4.3".into(), "intent-w1a2".into())));
        assert_eq!(f("intent-w1a2-v0.4.3-m7"), Some(("0.4.3".into(), "intent-w1a2-m7".into())));
        assert_eq!(f("1.2.3"), Some(("1.2.3".into(), String::new())));
        assert_eq!(f("bitnet-b1.58-2B"), None);
        assert_eq!(f("bitnet-b1.58-2.0.10."), Some(("2.0.10".into(), "bitnet-b1.58.".into())));
        assert_eq!(f("x1.2.3.4"), None);
        assert_eq!(f("möbius ☃"), None);
        assert_eq!(f(""), None);
    }

    #[test]
    fn later_versions_have_higher_numbers() {
        assert_eq!(sequence("0.4.3"), Some(4 << 20 | 3));
        assert!(sequence("1.0.0") > sequence("0.1048575.1048575"));
        for bad in ["1.2", "1.2.3.4", "1.2.x", "", "1..3", "1048576.0.0"] {
            assert_eq!(sequence(bad), None, "{bad}");
        }
    }
}
