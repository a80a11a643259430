//! What is refused, before a byte is written; and what the owner may decide.

use super::device::{Applier, Device, Key, ALREADY, BUSY, IDLE, OK, RUN, TRIAL};
use super::mutants::with_bug;
use super::patch::{patch, FULL, IN_PLACE};
use super::power::{Case, FROM, TO};
use bitnet_convert::digest::sha256;
use std::ffi::{c_int, c_void};

fn device<'a>(applier: &'a Applier, case: &Case) -> Device<'a> {
    let mut d = Device::new(applier, &case.layout, case.factory());
    assert_eq!(d.open(), OK);
    d
}

/// Apply answers `status` and writes nothing.
fn refuses(d: &mut Device, status: u32) {
    let before = d.nor.operations;
    let (checked, applied) = (d.check(), d.apply());
    assert_eq!((d.text(checked), d.text(applied)), (d.text(status), d.text(status)));
    assert_eq!(d.nor.operations, before, "something was written");
    assert_eq!(d.nor.misuse, None);
}

fn put_patch(d: &mut Device, case: &Case, bytes: &[u8]) {
    d.nor.put(case.layout.patch(), &vec![0xff; case.layout.patch_bytes as usize]);
    d.nor.put(case.layout.patch(), bytes);
}

#[test]
fn patches_that_do_not_fit() {
    let (_dir, applier) = super::applier();
    let case = Case::new(1, 12, 8, false, 3);
    let sequence = (FROM, TO);
    let mut d = device(&applier, &case);
    d.nor.put(100, &[!case.old[100]]);
    refuses(&mut d, 13); // another base
    d.nor.put(100, &case.old[100..101]);
    d.policy(true, false, Some(c"intents"));
    refuses(&mut d, 11);
    d.policy(true, false, Some(c"inten"));
    refuses(&mut d, 11);
    d.policy(false, false, None);
    refuses(&mut d, 9);
    d.policy(true, false, None);
    put_patch(&mut d, &case, &patch(&case.old, &case.new, IN_PLACE, (1, FROM), 12));
    refuses(&mut d, 12); // the sequence that the device was made with
    put_patch(&mut d, &case, &patch(&case.old, &case.new, 0, sequence, 12));
    refuses(&mut d, 17);
    put_patch(&mut d, &case, &patch(&case.old, &case.new, IN_PLACE | 16, sequence, 12));
    refuses(&mut d, 14);
    put_patch(&mut d, &case, &patch(&case.old, &case.new, IN_PLACE, sequence, 13));
    refuses(&mut d, 15); // a journal of 4 KiB
    let mut version = case.patch.clone();
    version[8] = 2;
    put_patch(&mut d, &case, &version);
    refuses(&mut d, 7);
    put_patch(&mut d, &case, &case.patch);
    d.patch_area(512);
    refuses(&mut d, 15);
    d.patch_area(4096);
    let mut memory = case.patch.clone();
    memory[68..72].copy_from_slice(&60_000u32.to_le_bytes());
    put_patch(&mut d, &case, &memory);
    refuses(&mut d, 16);
    put_patch(&mut d, &case, &case.patch);
    assert_eq!(d.apply(), OK);
}

/// Each byte of the patch but those of the header that only a signature can guard: target digest, sequences, versions, flags.
#[test]
fn damaged_patches() {
    let (_dir, applier) = super::applier();
    for slots in [1, 2] {
        let case = Case::new(slots, 12, 8, false, 3);
        let mut d = device(&applier, &case);
        for at in (0..12).chain(16..40).chain(72..104).chain(136..232).chain(280..case.patch.len()) {
            d.nor.flip(case.layout.patch() + at, at as u32 % 8);
            let st = d.apply();
            assert!(st != OK && st != ALREADY, "byte {at}");
            assert_eq!(d.nor.operations, 0, "byte {at}: something was written");
            d.nor.flip(case.layout.patch() + at, at as u32 % 8);
        }
        assert_eq!(d.apply(), OK);
    }
}

