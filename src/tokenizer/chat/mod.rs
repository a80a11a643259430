//! Conversations as text: the templates that come with checkpoints, and the form in which a device writes them (docs/format/tokenizer.md,
//! section 13).
//!
//! | file | does |
//! |---|---|
//! | `jinja` | renders a template on the host: the reference |
//! | `derive` | the device's form of a template, proven on conversations |
//! | `source` | where the template of a checkpoint is, and what it calls its tokens |

pub mod derive;
pub mod jinja;
mod source;

pub use super::device::chat::{ChatFault, Role};
pub use source::Source;

use super::device::chat as device;
use super::device::chat::Turn;

impl Role {
    /// As templates call it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A message from the command line: `user:What is the time?`.
///
/// # Errors
/// Why it is none.
pub fn parse(text: &str) -> Result<(Role, String), String> {
    let (role, content) = text.split_once(':').ok_or("a message is ROLE:TEXT, e.g. user:Hello")?;
    let all = [Role::System, Role::User, Role::Assistant];
    let found = all.into_iter().find(|r| r.name() == role);
    let role = found.ok_or_else(|| format!("`{role}` is no role: system, user or assistant"))?;
    Ok((role, content.to_string()))
}

/// How a device writes conversations: what stands before, between and behind messages depends on their roles only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chat {
    /// Before a system message, and between it and the user's.
    pub system: Option<(String, String)>,
    /// Before a user's first message without one.
    pub start_user: String,
    /// Between a question and an answer.
    pub user_assistant: String,
    /// Between an answer and a question.
    pub assistant_user: String,
    /// Behind the last question.
    pub prompt: String,
    /// Whether a role's messages lose white space at both ends.
    pub strip: [bool; 3],
    /// An empty system message is not written as such.
    pub system_filled: bool,
    /// The token that ends an answer: where in `assistant_user`, and its length.
    pub end: Option<(usize, usize)>,
}

impl Chat {
    /// The section of a device tokenizer (docs/format/tokenizer.md).
    ///
    /// # Errors
    /// A template of more than 64 KB.
    pub fn section(&self) -> Result<Vec<u8>, String> {
        let (start_system, system_user) = match &self.system {
            Some((a, b)) => (Some(a), Some(b)),
            None => (None, None),
        };
        let texts: [Option<&String>; device::TEXTS] = [
            start_system,
            Some(&self.start_user),
            system_user,
            Some(&self.user_assistant),
            Some(&self.assistant_user),
            Some(&self.prompt),
        ];
        let mut longest: Vec<&[u8]> = texts.iter().flatten().map(|t| t.as_bytes()).collect();
        longest.sort_by_key(|t| std::cmp::Reverse(t.len()));
        let mut pool: Vec<u8> = Vec::new();
        for text in longest {
            if find(&pool, text).is_none() {
                let shared = (0..=text.len()).rev().find(|k| pool.ends_with(&text[..*k])).unwrap_or(0);
                pool.extend_from_slice(&text[shared..]);
            }
        }
        if pool.len() >= device::NONE {
            return Err(format!("its texts have {} bytes", pool.len()));
        }
        let flags = self.strip.iter().enumerate().map(|(i, s)| u8::from(*s) << i).sum::<u8>()
            | if self.system_filled { device::SYSTEM_FILLED } else { 0 };
        let (from, length) = self.end.unwrap_or((device::NONE, 0));
        let mut out = vec![flags, 0];
        let mut put = |n: usize| out.extend_from_slice(&(n as u16).to_le_bytes());
        put(from);
        put(length);
        put(pool.len());
        for text in texts {
            let at = text.and_then(|t| find(&pool, t.as_bytes()));
            put(at.unwrap_or(device::NONE));
            put(at.and(text).map_or(0, |t| t.len()));
        }
        out.extend_from_slice(&pool);
        Ok(out)
    }

