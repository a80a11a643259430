//! The stack machine of a pickle, in as far as it builds values.

use super::pickle::{global, Global, Id, Pickle, Tensor, Value};
use crate::error::{Error, Result};
use crate::limits::{MAX_PICKLE_DEPTH, MAX_PICKLE_VALUES};
use std::collections::BTreeMap;

impl<'a> Pickle<'a> {
    /// Runs a pickle that starts at byte `base` of its file.
    ///
    /// # Errors
    /// `Input` if it is damaged, `Unsupported` for names and operations that a state dict does not need.
    pub fn read(data: &'a [u8], base: usize) -> Result<Pickle<'a>> {
        let mut m = Machine { data, base, ..Machine::default() };
        if m.take(2)?.first() != Some(&0x80) || !(2..=4).contains(&data[1]) {
            return Err(m.unsupported("it is no pickle of protocol 2, 3 or 4"));
        }
        loop {
            m.op = m.pos;
            let op = m.number(1)? as u8;
            if op == b'.' {
                break;
            }
            m.step(op)?;
        }
        if m.pos != data.len() {
            return Err(m.bad(format!("{} bytes follow its end", data.len() - m.pos)));
        }
        let root = m.pop()?;
        if !m.stack.is_empty() || !m.marks.is_empty() {
            return Err(m.bad("values are left over at its end"));
        }
        Ok(Pickle { values: m.values, root })
    }
}

#[derive(Default)]
struct Machine<'a> {
    data: &'a [u8],
    base: usize,
    pos: usize,
    /// Where the operation at hand starts, for messages.
    op: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Lengths of the stack at the marks that are open.
    marks: Vec<usize>,
    /// A map, because the file chooses the numbers.
    memo: BTreeMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn place(&self, e: Error) -> Error {
        e.at_offset((self.base + self.op) as u64)
    }

    fn bad(&self, what: impl std::fmt::Display) -> Error {
        let e = Error::input(format!("the pickle of the checkpoint is damaged: {what}"));
        self.place(e).hint("the file is incomplete or damaged; fetch it again")
    }

    fn unsupported(&self, what: impl std::fmt::Display) -> Error {
        let e = Error::unsupported(format!("the pickle of the checkpoint is not a plain state dict: {what}"));
        self.place(e).hint(
            "no code of a checkpoint is ever run; ask its author for safetensors, or convert it where you trust it",
        )
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let data = self.data;
        match self.pos.checked_add(n).and_then(|end| data.get(self.pos..end)) {
            Some(s) => {
                self.pos += n;
                Ok(s)
            }
            None => Err(self.bad(format!("{n} bytes wanted, {} left", data.len() - self.pos))),
        }
    }

    fn number(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    }

