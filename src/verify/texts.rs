//! The tokenizer alone on other machines: a program of runtime, tokenizer and texts, which prints ids and decoded texts
//! (`ports/bitnet_texts.c` of the exported sources). For `tokenizer check`.

use super::emulate::fill;
use super::folder::Folder;
use super::process::{run, Output};
use super::{tools, Failure, RUN_LIMIT};
use crate::error::{Error, Result};
use crate::target::{self, Arguments, Emulator, Kind, Target};
use crate::tokenizer::check::{Answer, Answered, Device};
use crate::tokenizer::DeviceTokenizer;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

/// The C runtime on this machine.
pub const C_HOST: &str = "c-host";
/// Longest text that an emulated machine is given, in bytes.
const LONGEST: usize = 2048;
/// Bytes of texts in one image: also what comes out must fit where it is collected.
const IMAGE: usize = 256 << 10;
/// With a mailbox, which holds 64 KB of output.
const MAILBOX_IMAGE: usize = 2 << 10;
/// Code and constants of the whole runtime.
const RUNTIME: u64 = 160 << 10;

/// What the program is told about a tokenizer.
struct Facts {
    blob: Vec<u8>,
    tokenizer: DeviceTokenizer,
}

impl Facts {
    fn of(tokenizer: &DeviceTokenizer, blob: &[u8]) -> Facts {
        Facts { blob: blob.to_vec(), tokenizer: tokenizer.clone() }
    }

    /// Ids that are enough for a text of so many bytes, with those of the template.
    fn ids(&self, bytes: usize) -> usize {
        let template = self.tokenizer.prefix_ids().len() + self.tokenizer.suffix_ids().len();
        self.tokenizer.max_ids(bytes).saturating_add(template)
    }

    /// Words of memory for texts up to `bytes` long.
    fn words(&self, bytes: usize) -> usize {
        let room = 3 * (self.tokenizer.max_token_bytes() + 4) / 4 + 1;
        self.tokenizer.work_words().saturating_add(self.ids(bytes)).saturating_add(room)
    }

    /// What lies where the model would.
    ///
    /// # Errors
    /// `Usage` if it is larger than a program can address.
    fn container(&self, texts: &[&[u8]]) -> Result<Vec<u8>> {
        let word = |n: usize| u32::try_from(n).map_err(|_| Error::usage("these texts are too large for a device"));
        let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0);
        let mut out = b"BNTX".to_vec();
        let (work, token) = (self.tokenizer.work_words(), self.tokenizer.max_token_bytes());
        let head = [self.blob.len(), work, self.ids(longest), token, texts.len(), 0, 0];
        for n in head {
            out.extend(word(n)?.to_le_bytes());
        }
        out.extend(&self.blob);
        for t in texts {
            out.extend(word(t.len())?.to_le_bytes());
            out.extend(*t);
        }
        Ok(out)
    }
}

/// Reads the lines `I status ids` and `D hex`, closed by `OK`.
fn parse(output: &Output, count: usize) -> Result<Vec<Answered>, Failure> {
    let broke = |what: String| Failure::Broke(what);
    if !output.status.success() {
        return Err(broke(format!("it stopped with {}\n{}", output.status, output.tail())));
    }
    let mut answers: Vec<Answered> = Vec::with_capacity(count);
    let mut closed = false;
    for line in output.stdout.lines() {
        let bad = || broke(format!("unreadable line `{}`", line.chars().take(80).collect::<String>()));
        if let Some(rest) = line.strip_prefix("I ") {
            let (status, ids) = rest.split_once(' ').unwrap_or((rest, ""));
            answers.push(match status {
                "0" => {
                    let list = ids.split(',').filter(|i| !i.is_empty()).map(str::parse);
                    let ids = list.collect::<Result<Vec<u32>, _>>().map_err(|_| bad())?;
                    Ok(Answer { ids, decoded: Vec::new() })
                }
                other => Err(format!("status {other} (runtime/bitnet_status.h)")),
            });
        } else if let Some(hex) = line.strip_prefix("D ") {
            match answers.last_mut() {
                Some(Ok(a)) => a.decoded = bytes(hex).ok_or_else(bad)?,
                Some(Err(_)) => {}
                None => return Err(bad()),
            }
        } else if line == "OK" {
            closed = true;
        }
    }
    match closed && answers.len() == count {
        true => Ok(answers),
        false => Err(broke(format!("its output ended after {} of {count} texts\n{}", answers.len(), output.tail()))),
    }
}

