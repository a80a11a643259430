//! Power cuts: an update is cut before every operation of the disk, what reached the medium is drawn, recovery is cut in the same way, up to
//! three times. Whatever is left must lead to the whole old or the whole new file.

use crate::disk::{Behaviour, Image, Random, Reached, Virtual};
use crate::pairs::{pair, patch, signed, Pair, Says};
use bitnet_convert::delta::apply::{Faults, Options, Outcome, Patch, Report, Site};
use bitnet_convert::delta::state::State;
use bitnet_convert::error::Result;
use bitnet_convert::progress::Silent;
use std::collections::HashSet;
use std::path::Path;

const FILE: &str = "m";
const JOURNAL: &str = "m.journal";
const PATCH: &str = "p";
/// A full patch to the same target.
const FULL: &str = "full";

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Switch,
    InPlace,
    Full,
    BackByPatch,
    BackToPrev,
    Confirm,
}

fn act(disk: &Virtual, step: Step, faults: Faults) -> Result<Report> {
    let o = Options { faults, ..Options::default() };
    let site = Site::lock(disk, Path::new(FILE))?;
    let patch = |name: &str| Patch::open(disk, Path::new(name));
    match step {
        Step::Switch => site.switch(&patch(PATCH)?, &o, &Silent),
        Step::InPlace => site.in_place(&patch(PATCH)?, &o, &Silent),
        Step::Full => site.switch(&patch(FULL)?, &o, &Silent),
        Step::BackByPatch => site.rollback(Some(&patch(PATCH)?), &o, &Silent),
        Step::BackToPrev => site.rollback(None, &o, &Silent),
        Step::Confirm => site.confirm(&Silent),
    }
}

/// Does a step and keeps what is durable then.
fn done(image: &Image, step: Step) -> Image {
    let disk = Virtual::new(image, Behaviour::default());
    act(&disk, step, Faults::default()).unwrap();
    disk.cut(Reached::Nothing, &mut Random::new(0))
}

/// A step that is cut, and what is done then until it works.
#[derive(Clone)]
struct Scenario {
    name: &'static str,
    start: Image,
    step: Step,
    recovery: Step,
    old: Vec<u8>,
    new: Vec<u8>,
    /// What the file is after the recovery.
    goal: Vec<u8>,
    faults: Faults,
    behaviour: Behaviour,
    /// Draws at each operation of the first run, of the recovery, of its recovery.
    draws: [Vec<Reached>; 3],
}

fn draws(prefixes: usize, subsets: usize) -> Vec<Reached> {
    let ends = [Reached::Nothing, Reached::All].into_iter();
    let prefixes = std::iter::repeat_n(Reached::Prefix, prefixes);
    ends.chain(prefixes).chain(std::iter::repeat_n(Reached::Subset, subsets)).collect()
}

fn scenario(name: &'static str, p: &Pair, step: Step, recovery: Step) -> Scenario {
    let mut start = Image::default();
    start.put(FILE, &p.old);
    start.put(PATCH, &p.patch);
    let back = matches!(recovery, Step::BackByPatch | Step::BackToPrev);
    Scenario {
        name,
        start,
        step,
        recovery,
        old: p.old.clone(),
        new: p.new.clone(),
        goal: if back { p.old.clone() } else { p.new.clone() },
        faults: Faults::default(),
        behaviour: Behaviour::default(),
        draws: [draws(7, 7), vec![Reached::Prefix, Reached::Subset], vec![Reached::Subset]],
    }
}

/// What a harness saw.
#[derive(Default)]
struct Seen {
    /// Images that were opened again.
    states: usize,
    /// Those that were not like one before, at the same depth.
    different: HashSet<(usize, u64)>,
    failures: Vec<String>,
}

impl Seen {
    fn fail(&mut self, s: &Scenario, depth: usize, what: String) {
        if self.failures.len() < 10 {
            self.failures.push(format!("{} (cut {depth} times): {what}", s.name));
        }
    }

    /// The run from `start`, cut everywhere.
    fn run(&mut self, s: &Scenario, seed: u64) {
        let disk = Virtual::new(&s.start, s.behaviour.clone());
        disk.collect(&s.draws[0], seed);
        let first = act(&disk, s.step, s.faults);
        self.ended(s, &disk, first.is_ok() && s.step == s.recovery);
        if first.is_err() {
            // Without a cut between: the cache may lie about what a failed sync lost. A disk may fail once, or be full for good.
            disk.collect(&s.draws[1], seed + 1);
            let second = act(&disk, s.recovery, s.faults);
            self.ended(s, &disk, second.is_ok());
        }
    }

