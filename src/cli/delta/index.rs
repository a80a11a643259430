use super::super::Printer;
use crate::delta::apply::Patch;
use crate::delta::store::Std;
use crate::error::{Error, Result};
use crate::fsio::AtomicFile;
use crate::http::encode;
use crate::update::Index;
use clap::Args;
use serde::Serialize;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

const NAME: &str = "index.json";
const MAGIC: [u8; 8] = *b"\x89BNDP\r\n\x1a";

/// List the patches of a folder for `update`
///
/// Reads and checks every patch in the folder (not in folders below it) and writes which versions there are and which patch leads where. The addresses are names in that folder, so the index belongs there, next to the patches, on any server of files. The same patches give the same bytes.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta index releases
  bitnet-convert delta index releases -o releases/index.json --json")]
pub struct MakeIndex {
    /// Folder with patches
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Output file; default: index.json in the folder
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Output {
    path: String,
    model: String,
    newest: Option<String>,
    files: usize,
    patches: usize,
    full_patches: usize,
}

impl MakeIndex {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let io = |e: std::io::Error| Error::io("read the folder", &self.folder, &e);
        let mut patches = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            // By content: what is no patch may lie there, too.
            let mut start = [0; MAGIC.len()];
            let read = path.is_file().then(|| File::open(&path).and_then(|mut f| f.read_exact(&mut start)));
            if !matches!(read, Some(Ok(()))) || start != MAGIC {
                continue;
            }
            let name = path.file_name().and_then(|n| n.to_str());
            let name = name.ok_or_else(|| Error::usage("the name of the patch is no text").at_file(&path))?;
            let patch = Patch::open(&Std, &path)?;
            patch.verified()?;
            patches.push((encode(name, b""), patch.header.clone()));
        }
        patches.sort_by(|a, b| a.0.cmp(&b.0));
        let index = Index::of(&patches).map_err(|e| e.at_file(&self.folder))?;
        let output = self.output.clone().unwrap_or_else(|| self.folder.join(NAME));
        let mut file = AtomicFile::create(&output)?;
        file.write(&index.to_text())?;
        file.commit()?;
        let elsewhere =
            output.parent().map(fs::canonicalize).is_some_and(|p| p.ok() != fs::canonicalize(&self.folder).ok());
        if elsewhere && output.parent().is_some_and(|p| p != std::path::Path::new("")) {
            printer.warn("the addresses in the index are names next to it: put it into the folder of the patches");
        }
        let result = Output {
            path: output.display().to_string(),
            model: index.model.clone(),
            newest: index.newest().map(|f| f.version.clone()),
            files: index.files.len(),
            patches: index.patches.len(),
            full_patches: index.files.iter().filter(|f| f.url.is_some()).count(),
        };
        printer.result(&result, |out| {
            let newest =
                index.newest().map_or(String::new(), |f| format!(", newest `{}` (sequence {})", f.version, f.sequence));
            let (files, patches, full) = (result.files, result.patches, result.full_patches);
            writeln!(
                out,
                "{}: model `{}`{newest}, {files} versions, {patches} patches, {full} full",
                result.path, result.model
            )
        })?;
        Ok(0)
    }
}
