//! A NOR flash: programming clears bits, erasing sets a whole unit, and a power cut leaves anything of the operation that it hits, also bits that
//! read one way now and another way the next time. A write-back cache may sit before it: what was not synchronised is lost in part.

use super::rng::Rng;
use std::ops::Range;

#[derive(Clone, Debug)]
pub enum Event {
    Erase(usize),
    /// One program unit.
    Program(usize, Vec<u8>),
    Sync,
}

/// Bytes, and which of their bits read as they like.
#[derive(Clone)]
struct Cells {
    bytes: Vec<u8>,
    noise: Vec<u8>,
}

#[derive(Clone)]
pub struct Nor {
    cells: Cells,
    /// With a cache: what is certainly in the flash, and what is on its way.
    behind: Option<(Cells, Vec<Event>)>,
    pub erase_bytes: usize,
    pub grain: usize,
    writable: Vec<Range<usize>>,
    /// Where noise may be.
    noisy: Range<usize>,
    /// Operations until the power goes.
    pub left: Option<u64>,
    pub dead: bool,
    pub operations: u64,
    pub log: Option<Vec<Event>>,
    pub rng: Rng,
    /// What no driver may do to a flash.
    pub misuse: Option<String>,
}

impl Cells {
    fn apply(&mut self, event: &Event, unit: usize) {
        match event {
            Event::Erase(at) => {
                self.bytes[*at..at + unit].fill(0xff);
                self.noise[*at..at + unit].fill(0);
            }
            Event::Program(at, data) => {
                for (i, d) in data.iter().enumerate() {
                    self.bytes[at + i] &= d;
                    self.noise[at + i] = 0;
                }
            }
            Event::Sync => {}
        }
    }

    fn tear(&mut self, event: &Event, unit: usize, rng: &mut Rng) {
        match event {
            Event::Erase(at) => {
                let style = rng.below(7);
                let cut = at + rng.below(unit as u64) as usize;
                for i in *at..at + unit {
                    let (r, n) = (rng.byte(), rng.byte());
                    let (b, m) = (&mut self.bytes[i], &mut self.noise[i]);
                    match style {
                        0 => {}
                        1 => *b |= r,
                        2 => (*b, *m) = (0xff, r & n),
                        3 => (*b, *m) = (r, n),
                        4 => (*b, *m) = (*b | (r & n & rng.byte()), 0xff),
                        5 if i < cut => (*b, *m) = (0xff, 0),
                        6 => *m |= !*b & r,
                        _ => {}
                    }
                }
            }
            Event::Program(at, data) => {
                let style = rng.below(5);
                for (i, d) in data.iter().enumerate() {
                    let clear = self.bytes[at + i] & !d;
                    let r = rng.byte();
                    let (b, m) = (&mut self.bytes[at + i], &mut self.noise[at + i]);
                    match style {
                        0 => {}
                        1 => *b &= !(clear & r),
                        2 => (*b, *m) = (*b & !(clear & r), clear & !r),
                        // all but done: a few bits waver
                        3 => {
                            let waver = clear & r & rng.byte() & rng.byte() & rng.byte();
                            (*b, *m) = (*b & !(clear & !waver), waver);
                        }
                        _ => *b &= !clear,
                    }
                }
            }
            Event::Sync => {}
        }
    }
}

impl Nor {
    pub fn new(bytes: usize, erase_bytes: usize, grain: usize, writable: Vec<Range<usize>>, cached: bool) -> Nor {
        let cells = Cells { bytes: vec![0xff; bytes], noise: vec![0; bytes] };
        let behind = cached.then(|| (cells.clone(), Vec::new()));
        Nor {
            cells,
            behind,
            erase_bytes,
            grain,
            writable,
            noisy: 0..0,
            left: None,
            dead: false,
            operations: 0,
            log: None,
            rng: Rng(1),
            misuse: None,
        }
    }

    /// From outside: what the factory or a download put there.
    pub fn put(&mut self, at: usize, data: &[u8]) {
        self.cells.bytes[at..at + data.len()].copy_from_slice(data);
        if let Some((behind, _)) = &mut self.behind {
            behind.bytes[at..at + data.len()].copy_from_slice(data);
        }
    }

    pub fn flip(&mut self, at: usize, bit: u32) {
        let b = self.cells.bytes[at] ^ 1 << bit;
        self.put(at, &[b]);
    }