    /// The images of a run that has ended, well or not.
    fn ended(&mut self, s: &Scenario, disk: &Virtual, well: bool) {
        for image in disk.collected() {
            self.reopened(s, &image, 1);
        }
        if well {
            if let Err(what) = self.settled(s, &disk.cut(Reached::Nothing, &mut Random::new(0))) {
                self.fail(s, 0, what);
            }
        }
    }

    fn reopened(&mut self, s: &Scenario, image: &Image, depth: usize) {
        self.states += 1;
        let hash = image.hash();
        if !self.different.insert((depth, hash)) {
            return;
        }
        if let Err(what) = whole(s, image) {
            return self.fail(s, depth, what);
        }
        let disk = Virtual::new(image, Behaviour { sector: s.behaviour.sector, ..Behaviour::default() });
        if let Some(draws) = s.draws.get(depth) {
            disk.collect(draws, hash);
        }
        match act(&disk, s.recovery, s.faults) {
            Err(e) => return self.fail(s, depth, format!("recovery: {e}")),
            Ok(r) if r.to.sha256 != bitnet_convert::digest::sha256(&s.goal) => {
                return self.fail(s, depth, format!("recovery leads to {:?}", r.to));
            }
            Ok(_) => {}
        }
        let cuts = disk.collected();
        let settled = disk.cut(Reached::Nothing, &mut Random::new(0));
        if let Err(what) = self.settled(s, &settled) {
            return self.fail(s, depth, what);
        }
        for image in cuts {
            self.reopened(s, &image, depth + 1);
        }
    }

    fn settled(&mut self, s: &Scenario, image: &Image) -> std::result::Result<(), String> {
        whole(s, image)?;
        if image.get(FILE) != Some(&s.goal[..]) || image.get(JOURNAL).is_some() {
            return Err("done, but not durable".to_string());
        }
        let disk = Virtual::new(image, Behaviour::default());
        let again = act(&disk, s.recovery, s.faults).map_err(|e| format!("a second time: {e}"))?;
        if again.outcome != Outcome::NothingToDo || !disk.log().is_empty() {
            return Err(format!("a second time it does something: {:?}, {:?}", again.outcome, disk.log()));
        }
        Ok(())
    }
}

/// What holds of every image: without a journal the file is the old or the new one, and the state can be read and knows it.
fn whole(s: &Scenario, image: &Image) -> std::result::Result<(), String> {
    let disk = Virtual::new(image, Behaviour::default());
    let state = State::load(&disk, Path::new(FILE)).map_err(|e| e.to_string())?;
    if image.get(JOURNAL).is_some() {
        return Ok(());
    }
    let file = image.get(FILE).ok_or("the file is gone")?;
    if file != &s.old[..] && file != &s.new[..] {
        return Err("the file is neither the old nor the new one".to_string());
    }
    let known = state.as_ref().is_some_and(|s| s.find(&bitnet_convert::digest::sha256(file)).is_some());
    match known || (state.is_none() && file == &s.old[..]) {
        true => Ok(()),
        false => Err("the state does not know the file".to_string()),
    }
}

/// Every way to update, small enough that each block is a record, and that all are.
fn scenarios() -> Vec<Scenario> {
    let p = pair(3, 0, 1);
    let one = Faults { group: Some(1), ..Faults::default() };
    let mut all = vec![
        scenario("switch", &p, Step::Switch, Step::Switch),
        scenario("in place", &p, Step::InPlace, Step::InPlace),
        Scenario { faults: one, ..scenario("in place, one block at a time", &p, Step::InPlace, Step::InPlace) },
        scenario("in place, then back", &p, Step::InPlace, Step::BackByPatch),
        scenario("in place, then a full patch", &p, Step::InPlace, Step::Full),
        Scenario { faults: one, ..scenario("longer", &pair(2, 5000, 2), Step::InPlace, Step::InPlace) },
        Scenario { faults: one, ..scenario("shorter", &pair(3, -5000, 3), Step::InPlace, Step::InPlace) },
        scenario("switch, longer", &pair(2, 5000, 4), Step::Switch, Step::Switch),
    ];
    let full = patch(p.old.clone(), p.new.clone(), &Says { full: true, ..Says::default() }).patch;
    all[4].start.put(FULL, &full);

    // The second update of a file: there is a state, and an older version is kept.
    let older = Pair { old: pair(3, 0, 9).old, ..pair(3, 0, 9) };
    let first = patch(older.old, p.old.clone(), &Says { base: 0, target: 1, ..Says::default() });
    let mut before = scenario("", &first, Step::Switch, Step::Switch).start;
    before = done(&done(&before, Step::Switch), Step::Confirm);
    before.put(PATCH, &p.patch);
    let with = |start: &Image, s: Scenario| Scenario { start: start.clone(), ..s };
    all.push(with(&before, scenario("second switch", &p, Step::Switch, Step::Switch)));
    all.push(with(&before, scenario("second, in place", &p, Step::InPlace, Step::InPlace)));
    // A cut switch may leave two names of one file.
    all.push(with(&before, scenario("switch, then in place", &p, Step::Switch, Step::InPlace)));

    let switched = done(&before, Step::Switch);
    let placed = done(&before, Step::InPlace);
    all.push(with(&switched, scenario("confirm", &p, Step::Confirm, Step::Confirm)));
    all.push(with(&switched, scenario("back to what was kept", &p, Step::BackToPrev, Step::BackToPrev)));
    all.push(with(&placed, scenario("back by the patch", &p, Step::BackByPatch, Step::BackByPatch)));
    all.push(with(&placed, scenario("back, then forward again", &p, Step::BackByPatch, Step::InPlace)));
    all
}

