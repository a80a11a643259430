//! Bugs that somebody might make, put into the sources one at a time: the power cuts find each.

use super::device::{copy_sources, Applier};
use super::power::{sweep, Case, Goal};
use tempfile::TempDir;

/// Builds the applier with `from`, which stands once in `file`, replaced.
pub fn with_bug(file: &str, from: &str, to: &str) -> (TempDir, Applier) {
    let dir = TempDir::new().unwrap();
    copy_sources(dir.path());
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(from).count(), 1, "`{from}` stands once in {file}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    let applier = Applier::build(dir.path());
    (dir, applier)
}

/// Some sweep must fail.
fn caught(file: &str, from: &str, to: &str) {
    let (_dir, applier) = with_bug(file, from, to);
    let cases = [(1, 9, 8, false), (1, 12, 32, true), (2, 9, 16, true), (2, 9, 8, false)];
    let found = cases.iter().any(|&(slots, erase_log2, grain, cached)| {
        let case = Case::new(slots, erase_log2, grain, cached, 3);
        [Goal::Confirm, Goal::Back].into_iter().any(|goal| sweep(&applier, &case, goal, 1, 2).is_err())
    });
    assert!(found, "`{to}` instead of `{from}` in {file} was not found");
}

#[test]
fn no_journal() {
    caught("bitnet_delta.c", "st = save_group(d, d->group, 1u);", "st = BITNET_DELTA_OK;");
}

#[test]
fn the_journal_is_not_copied_again() {
    caught("bitnet_delta.c", "d->state.journal != 0u", "d->state.journal > 1u");
}

#[test]
fn nothing_is_synchronised() {
    caught("bitnet_delta_check.c", "f->sync(f->user) == 0 ?", "f->sync != (int (*)(void *))0 ?");
}

#[test]
fn a_resume_begins_at_the_first_block() {
    caught("bitnet_delta.c", "d->group = d->state.group;", "d->group = 0u;");
}

#[test]
fn the_state_is_in_one_unit_only() {
    caught("bitnet_delta_state.c", "const uint32_t other = 1u - d->unit;", "const uint32_t other = 0u * d->unit;");
}

#[test]
fn a_record_counts_without_seals() {
    caught("bitnet_delta_state.c", "seals > 0u && sound(bytes)", "sound(bytes)");
}

#[test]
fn a_group_is_done_before_it_is_copied() {
    caught("bitnet_delta.c", "    uint8_t digest[32];\n    bitnet_delta_status st = dl_digest(d, from, bytes, digest);", "    uint8_t digest[32];\n    bitnet_delta_status st = save_group(d, d->group + 1u, 0u);\n    st = st == BITNET_DELTA_OK ? dl_digest(d, from, bytes, digest) : st;");
}

#[test]
fn the_new_slot_is_active_too_early() {
    caught(
        "bitnet_delta.c",
        "        d->state.back = (uint8_t)back;\n",
        "        d->state.back = (uint8_t)back;\n        d->state.active = (uint8_t)(dl_in_place(d) != 0u ? 0u : 1u);\n",
    );
}
