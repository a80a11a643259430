//! What came of a check: for people, for programs (serde) and for CI (JUnit XML).

use super::compare::Outcome;
use super::texts::Group;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Texts of one group on one device.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Row {
    pub device: String,
    pub group: &'static str,
    pub texts: u64,
    pub bytes: u64,
    pub differing: u64,
    /// Texts that nobody else could be asked about: they only must not fail.
    pub uncompared: u64,
}

/// One of the two lists of ids at the first place where they differ.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Side {
    /// None: the list has ended.
    pub id: Option<u32>,
    pub spelling: Option<String>,
    /// Length of the list.
    pub ids: usize,
}

/// One text that two sides disagree about.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// `reference` where it contradicts a case.
    pub device: String,
    pub group: String,
    /// Of the text in its group.
    pub number: u64,
    pub what: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Index of the first id that differs, and where in the text it starts, in bytes.
    pub token: usize,
    pub offset: usize,
    pub context: String,
    pub expected: Side,
    pub got: Side,
    /// Where the ids are equal and what they decode to is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got_text: Option<String>,
    /// The shortest text found that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest: Option<String>,
    pub shortest_expected: Vec<u32>,
    pub shortest_got: Vec<u32>,
}

/// A device that did not run.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct NotRun {
    pub device: String,
    pub why: String,
}

#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether there was a reference; else the first device stood for it.
    pub reference: bool,
    pub devices: Vec<String>,
    pub rows: Vec<Row>,
    /// Cases that the reference contradicts.
    pub cases_contradicted: u64,
    pub differing: u64,
    pub differences: Vec<Difference>,
    pub not_run: Vec<NotRun>,
}

impl Report {
    pub fn new(devices: impl Iterator<Item = String>, reference: bool) -> Report {
        Report {
            reference,
            devices: devices.collect(),
            rows: Vec::new(),
            cases_contradicted: 0,
            differing: 0,
            differences: Vec::new(),
            not_run: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, o: &Outcome) {
        self.cases_contradicted += o.cases;
        self.differing += o.cases;
        for (device, tally) in self.devices.iter().zip(&o.tallies) {
            let Some(t) = tally else { continue };
            let group = o.batch.group.name();
            let place = self.rows.iter().position(|r| r.device == *device && r.group == group);
            let at = place.unwrap_or_else(|| {
                let empty = Row { device: device.clone(), group, texts: 0, bytes: 0, differing: 0, uncompared: 0 };
                self.rows.push(empty);
                self.rows.len() - 1
            });
            let row = &mut self.rows[at];
            row.texts += t.texts;
            row.bytes += t.bytes;
            row.differing += t.differing;
            row.uncompared += t.unknown;
            self.differing += t.differing;
        }
    }

    pub fn equal(&self) -> bool {
        self.differing == 0
    }

    /// Texts that went through a device, of all devices.
    pub fn texts(&self) -> u64 {
        self.rows.iter().map(|r| r.texts).sum()
    }
}

/// 1234567 as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let comma = |(i, c): (usize, char)| {
        let sep = if i > 0 && (digits.len() - i).is_multiple_of(3) { "," } else { "" };
        format!("{sep}{c}")
    };
    digits.chars().enumerate().map(comma).collect()
}

fn id_list(ids: &[u32]) -> String {
    const MOST: usize = 24;
    let mut s = ids.iter().take(MOST).map(u32::to_string).collect::<Vec<_>>().join(",");
    if ids.len() > MOST {
        s += &format!(",… ({})", ids.len());
    }
    s
}

fn of(s: &Side) -> String {
    match (s.id, &s.spelling) {
        (None, _) => format!("the end, after {} ids", s.ids),
        (Some(id), Some(t)) => format!("id {id} `{t}` of {} ids", s.ids),
        (Some(id), None) => format!("id {id} of {} ids", s.ids),
    }
}

/// A difference in a few lines.
fn lines(d: &Difference) -> Vec<String> {
    let mut out = vec![format!("{}: {} text {}: {} differs", d.device, d.group, d.number, d.what)];
    if !d.why.is_empty() {
        out[0] = format!("{}: {} text {}: no answer: {}", d.device, d.group, d.number, d.why);
    }
    out.push(format!("at         byte {}, token {}: {}", d.offset, d.token, d.context));
    match (&d.expected_text, &d.got_text) {
        (Some(e), Some(g)) => {
            out.push(format!("reference  `{e}`"));
            out.push(format!("device     `{g}`"));
        }
        _ => {
            out.push(format!("reference  {}", of(&d.expected)));
            out.push(format!("device     {}", of(&d.got)));
        }
    }
    if d.device == "reference" {
        out[2] = out[2].replacen("reference ", "case      ", 1);
        out[3] = out[3].replacen("device    ", "reference ", 1);
    }
    if let Some(s) = &d.shortest {
        out.push(format!("shortest   `{s}`: {} against {}", id_list(&d.shortest_expected), id_list(&d.shortest_got)));
    }
    out
}

