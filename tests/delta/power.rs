//! Power cuts: an update is cut before every operation of the disk, what reached the medium is drawn, recovery is cut in the same way, up to
//! three times. Whatever is left must lead to the whole old or the whole new file.

use crate::disk::{Behaviour, Image, Random, Reached, Virtual};
use crate::pairs::{pair, patch, Pair, Says};
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
        draws: [draws(11, 11), vec![Reached::Prefix, Reached::Subset], vec![Reached::Subset]],
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
        if self.failures.len() < 1000 {
            self.failures.push(format!("{} (cut {depth} times): {what}", s.name));
        }
    }

    /// The run from `start`, cut everywhere.
    fn run(&mut self, s: &Scenario, seed: u64) {
        let disk = Virtual::new(&s.start, s.behaviour.clone());
        disk.collect(&s.draws[0], seed);
        // An error is one that the behaviour of the disk asks for.
        let _ = act(&disk, s.step, s.faults);
        for image in disk.collected() {
            self.reopened(s, &image, 1);
        }
        if s.behaviour.failing_sync.is_some() {
            // The system runs on with a cache that lies; the next try is cut too.
            disk.collect(&s.draws[1], seed + 1);
            let _ = act(&disk, s.recovery, s.faults);
            for image in disk.collected() {
                self.reopened(s, &image, 1);
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
            let t = std::time::Instant::now();
            seen.run(&s, i as u64);
            eprintln!(
                "{} {sector}: {} states, {} different {:?}",
                s.name,
                seen.states,
                seen.different.len(),
                t.elapsed()
            );
            assert!(seen.failures.is_empty(), "{} failures, the first: {:?}", seen.failures.len(), &seen.failures[..1]);
            total += seen.states;
        }
    }
    assert!(total >= 100_000, "only {total} states");
}