/// Stands for a signature: the digest of key and message, twice.
extern "C" fn verify(signature: *const u8, key: *const u8, message: *const c_void, bytes: u32) -> c_int {
    // SAFETY: the applier hands 64, 32 and `bytes` bytes over.
    let (signature, mut all, message) = unsafe {
        let message = std::slice::from_raw_parts(message.cast::<u8>(), bytes as usize);
        (std::slice::from_raw_parts(signature, 64), std::slice::from_raw_parts(key, 32).to_vec(), message)
    };
    all.extend(message);
    let sum = sha256(&all);
    c_int::from(bytes == 336 && signature[..32] == sum && signature[32..] == sum)
}

fn sign(patch: &[u8], key: &Key) -> Vec<u8> {
    let mut p = patch.to_vec();
    p[12] |= 8;
    p[280..288].copy_from_slice(&key.number);
    let message = [&key.key[..], b"bitnet delta v1\0", &p[..320]].concat();
    p[320..352].copy_from_slice(&sha256(&message));
    p[352..384].copy_from_slice(&sha256(&message));
    p
}

#[test]
fn signatures() {
    let (_dir, applier) = super::applier();
    let case = Case::new(1, 12, 8, false, 3);
    let keys: Vec<Key> = (1..4).map(|k| Key { number: [k; 8], key: [k + 10; 32] }).collect();
    let mut d = device(&applier, &case);
    d.trust(keys[..2].to_vec(), verify);
    refuses(&mut d, 9);
    let good = sign(&case.patch, &keys[1]);
    put_patch(&mut d, &case, &sign(&case.patch, &keys[2]));
    refuses(&mut d, 10);
    let mut named_wrongly = good.clone();
    named_wrongly[280] = 1;
    put_patch(&mut d, &case, &named_wrongly);
    refuses(&mut d, 10);
    for at in 0..384 {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        put_patch(&mut d, &case, &bad);
        let st = d.apply();
        assert!(st != OK && st != ALREADY && d.nor.operations == 0, "byte {at}: {}", d.text(st));
    }
    put_patch(&mut d, &case, &good);
    assert_eq!(d.apply(), OK);
}

#[test]
fn an_older_patch_after_a_newer_one() {
    let (_dir, applier) = super::applier();
    let case = Case::new(2, 12, 8, false, 3);
    let mut d = device(&applier, &case);
    assert_eq!((d.apply(), d.state().accepted), (OK, FROM));
    assert_eq!((d.confirm(), d.state().accepted), (OK, TO));
    assert_eq!(d.confirm(), 4);
    assert_eq!(d.rollback(), 4);
    refuses(&mut d, ALREADY);
    put_patch(&mut d, &case, &patch(&case.new, &case.old, IN_PLACE, (FROM, TO), 12));
    refuses(&mut d, 12);
    d.policy(true, true, None);
    assert_eq!(d.apply(), OK);
    assert_eq!((d.confirm(), d.state().accepted, d.state().current), (OK, TO, TO));
}

#[test]
fn a_model_that_is_not_confirmed_goes() {
    let (_dir, applier) = super::applier();
    let case = Case::new(2, 12, 8, false, 3);
    let mut d = device(&applier, &case);
    assert_eq!(d.active(2), (OK, 0));
    assert_eq!(d.apply(), OK);
    for expected in [(OK, 1), (OK, 1), (OK, 0), (OK, 0)] {
        assert_eq!(d.open(), OK);
        assert_eq!(d.active(2), expected);
    }
    assert_eq!((d.state().state, d.state().current), (IDLE, FROM));
    assert_eq!(d.apply(), OK); // it may be tried again
}

extern "C" fn stop_soon(user: *mut c_void, _done: u32, _total: u32) -> c_int {
    // SAFETY: the counter of the test below.
    let left = unsafe { &mut *user.cast::<u32>() };
    *left = left.saturating_sub(1);
    c_int::from(*left == 0)
}

