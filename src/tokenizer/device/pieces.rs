//! Section 10: pieces in a trie, found by walking down and spelled by counting terminals.

use super::bits::{byte, le, varint, Permutation};
use super::{Bad, Fault, Span, Tokenizer};

/// Longest piece of the format, in bytes.
pub const LONGEST: u32 = 2047;

/// Section 10, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of the longest piece.
    pub longest: u32,
    /// Place of a terminal, depth first, to its id.
    places: Permutation,
    nodes: Span,
}

/// One node: where its parts are among the nodes.
struct Node {
    label: u32,
    length: u32,
    terminal: bool,
    last: bool,
    /// Bytes of the list of children behind the label, and terminals in it.
    list: u32,
    below: u32,
}

impl Node {
    fn read(nodes: &[u8], at: u32) -> Option<Node> {
        let head = *nodes.get(at as usize)?;
        let mut label = at + 1;
        let (mut list, mut below) = (0, 0);
        if head & 64 != 0 {
            list = varint(nodes, &mut label)?;
            below = varint(nodes, &mut label)?;
            if list == 0 || below == 0 {
                return None;
            }
        }
        let node =
            Node { label, length: u32::from(head & 31), terminal: head & 32 != 0, last: head & 128 != 0, list, below };
        // A node that is neither would be a dead end.
        let useful = node.length != 0 && (node.terminal || list != 0);
        (useful && node.end() as usize <= nodes.len()).then_some(node)
    }

    fn children(&self) -> u32 {
        self.label + self.length
    }

    fn end(&self) -> u32 {
        self.children() + self.list
    }

    fn terminals(&self) -> u32 {
        self.below + u32::from(self.terminal)
    }
}

/// Whether the nodes from `at` to `end` are a list with `terminals` terminals. What the nodes say of their own lists is taken for granted
/// here, and checked when the scan comes to them.
fn is_list(nodes: &[u8], mut at: u32, end: u32, mut terminals: u32) -> bool {
    let mut before = None;
    while at < end {
        let Some(node) = Node::read(nodes, at) else { return false };
        let first = Some(byte(nodes, node.label));
        if first <= before || node.end() > end || node.last != (node.end() == end) || node.terminals() > terminals {
            return false;
        }
        terminals -= node.terminals();
        before = first;
        at = node.end();
    }
    at == end && terminals == 0
}

impl Pieces {
    /// Checks the section over ids below `vocab`; offsets of a [`Bad`] count from the start of the blob.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(blob: &[u8], section: Span, vocab: u32) -> Result<Pieces, Bad> {
        let bad = |at: u32, what: &'static str| Err(Bad { at, what });
        let at = section.at;
        if section.len < 8 {
            return bad(at, "section of pieces is cut short");
        }
        let (count, longest) = (le(blob, at, 4), le(blob, at + 4, 2));
        if count > vocab {
            return bad(at, "more pieces than ids");
        }
        if longest == 0 || longest > LONGEST || le(blob, at + 6, 2) != 0 {
            return bad(at + 4, "longest piece out of range");
        }
        let Some((places, nodes)) = Permutation::place(vocab, at + 8, section.end()) else {
            return bad(at + 8, "order of the pieces is cut short");
        };
        if !places.check(blob) {
            return bad(at + 8, "order of the pieces has an id that is out of range");
        }
        let span = Span { at: nodes, len: section.end() - nodes };
        let bytes = span.of(blob);
        if !is_list(bytes, 0, span.len, count) {
            return bad(nodes, "list of pieces does not hold together");
        }
        // Nodes lie one behind the other, parents first, so each list is checked once and no stack is needed.
        let mut at = 0;
        while at < span.len {
            match Node::read(bytes, at) {
                Some(node) if node.list == 0 || is_list(bytes, node.children(), node.end(), node.below) => {
                    at = node.children()
                }
                _ => return bad(nodes + at, "list of pieces does not hold together"),
            }
        }
        Ok(Pieces { longest, places, nodes: span })
    }

    /// Above the first byte of any piece.
    pub fn root(&self) -> Walk {
        Walk { label: 0, left: 0, end: self.nodes.len, place: 0, terminal: false }
    }

    /// Goes down by one byte; whether a piece goes on like that. If not, the walk is over.
    pub fn step(&self, blob: &[u8], walk: &mut Walk, next: u8) -> bool {
        let nodes = self.nodes.of(blob);
        if walk.left > 0 {
            walk.left -= 1;
            walk.label += 1;
            return byte(nodes, walk.label - 1) == next;
        }
        let mut at = walk.label;
        let mut place = walk.place + u32::from(walk.terminal);
        while at < walk.end {
            let Some(node) = Node::read(nodes, at) else { return false };
            let first = byte(nodes, node.label);
            if first >= next {
                *walk = Walk {
                    label: node.label + 1,
                    left: node.length - 1,
                    end: node.end(),
                    place,
                    terminal: node.terminal,
                };
                return first == next;
            }
            place += node.terminals();
            at = node.end();
        }
        false
    }

    /// Id of the piece that ends here, if one does.
    pub fn found(&self, blob: &[u8], walk: &Walk) -> Option<u32> {
        (walk.terminal && walk.left == 0).then(|| self.places.get(blob, walk.place))
    }
}

/// A place in the trie: in a label, or at the end of one and so before the list of children.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Offset of the next byte of the label, or of the list of children.
    label: u32,
    /// Bytes of the label still to come.
    left: u32,
    /// Where the list of children ends.
    end: u32,
    /// Terminals before this node.
    place: u32,
    /// Whether a piece ends at the end of the label.
    terminal: bool,
}

/// Gives the bytes of the piece with this id to `put`, in order; whether there is one.
///
/// # Errors
/// What `put` says.
pub fn spell(t: Tokenizer<'_>, id: u32, put: &mut dyn FnMut(u8) -> Result<(), Fault>) -> Result<bool, Fault> {
    let pieces = &t.layout.pieces;
    let nodes = pieces.nodes.of(t.blob);
    let Some(mut place) = pieces.places.inverse(t.blob, id) else { return Ok(false) };
    let (mut at, mut given) = (0, 0);
    while let Some(node) = Node::read(nodes, at) {
        if place >= node.terminals() {
            if node.last {
                return Ok(false);
            }
            place -= node.terminals();
            at = node.end();
            continue;
        }
        for k in 0..node.length {
            put(byte(nodes, node.label + k))?;
        }
        given += node.length;
        if node.terminal && place == 0 {
            return Ok(true);
        }
        if given >= pieces.longest {
            return Err(Fault::Token);
        }
        place -= u32::from(node.terminal);
        at = node.children();
    }
    Ok(false)
}