    /// Reads a section; None if it is damaged or not text.
    pub fn of_section(section: &[u8]) -> Option<Chat> {
        let chat = device::Chat::read(section)?;
        let text = |which: usize| String::from_utf8(chat.text(which)?.to_vec()).ok();
        let flag = |bit: u8| chat.flags() & bit != 0;
        Some(Chat {
            system: match chat.has_system() {
                true => Some((text(device::START_SYSTEM)?, text(device::SYSTEM_USER)?)),
                false => None,
            },
            start_user: text(device::START_USER)?,
            user_assistant: text(device::USER_ASSISTANT)?,
            assistant_user: text(device::ASSISTANT_USER)?,
            prompt: text(device::USER_PROMPT)?,
            strip: [flag(1), flag(2), flag(4)],
            system_filled: flag(device::SYSTEM_FILLED),
            end: chat.end(),
        })
    }

    /// Of a device tokenizer that has one.
    pub fn of_blob(blob: &[u8]) -> Option<Chat> {
        let (at, length) = find_section(blob, KIND)?;
        Chat::of_section(blob.get(at..at.checked_add(length)?)?)
    }

    /// The text of a conversation, to the place where the model is to write.
    ///
    /// # Errors
    /// What may not stand where it does.
    pub fn text(&self, messages: &[(Role, &str)]) -> Result<String, ChatFault> {
        let section = self.section().map_err(|_| ChatFault::Section)?;
        let chat = device::Chat::read(&section).ok_or(ChatFault::Section)?;
        let mut turn = Turn::default();
        let room: usize = messages.iter().map(|(_, c)| c.len() + section.len()).sum();
        let mut out = vec![0; room + section.len()];
        for (role, content) in messages {
            chat.add(&mut turn, *role, content.as_bytes(), &mut out)?;
        }
        chat.prompt(&mut turn, &mut out)?;
        out.truncate(turn.length);
        String::from_utf8(out).map_err(|_| ChatFault::Section)
    }
}

/// Kind of the section.
const KIND: u8 = 13;
/// Length of a blob's header, and of an entry of its directory.
const HEADER: usize = 32;
const ENTRY: usize = 8;

/// Where the section of a kind is in a blob, and its length.
fn find_section(blob: &[u8], kind: u8) -> Option<(usize, usize)> {
    let count = usize::from(*blob.get(23)?);
    let mut at = HEADER + ENTRY * count;
    for i in 0..count {
        let entry = blob.get(HEADER + ENTRY * i..HEADER + ENTRY * (i + 1))?;
        let length = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]) as usize;
        if entry[0] == kind {
            return Some((at, length));
        }
        at = at.checked_add(length)?;
    }
    None
}

/// A device tokenizer with a form for conversations, the last of its sections. None if the blob has one already or is none.
pub fn attach(blob: &[u8], chat: &Chat) -> Option<Vec<u8>> {
    let section = chat.section().ok()?;
    let directory = HEADER + ENTRY * usize::from(*blob.get(23)?);
    let is_ours = blob.get(..6) == Some(&b"BNTK\x02\0"[..]);
    if !is_ours || find_section(blob, KIND).is_some() || directory > blob.len() {
        return None;
    }
    let mut out = blob[..directory].to_vec();
    out[23] = out[23].checked_add(1)?;
    out.extend_from_slice(&[KIND, 0, 0, 0]);
    out.extend_from_slice(&u32::try_from(section.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&blob[directory..]);
    out.extend_from_slice(&section);
    let length = u32::try_from(out.len()).ok()?.to_le_bytes();
    out[8..12].copy_from_slice(&length);
    Some(out)
}

/// A device tokenizer with the form of a checkpoint's template, if it has one that a device can write, and what to tell about it.
pub fn with_template(blob: Vec<u8>, source: &Source, tokenizer_json: &[u8]) -> (Vec<u8>, Vec<String>) {
    if source.template.is_empty() {
        return (blob, Vec::new());
    }
    match source.derive(tokenizer_json) {
        Ok(derived) => {
            let notes = derived.notes.into_iter().map(|n| format!("chat template: {n}")).collect();
            (attach(&blob, &derived.chat).unwrap_or(blob), notes)
        }
        Err(why) => {
            let note =
                format!("the device writes no conversations, an application does it itself: chat template: {why}");
            (blob, vec![note])
        }
    }
}

/// Where `part` is in `whole`.
fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    whole.windows(part.len()).position(|w| w == part)
}