#[test]
fn stopped_half_way() {
    let (_dir, applier) = super::applier();
    for slots in [1, 2] {
        let case = Case::new(slots, 12, 8, false, 4);
        let mut stops = 0;
        let mut d = device(&applier, &case);
        let mut left = 1u32;
        d.on_progress(stop_soon, std::ptr::from_mut(&mut left).cast());
        for k in 1.. {
            // SAFETY: the counter outlives the device.
            unsafe { std::ptr::addr_of_mut!(left).write(7 * k) };
            match d.apply() {
                OK => break,
                20 => stops += 1,
                st => panic!("{}", d.text(st)),
            }
            // an error while a record was written asks for another start
            assert_eq!(d.open(), OK);
        }
        assert!(stops > 2);
        assert_eq!(d.state().state, TRIAL);
        assert_eq!(d.nor.misuse, None);
        assert!(d.nor.holds(case.layout.slot(slots - 1), &case.new));
    }
}

/// One slot, cut after the first group was moved.
fn half_way<'a>(applier: &'a Applier, case: &Case) -> Device<'a> {
    let mut d = device(applier, case);
    d.nor.left = Some(1100);
    assert_eq!(d.apply(), 5);
    d.nor.power_on();
    assert_eq!(d.open(), OK);
    assert_eq!((d.state().state, d.state().dirty, d.active(0).0), (RUN, 1, BUSY));
    d
}

#[test]
fn only_the_patch_that_was_begun_or_a_whole_image() {
    let (_dir, applier) = super::applier();
    let mut case = Case::new(1, 12, 8, false, 4);
    case.layout.patch_bytes = 32768;
    let mut d = half_way(&applier, &case);
    put_patch(&mut d, &case, &patch(&case.old, &case.new, IN_PLACE, (FROM, TO + 1), 12));
    refuses(&mut d, BUSY);
    let full = patch(&case.old, &case.new, FULL | IN_PLACE, (0, TO + 2), 12);
    put_patch(&mut d, &case, &full);
    assert_eq!(d.apply(), OK);
    assert_eq!((d.active(0).0, d.state().current), (OK, TO + 2));
    assert!(d.nor.holds(0, &case.new));
    assert_eq!(d.rollback(), 17);
}

/// A bit of a block that the patch leaves alone changes while the update is cut short: only the last look at everything sees it.
fn rots_meanwhile(applier: &Applier) -> u32 {
    let case = Case::new(1, 12, 8, false, 4);
    let mut d = half_way(applier, &case);
    d.nor.flip(4096 + 5, 3);
    d.apply()
}

#[test]
fn no_final_check() {
    let (_dir, applier) = super::applier();
    assert_eq!(rots_meanwhile(&applier), 18);
    let (_dir, bug) = with_bug(
        "bitnet_delta.c",
        "dl_equal(digest, back != 0u ? d->base_sha : d->target_sha, 32u) == 0u",
        "(back > 9u || dl_equal(digest, digest, 32u) == 0u)",
    );
    assert_eq!(rots_meanwhile(&bug), OK, "the bug is there, and the test above finds it");
}

/// The same with a block that changes: it is noticed before the slot is touched.
#[test]
fn no_digests_of_blocks() {
    let rots = |applier: &Applier| {
        let case = Case::new(1, 12, 8, false, 4);
        let mut d = half_way(applier, &case);
        let last = 3 * 4096 + 5;
        d.nor.flip(last, 3);
        let before = d.state().counter;
        let st = d.apply();
        (st, d.state().counter - before)
    };
    let (_dir, applier) = super::applier();
    let (_dir2, bug) =
        with_bug("bitnet_delta.c", "d->blocks.bytes > 0u && d->state.back == 0u", "d->blocks.bytes > 0xFFFFFFu");
    let (good, bad) = (rots(&applier), rots(&bug));
    assert_eq!((good.0, bad.0), (18, 18));
    assert_eq!(bad.1, good.1 + 2, "the bug lets a record say that the wrong block is in the journal");
}
