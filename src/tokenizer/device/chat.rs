//! Section 13: how messages become one text.

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// Why a conversation cannot go on like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFault {
    /// The section is damaged.
    Section,
    /// This message may not stand here.
    Order,
    /// The template has no system message, or none that is empty.
    System,
    /// An answer of this template has no end that can be told from its text: write the whole conversation again.
    NoEnd,
    /// The buffer is too small.
    Room,
}

impl ChatFault {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            ChatFault::Section => "the form of conversations is damaged",
            ChatFault::Order => "this message may not stand here: a system message first, if at all, then questions and answers in turn, a question last",
            ChatFault::System => "conversations of this model have no system message, or none that is empty",
            ChatFault::NoEnd => "no token ends an answer of this model",
            ChatFault::Room => "the buffer is too small",
        }
    }
}

/// Where a conversation stands. A new one is `Turn::default()`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    place: Place,
    /// Bytes of the buffer that are written.
    pub length: usize,
    /// Ids to leave out at the front of what this text is encoded to: they are in the model already.
    pub skip: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    System,
    User,
    Assistant,
    /// The model may write.
    Prompt,
    /// It has written.
    Answered,
}

/// A checked section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chat<'a> {
    flags: u8,
    /// In the text before a user's message that follows an answer: from, length of the token there.
    end: Option<(usize, usize)>,
    texts: [Option<&'a [u8]>; TEXTS],
}

/// Texts between messages, in the order of the section.
pub const TEXTS: usize = 6;
/// Before the first message, a system message.
pub const START_SYSTEM: usize = 0;
/// Before the first message, a user's.
pub const START_USER: usize = 1;
/// Between the two.
pub const SYSTEM_USER: usize = 2;
/// Before an answer that is given.
pub const USER_ASSISTANT: usize = 3;
/// After it.
pub const ASSISTANT_USER: usize = 4;
/// Before an answer that the model is to write.
pub const USER_PROMPT: usize = 5;

/// Flag: a system message must not be empty.
pub const SYSTEM_FILLED: u8 = 8;
/// Length of the section without its pool.
pub const HEAD: usize = 32;
/// Instead of an offset: there is none.
pub const NONE: usize = 0xffff;

impl<'a> Chat<'a> {
    /// Checks a section; None if it is damaged.
    pub fn read(section: &'a [u8]) -> Option<Chat<'a>> {
        let u16_at = |at: usize| -> Option<usize> {
            Some(usize::from(*section.get(at)?) | usize::from(*section.get(at + 1)?) << 8)
        };
        let flags = *section.first()?;
        let pool = section.get(HEAD..)?;
        if flags > 15 || *section.get(1)? != 0 || u16_at(6)? != pool.len() {
            return None;
        }
        let mut texts = [None; TEXTS];
        for (i, text) in texts.iter_mut().enumerate() {
            let (offset, length) = (u16_at(8 + 4 * i)?, u16_at(10 + 4 * i)?);
            if offset != NONE {
                *text = Some(pool.get(offset..offset.checked_add(length)?)?);
            } else if length != 0 || !matches!(i, START_SYSTEM | SYSTEM_USER) {
                return None;
            }
        }
        if texts[START_SYSTEM].is_some() != texts[SYSTEM_USER].is_some() {
            return None;
        }
        let (from, length) = (u16_at(2)?, u16_at(4)?);
        let end = (from != NONE).then_some((from, length));
        match end {
            Some((from, length)) if length == 0 || from + length > texts[ASSISTANT_USER]?.len() => None,
            None if length != 0 => None,
            _ => Some(Chat { flags, end, texts }),
        }
    }

    /// One of the texts.
    pub fn text(&self, which: usize) -> Option<&'a [u8]> {
        self.texts.get(which).copied().flatten()
    }

    /// Flags of the section.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The token that ends an answer: where in the text behind it, and its length.
    pub fn end(&self) -> Option<(usize, usize)> {
        self.end
    }

    /// Whether a conversation may begin with a system message.
    pub fn has_system(&self) -> bool {
        self.texts[START_SYSTEM].is_some()
    }