    /// Whether these bytes stand there, and surely.
    pub fn holds(&self, at: usize, data: &[u8]) -> bool {
        self.cells.bytes[at..at + data.len()] == *data && self.cells.noise[at..at + data.len()].iter().all(|n| *n == 0)
    }

    pub fn read(&mut self, at: usize, out: &mut [u8]) -> bool {
        if self.dead || at + out.len() > self.cells.bytes.len() {
            return false;
        }
        out.copy_from_slice(&self.cells.bytes[at..at + out.len()]);
        if at < self.noisy.end && self.noisy.start < at + out.len() {
            for (o, n) in out.iter_mut().zip(&self.cells.noise[at..]) {
                if *n != 0 {
                    *o ^= n & self.rng.byte();
                }
            }
        }
        true
    }

    pub fn program(&mut self, at: usize, data: &[u8]) -> bool {
        if !at.is_multiple_of(self.grain) || !data.len().is_multiple_of(self.grain) {
            self.misuse = Some(format!("programs {} bytes at {at:#x}, units have {}", data.len(), self.grain));
        }
        if !self.dead && self.cells.bytes[at..at + data.len()].iter().any(|b| *b != 0xff) {
            self.misuse = Some(format!("programs {at:#x} twice"));
        }
        let units = (data.len() / self.grain) as u64;
        if self.log.is_none() && self.left.is_none_or(|left| left >= units) {
            // nobody looks at its units
            self.operations += units - 1;
            self.left = self.left.map(|left| left - (units - 1));
            return self.operate(at, Event::Program(at, data.to_vec()));
        }
        for (i, unit) in data.chunks(self.grain).enumerate() {
            let at = at + i * self.grain;
            if !self.operate(at, Event::Program(at, unit.to_vec())) {
                return false;
            }
        }
        true
    }

    pub fn erase(&mut self, at: usize) -> bool {
        if !at.is_multiple_of(self.erase_bytes) {
            self.misuse = Some(format!("erases at {at:#x}"));
        }
        self.operate(at, Event::Erase(at))
    }

    fn operate(&mut self, at: usize, event: Event) -> bool {
        if self.dead {
            return false;
        }
        if !self.writable.iter().any(|w| w.contains(&at)) {
            self.misuse = Some(format!("writes at {at:#x}"));
        }
        self.operations += 1;
        match &mut self.left {
            Some(0) => {
                self.tear(&event);
                return false;
            }
            Some(n) => *n -= 1,
            None => {}
        }
        self.play(&event);
        if let Some(log) = &mut self.log {
            log.push(event);
        }
        true
    }

    pub fn sync(&mut self) -> bool {
        if self.dead {
            return false;
        }
        self.play(&Event::Sync);
        if let Some(log) = &mut self.log {
            log.push(Event::Sync);
        }
        true
    }

    /// Does what a log says.
    pub fn play(&mut self, event: &Event) {
        self.cells.apply(event, self.erase_bytes);
        if let Some((behind, waiting)) = &mut self.behind {
            if matches!(event, Event::Sync) {
                waiting.drain(..).for_each(|e| behind.apply(&e, self.erase_bytes));
            } else {
                waiting.push(event.clone());
            }
        }
    }

    /// The power goes during an operation.
    pub fn tear(&mut self, event: &Event) {
        self.dead = true;
        self.noisy = 0..self.cells.noise.len();
        let Some((mut cells, waiting)) = self.behind.take() else {
            self.cells.tear(event, self.erase_bytes, &mut self.rng);
            return;
        };
        // all, none, or some of what was on its way
        let style = self.rng.below(3);
        let mut torn = style == 0;
        for e in &waiting {
            match if style == 2 { self.rng.below(4) } else { style } {
                0 | 1 => cells.apply(e, self.erase_bytes),
                2 => torn = true,
                _ => cells.tear(e, self.erase_bytes, &mut self.rng),
            }
            if style == 1 {
                break;
            }
        }
        if torn || waiting.is_empty() {
            cells.tear(event, self.erase_bytes, &mut self.rng);
        }
        self.cells = cells.clone();
        self.behind = Some((cells, Vec::new()));
    }

    pub fn power_on(&mut self) {
        let noise = &self.cells.noise;
        let first = noise.iter().position(|n| *n != 0).unwrap_or(noise.len());
        self.noisy = first..noise.iter().rposition(|n| *n != 0).map_or(first, |last| last + 1);
        self.dead = false;
        self.left = None;
    }
}
