//! Section 7, the normalizer: characters of a segment as the model shall see them, given one at a time and kept nowhere.
//!
//! A place is a cursor: everything that has to be remembered between two characters is in it, so a copy goes on where it was made.

use super::bits::{byte, le};
use super::normal_map::{Classes, Image, Map, Pairs};
use super::text::{character, Cursor, Segment, STRAY};
use super::{Bad, Span, Tokenizer};

/// Scratch words a normalizer needs: none.
pub const WORK: u32 = 0;

const SPACE: u32 = 0x20;
const UNDERLINE: u32 = 0x2581;

/// What is done with mapped characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Plain,
    /// Marks in the order of their classes.
    Ordered,
    /// The same, then pairs are composed.
    Composed,
    /// Pairs of neighbours are composed from the left.
    Chained,
    /// Pairs lead from a key's start to its end; the map has what the whole becomes.
    Keyed,
}

/// Section 7, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normal {
    /// Whether the blob has a normalizer.
    pub present: bool,
    kind: Kind,
    split_hangul: bool,
    join_hangul: bool,
    spaces: u8,
    front: u8,
    map: Map,
    classes: Classes,
    pairs: Pairs,
    after: Map,
}

impl Normal {
    /// Checks the section; offsets of a [`Bad`] count from the start of the blob.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(blob: &[u8], section: Span) -> Result<Normal, Bad> {
        let bad = |at, what| Bad { at: section.at + at, what };
        if section.len < 20 {
            return Err(bad(0, "normalizer cut short"));
        }
        let [kind, flags, spaces, front] = [0, 1, 2, 3].map(|k| byte(blob, section.at + k));
        let kind = match kind {
            0 => Kind::Plain,
            1 => Kind::Ordered,
            2 => Kind::Composed,
            3 => Kind::Chained,
            4 => Kind::Keyed,
            _ => return Err(bad(0, "normalizer of an unknown kind")),
        };
        if flags > 3 {
            return Err(bad(1, "reserved flag of the normalizer"));
        }
        if spaces & 3 == 3 || spaces >> 4 & 3 == 3 {
            return Err(bad(2, "reserved rule for spaces"));
        }
        if front > 7 || front & 3 == 3 {
            return Err(bad(3, "reserved front mode of the normalizer"));
        }
        let mut at = section.at + 20;
        let mut spans = [Span::default(); 4];
        for (k, span) in spans.iter_mut().enumerate() {
            let len = le(blob, section.at + 4 + 4 * k as u32, 4);
            if len > section.end() - at {
                return Err(bad(4 + 4 * k as u32, "normalizer table past the end"));
            }
            *span = Span { at, len };
            at += len;
        }
        if at != section.end() {
            return Err(bad(4, "normalizer with something behind it"));
        }
        let [map, classes, pairs, after] = spans;
        Ok(Normal {
            present: true,
            kind,
            split_hangul: flags & 1 != 0,
            join_hangul: flags & 2 != 0,
            spaces,
            front,
            map: Map::read(blob, map)?,
            classes: Classes::read(blob, classes)?,
            pairs: Pairs::read(blob, pairs)?,
            after: Map::read(blob, after)?,
        })
    }
}

/// The next character of the normalized segment, or None at its end. Never called with `cursor.front` set.
pub fn next(t: Tokenizer<'_>, segment: Segment<'_>, cursor: &mut Cursor) -> Option<u32> {
    let walk = Walk { blob: t.blob, normal: &t.layout.normal, segment };
    let code = walk.spaced(cursor)?;
    Some(if code == SPACE && walk.normal.spaces & 0x40 != 0 { UNDERLINE } else { code })
}

/// Bits of [`Cursor::state`]: index of the next character in what a character of the text becomes (0–4), the same for the marks that are
/// being given (5–9), index in what the second map makes (10–14), and
const BEGUN: u32 = 1 << 15;
/// the spaces that are being given are not the last of the segment; class of these marks (24–31).
const INNER: u32 = 1 << 16;

/// A character of the mapped text: offset in the segment and index in what the character there becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item {
    at: u32,
    index: u32,
}

/// Where ordered text stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Next character; while marks are given, the first of the marks.
    item: Item,
    /// Class of the marks that are given, 0 if none are.
    class: u32,
    /// The next of them.
    mark: Item,
    /// What is composed with the marks of this class and of those before; 0 if nothing is.
    kept: u32,
}

impl Place {
    fn at(item: Item) -> Place {
        Place { item, class: 0, mark: Item { at: 0, index: 0 }, kept: 0 }
    }
}

struct Walk<'a> {
    blob: &'a [u8],
    normal: &'a Normal,
    segment: Segment<'a>,
}

