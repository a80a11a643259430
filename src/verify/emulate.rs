//! A target in an emulator: build its program, find a machine that holds it, run the golden prompts, count.

use super::elf::{sizes, Used};
use super::folder::Folder;
use super::process::{run, Output};
use super::{count, parse::parse, tools, Failure, Fits, Ran, Subject, RUN_LIMIT};
use crate::error::Result;
use crate::plan::{self, group};
use crate::target::{Arguments, Counter, Emulator, Kind, Layout, Target};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that was linked for a machine.
pub struct Linked<'a> {
    pub folder: &'a Folder,
    pub target: &'a Target,
    pub emulator: &'a Emulator,
    /// Into all memory of the machine, because the board's sizes are too small.
    pub full: bool,
    pub elf: PathBuf,
}

/// Runs the artifact on a target of kind `mcu` or `linux`.
pub fn run_target(s: &Subject, t: &Target) -> Result<Ran> {
    let exported = s.exported().filter(|_| s.own.as_ref().is_some_and(|o| o.name == t.name));
    let mut folder = Folder::of_target(t, &s.model, &s.artifact.program, exported)?;
    if let Some(a) = &s.adapter {
        folder.adapter =
            vec![format!("ADAPTER={}", a.file.display()), format!("ADAPTER_SCRATCH={}", a.bound.scratch())];
    }
    Ok(start(s, t, &folder).unwrap_or_else(|failure| {
        let name = t.emulator.first().map_or("-", |e| e.name.as_str());
        Ran::new(name, s.extent(0), Err(failure))
    }))
}

fn start(s: &Subject, t: &Target, folder: &Folder) -> Result<Ran, Failure> {
    let Some(b) = &t.build else { return Err(Failure::Broke("its target file names no compiler".into())) };
    tools::need(&[("make", "make"), (&b.compiler, &b.packages)])?;
    tools::probe(&b.compiler, &b.probe, b.oldest.as_deref(), &b.packages)?;
    let mut problems = Vec::new();
    for e in &t.emulator {
        if let Err(why) = usable(e) {
            problems.push(why);
            continue;
        }
        match link(s, t, e, folder)? {
            Ok(linked) => return finish(s, &linked),
            Err(why) => problems.push(why),
        }
    }
    // What an installation would change is told first.
    problems.sort_by_key(|p| !matches!(p, Failure::NotRun { install: Some(_), .. }));
    Err(problems.into_iter().next().unwrap_or(Failure::not_run("its target file names no emulator".into())))
}

pub fn usable(e: &Emulator) -> Result<(), Failure> {
    let program = e.command.first().map_or("", String::as_str);
    tools::need(&[(program, &e.packages)])?;
    tools::probe(&e.name, &e.probe, e.oldest.as_deref(), &e.packages)
}

/// Links for the board's sizes, then for all that the machine has. The inner error says that neither holds the program.
fn link<'a>(
    s: &Subject,
    t: &'a Target,
    e: &'a Emulator,
    folder: &'a Folder,
) -> Result<Result<Linked<'a>, Failure>, Failure> {
    let board = t.layout();
    let mut said = String::new();
    for full in [false, true] {
        let layout = if full { e.full() } else { board.as_ref().and_then(|b| e.as_board(b)) };
        if full && t.kind != Kind::Mcu || layout.as_ref().is_some_and(|l| hopeless(s, l)) {
            continue;
        }
        let linked = Linked { folder, target: t, emulator: e, full, elf: folder.build.join(format!("{}.elf", e.name)) };
        let output = linked.make(&s.trace_command(e.tokens))?;
        if output.status.success() {
            return Ok(Ok(linked));
        }
        // GNU ld and lld say it in different words.
        let small = ["overflowed by", "will not fit in region", "does not fit"];
        if !small.iter().any(|w| output.stderr.contains(w)) {
            return Err(Failure::Broke(format!("it does not build\n{}", output.tail())));
        }
        said = output
            .stderr
            .lines()
            .filter(|l| l.contains("overflowed by"))
            .map(after_colon)
            .collect::<Vec<_>>()
            .join(", ");
    }
    let arena = plan::arena_bytes(&s.artifact.program, s.artifact.program.attention.window);
    let why = if said.is_empty() {
        let model = group(s.model_bytes);
        format!("{} is too small: the model has {model} bytes, its arena {}", e.name, group(arena))
    } else {
        format!("{} is too small: {said}", e.name)
    };
    Ok(Err(Failure::not_run(why)))
}

/// `ld: region `FLASH' overflowed by 12 bytes` without what stands before it.
fn after_colon(line: &str) -> &str {
    line.rsplit(": ").next().unwrap_or(line).trim()
}

/// Whether a layout is too small for the model and its arena alone, so that building for it can be saved.
fn hopeless(s: &Subject, l: &Layout) -> bool {
    let p = &s.artifact.program;
    let arena = plan::arena_bytes(p, p.attention.window);
    let ram = l.fast.bytes + l.ram.as_ref().map_or(0, |r| r.bytes);
    s.model_bytes > l.flash.bytes || arena > ram
}

