//! `bitnet_ed25519_verify` gives what `verify_strict` gives, for good, changed and crafted signatures.

use super::common::device::{have, SANITIZERS};
use super::common::{finish, root};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha512};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A signature, its key and its message.
#[derive(Clone)]
struct Case {
    name: String,
    signature: [u8; 64],
    key: [u8; 32],
    message: Vec<u8>,
}

impl Case {
    fn new(name: impl Into<String>, r: &[u8], s: &[u8], key: [u8; 32], message: &[u8]) -> Case {
        let signature = [r, s].concat().try_into().unwrap();
        Case { name: name.into(), signature, key, message: message.to_vec() }
    }

    fn signed(name: impl Into<String>, key: &SigningKey, message: &[u8]) -> Case {
        let signature = key.sign(message).to_bytes();
        Case { name: name.into(), signature, key: key.verifying_key().to_bytes(), message: message.to_vec() }
    }

    /// What docs/format/delta.md calls a good signature: `verify_strict`, and a key in its one form.
    fn is_good(&self) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.key) else { return false };
        let below_p = self.key[31] & 0x7F != 0x7F || self.key[1..31].iter().any(|b| *b != 0xFF) || self.key[0] < 0xED;
        below_p && key.verify_strict(&self.message, &Signature::from_bytes(&self.signature)).is_ok()
    }

    /// What a check without the strict parts takes.
    fn satisfies_the_equation(&self) -> bool {
        let key = VerifyingKey::from_bytes(&self.key).unwrap();
        key.verify(&self.message, &Signature::from_bytes(&self.signature)).is_ok()
    }
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let digit = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    std::array::from_fn(digit)
}

/// Bytes that look random and are always the same.
fn noise<const N: usize>(seed: u64) -> [u8; N] {
    let mut out = [0; N];
    for (i, part) in out.chunks_mut(64).enumerate() {
        let digest = Sha512::digest([seed.to_le_bytes(), (i as u64).to_le_bytes()].concat());
        part.copy_from_slice(&digest[..part.len()]);
    }
    out
}

fn key(seed: u64) -> SigningKey {
    SigningKey::from_bytes(&noise(seed))
}

/// The first three of RFC 8032, section 7.1.
fn published() -> Vec<Case> {
    let rows = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    let case = |(seed, public, message, signature): (&str, &str, &str, &str)| {
        let message: Vec<u8> = if message.is_empty() {
            vec![]
        } else {
            bytes::<2>(&format!("{message:0<4}"))[..message.len() / 2].to_vec()
        };
        let key = SigningKey::from_bytes(&bytes(seed));
        let case = Case {
            name: format!("RFC 8032, key {}", &public[..8]),
            signature: bytes(signature),
            key: bytes(public),
            message,
        };
        assert_eq!((case.signature, case.key), (key.sign(&case.message).to_bytes(), key.verifying_key().to_bytes()));
        case
    };
    rows.into_iter().map(case).collect()
}

/// Messages of every length around the blocks of SHA-512, and of a patch's header.
fn good() -> Vec<Case> {
    let lengths = (0..260).chain([303, 304, 305, 320, 336, 400, 1000, 4096]);
    let text: [u8; 4096] = noise(1);
    let with = |n: usize| Case::signed(format!("{n} bytes"), &key(1000 + n as u64), &text[..n]);
    lengths.map(with).collect()
}

/// One signature with each of its bits, and of its key and message, flipped.
fn flipped() -> Vec<Case> {
    let good = Case::signed("", &key(2), &noise::<21>(2));
    let all = good.signature.len() + good.key.len() + good.message.len();
    let flip = |bit: usize| {
        let mut case = Case { name: format!("bit {bit} flipped"), ..good.clone() };
        let (at, bit) = (bit / 8, 1 << (bit % 8));
        match at {
            0..64 => case.signature[at] ^= bit,
            64..96 => case.key[at - 64] ^= bit,
            _ => case.message[at - 96] ^= bit,
        }
        case
    };
    (0..8 * all).map(flip).collect()
}

const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn plus(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    std::array::from_fn(|i| {
        carry += u32::from(a[i]) + u32::from(b[i]);
        let byte = carry as u8;
        carry >>= 8;
        byte
    })
}

/// a if it is below the order of the group, else less that; for a below twice the order.
fn less_order(a: [u8; 32]) -> [u8; 32] {
    if a.iter().rev().lt(ORDER.iter().rev()) {
        return a;
    }
    let mut borrow = 0;
    std::array::from_fn(|i| {
        let d = i32::from(a[i]) - i32::from(ORDER[i]) - borrow;
        borrow = i32::from(d < 0);
        d as u8
    })
}

/// a b modulo the order, a of any length.
fn product(a: &[u8], b: &[u8; 32]) -> [u8; 32] {
    let bits = a.iter().rev().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
    bits.fold([0; 32], |r, bit| {
        let r = less_order(plus(&r, &r));
        if bit == 1 {
            less_order(plus(&r, b))
        } else {
            r
        }
    })
}