#[test]
fn every_cut_leaves_the_old_or_the_new_file() {
    let mut total = 0;
    for (i, s) in scenarios().into_iter().enumerate() {
        for sector in [512, 4096] {
            let behaviour = Behaviour { sector, ..Behaviour::default() };
            let mut seen = Seen::default();
            let s = Scenario { behaviour, ..s.clone() };
            seen.run(&s, i as u64);
            assert_eq!(seen.failures, [] as [String; 0]);
            total += seen.states;
        }
    }
    assert!(total >= 100_000, "only {total} states");
}

/// A few draws are enough where the same is done many times.
fn fewer(s: Scenario) -> Scenario {
    Scenario { draws: [draws(2, 2), vec![Reached::Subset], vec![]], ..s }
}

fn one_block_at_a_time() -> Scenario {
    let all = scenarios();
    all.into_iter().find(|s| s.name == "in place, one block at a time").unwrap()
}

#[test]
fn planted_bugs_are_found() {
    let good = one_block_at_a_time();
    let plant = |name: &str, faults: Faults| {
        let mut seen = Seen::default();
        let faults = Faults { group: Some(1), ..faults };
        seen.run(&Scenario { faults, draws: [draws(4, 4), vec![Reached::Subset], vec![]], ..good.clone() }, 5);
        assert!(!seen.failures.is_empty(), "nobody notices: {name}");
    };
    plant("no journal", Faults { no_journal: true, ..Faults::default() });
    plant("journal not synced", Faults { journal_not_synced: true, ..Faults::default() });
    plant("data not synced", Faults { data_not_synced: true, ..Faults::default() });
    plant("resumed without digests", Faults { resume_without_digests: true, ..Faults::default() });
    plant("journal not checked", Faults { journal_not_checked: true, ..Faults::default() });
}

#[test]
fn a_sync_that_fails_is_not_believed_the_second_time() {
    for s in scenarios() {
        let disk = Virtual::new(&s.start, Behaviour::default());
        act(&disk, s.step, s.faults).unwrap();
        for n in 0..disk.syncs() {
            let s =
                fewer(Scenario { behaviour: Behaviour { failing_sync: Some(n), ..Behaviour::default() }, ..s.clone() });
            let disk = Virtual::new(&s.start, s.behaviour.clone());
            let e = act(&disk, s.step, s.faults).map(|r| r.outcome).expect_err(s.name);
            assert!(e.to_string().contains("the disk does not answer"), "{}: {e}", s.name);
            let mut seen = Seen::default();
            seen.run(&s, n as u64);
            assert_eq!(seen.failures, [] as [String; 0], "sync {n}");
        }
    }
}

#[test]
fn a_full_disk_harms_nothing() {
    for s in scenarios() {
        let disk = Virtual::new(&s.start, Behaviour::default());
        act(&disk, s.step, s.faults).unwrap();
        for n in 0..disk.writes() {
            let s =
                fewer(Scenario { behaviour: Behaviour { full_from: Some(n), ..Behaviour::default() }, ..s.clone() });
            let disk = Virtual::new(&s.start, s.behaviour.clone());
            let e = act(&disk, s.step, s.faults).map(|r| r.outcome).expect_err(s.name);
            assert_eq!(e.kind(), bitnet_convert::error::Kind::Io, "{}: {e}", s.name);
            let mut seen = Seen::default();
            seen.run(&s, n as u64);
            assert_eq!(seen.failures, [] as [String; 0], "write {n}");
        }
    }
}

