//! What the program of a runner prints: a checksum for each operation.

use super::process::Output;
use super::{Failure, PromptTrace};

/// What a program computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Of each stored prompt.
    pub prompts: Vec<PromptTrace>,
    /// Ids of each text that it encoded.
    pub texts: Vec<Vec<u32>>,
    /// Text of each stored prompt that it decoded.
    pub decoded: Vec<Vec<u8>>,
}

/// Reads the lines `T prompt position id checksums…`, `G prompt position choice`, `I text ids` and `D prompt hex`, closed by `OK`. An encoder runs in passes over its
/// text and prints a line for each token and pass.
///
/// # Errors
/// `Broke` if the program failed, said something else or stopped before its end.
pub fn parse(output: &Output) -> Result<Said, Failure> {
    if !output.status.success() {
        return Err(Failure::Broke(format!("it stopped with {}\n{}", output.status, output.tail())));
    }
    parse_lines(&output.stdout).map_err(|e| match e {
        // What it said last may stand on stderr.
        Failure::Broke(what) if what == EARLY => Failure::Broke(format!("{EARLY}\n{}", output.tail())),
        e => e,
    })
}

const EARLY: &str = "its output ended early";

/// The same of a program that ended well.
pub fn parse_lines(text: &str) -> Result<Said, Failure> {
    let broke = |what: String| Err(Failure::Broke(what));
    let mut said = Said::default();
    let traces = &mut said.prompts;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next();
        let mut number = || words.next().and_then(|w| w.parse::<usize>().ok());
        match kind {
            Some("T") => {
                let (Some(prompt), Some(position), Some(_)) = (number(), number(), number()) else {
                    return broke(format!("unreadable line `{}`", cut(line)));
                };
                if prompt > traces.len() {
                    return broke(format!("prompt {prompt} came before its predecessor"));
                }
                if prompt == traces.len() {
                    traces.push(PromptTrace::default());
                }
                let Ok(sums) = words.map(|w| u32::from_str_radix(w, 16)).collect::<Result<Vec<u32>, _>>() else {
                    return broke(format!("unreadable line `{}`", cut(line)));
                };
                let tokens = &mut traces[prompt].tokens;
                match position {
                    p if p < tokens.len() => tokens[p].extend(sums),
                    p if p == tokens.len() => tokens.push(sums),
                    p => return broke(format!("prompt {prompt}: token {p} came before its predecessor")),
                }
            }
            Some("G") => {
                let (Some(prompt), Some(_), Some(choice)) = (number(), number(), number()) else {
                    return broke(format!("unreadable line `{}`", cut(line)));
                };
                match traces.get_mut(prompt) {
                    Some(t) => t.choices.push(choice as u32),
                    None => return broke(format!("a choice for prompt {prompt} before its tokens")),
                }
            }
            Some("I") => {
                let index = number();
                let ids = words.next().unwrap_or("").split(',').filter(|w| !w.is_empty()).map(str::parse);
                match ids.collect::<Result<Vec<u32>, _>>() {
                    Ok(ids) if index == Some(said.texts.len()) => said.texts.push(ids),
                    _ => return broke(format!("unreadable line `{}`", cut(line))),
                }
            }
            Some("D") => {
                let index = number();
                match bytes(words.next().unwrap_or("")) {
                    Some(text) if index == Some(said.decoded.len()) => said.decoded.push(text),
                    _ => return broke(format!("unreadable line `{}`", cut(line))),
                }
            }
            Some("OK") => {
                // The choice after the last token is not part of the trace.
                for t in traces {
                    t.choices.pop();
                }
                return Ok(said);
            }
            _ => {}
        }
    }
    broke(EARLY.into())
}

/// Two digits a byte.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|p| Some((digit(p.first()?)? * 16 + digit(p.get(1)?)?) as u8)).collect()
}

fn cut(line: &str) -> String {
    line.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Said, String> {
        let status = std::process::Command::new("true").status().unwrap();
        let output = Output { status, stdout: text.into(), stderr: String::new() };
        parse(&output).map_err(|e| match e {
            Failure::Broke(what) => what,
            Failure::NotRun { why, .. } => why,
        })
    }

    #[test]
    fn a_trace_with_choices_and_passes() {
        let t = said("boot\nT 0 0 5 a b\nT 0 1 6 c\nT 0 0 5 d\nG 0 1 7\nT 0 2 7 e\nG 0 2 9\nOK\n").unwrap();
        assert_eq!(t.prompts, [PromptTrace { tokens: vec![vec![10, 11, 13], vec![12], vec![14]], choices: vec![7] }]);
    }

    #[test]
    fn texts_and_what_was_decoded() {
        let t = said("T 0 0 5 a\nG 0 0 1\nI 0 1,22\nI 1\nD 0 61ff\nD 1\nOK\n").unwrap();
        assert_eq!((t.texts, t.decoded), (vec![vec![1, 22], vec![]], vec![vec![0x61, 0xff], vec![]]));
        for bad in ["I 1 5", "I 0 1,x", "D 0 6", "D 0 6g", "D x 61", "I"] {
            assert!(said(&format!("{bad}\nOK\n")).unwrap_err().contains("unreadable line"), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            ("T 0 0 5 a\n", "its output ended early"),
            ("T 1 0 5 a\nOK\n", "prompt 1 came before"),
            ("T 0 3 5 a\nOK\n", "token 3 came before"),
            ("T 0 0 5 xyz\nOK\n", "unreadable line"),
            ("T 0 -1 5 a\nOK\n", "unreadable line"),
            ("G 0 0 5\nOK\n", "before its tokens"),
            ("", "ended early"),
        ];
        for (text, want) in cases {
            let got = said(text).unwrap_err();
            assert!(got.contains(want), "{text:?}: {got}");
        }
    }
}
