//! What the program of a runner prints: a checksum for each operation.

use super::process::Output;
use super::{Failure, PromptTrace};

/// Reads the lines `T prompt position id checksums…` and `G prompt position choice`, closed by `OK`. An encoder runs in passes over its
/// text and prints a line for each token and pass.
///
/// # Errors
/// `Broke` if the program failed, said something else or stopped before its end.
pub fn parse(output: &Output) -> Result<Vec<PromptTrace>, Failure> {
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
pub fn parse_lines(text: &str) -> Result<Vec<PromptTrace>, Failure> {
    let broke = |what: String| Err(Failure::Broke(what));
    let mut traces: Vec<PromptTrace> = Vec::new();
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
            Some("OK") => {
                // The choice after the last token is not part of the trace.
                for t in &mut traces {
                    t.choices.pop();
                }
                return Ok(traces);
            }
            _ => {}
        }
    }
    broke(EARLY.into())
}

fn cut(line: &str) -> String {
    line.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Vec<PromptTrace>, String> {
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
        assert_eq!(t, [PromptTrace { tokens: vec![vec![10, 11, 13], vec![12], vec![14]], choices: vec![7] }]);
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
