//! Walks over the bytes of a model before anything is decoded: every length lies within what is around it, every number ends, and what the
//! messages will take in memory is in proportion to the file. An empty node takes two bytes in a file and two hundred in memory.

use super::messages::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::error::{Error, Result};
use prost::bytes::Bytes;
use std::mem::size_of;

/// Memory that any file may take, and what each of its bytes may take besides.
const FREE: u64 = 64 << 20;
const PER_BYTE: u64 = 24;
const SMALL_VARINT: usize = 10;

/// The messages that are decoded. None contains itself, so this is also how deep a file nests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    OperatorSet,
    Entry,
}

/// What a field of bytes holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Message(Message),
    Text,
    /// Bytes that stay where they are.
    Bytes,
    /// Numbers of any length one after the other, each of so many bytes in memory.
    Numbers(u64),
    /// Floats one after the other.
    Floats,
    /// Passed over when decoding.
    Unknown,
}

impl Message {
    fn name(self) -> &'static str {
        match self {
            Message::Model => "the model",
            Message::Graph => "the graph",
            Message::Node => "a node",
            Message::Attribute => "an attribute",
            Message::Tensor => "a tensor",
            Message::ValueInfo => "an input or output",
            Message::Type => "a type",
            Message::TensorType => "the type of a tensor",
            Message::Shape => "a shape",
            Message::Dimension => "a dimension",
            Message::OperatorSet => "an operator set",
            Message::Entry => "a pair of key and value",
        }
    }

    fn size(self) -> usize {
        match self {
            Message::Model => size_of::<ModelProto>(),
            Message::Graph => size_of::<GraphProto>(),
            Message::Node => size_of::<NodeProto>(),
            Message::Attribute => size_of::<AttributeProto>(),
            Message::Tensor => size_of::<TensorProto>(),
            Message::ValueInfo => size_of::<ValueInfoProto>(),
            Message::Type => size_of::<TypeProto>(),
            Message::TensorType => size_of::<TensorTypeProto>(),
            Message::Shape => size_of::<TensorShapeProto>(),
            Message::Dimension => size_of::<Dimension>(),
            Message::OperatorSet => size_of::<OperatorSetIdProto>(),
            Message::Entry => size_of::<StringStringEntryProto>(),
        }
    }

    /// The fields that `messages` decodes; a test holds the two together.
    fn field(self, tag: u64) -> Field {
        use Field::{Bytes, Floats, Numbers, Text};
        let inner = Field::Message;
        match (self, tag) {
            (Message::Model, 2..=4 | 6) => Text,
            (Message::Model, 7) => inner(Message::Graph),
            (Message::Model, 8) => inner(Message::OperatorSet),
            (Message::Model, 14) => inner(Message::Entry),
            (Message::Model, 25) => Bytes,
            (Message::Graph, 1) => inner(Message::Node),
            (Message::Graph, 2 | 10) => Text,
            (Message::Graph, 5) => inner(Message::Tensor),
            (Message::Graph, 11..=13) => inner(Message::ValueInfo),
            (Message::Graph, 15) => Bytes,
            (Message::Node, 1..=4 | 6 | 7) => Text,
            (Message::Node, 5) => inner(Message::Attribute),
            (Message::Attribute, 1 | 21) => Text,
            (Message::Attribute, 4 | 6 | 9..=11) => Bytes,
            (Message::Attribute, 5) => inner(Message::Tensor),
            (Message::Attribute, 7) => Floats,
            (Message::Attribute, 8) => Numbers(8),
            (Message::Tensor, 1 | 7 | 11) => Numbers(8),
            (Message::Tensor, 5) => Numbers(4),
            (Message::Tensor, 4 | 10) => Floats,
            (Message::Tensor, 8) => Text,
            (Message::Tensor, 9) => Bytes,
            (Message::Tensor, 13) => inner(Message::Entry),
            (Message::ValueInfo, 1) => Text,
            (Message::ValueInfo, 2) => inner(Message::Type),
            (Message::Type, 1) => inner(Message::TensorType),
            (Message::Type, 4 | 5 | 8 | 9) => Bytes,
            (Message::TensorType, 2) => inner(Message::Shape),
            (Message::Shape, 1) => inner(Message::Dimension),
            (Message::Dimension, 2) => Text,
            (Message::OperatorSet, 1) => Text,
            (Message::Entry, 1 | 2) => Text,
            _ => Field::Unknown,
        }
    }
}