/// Encodings of points of small order, the canonical ones first: y = 1, -1, 0, and the two of order 8; then y + p and "minus zero".
fn small_points() -> Vec<[u8; 32]> {
    let of_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    let of_8_too = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let fill =
        |low: u8, inner: u8, high: u8| std::array::from_fn(|i| [low, inner, high][if i == 0 { 0 } else { 1 + i / 31 }]);
    let mut all = vec![fill(1, 0, 0), fill(0xEC, 0xFF, 0x7F), fill(0, 0, 0), fill(0, 0, 0x80)];
    for hex in [of_8, of_8_too] {
        let mut point: [u8; 32] = bytes(hex);
        all.push(point);
        point[31] |= 0x80;
        all.push(point);
    }
    let others = [
        (1, 0, 0x80),
        (0xEC, 0xFF, 0xFF),
        (0xED, 0xFF, 0x7F),
        (0xED, 0xFF, 0xFF),
        (0xEE, 0xFF, 0x7F),
        (0xEE, 0xFF, 0xFF),
    ];
    all.extend(others.map(|(low, inner, high)| fill(low, inner, high)));
    all
}

/// What only a strict check refuses, and what no check may take.
fn crafted() -> Vec<Case> {
    let mut all = Vec::new();
    let base = {
        let mut b = [0x66; 32];
        b[0] = 0x58;
        b
    };
    let one = {
        let mut s = [0; 32];
        s[0] = 1;
        s
    };
    let honest = Case::signed("", &key(3), b"message");
    let (r, s) = honest.signature.split_at(32);
    let s: [u8; 32] = s.try_into().unwrap();
    // The same signature with a larger S: 15 times the order still fits.
    let mut larger = s;
    for k in 1..16 {
        larger = plus(&larger, &ORDER);
        all.push(Case::new(format!("S + {k} L"), r, &larger, honest.key, b"message"));
    }
    all.push(Case::new("S = L", r, &ORDER, honest.key, b"message"));
    for (i, point) in small_points().into_iter().enumerate() {
        // S = 1 and R = B is right for every message whose hash takes the key to the neutral point.
        let messages = (0..64u8).map(|m| Case::new(format!("key of small order {i}"), &base, &one, point, &[m]));
        let tried: Vec<Case> = messages.collect();
        let equal =
            tried.iter().filter(|c| VerifyingKey::from_bytes(&c.key).is_ok() && c.satisfies_the_equation()).count();
        assert!(equal > 0 || i >= 8, "no message for point {i}");
        all.extend(tried.into_iter().take(16));
        all.push(Case::new(format!("R of small order {i}"), &point, &s, honest.key, b"message"));
        all.push(Case::new(format!("both of small order {i}"), &point, &[0; 32], point, b"message"));
    }
    // S = h a makes R the neutral point: everybody who has the key can do it, but nobody may rely on it.
    let digest = Sha512::digest(noise::<32>(3));
    let mut a: [u8; 32] = digest[..32].try_into().unwrap();
    a[0] &= 248;
    a[31] = a[31] & 63 | 64;
    let neutral = small_points()[0];
    let h = Sha512::digest([&neutral[..], &honest.key, b"message"].concat());
    let case = Case::new("R neutral", &neutral, &product(&h, &product(&a, &one)), honest.key, b"message");
    assert!(case.satisfies_the_equation());
    all.push(case);
    // Numbers from p on, which have a second form below 19; no point; no number at all.
    for low in 0xED..=0xFF {
        for high in [0x7F, 0xFF] {
            let mut y = [0xFF; 32];
            (y[0], y[31]) = (low, high);
            all.push(Case::new(format!("key p + {}", low - 0xED), r, &s, y, b"message"));
            all.push(Case::new(format!("R p + {}", low - 0xED), &y, &s, honest.key, b"message"));
        }
    }
    for y in 0..32 {
        let mut point = [0; 32];
        point[0] = y;
        all.push(Case::new(format!("key {y}"), r, &s, point, b"message"));
        all.push(Case::new(format!("R {y}"), &point, &s, honest.key, b"message"));
    }
    all.push(Case::new("all zero", &[0; 32], &[0; 32], [0; 32], b""));
    all.push(Case::new("all ones", &[0xFF; 32], &[0xFF; 32], [0xFF; 32], b""));
    all.extend(
        (0..200).map(|i| Case::new(format!("noise {i}"), &noise::<32>(4000 + i), &s, noise(5000 + i), b"message")),
    );
    all
}

fn records(cases: &[Case]) -> Vec<u8> {
    let mut out = Vec::new();
    for c in cases {
        out.extend([&c.signature[..], &c.key, &(c.message.len() as u16).to_be_bytes(), &c.message].concat());
    }
    out.extend([0xFF; 98]);
    out
}