impl<'a> Walk<'a> {
    /// What the first map makes of a character.
    fn image(&self, code: u32) -> Image<'a> {
        if code >= STRAY {
            return Image::itself(code);
        }
        let image = self.normal.map.image(self.blob, code);
        match self.normal.split_hangul && !image.listed {
            true => Image::hangul(code),
            false => image,
        }
    }

    /// The character of the text at an offset and the offset behind it; with keys, what the longest one that starts there stands for.
    fn source(&self, at: u32) -> Option<(u32, u32)> {
        let raw = |at: u32| {
            let (code, length) = character(self.segment.text.get(at as usize..)?)?;
            Some((code, at + length))
        };
        let (mut code, mut at) = raw(at)?;
        if self.normal.kind != Kind::Keyed {
            return Some((code, at));
        }
        while let Some((next, behind)) = raw(at) {
            let Some(made) = self.compose(code, next) else { break };
            (code, at) = (made, behind);
        }
        Some((code, at))
    }

    /// The mapped character at a place and the place behind it.
    fn item(&self, mut from: Item) -> Option<(u32, Item)> {
        loop {
            let (code, behind) = self.source(from.at)?;
            let image = self.image(code);
            let behind = Item { at: behind, index: 0 };
            if from.index < image.count {
                let next = Item { at: from.at, index: from.index + 1 };
                return Some((image.get(from.index), if next.index < image.count { next } else { behind }));
            }
            from = behind;
        }
    }

    fn class(&self, code: u32) -> u32 {
        self.normal.classes.get(self.blob, code)
    }

    fn compose(&self, first: u32, second: u32) -> Option<u32> {
        if self.normal.join_hangul {
            let (lead, vowel) = (first.wrapping_sub(0x1100), second.wrapping_sub(0x1161));
            if lead < 19 && vowel < 21 {
                return Some(0xac00 + (lead * 21 + vowel) * 28);
            }
            let (syllable, tail) = (first.wrapping_sub(0xac00), second.wrapping_sub(0x11a7));
            if syllable < 11172 && syllable % 28 == 0 && (1..28).contains(&tail) {
                return Some(first + tail);
            }
        }
        self.normal.pairs.get(self.blob, first, second)
    }

    /// The next character behind the stage in the middle.
    fn ordered(&self, place: &mut Place) -> Option<u32> {
        if place.class != 0 {
            return self.mark(place);
        }
        let (code, behind) = self.item(place.item)?;
        match self.normal.kind {
            Kind::Plain | Kind::Keyed => {
                place.item = behind;
                Some(code)
            }
            Kind::Chained => Some(self.chained(place, code, behind)),
            Kind::Ordered | Kind::Composed if self.class(code) != 0 => {
                *place = self.enter(place.item, 0, 0);
                self.mark(place)
            }
            Kind::Ordered => {
                place.item = behind;
                Some(code)
            }
            Kind::Composed => Some(self.composed(place, code, behind)),
        }
    }

    /// Joins a character that is all that its source becomes with the ones that follow it, as long as there are such pairs.
    fn chained(&self, place: &mut Place, code: u32, behind: Item) -> u32 {
        let alone = place.item.index == 0 && behind.index == 0;
        *place = Place::at(behind);
        let mut code = code;
        if !alone || self.normal.map.keeps(self.blob, code) || self.normal.join_hangul && is_syllable(code) {
            return code;
        }
        while let Some((next, behind)) = self.source(place.item.at) {
            let image = self.image(next);
            let made = if image.count == 1 { self.compose(code, image.get(0)) } else { None };
            let Some(made) = made else { break };
            code = made;
            place.item.at = behind;
        }
        code
    }

    /// Joins a starter with the marks that it takes and, if none is left between, with starters behind them.
    fn composed(&self, place: &mut Place, starter: u32, behind: Item) -> u32 {
        let (mut code, mut at) = (starter, behind);
        while let Some((next, after)) = self.item(at) {
            if self.class(next) == 0 {
                let Some(made) = self.compose(code, next) else { break };
                (code, at) = (made, after);
                continue;
            }
            let first = self.enter(at, code, 0);
            let mut last = first;
            while last.class != 0 {
                code = last.kept;
                last = self.enter(at, code, last.class);
            }
            if first.class != 0 {
                *place = first;
                return last.kept;
            }
            (code, at) = (last.kept, last.item);
        }
        *place = Place::at(at);
        code
    }

    /// The first mark of the lowest class above `above` that `kept` does not take; `kept` with all marks before it taken. Class 0 and the
    /// place behind the marks if there is none.
    fn enter(&self, marks: Item, mut kept: u32, mut above: u32) -> Place {
        loop {
            let (mut at, mut class) = (marks, 256);
            while let Some((code, after)) = self.item(at) {
                let found = self.class(code);
                if found == 0 {
                    break;
                }
                if found > above {
                    class = class.min(found);
                }
                at = after;
            }
            if class == 256 {
                return Place { kept, ..Place::at(at) };
            }
            let mut at = marks;
            while let Some((mark, behind)) = self.of_class(at, class) {
                let (code, _) = self.item(mark).unwrap_or((0, mark));
                match self.compose(kept, code).filter(|_| kept != 0) {
                    Some(made) => (kept, at) = (made, behind),
                    None => return Place { item: marks, class, mark, kept },
                }
            }
            above = class;
        }
    }

    /// The next mark of a class among marks, and the place behind it.
    fn of_class(&self, mut at: Item, class: u32) -> Option<(Item, Item)> {
        loop {
            let (code, behind) = self.item(at)?;
            match self.class(code) {
                0 => return None,
                found if found == class => return Some((at, behind)),
                _ => at = behind,
            }
        }
    }

    /// The mark at a place among marks; the place moves to the next of its class, or to the next class, or behind the marks.
    fn mark(&self, place: &mut Place) -> Option<u32> {
        let (code, behind) = self.item(place.mark)?;
        match self.of_class(behind, place.class) {
            Some((mark, _)) => place.mark = mark,
            None => {
                *place = self.enter(place.item, place.kept, place.class);
                if place.class == 0 {
                    place.kept = 0;
                }
            }
        }
        Some(code)
    }

    /// The next character behind the second map.
    fn mapped(&self, cursor: &mut Cursor) -> Option<u32> {
        loop {
            let state = cursor.state;
            let before = Place {
                item: Item { at: cursor.at, index: state & 31 },
                class: state >> 24,
                mark: Item { at: cursor.step, index: state >> 5 & 31 },
                kept: cursor.kept,
            };
            let mut place = before;
            let code = self.ordered(&mut place)?;
            let image = match code < STRAY {
                true => self.normal.after.image(self.blob, code),
                false => Image::itself(code),
            };
            let index = state >> 10 & 31;
            let more = index + 1 < image.count;
            if more {
                cursor.state = state + (1 << 10);
            } else {
                cursor.at = place.item.at;
                cursor.step = place.mark.at;
                cursor.kept = place.kept;
                cursor.state = state & (BEGUN | INNER) | place.item.index | place.mark.index << 5 | place.class << 24;
            }
            if index < image.count {
                return Some(image.get(index));
            }
        }
    }

    /// The next character behind the rules for spaces, with the one in front.
    fn spaced(&self, cursor: &mut Cursor) -> Option<u32> {
        let Normal { spaces, front, .. } = *self.normal;
        let [left, right, runs] = [spaces & 3, spaces >> 2 & 3, spaces >> 4 & 3];
        // Only at the ends of the text, or at those of every segment.
        let left = if spaces & 0x80 == 0 || self.segment.first { left } else { 0 };
        let right = if spaces & 0x80 == 0 || self.segment.last { right } else { 0 };
        if cursor.state & BEGUN == 0 {
            let mut peek = *cursor;
            while left != 0 && self.mapped(&mut peek).is_some_and(|code| strips(left, code)) {
                *cursor = peek;
            }
            cursor.state |= BEGUN;
            let anything = || self.spaced(&mut { *cursor }).is_some();
            let given = match front & 3 {
                0 => false,
                1 => anything(),
                _ if !self.segment.first => false,
                _ if !self.segment.last => true,
                _ if spaces >> 2 & 3 == 0 => !self.segment.text.is_empty(),
                _ => anything(),
            };
            if given {
                return Some(if front & 4 != 0 { UNDERLINE } else { SPACE });
            }
        }
        let code = self.mapped(cursor)?;
        if right != 0 {
            if !strips(right, code) {
                cursor.state &= !INNER;
            } else if cursor.state & INNER == 0 {
                let mut peek = *cursor;
                while strips(right, self.mapped(&mut peek)?) {}
                cursor.state |= INNER;
            }
        }
        if code != SPACE || runs == 0 {
            return Some(code);
        }
        let (mut peek, mut more) = (*cursor, false);
        while self.mapped(&mut peek) == Some(SPACE) {
            (*cursor, more) = (peek, true);
        }
        Some(if runs == 2 && more { UNDERLINE } else { SPACE })
    }
}

fn is_syllable(code: u32) -> bool {
    (0xac00..0xd7a4).contains(&code)
}

/// Whether a character is left out at an end of the text by a rule.
fn strips(rule: u8, code: u32) -> bool {
    match rule {
        1 => super::classes::is_white(code),
        2 => code == SPACE,
        _ => code == SPACE || code == UNDERLINE,
    }
}
