//! Packed files that are cut, flipped or rewritten: every one is refused with a reason or runs, and none makes the program panic.

mod common;

use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::runtime::{record, Artifact};
use common::mutate::mutate;
use common::packed::{open, Parts};
use common::{cases, tiny_bytes, Rng};

/// Says which case it was if the code under test panics.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case was: {}", self.0);
        }
    }
}

#[test]
fn every_cut_is_refused_with_its_place() {
    let whole = tiny_bytes();
    for n in (0..whole.len()).step_by(64).chain([1, 7, 8, 63, 65, whole.len() - 1]) {
        let e = open(whole[..n].to_vec()).err().unwrap_or_else(|| panic!("{n} bytes were accepted"));
        let reason = if n < 24 { "cut short" } else { "the header says 12048 bytes" };
        assert!(e.message().contains(reason), "{n} bytes: {e}");
        assert!(e.offset().is_some_and(|o| o <= n as u64) && e.next_step().is_some(), "{n} bytes: {e}");
    }
}

/// A bit anywhere: the header's own fields and padding have rules of their own, everything else is under a digest.
#[test]
fn every_flipped_bit_is_noticed() {
    let whole = tiny_bytes();
    let sections: Vec<_> = open(whole.clone()).unwrap().packed.sections.iter().map(|s| s.range.clone()).collect();
    let mut rng = Rng(1);
    for at in 0..whole.len() {
        let mut f = whole.clone();
        f[at] ^= 1 << rng.below(8);
        let _case = Case(format!("byte {at}"));
        let e = open(f).err().unwrap_or_else(|| panic!("the flip at byte {at} was accepted"));
        let digest = (28..320).contains(&at) || sections.iter().any(|s| s.contains(&at));
        if digest {
            assert!(e.message().contains("digest"), "byte {at}: {e}");
        } else if at >= 320 {
            assert!(e.message().contains("padding"), "byte {at}: {e}");
        }
        assert!(e.offset().is_some() && e.file().is_some(), "byte {at}: {e}");
    }
}

#[test]
fn damage_under_right_digests_is_refused_or_runs() {
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..cases(12_000) as u64 {
        let mut rng = Rng(seed);
        let mut parts = Parts::tiny();
        let what = mutate(&mut parts, &mut rng);
        let _case = Case(format!("seed {seed}: {what}"));
        match open(parts.seal()) {
            Ok(a) => {
                runs_alike_on_every_kernel(&a);
                ran += 1;
            }
            Err(e) => {
                assert!(e.file().is_some() && !e.message().is_empty(), "{e}");
                assert_eq!(e.kind().exit_code(), 2, "{e}");
                refused += 1;
            }
        }
    }
    // Both ways must have been tried in earnest.
    assert!(refused > 2000 && ran > 600, "{refused} refused, {ran} ran");
}

/// Three prompt tokens and two more, past the window of the tiny model.
fn runs_alike_on_every_kernel(a: &Artifact) {
    let vocab = a.program.vocab as u32;
    let prompt: Vec<u32> = [0, 7, 15].map(|id| id % vocab).to_vec();
    let traces: Vec<_> = DotKernel::available()
        .into_iter()
        .map(|k| record(&mut a.session(k), &prompt, 5, &mut |_, _, _| {}).expect("the ids are in the vocabulary"))
        .collect();
    assert!(traces.windows(2).all(|t| t[0] == t[1]), "kernels differ");
}
