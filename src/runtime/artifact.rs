//! A packed file opened as a model: program, weights, trace, manifest, everything checked.

use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
use crate::format::manifest::Manifest;
use crate::format::packed::{Kind, Packed};
use crate::kernels::dot::DotKernel;
use crate::kernels::tables::tables;
use crate::program::golden::Golden;
use crate::program::{check, codec, Program};
use crate::runtime::{Bound, Session};
use std::path::Path;

/// A model that may be run.
pub struct Artifact {
    pub packed: Packed,
    pub program: Program,
    pub golden: Golden,
    /// Absent in the lean file of a microcontroller build.
    pub manifest: Option<Manifest>,
}

impl Artifact {
    /// Opens `model.bitnet`, or the `model.bin` of an exported folder.
    ///
    /// # Errors
    /// `Input` with section, tensor and byte offset of what is wrong.
    pub fn open(path: &Path) -> Result<Artifact> {
        let file = if path.is_dir() { path.join("model.bin") } else { path.to_path_buf() };
        if path.is_dir() && !file.is_file() {
            return Err(Error::usage("this folder holds no exported model (no `model.bin` in it)")
                .at_file(path)
                .hint("export first: `bitnet-convert export --model DIR --format packed -o model.bitnet`"));
        }
        Artifact::from_packed(Packed::open(&file)?)
    }

    /// A model in memory; the path in messages is `<memory>`.
    pub fn from_packed_bytes(bytes: Vec<u8>) -> Result<Artifact> {
        Artifact::from_packed(Packed::from_bytes(bytes, Path::new("<memory>"))?)
    }

    pub fn from_packed(packed: Packed) -> Result<Artifact> {
        let path = packed.path.clone();
        let read = || -> Result<(Program, Golden, Option<Manifest>)> {
            let base = packed.offset(Kind::Program);
            let mut program = codec::decode(packed.require(Kind::Program)?, base)?;
            let at_manifest = |e: Error| e.at_offset(packed.offset(Kind::Manifest));
            let manifest = packed.section(Kind::Manifest).map(Manifest::from_bytes).transpose().map_err(at_manifest)?;
            if let Some(m) = &manifest {
                if m.tensor_names.len() != program.tensors.len() {
                    return Err(at_manifest(Error::input(
                        "the manifest names another number of tensors than the program has",
                    )));
                }
                for (t, name) in program.tensors.iter_mut().zip(&m.tensor_names) {
                    t.name.clone_from(name);
                }
            }
            check::check(&program).map_err(|e| e.at_offset(base))?;
            if packed.require(Kind::Tables)? != tables().to_bytes() {
                return Err(Error::input("its tables are not those of semantics version 1")
                    .at_offset(packed.offset(Kind::Tables)));
            }
            check::check_weights(&program, packed.require(Kind::Weights)?, packed.offset(Kind::Weights))?;
            let golden = match packed.section(Kind::Golden) {
                Some(g) => Golden::decode(g, packed.offset(Kind::Golden), program.vocab)?,
                None => Golden { layers: program.layers, prompts: Vec::new() },
            };
            if golden.layers != program.layers {
                return Err(Error::input("the golden trace has another number of layers than the program")
                    .at_offset(packed.offset(Kind::Golden)));
            }
            Ok((program, golden, manifest))
        };
        let (program, golden, manifest) = read().map_err(|e| e.at_file(&path))?;
        Ok(Artifact { packed, program, golden, manifest })
    }

    /// Refuses a program whose result is one vector for a text.
    ///
    /// # Errors
    /// `Usage`, naming the command for such models.
    pub fn need_logits(&self) -> Result<()> {
        match self.program.embedding() {
            None => Ok(()),
            Some(_) => Err(Error::usage("this model gives an embedding, not logits")
                .at_file(&self.packed.path)
                .hint("use `bitnet-convert embed ARTIFACT --text TEXT`")),
        }
    }

    /// An adapter that was made for this model.
    ///
    /// # Errors
    /// `Input` if the file is no adapter, is damaged or is of another model.
    pub fn adapter(&self, bytes: &[u8]) -> Result<Bound> {
        let adapter = Adapter::from_bytes(bytes)?;
        if adapter.model != self.program.model_id {
            let what = format!(
                "the adapter was made for model {:016x}, this is {:016x}",
                adapter.model, self.program.model_id
            );
            return Err(Error::input(what)
                .hint("make it again for this one: `bitnet-convert adapter --base M --lora DIR -o lora-bits.bin`"));
        }
        Bound::new(adapter, &self.program)
    }

    /// The weights section.
    pub fn weights(&self) -> &[u8] {
        // `from_packed` required it.
        self.packed.section(Kind::Weights).unwrap_or(&[])
    }

    pub fn session(&self, kernel: DotKernel) -> Session<'_> {
        Session::new(&self.program, self.weights(), kernel)
    }
}
