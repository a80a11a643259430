//! What a conversation or a device left behind: sessions and reports, for `inspect`.

use super::Printer;
use crate::digest::hex;
use crate::error::Result;
use crate::format::record::{self, Record};
use crate::format::session::Header;
use crate::fsio::{map, read_capped};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct SessionInfo {
    file: String,
    bytes: usize,
    model_digest: String,
    position: u32,
    filled_slots: u32,
    window: u32,
    key_bits: u32,
    value_bits: u32,
    layers: u32,
    kv_heads: u32,
    head_dim: u32,
    static_keys: bool,
    saturated: u32,
}

#[derive(Serialize)]
struct RecordInfo {
    file: String,
    #[serde(flatten)]
    record: Record,
}

pub fn show(path: &Path, is_session: bool, printer: &Printer) -> Result<u8> {
    if is_session {
        session(path, printer)
    } else {
        report(path, printer)
    }
}

fn session(path: &Path, printer: &Printer) -> Result<u8> {
    let data = map(path)?;
    let (h, _) = Header::read(&data).map_err(|e| e.at_file(path))?;
    let info = SessionInfo {
        file: path.display().to_string(),
        bytes: data.len(),
        model_digest: hex(&h.model),
        position: h.position,
        filled_slots: h.filled(),
        window: h.window,
        key_bits: h.key_bits,
        value_bits: h.value_bits,
        layers: h.layers,
        kv_heads: h.kv_heads,
        head_dim: h.head_dim,
        static_keys: h.static_keys,
        saturated: h.saturated,
    };
    printer.result(&info, |out| {
        writeln!(out, "{}: session of {} tokens, {} bytes", info.file, info.position, info.bytes)?;
        writeln!(out, "  model {}", info.model_digest)?;
        writeln!(
            out,
            "  window {} ({} filled), {} layers, {} kv heads of {}, keys {} bits, values {} bits{}",
            info.window,
            info.filled_slots,
            info.layers,
            info.kv_heads,
            info.head_dim,
            info.key_bits,
            info.value_bits,
            if info.static_keys { ", static keys" } else { "" }
        )
    })?;
    Ok(0)
}

fn report(path: &Path, printer: &Printer) -> Result<u8> {
    let data = read_capped(path, record::BYTES as u64 + 1)?;
    let record = Record::read(&data).map_err(|e| e.at_file(path))?;
    let info = RecordInfo { file: path.display().to_string(), record };
    printer.result(&info, |out| {
        let r = &info.record;
        writeln!(out, "{}: report {} of a device", info.file, r.number)?;
        writeln!(out, "  cause {}, status {} ({}), mode {}", r.cause, r.status, r.status_text, r.mode)?;
        if let Some([prompt, token, part]) = r.selftest {
            writeln!(out, "  golden prompt {prompt}, token {token}, part {part} differs")?;
        }
        writeln!(out, "  model {}, runtime {}, position {}", r.model, r.runtime_version, r.position)?;
        let ids: Vec<String> = r.ids.iter().map(u32::to_string).collect();
        writeln!(out, "  last tokens {}", if ids.is_empty() { "none".into() } else { ids.join(",") })
    })?;
    Ok(0)
}