/// A token that could not be decoded is a `?`.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(hex.len() / 2);
    let mut rest = hex.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        if *first == b'?' {
            out.extend(b"<not decoded>");
            rest = more;
            continue;
        }
        let (second, more) = more.split_first()?;
        let digit = |b: &u8| char::from(*b).to_digit(16);
        out.push((digit(first)? * 16 + digit(second)?) as u8);
        rest = more;
    }
    Some(out)
}

fn failed(name: &str, f: Failure) -> Error {
    Error::tool(format!("{name}: {}", f.sentence()))
}

/// The C runtime on this machine, with sanitizers.
struct Host {
    facts: Facts,
    folder: Folder,
    next: AtomicU64,
}

impl Device for Host {
    fn name(&self) -> &str {
        C_HOST
    }

    fn answers(&self, texts: &[&[u8]]) -> Result<Vec<Answered>> {
        // Threads ask at the same time.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.scratch().join(format!("texts-{number}.bin"));
        std::fs::write(&file, self.facts.container(texts)?).map_err(|e| Error::io("write", &file, &e))?;
        let mut command = Command::new(self.folder.build.join("bitnet_host"));
        let output = run(command.arg(&file), RUN_LIMIT);
        std::fs::remove_file(&file).map_err(|e| Error::io("remove", &file, &e))?;
        parse(&output?, texts.len()).map_err(|f| failed(C_HOST, f))
    }
}

fn host(facts: Facts) -> Result<Result<Host, Failure>> {
    let folder = Folder::of_host(None)?;
    let start = || {
        tools::need(&[("make", "make"), ("cc", "gcc libc6-dev")])?;
        let built = folder.make(&["host", "MAIN=bitnet_texts"])?;
        match built.status.success() {
            true => Ok(()),
            false => Err(Failure::Broke(format!("it does not build\n{}", built.tail()))),
        }
    };
    Ok(start().map(|()| Host { facts, folder, next: AtomicU64::new(0) }))
}

/// A program for a target, in an emulator.
struct Emulated {
    facts: Facts,
    target: Target,
    emulator: Emulator,
    folder: Folder,
    /// Bytes of tokenizer and texts that one image holds.
    most: usize,
    /// One image at a time lies in the folder.
    busy: Mutex<()>,
}

impl Device for Emulated {
    fn name(&self) -> &str {
        &self.target.name
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn answers(&self, texts: &[&[u8]]) -> Result<Vec<Answered>> {
        // A thread that panicked has left nothing half done that matters: every image is made from its texts.
        let _one = self.busy.lock().unwrap_or_else(|e| e.into_inner());
        let mut out = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|t| {
                bytes += t.len() + 4;
                bytes <= self.most
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            out.extend(self.image(now)?);
            rest = later;
        }
        Ok(out)
    }
}

impl Emulated {
    fn image(&self, texts: &[&[u8]]) -> Result<Vec<Answered>> {
        let model = self.folder.dir.join("model.bin");
        std::fs::write(&model, self.facts.container(texts)?).map_err(|e| Error::io("write", &model, &e))?;
        self.ran(texts.len()).map_err(|f| failed(&self.target.name, f))
    }

