//! Where the parts of an image lie: on the board, and on an emulated machine that stands for it.

use super::{Emulator, Region, Role, Target};

/// The regions of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub flash: Region,
    pub fast: Region,
    /// None: what belongs there lies in `fast`.
    pub ram: Option<Region>,
}

/// Alignment of a region that is put behind another one; a cache line.
const STEP: u64 = 64;

impl Target {
    /// The board's own memories; None for what has none.
    pub fn layout(&self) -> Option<Layout> {
        let of = |role| self.region(role);
        Some(Layout { flash: of(Role::Flash)?, fast: of(Role::Fast)?, ram: of(Role::Ram) })
    }
}

impl Emulator {
    fn region(&self, role: Role) -> Option<Region> {
        self.memory.iter().find(|m| m.role == role).cloned()
    }

    /// Memories of the sizes that the board has, at the addresses of this machine; smaller where the machine has less. So what is linked
    /// into them fits the board.
    pub fn as_board(&self, board: &Layout) -> Option<Layout> {
        let (machine_flash, machine_fast) = (self.region(Role::Flash)?, self.region(Role::Fast)?);
        let cut = |mut r: Region, most: u64| {
            r.bytes = r.bytes.min(most);
            r
        };
        let fast = cut(machine_fast.clone(), board.fast.bytes);
        let ram = board.ram.as_ref().and_then(|b| match self.region(Role::Ram) {
            Some(r) => Some(cut(r, b.bytes)),
            None => {
                let origin = (fast.origin + fast.bytes).next_multiple_of(STEP);
                let rest = (machine_fast.origin + machine_fast.bytes).checked_sub(origin).filter(|n| *n > 0)?;
                let bytes = b.bytes.min(rest);
                Some(Region { name: b.name.clone(), role: Role::Ram, origin, bytes })
            }
        });
        Some(Layout { flash: cut(machine_flash, board.flash.bytes), fast, ram })
    }

    /// All memory that the machine has.
    pub fn full(&self) -> Option<Layout> {
        let of = |role| self.region(role);
        Some(Layout { flash: of(Role::Flash)?, fast: of(Role::Fast)?, ram: of(Role::Ram) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(role: Role, origin: u64, bytes: u64) -> Region {
        Region { name: format!("{role:?}").to_lowercase(), role, origin, bytes }
    }

    #[test]
    fn a_second_ram_of_the_board_has_its_place_in_the_machine() {
        let t = super::super::find("cortex-m7").unwrap();
        let e = &t.emulator[0];
        let l = e.as_board(&t.layout().unwrap()).unwrap();
        assert_eq!((l.flash.origin, l.flash.bytes), (0, 2 << 20));
        assert_eq!((l.fast.origin, l.fast.bytes), (0x2000_0000, 128 << 10));
        assert_eq!(l.ram.map(|r| (r.origin, r.bytes)), Some((0x6000_0000, 512 << 10)));
        assert_eq!(e.full().unwrap().ram.map(|r| r.bytes), Some(16 << 20));
    }

    #[test]
    fn a_smaller_machine_cuts_the_board() {
        let mut e = super::super::find("cortex-m7").unwrap().emulator.remove(0);
        e.memory = vec![region(Role::Flash, 0, 4096), region(Role::Fast, 0x2000_0000, 1024)];
        let board = Layout {
            flash: region(Role::Flash, 0, 8192),
            fast: region(Role::Fast, 0, 1000),
            ram: Some(region(Role::Ram, 0x4000_0000, 512)),
        };
        let l = e.as_board(&board).unwrap();
        assert_eq!((l.flash.bytes, l.fast.bytes), (4096, 1000));
        assert_eq!(l.ram, None, "24 bytes are left, but only from the end of the region on");
        e.memory[1].bytes = 2048;
        assert_eq!(e.as_board(&board).unwrap().ram.map(|r| (r.origin, r.bytes)), Some((0x2000_0400, 512)));
    }
}
