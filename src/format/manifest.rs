//! The manifest message; schemas/manifest.proto is the schema, a test holds the two together.

use prost::Message;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    #[prost(string, tag = "1")]
    pub generator: String,
    #[prost(string, tag = "2")]
    pub model: String,
    #[prost(string, tag = "3")]
    pub architecture: String,
    #[prost(message, repeated, tag = "4")]
    pub sources: Vec<SourceFile>,
    #[prost(message, repeated, tag = "5")]
    pub transforms: Vec<Transform>,
    #[prost(string, tag = "6")]
    pub weight_rule: String,
    #[prost(string, tag = "7")]
    pub activation_rule: String,
    #[prost(string, tag = "8")]
    pub hidden_activation: String,
    #[prost(string, repeated, tag = "9")]
    pub tensor_names: Vec<String>,
    #[prost(bool, tag = "10")]
    pub native: bool,
    #[prost(string, tag = "11")]
    pub target: String,
    #[prost(string, tag = "12")]
    pub chat_template: String,
    #[prost(message, optional, tag = "13")]
    pub sampling: Option<SamplingDefaults>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SourceFile {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub sha256: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Transform {
    #[prost(string, tag = "1")]
    pub name: String,
    /// A sorted map, so that the bytes are the same every time.
    #[prost(btree_map = "string, string", tag = "2")]
    pub parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SamplingDefaults {
    #[prost(bool, tag = "1")]
    pub sample: bool,
    #[prost(string, tag = "2")]
    pub temperature: String,
    #[prost(uint32, tag = "3")]
    pub top_k: u32,
}

impl Manifest {
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// # Errors
    /// `Input` if the bytes are no manifest.
    pub fn from_bytes(data: &[u8]) -> crate::Result<Manifest> {
        Manifest::decode(data).map_err(|e| crate::Error::input(format!("the manifest is damaged: {e}")))
    }
}