impl Linked<'_> {
    /// Builds the program; `command` is compiled in where the machine hands over no arguments.
    pub fn make(&self, command: &str) -> Result<Output, Failure> {
        let machine = format!("MACHINE={}", self.emulator.name);
        let compiled = format!("COMMAND={command}");
        let mut arguments = vec!["emulator", &machine];
        if self.full {
            arguments.push("FULL=1");
        }
        if self.emulator.arguments == Arguments::Compiled {
            arguments.push(&compiled);
        }
        self.folder.make(&arguments)
    }

    /// Runs a command of the example main. `extra` are words for the emulator, after its name.
    pub fn run(&self, command: &str, extra: &[String]) -> Result<Output, Failure> {
        let scratch = self.folder.scratch();
        let words = fill(self.emulator, &self.elf, command, scratch, &self.folder.dir);
        let Some((program, rest)) = words.split_first() else {
            return Err(Failure::Broke("its command is empty".into()));
        };
        let mut process = Command::new(program);
        process.args(extra).args(rest).current_dir(&self.folder.dir);
        run(&mut process, RUN_LIMIT).map_err(|e| Failure::Broke(e.message().to_string()))
    }
}

/// The words of an emulator's command with everything filled in.
pub fn fill(e: &Emulator, elf: &Path, command: &str, scratch: &Path, dir: &Path) -> Vec<String> {
    let mut words = Vec::new();
    for w in &e.command {
        if w == "{args}" {
            words.extend(command.split(' ').map(str::to_string));
            continue;
        }
        // QEMU doubles a comma that belongs to a value.
        let w = w.replace("{elf}", &elf.display().to_string()).replace("{args}", &command.replace(',', ",,"));
        words.push(w.replace("{tmp}", &scratch.display().to_string()).replace("{dir}", &dir.display().to_string()));
    }
    words
}

fn finish(s: &Subject, linked: &Linked) -> Result<Ran, Failure> {
    let (t, e) = (linked.target, linked.emulator);
    let traces = linked.run(&s.trace_command(e.tokens), &[]).and_then(|o| parse(&o));
    let mut ran = Ran::new(&e.name, s.extent(e.tokens), traces);
    ran.detail = format!("C99 for {}", t.title);
    ran.limits = Some(e.limits.clone());
    ran.notes.extend(t.checked_as.iter().map(|c| format!("checked as {c}")));
    if e.tokens > 0 && !s.artifact.program.encoder {
        ran.notes.push(format!("{} is slow: no more than {} of the tokens of each prompt", e.name, e.tokens));
    }
    if t.kind == Kind::Mcu {
        match sizes(&linked.elf) {
            Ok(used) => {
                (ran.flash, ran.ram) = (Some(used.flash), Some(used.fast + used.ram));
                ran.fits = t.layout().map(|board| fits(&used, &board));
            }
            Err(e) => ran.notes.push(format!("sizes are not known: {}", e.message())),
        }
    }
    if !s.quick && ran.traces.is_ok() && e.counter == Counter::Plugin {
        match count::per_token(s, linked) {
            Ok(n) => ran.instructions = n,
            Err(why) => ran.notes.push(format!("instructions are not counted: {why}")),
        }
    }
    Ok(ran)
}

/// Against the board's memories, whatever the program was linked for.
fn fits(used: &Used, board: &Layout) -> Fits {
    let mut over = Vec::new();
    let mut check = |name: &str, needs: u64, has: u64| {
        if needs > has {
            over.push(format!("{name} needs {} of {} bytes", group(needs), group(has)));
        }
    };
    check(&board.flash.name, used.flash, board.flash.bytes);
    match &board.ram {
        Some(ram) => {
            check(&board.fast.name, used.fast, board.fast.bytes);
            check(&ram.name, used.ram, ram.bytes);
        }
        None => check(&board.fast.name, used.fast + used.ram, board.fast.bytes),
    }
    Fits { board: over.is_empty(), why: over.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target;

    #[test]
    fn a_command_is_filled_in() {
        let mut e = target::find("cortex-m7").unwrap().emulator.remove(0);
        e.command = ["q", "arg={args}", "-k", "{elf}", "{tmp}/x", "{args}"].map(String::from).to_vec();
        let words = fill(&e, Path::new("/b/p.elf"), "ids 1,2", Path::new("/s"), Path::new("/d"));
        assert_eq!(words, ["q", "arg=ids 1,,2", "-k", "/b/p.elf", "/s/x", "ids", "1,2"]);
    }

    #[test]
    fn what_does_not_fit_has_numbers() {
        let board = target::find("cortex-m7").unwrap().layout().unwrap();
        let used = Used { flash: 3_000_000, fast: 1, ram: 600_000 };
        let f = fits(&used, &board);
        assert_eq!(
            (f.board, f.why.as_str()),
            (false, "flash needs 3,000,000 of 2,097,152 bytes; axi-sram needs 600,000 of 524,288 bytes")
        );
        assert!(fits(&Used { flash: 1, fast: 1, ram: 1 }, &board).board);
    }

    #[test]
    fn the_words_of_the_linker() {
        assert_eq!(
            after_colon("/x/ld: region `FLASH' overflowed by 12 bytes"),
            "region `FLASH' overflowed by 12 bytes"
        );
    }
}