    fn ran(&self, count: usize) -> Result<Vec<Answered>, Failure> {
        let machine = format!("MACHINE={}", self.emulator.name);
        let mut arguments = vec!["emulator", "MAIN=bitnet_texts", &machine];
        if self.target.kind == Kind::Mcu {
            arguments.push("FULL=1");
        }
        if self.emulator.arguments == Arguments::Compiled {
            arguments.push("COMMAND=texts");
        }
        let built = self.folder.make(&arguments)?;
        if !built.status.success() {
            return Err(Failure::Broke(format!("it does not build\n{}", built.tail())));
        }
        let elf: PathBuf = self.folder.build.join(format!("{}.elf", self.emulator.name));
        let words = fill(&self.emulator, &elf, "texts", self.folder.scratch(), &self.folder.dir);
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::Broke("its command is empty".into()));
        };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder.dir);
        let output = run(&mut command, RUN_LIMIT).map_err(|e| Failure::Broke(e.message().to_string()))?;
        parse(&output, count)
    }
}

fn emulated(t: &Target, facts: Facts) -> Result<Result<Emulated, Failure>> {
    let start = || {
        let Some(b) = &t.build else { return Err(Failure::Broke("its target file names no compiler".into())) };
        tools::need(&[("make", "make"), (&b.compiler, &b.packages)])?;
        tools::probe(&b.compiler, &b.probe, b.oldest.as_deref(), &b.packages)?;
        let mut problems = Vec::new();
        for e in &t.emulator {
            match super::emulate::usable(e).and_then(|()| room(t, e, &facts)) {
                Ok(most) => return Ok((e.clone(), most)),
                Err(why) => problems.push(why),
            }
        }
        // What an installation would change is told first.
        problems.sort_by_key(|p| !matches!(p, Failure::NotRun { install: Some(_), .. }));
        Err(problems.into_iter().next().unwrap_or(Failure::not_run("its target file names no emulator".into())))
    };
    let (emulator, most) = match start() {
        Ok(found) => found,
        Err(f) => return Ok(Err(f)),
    };
    let folder = Folder::of_texts(t, facts.words(LONGEST), &facts.blob)?;
    Ok(Ok(Emulated { facts, target: t.clone(), emulator, folder, most, busy: Mutex::new(()) }))
}

/// Bytes of texts that an image for this machine may hold.
fn room(t: &Target, e: &Emulator, facts: &Facts) -> Result<usize, Failure> {
    let most = if e.output == target::Source::Mailbox { MAILBOX_IMAGE } else { IMAGE };
    if t.kind != Kind::Mcu {
        return Ok(most);
    }
    let too_small = |what: &str, needs: u64, has: u64| {
        Failure::not_run(format!("the {what} of {} is too small for the tokenizer: {needs} of {has} bytes", e.name))
    };
    let Some(layout) = e.full() else {
        return Err(Failure::not_run(format!("the target file lists no memories of {}", e.name)));
    };
    let ram = layout.ram.as_ref().unwrap_or(&layout.fast).bytes;
    let words = facts.words(LONGEST) as u64 * 4 + (16 << 10);
    if words > ram {
        return Err(too_small("RAM", words, ram));
    }
    let fixed = RUNTIME + facts.blob.len() as u64 + 64 + LONGEST as u64 + 4;
    if fixed > layout.flash.bytes {
        return Err(too_small("flash", fixed, layout.flash.bytes));
    }
    Ok(most.min(usize::try_from(layout.flash.bytes - fixed).unwrap_or(most) + LONGEST))
}

/// A device, or why it does not run.
pub enum Found {
    Runs(Box<dyn Device>),
    NotRun { device: String, why: String },
}