    /// The token that ends an answer, as text.
    pub fn answer_end(&self) -> Option<&'a [u8]> {
        let (from, length) = self.end?;
        self.texts[ASSISTANT_USER]?.get(from..from.checked_add(length)?)
    }

    /// Adds a message to the text in `out`.
    ///
    /// # Errors
    /// `Order`, `System` or `Room`; the conversation is as before.
    pub fn add(&self, turn: &mut Turn, role: Role, content: &[u8], out: &mut [u8]) -> Result<(), ChatFault> {
        let (flag, next) = match role {
            Role::System => (1, Place::System),
            Role::User => (2, Place::User),
            Role::Assistant => (4, Place::Assistant),
        };
        let text = match (turn.place, role) {
            (Place::Start, Role::System) => self.texts[START_SYSTEM],
            (Place::Start, Role::User) => self.texts[START_USER],
            (Place::System, Role::User) => self.texts[SYSTEM_USER],
            (Place::User, Role::Assistant) => self.texts[USER_ASSISTANT],
            (Place::Assistant, Role::User) => self.texts[ASSISTANT_USER],
            (Place::Answered, Role::User) => {
                let from = self.end.map_or(0, |e| e.0);
                self.texts[ASSISTANT_USER].and_then(|t| t.get(from..))
            }
            _ => return Err(ChatFault::Order),
        };
        let text = text.ok_or(ChatFault::System)?;
        let content = if self.flags & flag != 0 { strip(content) } else { content };
        if role == Role::System && content.is_empty() && self.flags & SYSTEM_FILLED != 0 {
            return Err(ChatFault::System);
        }
        turn.put(&[text, content], out)?;
        turn.place = next;
        Ok(())
    }

    /// Adds what stands before an answer that the model is to write. The text is complete then: encode it, leave out the first
    /// `turn.skip` ids, run the rest.
    ///
    /// # Errors
    /// `Order` if the last message is not a user's, `Room`.
    pub fn prompt(&self, turn: &mut Turn, out: &mut [u8]) -> Result<(), ChatFault> {
        if turn.place != Place::User {
            return Err(ChatFault::Order);
        }
        turn.put(&[self.texts[USER_PROMPT].unwrap_or_default()], out)?;
        turn.place = Place::Prompt;
        Ok(())
    }

    /// The model has written its answer, whose ids are in it: writes the token that ends an answer over the text before. Run its id, unless
    /// the model chose it itself and it was run; then add the user's next message.
    ///
    /// # Errors
    /// `Order` without an answer, `NoEnd`, `Room`.
    pub fn answered(&self, turn: &mut Turn, out: &mut [u8]) -> Result<(), ChatFault> {
        if turn.place != Place::Prompt {
            return Err(ChatFault::Order);
        }
        let end = self.answer_end().ok_or(ChatFault::NoEnd)?;
        let mut next = Turn { place: Place::Answered, length: 0, skip: 0 };
        next.put(&[end], out)?;
        next.skip = 0;
        *turn = next;
        Ok(())
    }
}

impl<'a> super::Tokenizer<'a> {
    /// How conversations are written; None: the blob has no form for them, or it is damaged.
    pub fn chat(&self) -> Option<Chat<'a>> {
        Chat::read(self.layout.chat.of(self.blob))
    }
}

impl Turn {
    /// After the ids of an answer's end were run, the text begins anew with that token, which is not run again.
    fn put(&mut self, parts: &[&[u8]], out: &mut [u8]) -> Result<(), ChatFault> {
        let again = self.place == Place::Answered;
        let from = if again { 0 } else { self.length };
        let total = parts.iter().try_fold(from, |n, p| n.checked_add(p.len())).ok_or(ChatFault::Room)?;
        let room = out.get_mut(from..total).ok_or(ChatFault::Room)?;
        let bytes = parts.iter().flat_map(|p| p.iter());
        for (to, byte) in room.iter_mut().zip(bytes) {
            *to = *byte;
        }
        self.length = total;
        if again {
            self.skip = 1;
        }
        Ok(())
    }
}

/// Without white space at both ends: White_Space and U+001C to U+001F, as the templates' language has it.
pub fn strip(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = (1..=3).find_map(|n| text.get(..n).filter(|w| is_white(w)).and(text.get(n..))) {
        text = rest;
    }
    while let Some(rest) = (1..=3).find_map(|n| {
        let at = text.len().checked_sub(n)?;
        text.get(at..).filter(|w| is_white(w)).and(text.get(..at))
    }) {
        text = rest;
    }
    text
}

/// Whether these bytes are one such character.
fn is_white(bytes: &[u8]) -> bool {
    match bytes {
        [b] => matches!(b, 0x09..=0x0d | 0x1c..=0x20),
        [0xc2, b] => matches!(b, 0x85 | 0xa0),
        [0xe1, 0x9a, 0x80] | [0xe2, 0x81, 0x9f] | [0xe3, 0x80, 0x80] => true,
        [0xe2, 0x80, b] => matches!(b, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf),
        _ => false,
    }
}