/// The report for people.
///
/// # Errors
/// Those of the writer.
pub fn text(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out, "{:14} {:15} {:>12} {:>14} {:>10}", "device", "texts", "number", "bytes", "different")?;
    for row in &r.rows {
        let (n, b, d) = (grouped(row.texts), grouped(row.bytes), grouped(row.differing));
        writeln!(out, "{:14} {:15} {n:>12} {b:>14} {d:>10}", row.device, row.group)?;
    }
    for n in &r.not_run {
        writeln!(out, "{:14} not run: {}", n.device, n.why)?;
    }
    let uncompared: u64 = r.rows.iter().filter(|w| w.group != Group::Stray.name()).map(|w| w.uncompared).sum();
    if uncompared > 0 {
        writeln!(out, "{} texts are taken by no reference and were compared among devices only", grouped(uncompared))?;
    }
    for d in &r.differences {
        writeln!(out)?;
        for (i, line) in lines(d).iter().enumerate() {
            writeln!(out, "{}{line}", if i == 0 { "" } else { "  " })?;
        }
    }
    if !r.differences.is_empty() {
        writeln!(out)?;
    }
    let against = if r.reference { "the reference" } else { "each other" };
    match r.differing {
        0 => writeln!(out, "equal to {against} on {} texts", grouped(r.texts())),
        n => writeln!(
            out,
            "{} of {} texts differ, the first {} are told",
            grouped(n),
            grouped(r.texts()),
            r.differences.len()
        ),
    }
}

/// Text between tags or in an attribute. XML 1.0 has no way to write most control characters, so they become U+FFFD.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            // As they are, these would be turned into a space or a line feed by a reader.
            '\t' | '\n' | '\r' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "&#{};", c as u32);
            }
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            '\u{7f}'..='\u{9f}' => {
                let _ = write!(out, "&#{};", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// The report as JUnit XML: a suite for each device, a case for each group of texts.
pub fn junit(r: &Report, name: &str) -> String {
    let mut s = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut devices: Vec<(&str, Vec<&Row>)> =
        r.devices.iter().map(|d| (d.as_str(), r.rows.iter().filter(|w| w.device == *d).collect())).collect();
    // What contradicts a case is no fault of a device.
    let contradicted = r.cases_contradicted > 0;
    if contradicted {
        devices.push(("reference", Vec::new()));
    }
    let failed_rows = r.rows.iter().filter(|w| w.differing > 0).count();
    let tests = r.rows.len() + r.not_run.len() + usize::from(contradicted);
    let failures = failed_rows + usize::from(contradicted);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        s,
        "<testsuites name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{}\">",
        xml(&format!("tokenizer check of {name}")),
        r.not_run.len()
    );
    for (device, rows) in &devices {
        let failed = rows.iter().filter(|w| w.differing > 0).count() + usize::from(*device == "reference");
        let count = rows.len().max(usize::from(*device == "reference"));
        let _ = writeln!(s, "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{failed}\">", xml(device));
        for row in rows {
            case(&mut s, r, device, row.group, row.differing, row.texts);
        }
        if *device == "reference" {
            case(&mut s, r, device, Group::Cases.name(), r.cases_contradicted, r.cases_contradicted);
        }
        s += "  </testsuite>\n";
    }
    if !r.not_run.is_empty() {
        let n = r.not_run.len();
        let _ = writeln!(s, "  <testsuite name=\"not run\" tests=\"{n}\" failures=\"0\" skipped=\"{n}\">");
        for d in &r.not_run {
            let _ = writeln!(
                s,
                "    <testcase classname=\"tokenizer\" name=\"{}\"><skipped message=\"{}\"/></testcase>",
                xml(&d.device),
                xml(&d.why)
            );
        }
        s += "  </testsuite>\n";
    }
    s + "</testsuites>\n"
}

fn case(s: &mut String, r: &Report, device: &str, group: &str, differing: u64, texts: u64) {
    let head = format!(
        "    <testcase classname=\"{}\" name=\"{} ({texts} texts)\"",
        xml(&format!("tokenizer.{device}")),
        xml(group)
    );
    if differing == 0 {
        *s += &format!("{head}/>\n");
        return;
    }
    *s += &format!("{head}>\n      <failure message=\"{differing} of {texts} texts differ\" type=\"difference\">");
    let of_group = r.differences.iter().filter(|d| d.device == *device && d.group == *group);
    let told: Vec<String> = of_group.map(|d| lines(d).join("\n  ")).collect();
    *s += &xml(&told.join("\n\n")).replace("&#10;", "\n");
    *s += "</failure>\n    </testcase>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_the_xml() {
        assert_eq!(
            xml("a<b>&\"'\u{0}\u{1b}\u{85}\n\u{fffe}"),
            "a&lt;b&gt;&amp;&quot;&apos;\u{fffd}\u{fffd}&#133;&#10;\u{fffd}"
        );
    }

    #[test]
    fn numbers_in_groups() {
        assert_eq!((grouped(0), grouped(999), grouped(1000)), ("0".into(), "999".into(), "1,000".into()));
        assert_eq!(grouped(10_000_000), "10,000,000");
    }
}
