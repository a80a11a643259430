//! Writes GGUF files, right or wrong.

use bitnet_convert::format::gguf::MAGIC;

/// A value of the header in its wire form: type and bytes.
#[derive(Clone)]
pub struct Wire(pub u32, pub Vec<u8>);

pub fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

pub fn u32v(n: u32) -> Wire {
    Wire(4, n.to_le_bytes().to_vec())
}

pub fn f32v(f: f32) -> Wire {
    Wire(6, f.to_le_bytes().to_vec())
}

pub fn boolv(b: bool) -> Wire {
    Wire(7, vec![u8::from(b)])
}

pub fn strv(s: &str) -> Wire {
    Wire(8, text(s))
}

pub fn list(kind: u32, n: u64, bytes: Vec<u8>) -> Wire {
    Wire(9, [&kind.to_le_bytes()[..], &n.to_le_bytes(), &bytes].concat())
}

pub fn strings(items: &[&str]) -> Wire {
    list(8, items.len() as u64, items.iter().flat_map(|s| text(s)).collect())
}

pub fn i32s(items: &[i32]) -> Wire {
    list(5, items.len() as u64, items.iter().flat_map(|n| n.to_le_bytes()).collect())
}

pub fn f32s(items: &[f32]) -> Wire {
    list(6, items.len() as u64, items.iter().flat_map(|n| n.to_le_bytes()).collect())
}

/// A tensor: innermost dimension first, as the file has it.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub ne: Vec<u64>,
    pub id: u32,
    pub data: Vec<u8>,
    /// Instead of the right one.
    pub offset: Option<u64>,
}

pub fn tensor(name: &str, ne: &[u64], id: u32, data: Vec<u8>) -> Tensor {
    Tensor { name: name.into(), ne: ne.to_vec(), id, data, offset: None }
}

/// An F32 tensor that counts up.
pub fn floats(name: &str, ne: &[u64]) -> Tensor {
    let n: u64 = ne.iter().product();
    tensor(name, ne, 0, (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect())
}

#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub keys: Vec<(String, Wire)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
}

impl Default for Gguf {
    fn default() -> Gguf {
        Gguf { version: 3, keys: Vec::new(), tensors: Vec::new(), alignment: 32 }
    }
}

impl Gguf {
    pub fn key(mut self, name: &str, value: Wire) -> Gguf {
        self.keys.push((name.into(), value));
        self
    }

    pub fn with(mut self, t: Tensor) -> Gguf {
        self.tensors.push(t);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (name, Wire(kind, bytes)) in &self.keys {
            out.extend(text(name));
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let mut offset = 0u64;
        for t in &self.tensors {
            out.extend(text(&t.name));
            out.extend((t.ne.len() as u32).to_le_bytes());
            out.extend(t.ne.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(t.id.to_le_bytes());
            out.extend(t.offset.unwrap_or(offset).to_le_bytes());
            offset += t.data.len().next_multiple_of(self.alignment) as u64;
        }
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&t.data);
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out
    }
}
