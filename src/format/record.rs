//! The report of a device that could not answer (docs/fallback.md): written by `runtime/bitnet_fallback.c`, read here.

use crate::bytes::Reader;
use crate::digest::{crc32, hex};
use crate::error::{Error, Result};
use serde::Serialize;

pub const MAGIC: [u8; 4] = [0x89, b'B', b'N', b'R'];
pub const BYTES: usize = 112;

const VERSION: u8 = 1;
const IDS: usize = 16;
const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// What the device was doing.
    pub cause: &'static str,
    /// What the runtime answered, see `bitnet_status.h`.
    pub status: u8,
    pub status_text: &'static str,
    pub mode: &'static str,
    /// First bytes of the digest in the model's header, as hex; zeros if there was no model.
    pub model: String,
    pub position: u32,
    pub runtime_version: String,
    /// Prompt, token and part of the golden trace that the self-test found different.
    pub selftest: Option<[u32; 3]>,
    /// Tokens that the context ran last, oldest first.
    pub ids: Vec<u32>,
    /// Reports since the device started, from 1.
    pub number: u32,
}

const CAUSES: [&str; 8] =
    ["none", "start", "self-test", "stack guard", "text to tokens", "run", "tokens to text", "too long"];
const MODES: [&str; 3] = ["full", "scalar", "failed"];
const STATUS: [&str; 18] = [
    "ok",
    "null pointer",
    "wrong magic",
    "version",
    "checksum",
    "arena too small",
    "not aligned",
    "token id without a meaning",
    "context full",
    "malformed",
    "buffer too small",
    "self-test",
    "configuration",
    "state",
    "feature not compiled",
    "embedding or logits",
    "of another model",
    "stack overflow",
];
const SELFTEST: u8 = 11;

impl Record {
    /// # Errors
    /// `Input`: no record, cut, damaged or against its format; `Unsupported`: a newer version.
    pub fn read(data: &[u8]) -> Result<Record> {
        if !data.starts_with(&MAGIC) {
            return Err(Error::input("this is no report of a device"));
        }
        if data.len() < 5 || data[4] == VERSION && data.len() != BYTES {
            return Err(Error::input(format!("a report has {BYTES} bytes, this file {}", data.len())));
        }
        if data[4] != VERSION {
            let e = Error::unsupported(format!("report version {}, this program reads version {VERSION}", data[4]));
            return Err(e.at_offset(4).hint("use the version of this program that exported the firmware"));
        }
        let (body, crc) = data.split_at(BYTES - 4);
        if crc != crc32(body).to_le_bytes() {
            return Err(Error::input("the report is damaged: its CRC-32 does not match").at_offset(BYTES as u64 - 4));
        }
        let mut r = Reader::new(body, 0, "report");
        let head = r.take(8)?;
        let name = |names: &[&'static str], at: usize| -> Result<&'static str> {
            let e =
                || Error::input(format!("the report holds {}, which has no meaning", head[at])).at_offset(at as u64);
            names.get(usize::from(head[at])).copied().ok_or_else(e)
        };
        let (cause, status_text, mode) = (name(&CAUSES, 5)?, name(&STATUS, 6)?, name(&MODES, 7)?);
        let model = hex(r.take(8)?);
        let (position, version) = (r.u32()?, r.u32()?);
        let place = [r.u32()?, r.u32()?, r.u32()?];
        let count = r.count("number of ids", 0..=IDS)?;
        let ids = (0..IDS).map(|_| r.u32()).collect::<Result<Vec<u32>>>()?;
        if ids.iter().skip(count).any(|id| *id != NO_ID) {
            return Err(Error::input("the report has ids behind its last one").at_offset(40));
        }
        let number = r.u32()?;
        r.finish()?;
        Ok(Record {
            cause,
            status: head[6],
            status_text,
            mode,
            model,
            position,
            runtime_version: format!("{}.{}", version >> 16, version & 0xFFFF),
            selftest: (head[6] == SELFTEST).then_some(place),
            ids: ids[..count].to_vec(),
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut b = MAGIC.to_vec();
        b.extend([1, 5, 7, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        for v in [3, 0x0001_0001, 0, 0, 0, 2, 40, 41] {
            b.extend(u32::to_le_bytes(v));
        }
        b.resize(104, 0xFF);
        b.extend([9, 0, 0, 0]);
        change(&mut b);
        let crc = crc32(&b);
        b.extend(crc.to_le_bytes());
        b
    }

    #[test]
    fn a_report_is_read() {
        let r = Record::read(&sealed(|_| ())).unwrap();
        assert_eq!((r.cause, r.status_text, r.mode), ("run", "token id without a meaning", "scalar"));
        assert_eq!((r.model.as_str(), r.position, r.number), ("0102030405060708", 3, 9));
        assert_eq!((r.ids, r.runtime_version.as_str(), r.selftest), (vec![40, 41], "1.1", None));
    }

    #[test]
    fn bad_reports_are_refused() {
        let good = sealed(|_| ());
        for n in 0..good.len() {
            assert!(Record::read(&good[..n]).is_err(), "cut after {n}");
            let mut flipped = good.clone();
            flipped[n] ^= 0x40;
            assert!(Record::read(&flipped).is_err(), "flipped at {n}");
        }
        assert!(Record::read(&[&good[..], &[0]].concat()).unwrap_err().message().contains("112 bytes"));
        for (at, v, says) in [
            (4, 2, "version 2"),
            (5, 8, "no meaning"),
            (6, 18, "no meaning"),
            (7, 3, "no meaning"),
            (36, 17, "number of ids"),
            (103, 0, "behind its last"),
        ] {
            let e = Record::read(&sealed(|b| b[at] = v)).unwrap_err();
            assert!(e.message().contains(says), "{at}: {}", e.message());
        }
    }
}