/// Checks the bytes of a whole model.
///
/// # Errors
/// `Input` with the offset of what is wrong.
pub(super) fn scan(file: &[u8]) -> Result<()> {
    let mut s = Scan { file, memory: 0, limit: FREE + PER_BYTE * file.len() as u64 };
    s.message(Message::Model, 0, file.len())
}

struct Scan<'a> {
    file: &'a [u8],
    /// What decoding takes: lists grow by doubling, so each element counts twice.
    memory: u64,
    limit: u64,
}

impl Scan<'_> {
    fn message(&mut self, message: Message, start: usize, end: usize) -> Result<()> {
        self.takes(2 * message.size() as u64, start)?;
        let mut at = start;
        while at < end {
            let key_at = at;
            let key = self.varint(&mut at, end, message)?;
            let tag = key >> 3;
            if tag == 0 || tag > 0x1FFF_FFFF {
                return Err(wrong(message, "has a field whose number does not exist", key_at));
            }
            match key & 7 {
                0 => {
                    self.varint(&mut at, end, message)?;
                    self.takes(16, key_at)?;
                }
                1 => self.skip(&mut at, end, 8, message)?,
                5 => self.skip(&mut at, end, 4, message)?,
                2 => {
                    let len_at = at;
                    let len = self.varint(&mut at, end, message)?;
                    if len > (end - at) as u64 {
                        let what = format!("has a field of {len} bytes where {} are left", end - at);
                        return Err(wrong(message, &what, len_at));
                    }
                    let from = at;
                    at += len as usize;
                    self.field(message.field(tag), from, at)?;
                }
                3 | 4 => return Err(wrong(message, "has a group, which the format does not use", key_at)),
                _ => return Err(wrong(message, "has a field of an unknown kind", key_at)),
            }
        }
        Ok(())
    }

    fn field(&mut self, field: Field, from: usize, to: usize) -> Result<()> {
        let len = (to - from) as u64;
        match field {
            Field::Message(m) => self.message(m, from, to),
            Field::Text => self.takes(2 * size_of::<String>() as u64 + len, from),
            Field::Bytes => self.takes(2 * size_of::<Bytes>() as u64, from),
            // A number takes at least a byte, and the bytes of a run that ends in the middle of one are refused when it is decoded.
            Field::Numbers(size) => {
                let numbers = self.file[from..to].iter().filter(|b| **b < 0x80).count() as u64;
                self.takes(2 * size * numbers, from)
            }
            Field::Floats => self.takes(2 * len, from),
            Field::Unknown => Ok(()),
        }
    }

    fn varint(&self, at: &mut usize, end: usize, message: Message) -> Result<u64> {
        let start = *at;
        let mut value = 0u64;
        for (i, byte) in self.file[start..end].iter().take(SMALL_VARINT).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                if i == SMALL_VARINT - 1 && *byte > 1 {
                    break;
                }
                *at = start + i + 1;
                return Ok(value);
            }
        }
        Err(wrong(message, "has a number that does not end", start))
    }

    fn skip(&mut self, at: &mut usize, end: usize, bytes: usize, message: Message) -> Result<()> {
        if bytes > end - *at {
            return Err(wrong(message, "ends within a number", *at));
        }
        self.takes(16, *at)?;
        *at += bytes;
        Ok(())
    }

    fn takes(&mut self, memory: u64, at: usize) -> Result<()> {
        self.memory += memory;
        if self.memory > self.limit {
            let what = "it describes more empty things than its length allows: reading it would take far more memory than it has bytes";
            return Err(Error::input(what).at_offset(at as u64));
        }
        Ok(())
    }
}

