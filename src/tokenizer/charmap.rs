//! SentencePiece's `precompiled_charsmap`: u32 bytes of a double array, its u32 units, then strings that end with a zero byte, all
//! little-endian. The array is a trie over UTF-8; its values are offsets in the strings. Every number is hostile.

/// Text that starts at some offset is replaced by a string if a key of the map starts there.
#[derive(Debug, Clone)]
pub(super) struct Charmap {
    units: Vec<u32>,
    strings: String,
}

/// Longest key that [`Charmap::entries`] lists, in bytes.
const MAX_KEY: usize = 64;

impl Charmap {
    /// Reads the bytes of the map; None for an empty one.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Option<Charmap>, &'static str> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (size, rest) = bytes.split_first_chunk().ok_or("the size of its trie is cut short")?;
        let size = u32::from_le_bytes(*size) as usize;
        if !size.is_multiple_of(4) || size < 4 || size >= rest.len() {
            return Err("the size of its trie is wrong");
        }
        let (trie, strings) = rest.split_at(size);
        let units = trie.chunks_exact(4).map(|unit| u32::from_le_bytes(unit.try_into().unwrap_or([0; 4]))).collect();
        let strings = String::from_utf8(strings.to_vec()).map_err(|_| "its strings are not UTF-8")?;
        Ok(Some(Charmap { units, strings }))
    }

    /// Units that a label leads on from, relative to a unit.
    fn offset(unit: u32) -> usize {
        (unit >> 10 << ((unit & 1 << 9) >> 6)) as usize
    }

    /// The node behind `byte`: place of its children, and of its value if it has one.
    fn step(&self, base: usize, byte: u8) -> Option<(usize, bool)> {
        let at = base ^ usize::from(byte);
        let unit = *self.units.get(at)?;
        // A label with the top bit is a value.
        (unit & 0x8000_00ff == u32::from(byte)).then(|| (at ^ Self::offset(unit), unit >> 8 & 1 == 1))
    }

    fn root(&self) -> usize {
        self.units.first().map_or(0, |&unit| Self::offset(unit))
    }

    fn string(&self, base: usize) -> Option<&str> {
        let at = (*self.units.get(base)? & 0x7fff_ffff) as usize;
        self.strings.get(at..)?.split('\0').next()
    }

    /// The longest key that `text` starts with: its bytes and what replaces it.
    pub fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        let (mut base, mut found) = (self.root(), None);
        for (k, &byte) in text.iter().enumerate() {
            let Some((next, value)) = self.step(base, byte) else { break };
            if value {
                found = self.string(next).map(|text| (k + 1, text)).or(found);
            }
            base = next;
        }
        found
    }

    /// Every key with what replaces it, in ascending order of bytes.
    ///
    /// # Errors
    /// If the array has loops or shares more branches than real ones do, or a key is too long or not UTF-8.
    pub fn entries(&self) -> Result<Vec<(String, &str)>, &'static str> {
        let mut found = Vec::new();
        // Equal branches are shared: SentencePiece's own maps have ten times as many nodes as units.
        let mut visits = self.units.len().saturating_mul(40).min(1 << 22);
        self.walk(self.root(), &mut Vec::new(), &mut visits, &mut found)?;
        Ok(found)
    }

    fn walk<'a>(
        &'a self,
        base: usize,
        key: &mut Vec<u8>,
        visits: &mut usize,
        found: &mut Vec<(String, &'a str)>,
    ) -> Result<(), &'static str> {
        if key.len() > MAX_KEY {
            return Err("one of its keys is too long");
        }
        for byte in 1..=255 {
            let Some((next, value)) = self.step(base, byte) else { continue };
            *visits = visits.checked_sub(1).ok_or("its trie has loops")?;
            key.push(byte);
            if value {
                let text = self.string(next).ok_or("one of its strings is missing")?;
                found.push((String::from_utf8(key.clone()).map_err(|_| "one of its keys is not UTF-8")?, text));
            }
            self.walk(next, key, visits, found)?;
            key.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map: units of the double array, and strings.
    fn map(units: &[u32], strings: &[u8]) -> Vec<u8> {
        let mut out = (4 * units.len() as u32).to_le_bytes().to_vec();
        units.iter().for_each(|unit| out.extend(unit.to_le_bytes()));
        out.extend_from_slice(strings);
        out
    }

    /// `a` becomes `bc`: the root leads to 1 ^ b'a', and that to its value at 2.
    fn good() -> Vec<u32> {
        let mut units = vec![0u32; 128];
        units[0] = 1 << 10;
        units[1 ^ 0x61] = (1 ^ 0x61 ^ 2) << 10 | 1 << 8 | 0x61;
        units[2] = 0x8000_0000 | 1;
        units
    }

    #[test]
    fn a_key_and_what_replaces_it() {
        let map = Charmap::read(&map(&good(), b"xbc\0y\0")).expect("a map").expect("not empty");
        assert_eq!(map.longest(b"aa"), Some((1, "bc")));
        assert_eq!(map.longest(b"b"), None);
        assert_eq!(map.entries(), Ok(vec![("a".to_string(), "bc")]));
        assert!(Charmap::read(b"").is_ok_and(|map| map.is_none()));
    }

    #[test]
    fn damaged_maps_are_refused() {
        let refused = |bytes: &[u8]| Charmap::read(bytes).map(|_| ());
        assert_eq!(refused(&[4, 0, 0]), Err("the size of its trie is cut short"));
        for size in [0u32, 3, 8, 400, u32::MAX] {
            let bytes = [&size.to_le_bytes()[..], &[0; 8]].concat();
            assert_eq!(refused(&bytes), Err("the size of its trie is wrong"), "{size}");
        }
        assert_eq!(refused(&map(&good(), b"\xff\0")), Err("its strings are not UTF-8"));
    }

    #[test]
    fn loops_and_values_outside_end() {
        let entries = |units: &[u32]| {
            let map = Charmap::read(&map(units, b"xbc\0")).expect("a map").expect("not empty");
            map.entries().map(|found| found.len())
        };
        let mut around = good();
        around[1 ^ 0x61] = 0x61 << 10 | 0x61;
        assert_eq!(entries(&around), Err("one of its keys is too long"));
        let mut outside = good();
        outside[2] = 0x8000_0000 | 99;
        assert_eq!(entries(&outside), Err("one of its strings is missing"));
        let mut cut = good();
        cut[1 ^ 0x61] = 0x1f_ffff << 10 | 1 << 8 | 0x61;
        assert_eq!(entries(&cut), Err("one of its strings is missing"));
    }
}
