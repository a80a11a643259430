//! Power cuts: one update is recorded operation by operation; then the power goes in each of them, in several ways, and again while the device
//! recovers. At every start the device must know which model it has, that model must be whole, and what was promised must hold.

use super::device::{Applier, Device, Layout, ALREADY, BUSY, IDLE, OK, RUN, TRIAL};
use super::nor::Nor;
use super::patch;
use super::rng::Rng;

pub const FROM: u64 = 3;
pub const TO: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    /// Apply, then confirm.
    Confirm,
    /// Apply, then go back.
    Back,
}

/// What the application has seen so far, and may rely on.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    applied: bool,
    asked_back: bool,
    back: bool,
    accepted: u64,
}

pub struct Case {
    pub layout: Layout,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
    pub patch: Vec<u8>,
}

pub enum End {
    Cut,
    Bad(String),
}

impl Case {
    /// `blocks` of 4 KiB and a bit, of which every third one does not change.
    pub fn new(slots: u32, erase_log2: u32, grain: u32, cached: bool, blocks: usize) -> Case {
        let mut rng = Rng(u64::from(erase_log2) << 8 | u64::from(grain));
        let bytes = blocks * 4096 - 1001;
        let old: Vec<u8> = (0..bytes).map(|_| rng.byte()).collect();
        let mut new = old.clone();
        for at in (0..bytes).step_by(4096).filter(|at| at / 4096 % 3 != 1) {
            for k in 0..20 {
                new[at + 7 * k] ^= 1 << (k % 8);
            }
        }
        let patch = patch::patch(&old, &new, patch::IN_PLACE | patch::REVERSIBLE, (FROM, TO), 12);
        let layout = Layout {
            slots,
            erase_log2,
            grain,
            slot_bytes: bytes as u32,
            patch_bytes: patch.len() as u32,
            journal_bytes: 4096.max(1 << erase_log2),
            cached,
        };
        Case { layout, old, new, patch }
    }

    pub fn factory(&self) -> Nor {
        let mut nor = self.layout.flash();
        nor.put(0, &self.old);
        nor.put(self.layout.patch(), &self.patch);
        nor
    }
}

/// What is true after every start.
fn look(d: &mut Device, case: &Case, seen: &Seen) -> Result<(), String> {
    let (st, slot) = d.active(0);
    let s = d.state();
    let image = case.layout.slot(slot);
    let (old, new) = (d.nor.holds(image, &case.old), d.nor.holds(image, &case.new));
    if s.accepted < seen.accepted {
        return Err(format!("the sequence fell from {} to {}", seen.accepted, s.accepted));
    }
    match (s.state, st) {
        (RUN, BUSY) if case.layout.slots == 1 && s.dirty == 1 => {}
        (RUN, OK) if s.back == 0 && old => {}
        (RUN, OK) if s.back == 1 && new => {}
        (IDLE, OK) if s.accepted >= TO && new => {}
        (IDLE, OK) if s.accepted < TO && old => {}
        (TRIAL, OK) if new => {}
        _ => return Err(format!("answers {st}, but slot {slot} holds {}: {s:?}", what(old, new))),
    }
    if seen.applied && !seen.asked_back && s.state != TRIAL && s.accepted < TO {
        return Err(format!("the update that was done is undone: {s:?}"));
    }
    if seen.back && s.state != IDLE {
        return Err(format!("the way back that was done is undone: {s:?}"));
    }
    Ok(())
}

fn what(old: bool, new: bool) -> &'static str {
    match (old, new) {
        (true, _) => "the old model",
        (_, true) => "the new model",
        _ => "neither model",
    }
}

/// One start, and what the application does then: it works towards the goal until it is reached or the power goes.
fn start(d: &mut Device, case: &Case, goal: Goal, seen: &mut Seen, marks: &mut Vec<(usize, Seen)>) -> Result<(), End> {
    let result = live(d, case, goal, seen, marks);
    if let Some(misuse) = d.nor.misuse.take() {
        return Err(End::Bad(misuse));
    }
    match result {
        Err(_) if d.nor.dead => Err(End::Cut),
        Err(text) => Err(End::Bad(text)),
        Ok(()) if d.nor.dead => Err(End::Cut),
        Ok(()) => Ok(()),
    }
}