fn wrong(message: Message, what: &str, at: usize) -> Error {
    Error::input(format!("{} {what}", message.name()))
        .at_offset(at as u64)
        .hint("the file is damaged or no ONNX model; fetch or export it again")
}

#[cfg(test)]
mod tests {
    use super::super::messages::DimensionValue;
    use super::*;
    use prost::Message as _;

    /// Every field that `messages` has, so that a new one does not compile here.
    fn full() -> ModelProto {
        let text = || "t".to_string();
        let raw = || Bytes::from_static(b"raw");
        let entry = || StringStringEntryProto { key: text(), value: text() };
        let tensor = || TensorProto {
            dims: vec![1],
            data_type: 1,
            float_data: vec![1.0],
            int32_data: vec![1],
            int64_data: vec![1],
            name: text(),
            raw_data: Some(raw()),
            double_data: vec![1.0],
            uint64_data: vec![1],
            external_data: vec![entry()],
            data_location: Some(1),
        };
        let attribute = AttributeProto {
            name: text(),
            f: Some(1.0),
            i: Some(1),
            s: Some(raw()),
            t: Some(Box::new(tensor())),
            g: Some(raw()),
            floats: vec![1.0],
            ints: vec![1],
            strings: vec![raw()],
            tensors: vec![raw()],
            graphs: vec![raw()],
            r#type: 1,
            ref_attr_name: text(),
        };
        let dim = |v| Dimension { value: Some(v) };
        let dims = vec![dim(DimensionValue::Value(1)), dim(DimensionValue::Param(text()))];
        let r#type = TypeProto {
            tensor_type: Some(TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim: dims }) }),
            sequence_type: Some(raw()),
            map_type: Some(raw()),
            sparse_tensor_type: Some(raw()),
            optional_type: Some(raw()),
        };
        let info = || ValueInfoProto { name: text(), r#type: Some(r#type.clone()) };
        let node = NodeProto {
            input: vec![text()],
            output: vec![text()],
            name: text(),
            op_type: text(),
            attribute: vec![attribute],
            doc_string: text(),
            domain: text(),
        };
        let graph = GraphProto {
            node: vec![node],
            name: text(),
            initializer: vec![tensor()],
            doc_string: text(),
            input: vec![info()],
            output: vec![info()],
            value_info: vec![info()],
            sparse_initializer: vec![raw()],
        };
        ModelProto {
            ir_version: 1,
            producer_name: text(),
            producer_version: text(),
            domain: text(),
            model_version: 1,
            doc_string: text(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: text(), version: 1 }],
            metadata_props: vec![entry()],
            functions: vec![raw()],
        }
    }

    /// Fields of a message that hold bytes, and those within.
    fn known(message: Message, mut data: &[u8]) -> usize {
        let mut count = 0;
        while !data.is_empty() {
            let (tag, wire) = prost::encoding::decode_key(&mut data).unwrap();
            if wire != prost::encoding::WireType::LengthDelimited {
                prost::encoding::skip_field(wire, tag, &mut data, Default::default()).unwrap();
                continue;
            }
            let len = prost::encoding::decode_varint(&mut data).unwrap() as usize;
            let field = message.field(tag.into());
            assert!(field != Field::Unknown, "field {tag} of {}", message.name());
            if let Field::Message(m) = field {
                count += known(m, &data[..len]);
            }
            data = &data[len..];
            count += 1;
        }
        count
    }

    #[test]
    fn the_table_knows_every_field_that_is_decoded() {
        let bytes = full().encode_to_vec();
        assert!(known(Message::Model, &bytes) > 80);
        scan(&bytes).unwrap();
        assert_eq!(ModelProto::decode(&bytes[..]).unwrap(), full());
    }
}