#[test]
fn short_and_interrupted_writes_are_finished() {
    for s in scenarios() {
        let disk = Virtual::new(&s.start, Behaviour { short: Some(1000), no_links: true, ..Behaviour::default() });
        act(&disk, s.step, s.faults).unwrap();
        act(&disk, s.recovery, s.faults).unwrap();
        assert!(disk.see(FILE) == Some(s.goal), "{}", s.name);
    }
}

/// Bits flipped in base and patch before the start: refused before anything is written.
#[test]
fn damage_before_the_start_is_found_before_the_first_write() {
    let (p, keys) = signed(pair(3, 0, 1));
    let o = Options { keys, ..Options::default() };
    let s = scenario("damage", &p, Step::Switch, Step::Switch);
    let flips = |len: usize| (0..8 * len).step_by(8 * 61 + 1);
    let files = [(FILE, p.old.len()), (PATCH, p.patch.len())];
    for (name, bit) in files.into_iter().flat_map(|(name, len)| flips(len).map(move |bit| (name, bit))) {
        let mut image = s.start.clone();
        image.flip(name, bit);
        let disk = Virtual::new(&image, Behaviour::default());
        let site = Site::lock(&disk, Path::new(FILE)).unwrap();
        let patch = Patch::open(&disk, Path::new(PATCH));
        for in_place in [false, true] {
            let r =
                patch
                    .as_ref()
                    .map(|p| if in_place { site.in_place(p, &o, &Silent) } else { site.switch(p, &o, &Silent) });
            assert!(!matches!(r, Ok(Ok(_))), "bit {bit} of {name}");
        }
        assert_eq!(disk.log(), [] as [String; 0], "bit {bit} of {name}");
    }
}

/// Bits flipped in file, patch and journal between a cut and the next start: never a wrong file that passes for a good one.
fn damage_between(faults: Faults) -> usize {
    let s = one_block_at_a_time();
    let disk = Virtual::new(&s.start, Behaviour::default());
    disk.collect(&[Reached::Prefix, Reached::Subset], 1);
    act(&disk, Step::InPlace, s.faults).unwrap();
    let mut random = Random::new(7);
    let mut wrong = 0;
    for image in disk.collected().into_iter().filter(|i| i.get(JOURNAL).is_some()) {
        for name in [FILE, FILE, FILE, PATCH, JOURNAL, JOURNAL] {
            let mut image = image.clone();
            image.flip(name, random.below(8 * image.get(name).unwrap().len()));
            let disk = Virtual::new(&image, Behaviour::default());
            let r = act(&disk, Step::InPlace, faults);
            wrong += usize::from(r.is_ok() && disk.see(FILE) != Some(s.new.clone()));
        }
    }
    wrong
}

#[test]
fn damage_between_two_runs_is_found() {
    assert_eq!(damage_between(Faults::default()), 0);
}

#[test]
fn without_the_check_at_the_end_damage_would_pass() {
    assert!(damage_between(Faults { no_final_check: true, ..Faults::default() }) > 0);
}

#[test]
fn the_order_of_a_switch() {
    let s = scenario("order", &pair(2, 0, 1), Step::Switch, Step::Switch);
    let disk = Virtual::new(&s.start, Behaviour::default());
    act(&disk, Step::Switch, Faults::default()).unwrap();
    let order = [
        "create m.new",
        "write m.new",
        "write m.new",
        "sync m.new",
        "link m m.prev.new",
        "rename m.prev.new m.prev",
        "create m.state.new",
        "write m.state.new",
        "sync m.state.new",
        "rename m.state.new m.state",
        "sync folder",
        "rename m.new m",
        "sync folder",
    ];
    assert_eq!(disk.log(), order);
}

#[test]
fn the_order_in_place() {
    let s = scenario("order", &pair(3, 0, 1), Step::InPlace, Step::InPlace);
    let disk = Virtual::new(&s.start, Behaviour::default());
    act(&disk, Step::InPlace, Faults { group: Some(1), ..Faults::default() }).unwrap();
    let record = ["write m.journal", "write m.journal", "sync m.journal", "write m", "sync m"];
    let mut order = vec!["create m.journal.new"];
    order.extend([
        "create m.state.new",
        "write m.state.new",
        "sync m.state.new",
        "rename m.state.new m.state",
        "sync folder",
    ]);
    order.extend(["write m.journal.new", "write m.journal.new", "sync m.journal.new"]);
    order.extend(["rename m.journal.new m.journal", "sync folder"]);
    // The second block does not change.
    order.extend(record);
    order.extend(record);
    order.extend(["remove m.journal", "sync folder"]);
    assert_eq!(disk.log(), order);
}