/// The devices of a list of names: `c-host`, or a target with an emulator; `all` of them.
///
/// # Errors
/// `Usage` for a name that is none of these, with the nearest; `Io` or `Tool` if nothing can be built here.
pub fn text_devices(names: &[String], tokenizer: &DeviceTokenizer, blob: &[u8]) -> Result<Vec<Found>> {
    let known: Vec<Target> = target::all().into_iter().filter(|t| t.takes_c() && !t.emulator.is_empty()).collect();
    let mut wanted: Vec<Option<Target>> = Vec::new();
    for name in names {
        match name.as_str() {
            C_HOST => wanted.push(None),
            "all" => {
                wanted.push(None);
                wanted.extend(known.iter().cloned().map(Some));
            }
            other => wanted.push(Some(named(other, &known)?)),
        }
    }
    let mut found: Vec<Found> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for t in wanted {
        let device = t.as_ref().map_or(C_HOST.to_string(), |t| t.name.clone());
        if seen.contains(&device) {
            continue;
        }
        seen.push(device.clone());
        let facts = Facts::of(tokenizer, blob);
        let started: Result<Box<dyn Device>, Failure> = match &t {
            None => host(facts)?.map(|d| Box::new(d) as Box<dyn Device>),
            Some(t) => emulated(t, facts)?.map(|d| Box::new(d) as Box<dyn Device>),
        };
        found.push(match started {
            Ok(d) => Found::Runs(d),
            Err(Failure::Broke(what)) => return Err(Error::tool(format!("{device}: {what}"))),
            Err(f) => Found::NotRun { device, why: f.sentence() },
        });
    }
    Ok(found)
}

fn named(name: &str, known: &[Target]) -> Result<Target> {
    let is = |t: &&Target| t.name == name || t.board.as_deref().is_some_and(|b| b.eq_ignore_ascii_case(name));
    if let Some(t) = known.iter().find(is) {
        return Ok(t.clone());
    }
    if name.ends_with(".toml") {
        let t = target::find(name)?;
        return match t.takes_c() && !t.emulator.is_empty() {
            true => Ok(t),
            false => Err(Error::usage(format!("nothing here can run programs for `{}`: it has no emulator", t.name))
                .hint("its target file lists none; `bitnet-convert targets show` explains it")),
        };
    }
    let mut names: Vec<&str> = vec!["rust", C_HOST, "all"];
    names.extend(known.iter().map(|t| t.name.as_str()));
    let e = Error::usage(format!("there is no device `{name}`, there are {}", names.join(", ")));
    Err(match target::nearest(name, names.iter().copied()) {
        Some(n) => e.hint(format!("did you mean `{n}`?")),
        None => e,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn said(stdout: &str) -> Output {
        Output { status: std::process::ExitStatus::from_raw(0), stdout: stdout.into(), stderr: String::new() }
    }

    #[test]
    fn answers_are_read() {
        let answers = parse(&said("I 0 1,22\nD 61ff\nI 0\nD \nI 10\nD \nOK\n"), 3).unwrap();
        assert_eq!(answers[0], Ok(Answer { ids: vec![1, 22], decoded: vec![0x61, 0xff] }));
        assert_eq!(answers[1], Ok(Answer::default()));
        assert!(answers[2].as_ref().unwrap_err().contains("status 10"));
        assert_eq!(bytes("61?62").unwrap(), b"a<not decoded>b");
    }

    #[test]
    fn an_output_that_ends_early_is_no_answer() {
        for (text, count) in [
            ("I 0 1\nD 61\n", 1),
            ("I 0 1\nD 61\nOK\n", 2),
            ("I 0 x\nOK\n", 1),
            ("D 61\nOK\n", 0),
            ("I 0 1\nD 6\nOK\n", 1),
        ] {
            assert!(parse(&said(text), count).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_that_is_nearly_one() {
        let known = target::all();
        let hint = |n: &str| named(n, &known).err().and_then(|e| e.next_step().map(str::to_string));
        assert_eq!(hint("cortex-m8").as_deref(), Some("did you mean `cortex-m0`?"));
        assert_eq!(named("stm32h743vi", &known).unwrap().name, "cortex-m7");
    }
}
