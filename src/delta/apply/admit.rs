//! Whether a patch may be applied at all: 384 bytes and the state are enough to say.

use super::Options;
use crate::delta::keys::{self, Keyring, Number, PublicKey, Refused};
use crate::delta::state::State;
use crate::error::{Error, Result};
use crate::format::delta::Header;

/// A patch that its owner lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The key whose signature was checked; `None` if no key is known here.
    pub signed_by: Option<Number>,
}

/// Signature, model, sequence, in this order. `raw` are the bytes of `header`.
///
/// # Errors
/// `Input` with what is wrong.
pub(super) fn admit(state: Option<&State>, header: &Header, raw: &[u8; Header::LEN], o: &Options) -> Result<Admitted> {
    let admitted = known(state, header, raw, o)?;
    state.map_or(Ok(()), |s| sequence(s, header, o))?;
    Ok(admitted)
}

/// The same for a patch that is to be taken back: its base is the accepted version, or above it.
pub(super) fn backward(
    state: Option<&State>,
    header: &Header,
    raw: &[u8; Header::LEN],
    o: &Options,
) -> Result<Admitted> {
    let admitted = known(state, header, raw, o)?;
    match state.and_then(|s| s.accepted.as_ref().map(|v| (s, v))) {
        Some((s, v)) if v.sha256 != header.base_sha && header.base_sequence <= v.sequence => {
            let what =
                format!("going back leads to sequence {}, {} was accepted before", header.base_sequence, v.sequence);
            downgrade(s, o, what)?;
        }
        _ => {}
    }
    Ok(admitted)
}

/// Signature and model.
pub(super) fn known(state: Option<&State>, header: &Header, raw: &[u8; Header::LEN], o: &Options) -> Result<Admitted> {
    let signed_by = signature(state, raw, o)?;
    match state {
        Some(s) if s.model != header.model => {
            let what = format!("the patch is for the model `{}`, this file is `{}`", header.model, s.model);
            Err(Error::input(what).hint("find the patch of this model"))
        }
        _ => Ok(Admitted { signed_by }),
    }
}

/// Keys given now stand for the pinned ones, so a key is revoked by giving another.
fn signature(state: Option<&State>, raw: &[u8; Header::LEN], o: &Options) -> Result<Option<Number>> {
    let pinned;
    let ring = match state {
        Some(s) if o.keys.is_empty() => {
            pinned = pinned_keys(s)?;
            &pinned
        }
        _ => &o.keys,
    };
    if ring.is_empty() {
        return Ok(None);
    }
    match keys::verify(raw, ring) {
        Ok(key) => Ok(Some(key.number())),
        Err(Refused::Unsigned) if o.allow_unsigned => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

fn pinned_keys(state: &State) -> Result<Keyring> {
    let mut ring = Keyring::default();
    for line in &state.keys {
        let key = PublicKey::parse(line.as_bytes()).and_then(|k| ring.add(k));
        key.map_err(|e| e.hint("this key is pinned in the state of the file; restore that from a backup"))?;
    }
    Ok(ring)
}

/// A target must lead above what was accepted, and above the trial that it is made from. The accepted version itself is no step back.
fn sequence(state: &State, header: &Header, o: &Options) -> Result<()> {
    let built_on = state.trial.as_ref().filter(|t| t.sha256 == header.base_sha && !header.flags.full);
    let highest = state.accepted.iter().chain(built_on).map(|v| v.sequence).max();
    let known = state.is_accepted(&header.target_sha) || state.is_trial(&header.target_sha);
    match highest {
        Some(highest) if header.target_sequence <= highest && !known => downgrade(
            state,
            o,
            format!(
                "the patch is an old one: it leads to sequence {}, {highest} was accepted before",
                header.target_sequence
            ),
        ),
        _ => Ok(()),
    }
}

/// A step back, unless the owner allows it.
pub(super) fn downgrade(state: &State, o: &Options, what: String) -> Result<()> {
    let e = Error::input(what);
    match (o.allow_downgrade, state.policy.never_downgrade) {
        (true, false) => Ok(()),
        (true, true) => {
            Err(e.hint("the state of this file says `never_downgrade`, so `--allow-downgrade` does not count"))
        }
        (false, _) => Err(e.hint("if you want the older version all the same, add `--allow-downgrade`")),
    }
}