    /// Bytes after a length of `n` bytes.
    fn counted(&mut self, n: usize) -> Result<&'a [u8]> {
        let len = self.number(n)?;
        // More than the address space is more than is left, too.
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn text(&mut self, n: usize) -> Result<()> {
        let bytes = self.counted(n)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.bad("a text is not UTF-8"))?;
        self.push(Value::Text(text))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.data[self.pos..];
        let n = rest.iter().position(|b| *b == b'\n').ok_or_else(|| self.bad("a name without end"))?;
        self.pos += n + 1;
        std::str::from_utf8(&rest[..n]).map_err(|_| self.bad("a name is not UTF-8"))
    }

    /// A new value on the stack.
    fn push(&mut self, v: Value<'a>) -> Result<()> {
        if self.values.len() >= MAX_PICKLE_VALUES {
            return Err(self.unsupported(format!("it has more than {MAX_PICKLE_VALUES} values")));
        }
        self.values.push(v);
        self.push_again((self.values.len() - 1) as Id)
    }

    /// A value that is there already.
    fn push_again(&mut self, id: Id) -> Result<()> {
        if self.stack.len() >= MAX_PICKLE_VALUES {
            return Err(self.unsupported(format!("it puts more than {MAX_PICKLE_VALUES} values on its stack")));
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(self.bad("it takes a value from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| self.bad("it takes a value from an empty stack"))
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(|s| s.last().copied()).ok_or_else(|| self.bad("it uses an empty stack"))
    }

    /// Everything since the last mark.
    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let at = self.marks.pop().ok_or_else(|| self.bad("it ends a group that it did not begin"))?;
        Ok(self.stack.split_off(at.min(self.stack.len())))
    }

    fn pairs(&self, ids: &[Id]) -> Result<Vec<(Id, Id)>> {
        if !ids.len().is_multiple_of(2) {
            return Err(self.bad("a key without value"));
        }
        Ok(ids.chunks_exact(2).map(|p| (p[0], p[1])).collect())
    }

    fn tuple(&mut self, n: usize) -> Result<()> {
        let mut ids = vec![0; n];
        for id in ids.iter_mut().rev() {
            *id = self.pop()?;
        }
        self.push(Value::Tuple(ids))
    }

    fn add_items(&mut self, ids: &[Id]) -> Result<()> {
        let pairs = self.pairs(ids)?;
        let dict = self.top()? as usize;
        match &mut self.values[dict] {
            Value::Dict(items) => items.extend(pairs),
            _ => return Err(self.bad("it sets items of what is no dict")),
        }
        Ok(())
    }

    fn append(&mut self, ids: &[Id]) -> Result<()> {
        let list = self.top()? as usize;
        match &mut self.values[list] {
            Value::List(items) => items.extend(ids),
            _ => return Err(self.bad("it appends to what is no list")),
        }
        Ok(())
    }

    fn put(&mut self, n: u64) -> Result<()> {
        let id = self.top()?;
        self.memo.insert(n as u32, id);
        if self.memo.len() > MAX_PICKLE_VALUES {
            return Err(self.unsupported(format!("it stores more than {MAX_PICKLE_VALUES} values")));
        }
        Ok(())
    }

    fn recall(&mut self, n: u64) -> Result<()> {
        let id = self.memo.get(&(n as u32)).copied();
        self.push_again(id.ok_or_else(|| self.bad(format!("it recalls value {n}, which it never stored")))?)
    }

    fn look_up(&mut self, module: &str, name: &str) -> Result<()> {
        let Some(g) = global(module, name) else {
            let short = |s: &str| s.chars().take(60).collect::<String>();
            return Err(self.unsupported(format!("it asks for `{}.{}`", short(module), short(name))));
        };
        self.push(Value::Global(g))
    }

    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            // A frame only says how much may be read at once.
            0x95 => {
                let n = self.number(8)?;
                if n > (self.data.len() - self.pos) as u64 {
                    return Err(self.bad(format!("a frame of {n} bytes, {} are left", self.data.len() - self.pos)));
                }
            }
            b'(' => {
                if self.marks.len() >= MAX_PICKLE_DEPTH {
                    return Err(self.unsupported(format!("more than {MAX_PICKLE_DEPTH} groups lie in each other")));
                }
                self.marks.push(self.stack.len());
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let id = self.top()?;
                self.push_again(id)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool)?,
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let v = self.number(4)? as u32 as i32;
                self.push(Value::Int(i64::from(v)))?;
            }
            0x8A => self.long(1)?,
            0x8B => self.long(4)?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)?;
            }
            0x8C => self.text(1)?,
            b'X' => self.text(4)?,
            0x8D => self.text(8)?,
            b'C' | b'U' => self.blob(1)?,
            b'B' | b'T' => self.blob(4)?,
            0x8E => self.blob(8)?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'a' => {
                let id = self.pop()?;
                self.append(&[id])?;
            }
            b'e' => {
                let ids = self.since_mark()?;
                self.append(&ids)?;
            }
            b'l' => {
                let ids = self.since_mark()?;
                self.push(Value::List(ids))?;
            }
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let ids = self.since_mark()?;
                self.push(Value::Tuple(ids))?;
            }
            0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let ids = self.since_mark()?;
                let pairs = self.pairs(&ids)?;
                self.push(Value::Dict(pairs))?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.add_items(&[key, value])?;
            }
            b'u' => {
                let ids = self.since_mark()?;
                self.add_items(&ids)?;
            }
            b'q' => {
                let n = self.number(1)?;
                self.put(n)?;
            }
            b'r' => {
                let n = self.number(4)?;
                self.put(n)?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'h' => {
                let n = self.number(1)?;
                self.recall(n)?;
            }
            b'j' => {
                let n = self.number(4)?;
                self.recall(n)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.look_up(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module as usize], &self.values[name as usize]) {
                    (Value::Text(module), Value::Text(name)) => self.look_up(module, name)?,
                    _ => return Err(self.bad("a name that is no text")),
                }
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(self.unsupported(format!("it uses operation 0x{op:02X}, which no state dict needs"))),
        }
        Ok(())
    }

    fn int(&mut self, n: usize) -> Result<()> {
        let v = self.number(n)?;
        self.push(Value::Int(v as i64))
    }

    fn blob(&mut self, n: usize) -> Result<()> {
        self.counted(n)?;
        self.push(Value::Other)
    }

    /// A two's complement number of any length.
    fn long(&mut self, n: usize) -> Result<()> {
        let bytes = self.counted(n)?;
        let negative = bytes.last().is_some_and(|b| *b >= 0x80);
        let v = match bytes.len() {
            0..=8 => {
                let mut wide = [if negative { 0xFF } else { 0 }; 8];
                wide[..bytes.len()].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => Value::Other,
        };
        self.push(v)
    }

    /// `('storage', type, key, device, elements)`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()? as usize;
        let what = "a reference that is no `('storage', type, key, device, elements)`";
        let Value::Tuple(ids) = &self.values[id] else { return Err(self.bad(what)) };
        let &[tag, kind, key, _, elements] = ids.as_slice() else { return Err(self.bad(what)) };
        let value = |id: Id| &self.values[id as usize];
        match (value(tag), value(kind), value(elements)) {
            (Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Int(n)) => {
                let storage = Value::Storage { dtype: *dtype, key, elements: *n };
                self.push(storage)
            }
            _ => Err(self.bad(what)),
        }
    }

    fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.pop()? as usize, self.pop()? as usize);
        let Value::Tuple(args) = &self.values[args] else { return Err(self.bad("arguments that are no tuple")) };
        match (&self.values[callee], args.as_slice()) {
            (Value::Global(Global::OrderedDict), []) => self.push(Value::Dict(Vec::new())),
            (Value::Global(Global::RebuildTensor), &[storage, offset, size, stride, _, _]) => {
                self.push(Value::Tensor(Tensor { storage, offset, size, stride }))
            }
            // The seventh argument marks values that are to be negated or conjugated when read.
            (Value::Global(Global::RebuildTensor), &[storage, offset, size, stride, _, _, marks]) => {
                match &self.values[marks as usize] {
                    Value::None => {}
                    Value::Dict(d) if d.is_empty() => {}
                    _ => return Err(self.unsupported("a tensor with a negative or conjugate bit")),
                }
                self.push(Value::Tensor(Tensor { storage, offset, size, stride }))
            }
            (Value::Global(Global::RebuildParameter), &[tensor, _, _]) => {
                if !matches!(&self.values[tensor as usize], Value::Tensor(_)) {
                    return Err(self.bad("a parameter without tensor"));
                }
                self.push_again(tensor)
            }
            (Value::Global(Global::Storage(_)), _) => Err(self.unsupported("it calls a storage type")),
            (Value::Global(_), args) => {
                let n = args.len();
                Err(self.unsupported(format!("it calls a constructor with {n} arguments that it does not take")))
            }
            _ => Err(self.bad("it calls what is not callable")),
        }
    }

    /// Attributes. A state dict may have some (`_metadata`), none of them a tensor of the model.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let object = self.top()? as usize;
        match &self.values[object] {
            Value::Dict(_) => Ok(()),
            _ => Err(self.unsupported("it sets attributes of what is no dict")),
        }
    }
}