fn live(
    d: &mut Device,
    case: &Case,
    goal: Goal,
    seen: &mut Seen,
    marks: &mut Vec<(usize, Seen)>,
) -> Result<(), String> {
    let mut mark = |d: &Device, seen: &Seen| marks.push((d.nor.log.as_ref().map_or(0, Vec::len), *seen));
    let must = |st: u32, what: &str| if st == OK { Ok(()) } else { Err(format!("{what}: {st}")) };
    must(d.open(), "open")?;
    look(d, case, seen)?;
    seen.accepted = d.state().accepted;
    let s = d.state();
    if seen.back || s.accepted >= TO {
        return Ok(());
    }
    if seen.asked_back && s.state == IDLE {
        seen.back = true;
        return Ok(());
    }
    if s.state != TRIAL && s.back == 0 {
        must(d.apply(), "apply")?;
        seen.applied = true;
        mark(d, seen);
        look(d, case, seen)?;
        let before = d.nor.operations;
        let again = d.apply();
        if again != ALREADY || d.nor.operations != before {
            return Err(format!("applied twice: {again}, {} operations", d.nor.operations - before));
        }
    }
    match goal {
        Goal::Confirm => {
            must(d.confirm(), "confirm")?;
            seen.accepted = TO;
        }
        Goal::Back => {
            seen.applied = true;
            seen.asked_back = true;
            mark(d, seen);
            let st = if s.back == 1 { d.apply() } else { d.rollback() };
            must(st, "rollback")?;
            seen.back = true;
        }
    }
    mark(d, seen);
    look(d, case, seen)
}

/// Cuts every `stride`-th operation of an update in `draws` ways, the recoveries up to twice more. The number of starts after a cut.
pub fn sweep(applier: &Applier, case: &Case, goal: Goal, stride: usize, draws: u64) -> Result<u64, String> {
    let mut nor = case.factory();
    nor.log = Some(Vec::new());
    let mut d = Device::new(applier, &case.layout, nor);
    let mut marks = vec![(0, Seen::default())];
    let mut seen = Seen::default();
    match start(&mut d, case, goal, &mut seen, &mut marks) {
        Ok(()) => {}
        Err(End::Cut) => return Err("no cut was asked for".into()),
        Err(End::Bad(text)) => return Err(format!("without a cut: {text}")),
    }
    let log = d.nor.log.take().unwrap_or_default();
    let mut tape = case.factory();
    let mut starts = 0;
    for (k, event) in log.iter().enumerate() {
        let at = marks.iter().rfind(|(n, _)| *n <= k).map_or_else(Seen::default, |m| m.1);
        if !matches!(event, super::nor::Event::Sync) && k % stride == 0 {
            for draw in 0..draws {
                let mut nor = tape.clone();
                nor.rng = Rng(k as u64 * 1000 + draw);
                nor.tear(event);
                recover(applier, case, goal, nor, at, &mut starts).map_err(|e| {
                    format!("{:?} {goal:?}, operation {k} of {}, draw {draw}: {e}", case.layout, log.len())
                })?;
            }
        }
        tape.play(event);
    }
    Ok(starts)
}

fn recover(a: &Applier, case: &Case, goal: Goal, mut nor: Nor, mut seen: Seen, starts: &mut u64) -> Result<(), String> {
    for depth in 0..4 {
        nor.power_on();
        // soon, as a rule: the first operations of a recovery are those that matter
        let choice = nor.rng.below(4);
        let soon = nor.rng.below(if choice == 0 { 800 } else { 40 });
        nor.left = (depth < 3 && choice != 3).then_some(soon);
        *starts += 1;
        let mut d = Device::new(a, &case.layout, nor);
        match start(&mut d, case, goal, &mut seen, &mut Vec::new()) {
            Ok(()) => return Ok(()),
            Err(End::Cut) => nor = *d.nor,
            Err(End::Bad(text)) => return Err(format!("start {depth}: {text}")),
        }
    }
    Err("does not end".into())
}
