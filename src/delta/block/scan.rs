//! What changes in a block: the events that its streams tell, in the order in which they tell them.

use super::trits::{digits, load, Word, INVALID, ZEROS};
use crate::error::{Error, Result};

/// A symbol that changes. There may be one for each bit of a block, so they are kept small.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Gap in 24 bits, which is more than a block has symbols; class above it; flag at the top.
    head: u32,
    /// Classes 3 to 5: by how much it changes, in steps.
    pub value: u32,
}

impl Event {
    fn new(class: usize, flag: bool, value: u32) -> Event {
        Event { head: (class as u32) << 24 | u32::from(flag) << 31, value }
    }

    /// Symbols of its class between it and the next event of the class, or the end of the block.
    #[inline(always)]
    pub fn gap(self) -> u64 {
        u64::from(self.head & 0xff_ffff)
    }

    #[inline(always)]
    pub fn class(self) -> usize {
        (self.head >> 24 & 7) as usize
    }

    /// Class 1: becomes -1; 2: becomes its negative; 3 to 5: becomes smaller.
    #[inline(always)]
    pub fn flag(self) -> bool {
        self.head >> 31 == 1
    }
}

/// Collects the events of a block.
#[derive(Default)]
pub struct Scan {
    pub events: Vec<Event>,
    /// Symbols of each class before its first event, or in the block if there is none.
    pub first: [u32; 6],
    pub symbols: [u64; 6],
    pub changes: [u64; 6],
    /// Symbols since the last event of the class.
    run: [u32; 6],
    last: [Option<usize>; 6],
}

fn different(what: &str) -> Error {
    Error::usage(format!("a segment cannot say what changes in it: {what}"))
}

impl Scan {
    fn close(&mut self, class: usize) {
        let run = std::mem::take(&mut self.run[class]);
        self.symbols[class] += u64::from(run);
        match self.last[class] {
            None => self.first[class] = run,
            Some(i) => self.events[i].head |= run,
        }
    }

    fn change(&mut self, class: usize, flag: bool, value: u32) {
        self.close(class);
        self.symbols[class] += 1;
        self.changes[class] += 1;
        self.last[class] = Some(self.events.len());
        self.events.push(Event::new(class, flag, value));
    }

    /// The block ends.
    pub fn finish(&mut self) {
        (0..6).for_each(|class| self.close(class));
    }

    pub fn bits(&mut self, old: &[u8], new: &[u8]) {
        for (old, new) in old.chunks(8).zip(new.chunks(8)) {
            let mut x = load(old) ^ load(new);
            let mut at = 0;
            while x != 0 {
                let i = x.trailing_zeros();
                self.run[0] += i - at;
                self.change(0, false, 0);
                at = i + 1;
                x &= x - 1;
            }
            self.run[0] += 8 * old.len() as u32 - at;
        }
    }

    /// A row of trits in planes.
    ///
    /// # Errors
    /// `Usage` if a trit becomes an invalid code, or leaves one for anything else than 0.
    pub fn planes(&mut self, half: usize, old: &[u8], new: &[u8]) -> Result<()> {
        let ((old_plus, old_minus), (new_plus, new_minus)) = (old.split_at(half), new.split_at(half));
        let words = old_plus.chunks(8).zip(old_minus.chunks(8)).zip(new_plus.chunks(8).zip(new_minus.chunks(8)));
        for ((op, om), (np, nm)) in words {
            let bytes = op.len();
            let (op, om, np, nm) = (load(op), load(om), load(np), load(nm));
            let mut word = Word::new(op, om, bytes);
            let mut changed = (op ^ np) | (om ^ nm);
            while changed != 0 {
                let i = changed.trailing_zeros();
                changed &= changed - 1;
                let (before, behind) = word.split(i);
                self.pass(before);
                word = behind;
                let at = |v: u64| v >> i & 1;
                match (at(op), at(om), at(np), at(nm)) {
                    (_, _, 1, 1) => return Err(different("a trit becomes an invalid code")),
                    (0, 0, _, minus) => self.change(1, minus == 1, 0),
                    (_, _, 0, 0) => self.change(2, false, 0),
                    (1, 1, _, _) => return Err(different("a trit was an invalid code")),
                    _ => self.change(2, true, 0),
                }
            }
            self.pass(word);
        }
        Ok(())
    }

    fn pass(&mut self, word: Word) {
        let (zeros, others) = word.counts();
        self.run[1] += zeros as u32;
        self.run[2] += others as u32;
    }

    /// Bytes of five trits.
    ///
    /// # Errors
    /// `Usage` if there are bytes that are no codes.
    pub fn fives(&mut self, old: &[u8], new: &[u8]) -> Result<()> {
        for (old, new) in old.chunks(8).zip(new.chunks(8)) {
            let zeros = |bytes: &[u8]| bytes.iter().map(|b| ZEROS[usize::from(*b)]).sum::<u16>();
            let unchanged = zeros(old);
            if unchanged >= INVALID || (old != new && zeros(new) >= INVALID) {
                return Err(different("a byte of trits is an invalid code"));
            }
            if old == new {
                self.run[1] += u32::from(unchanged);
                self.run[2] += 5 * old.len() as u32 - u32::from(unchanged);
                continue;
            }
            for (old, new) in old.iter().zip(new) {
                if old == new {
                    let zeros = u32::from(ZEROS[usize::from(*old)]);
                    self.run[1] += zeros;
                    self.run[2] += 5 - zeros;
                    continue;
                }
                for (old, new) in digits(*old).into_iter().zip(digits(*new)) {
                    let class = if old == 1 { 1 } else { 2 };
                    match (old, new) {
                        _ if old == new => self.run[class] += 1,
                        (1, _) => self.change(1, new == 0, 0),
                        _ => self.change(2, new != 1, 0),
                    }
                }
            }
        }
        Ok(())
    }

    /// Integers of `W` bytes.
    ///
    /// # Errors
    /// `Usage` if one changes by something else than a multiple of 2^`shift`.
    pub fn integers<const W: usize>(&mut self, shift: u8, old: &[u8], new: &[u8]) -> Result<()> {
        let class = 3 + W.trailing_zeros() as usize;
        for (old, new) in old.chunks(8).zip(new.chunks(8)) {
            if old == new {
                self.run[class] += (old.len() / W) as u32;
                continue;
            }
            for (old, new) in old.chunks(W).zip(new.chunks(W)) {
                let unused = 32 - 8 * W as u32;
                let step = (load(new) as u32).wrapping_sub(load(old) as u32) << unused;
                if step == 0 {
                    self.run[class] += 1;
                    continue;
                }
                let step = step as i32 >> unused;
                if step.trailing_zeros() < u32::from(shift) {
                    return Err(different("an integer changes by no multiple of its step"));
                }
                self.change(class, step < 0, step.unsigned_abs() >> shift);
            }
        }
        Ok(())
    }
}
