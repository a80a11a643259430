//! Patches on devices: the applier and its signatures in C, in a flash that loses its power.

#[path = "../common/mod.rs"]
mod common;
mod decode;
mod device;
mod ed25519;
mod emulator;
mod keys;
mod mutants;
mod nor;
mod patch;
mod power;
mod refused;
mod rng;

use device::Applier;
use power::{sweep, Case, Goal};
use tempfile::TempDir;

fn applier() -> (TempDir, Applier) {
    let dir = TempDir::new().unwrap();
    let applier = Applier::ours(dir.path());
    (dir, applier)
}

/// Slots, log2 of the erase unit, program unit, write-back cache, blocks of 4 KiB; every how manieth operation is cut, in how many ways.
type Sweep = ((u32, u32, u32, bool, usize), usize, u64);

fn sweeps(sweeps: &[Sweep], least: u64) {
    let (_dir, applier) = applier();
    let mut starts = 0;
    for &((slots, erase_log2, grain, cached, blocks), stride, draws) in sweeps {
        let case = Case::new(slots, erase_log2, grain, cached, blocks);
        for goal in [Goal::Confirm, Goal::Back] {
            starts += sweep(&applier, &case, goal, stride, draws).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    println!("{starts} starts after a cut");
    assert!(starts >= least, "{starts} starts after a cut");
}

#[test]
fn any_cut_of_an_update_into_the_other_slot() {
    sweeps(
        &[
            ((2, 9, 8, false, 3), 1, 1),
            ((2, 12, 32, true, 3), 1, 2),
            ((2, 13, 1, false, 3), 29, 2),
            ((2, 17, 32, false, 40), 211, 2),
        ],
        8_000,
    );
}

#[test]
fn any_cut_of_an_update_in_place() {
    sweeps(
        &[
            ((1, 9, 16, false, 3), 1, 1),
            ((1, 12, 32, true, 4), 1, 1),
            ((1, 13, 1, true, 3), 29, 2),
            ((1, 17, 32, false, 40), 211, 2),
        ],
        8_000,
    );
}