/// It needs no other file, whatever the core can multiply.
fn sources() -> [PathBuf; 2] {
    [root().join("tests/c/ed25519_driver.c"), root().join("src/export/c/files/runtime/bitnet_ed25519.c")]
}

fn build(compiler: &str, flags: &[&str], out: &Path) {
    let mut cc = Command::new(compiler);
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion"]).args(flags);
    cc.arg("-I").arg(root().join("src/export/c/files/runtime")).args(sources()).arg("-o").arg(out);
    finish(&mut cc).ok();
}

#[track_caller]
fn compare(cases: &[Case], answers: &str) {
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(answers.chars()) {
        assert_eq!(answer == '1', case.is_good(), "{}", case.name);
    }
}

/// All cases, by a program that is built with these flags and started by these words.
fn check(cases: &[Case], compiler: &str, flags: &[&str], start: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (file, program) = (dir.path().join("records"), dir.path().join("driver"));
    std::fs::write(&file, records(cases)).unwrap();
    build(compiler, flags, &program);
    let words: Vec<&Path> = start.iter().map(Path::new).chain([program.as_path(), &file]).collect();
    compare(cases, &finish(Command::new(words[0]).args(&words[1..])).ok().stdout);
}

#[test]
fn the_cases_are_what_they_say() {
    assert!(published().iter().chain(&good()).all(Case::is_good));
    assert!(!flipped().iter().chain(&crafted()).any(Case::is_good));
    let equal =
        crafted().iter().filter(|c| VerifyingKey::from_bytes(&c.key).is_ok() && c.satisfies_the_equation()).count();
    assert!(equal > 50, "only {equal} of the crafted signatures need a strict check");
}

#[test]
fn signatures_on_the_host() {
    if !have("Ed25519 in C", &["cc"]) {
        return;
    }
    let cases = [published(), good(), flipped(), crafted()].concat();
    check(&cases, "cc", &[&["-O2", "-g"], &SANITIZERS[..]].concat(), &[]);
    // As where no instruction gives 64 bits of a product.
    check(&sample(3), "cc", &[&["-O2", "-g", "-DBITNET_MUL_HALVES=1"], &SANITIZERS[..]].concat(), &[]);
}

/// A few of each kind: an emulator is slow.
fn sample(step: usize) -> Vec<Case> {
    let mut all = published();
    all.extend([good(), flipped(), crafted()].concat().into_iter().step_by(step));
    all
}

#[test]
fn signatures_on_a_big_endian_processor() {
    if have("Ed25519 on PowerPC", &["powerpc-linux-gnu-gcc", "qemu-ppc"]) {
        check(&sample(5), "powerpc-linux-gnu-gcc", &["-O2", "-static"], &["qemu-ppc"]);
    }
}

/// The smallest core: 32 bits of a product, no 64-bit shift, 16 KB of RAM.
#[test]
fn signatures_on_a_cortex_m0() {
    if !have("Ed25519 on a Cortex-M0", &["arm-none-eabi-gcc", "qemu-system-arm"]) {
        return;
    }
    let cases = sample(71);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("records.bin"), records(&cases)).unwrap();
    std::fs::write(
        at("records.S"),
        ".section .rodata.records,\"a\"\n.global records\nrecords: .incbin \"records.bin\"\n",
    )
    .unwrap();
    let script = "MEMORY { FLASH (rx) : ORIGIN = 0, LENGTH = 256K\n RAM (rw) : ORIGIN = 0x20000000, LENGTH = 16K }\n\
                  SECTIONS { .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > FLASH\n .bss (NOLOAD) : { *(.bss*) } > RAM }\n";
    std::fs::write(at("m0.ld"), script).unwrap();
    let (link, include) = (at("m0.ld"), format!("-Wa,-I{}", dir.path().display()));
    let mut cc = Command::new("arm-none-eabi-gcc");
    cc.args([
        "-mcpu=cortex-m0",
        "-mthumb",
        "-Os",
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffreestanding",
        "-fno-builtin",
    ]);
    cc.args(["-nostdlib", "-DRECORDS", &include, "-T"])
        .arg(link)
        .arg("-I")
        .arg(root().join("src/export/c/files/runtime"));
    cc.args(sources()).arg(root().join("tests/c/kernels_port.c")).arg(at("records.S")).arg("-o").arg(at("m0.elf"));
    finish(&mut cc).ok();
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args([
        "-M",
        "microbit",
        "-display",
        "none",
        "-monitor",
        "none",
        "-serial",
        "null",
        "-chardev",
        "stdio,id=out",
    ]);
    qemu.args(["-semihosting-config", "enable=on,target=native,chardev=out", "-kernel"]).arg(at("m0.elf"));
    compare(&cases, &finish(&mut qemu).ok().stdout);
}
