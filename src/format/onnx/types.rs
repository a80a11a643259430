//! Element types of ONNX tensors.

/// An element type that we read and write; the number is that of the format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Elem {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I16 = 5,
    I32 = 6,
    I64 = 7,
    Bool = 9,
    F16 = 10,
    F64 = 11,
    U32 = 12,
    U64 = 13,
    U4 = 21,
    I4 = 22,
    U2 = 25,
    I2 = 26,
}

impl Elem {
    const ALL: [Elem; 16] = [
        Elem::F32,
        Elem::U8,
        Elem::I8,
        Elem::U16,
        Elem::I16,
        Elem::I32,
        Elem::I64,
        Elem::Bool,
        Elem::F16,
        Elem::F64,
        Elem::U32,
        Elem::U64,
        Elem::U4,
        Elem::I4,
        Elem::U2,
        Elem::I2,
    ];

    /// The number in a file.
    pub fn id(self) -> i32 {
        self as i32
    }

    /// None for what we do not know: text, complex numbers, floats of 8 bits.
    pub fn from_id(id: i32) -> Option<Elem> {
        Elem::ALL.into_iter().find(|e| e.id() == id)
    }

    /// As the format's own documentation calls it.
    pub fn name(self) -> &'static str {
        match self {
            Elem::F32 => "float32",
            Elem::U8 => "uint8",
            Elem::I8 => "int8",
            Elem::U16 => "uint16",
            Elem::I16 => "int16",
            Elem::I32 => "int32",
            Elem::I64 => "int64",
            Elem::Bool => "bool",
            Elem::F16 => "float16",
            Elem::F64 => "float64",
            Elem::U32 => "uint32",
            Elem::U64 => "uint64",
            Elem::U4 => "uint4",
            Elem::I4 => "int4",
            Elem::U2 => "uint2",
            Elem::I2 => "int2",
        }
    }

    /// Bits of an element as it is stored; below 8, the elements of a whole tensor follow each other without gaps.
    pub fn bits(self) -> u32 {
        match self {
            Elem::U2 | Elem::I2 => 2,
            Elem::U4 | Elem::I4 => 4,
            Elem::U8 | Elem::I8 | Elem::Bool => 8,
            Elem::U16 | Elem::I16 | Elem::F16 => 16,
            Elem::F32 | Elem::I32 | Elem::U32 => 32,
            Elem::I64 | Elem::F64 | Elem::U64 => 64,
        }
    }

    /// Bytes of so many elements; None if there is no such number.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        Some(elements.checked_mul(u64::from(self.bits()))?.div_ceil(8))
    }

    /// The oldest version of the format (`ir_version`) that has this type.
    pub fn ir_version(self) -> i64 {
        match self.bits() {
            2 => 13,
            4 => 10,
            _ => 3,
        }
    }
}
