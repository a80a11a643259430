//! Real processes: killed before each operation of the disk and at moments nobody chose, started again, compared.

use crate::pairs::{pair, Pair};
use crate::watched::Watched;
use bitnet_convert::delta::apply::{Faults, Options, Patch, Site};
use bitnet_convert::delta::store::{Disk, Std};
use bitnet_convert::progress::Silent;
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const AT: &str = "BITNET_TEST_STOP_BEFORE";
const FOLDER: &str = "BITNET_TEST_FOLDER";
const STOPPED: &str = "stopped before";

/// The disk of this machine; before operation `at` it says so and waits to be killed. A kill may come between the halves of a write.
fn stopping(at: usize) -> Watched {
    let left = Cell::new(at);
    Watched::new(move |change| {
        match left.get() {
            0 => {
                println!("{STOPPED} {change:?}");
                let _ = io::stdout().flush();
                // A parent that is gone does not kill.
                std::thread::sleep(Duration::from_secs(60));
                std::process::exit(3);
            }
            n => left.set(n - 1),
        }
        Ok(())
    })
    .in_halves()
}

fn update(disk: &dyn Disk, dir: &Path, in_place: bool) -> bitnet_convert::Result<()> {
    let site = Site::lock(disk, &dir.join("m"))?;
    let patch = Patch::open(disk, &dir.join("p"))?;
    let o = Options { faults: Faults { group: Some(1), ..Faults::default() }, ..Options::default() };
    match in_place {
        true => site.in_place(&patch, &o, &Silent),
        false => site.switch(&patch, &o, &Silent),
    }
    .map(drop)
}

/// Not a test of its own: what the processes of the tests below run. Without its variables it does nothing.
#[test]
fn child() {
    let (Ok(at), Some(dir)) = (std::env::var(AT), std::env::var_os(FOLDER)) else { return };
    let (in_place, at) = (at.starts_with('i'), at[1..].parse().unwrap());
    update(&stopping(at), Path::new(&dir), in_place).unwrap();
    println!("done");
}

fn start(dir: &Path, in_place: bool, at: usize) -> Child {
    let way = if in_place { 'i' } else { 's' };
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(AT, format!("{way}{at}"))
        .env(FOLDER, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn place(p: &Pair) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m"), &p.old).unwrap();
    std::fs::write(dir.path().join("p"), &p.patch).unwrap();
    let path = dir.path().to_path_buf();
    (dir, path)
}

/// The file is whole or has a journal; started again, it becomes the new one.
fn recovers(dir: &Path, p: &Pair, in_place: bool, when: &str) {
    let now = std::fs::read(dir.join("m")).unwrap();
    assert!(dir.join("m.journal").exists() || now == p.old || now == p.new, "{when}");
    update(&Std, dir, in_place).unwrap_or_else(|e| panic!("{when}: {e}"));
    assert!(std::fs::read(dir.join("m")).unwrap() == p.new && !dir.join("m.journal").exists(), "{when}");
}

fn killed_before_each_operation(in_place: bool) {
    let p = pair(3, 0, 1);
    for at in 0.. {
        let (_keep, dir) = place(&p);
        let mut child = start(&dir, in_place, at);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(|l| l.ok());
        let line = lines.into_iter().find(|l| l.contains(STOPPED) || l.contains("done")).unwrap();
        let finished = !line.contains(STOPPED);
        if !finished {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        recovers(&dir, &p, in_place, &format!("{line}, operation {at}"));
        if finished {
            assert!(at > 10, "only {at} operations");
            return;
        }
    }
}

#[test]
fn a_switch_killed_before_each_operation() {
    killed_before_each_operation(false);
}

#[test]
fn in_place_killed_before_each_operation() {
    killed_before_each_operation(true);
}

#[test]
fn killed_at_any_moment() {
    let p = pair(40, 0, 1);
    let mut random = crate::disk::Random::new(11);
    for n in 0..30 {
        let (_keep, dir) = place(&p);
        let in_place = n % 3 != 0;
        let mut child = start(&dir, in_place, usize::MAX);
        std::thread::sleep(Duration::from_micros(random.below(40_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        recovers(&dir, &p, in_place, &format!("run {n}"));
    }
}
