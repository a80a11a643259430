//! Models as packed files and as ONNX files, made once for all tests of this program.

use crate::common::{command, finish, fixture, golden_folders, Run};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// Models that cannot be lowered.
const NO_PROGRAM: [&str; 1] = ["whisper"];

pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    finish(command().env_remove("ORT_DYLIB_PATH").args(args))
}

/// Where everything is made; the operating system clears it.
pub fn place() -> &'static Path {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    PLACE.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Checkpoints that have a program: those of fixtures/golden and the three models.
pub fn checkpoints() -> Vec<PathBuf> {
    let models = ["intent-w1a2", "intent-b158", "stories-b158"].map(|m| fixture("models").join(m));
    let golden = golden_folders().into_iter().filter(|f| f.starts_with(fixture("golden")));
    golden.filter(|f| !NO_PROGRAM.contains(&&*name(f))).chain(models).collect()
}

pub fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// What is made under a name, once however many tests want it at a time.
fn once(path: PathBuf, make: impl FnOnce(&Path)) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
    if !path.exists() {
        make(&path);
    }
    path
}

/// A checkpoint as a packed file: with its own rule, or 16 bits for floats.
pub fn packed(checkpoint: &Path) -> PathBuf {
    once(place().join(format!("{}.bitnet", name(checkpoint))), |out| {
        let plain = ["export", "--format", "packed", "-q", "--model"].map(OsStr::new);
        let base = |out: &Path| {
            [&plain[..], &[checkpoint.as_os_str(), OsStr::new("-o"), out.as_os_str()]]
                .concat()
                .iter()
                .map(|s| s.to_os_string())
                .collect::<Vec<_>>()
        };
        let own = run(base(out));
        if own.stderr.contains("the settings must be given") {
            let bits = ["--quantize-weight", "16", "--quantize-activation", "16"].map(|s| OsStr::new(s).to_os_string());
            run(base(out).into_iter().chain(bits)).ok();
        } else {
            own.ok();
        }
    })
}

/// A packed file as ONNX, with these options; the name says which.
pub fn onnx(packed: &Path, options: &str) -> PathBuf {
    once(place().join(format!("{}{}.onnx", name(packed), options.replace([' ', '-'], "_"))), |out| {
        export(packed, out, options).ok();
    })
}

pub fn export(packed: &Path, out: &Path, options: &str) -> Run {
    let fixed =
        [OsStr::new("export"), OsStr::new("--format"), OsStr::new("onnx"), OsStr::new("-q"), OsStr::new("--model")];
    let more = [packed.as_os_str(), OsStr::new("-o"), out.as_os_str()];
    run(fixed.into_iter().chain(more).chain(options.split_whitespace().map(OsStr::new)))
}

pub fn verify(onnx: &Path, against: &Path, options: &str) -> Run {
    let fixed =
        [OsStr::new("verify"), onnx.as_os_str(), OsStr::new("--against"), against.as_os_str(), OsStr::new("--json")];
    run(fixed.into_iter().chain(options.split_whitespace().map(OsStr::new)))
}

/// Does something for each of a list on all cores; what failed, in the order of the list.
pub fn each<T: Sync, R: Send>(list: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            s.spawn(|| loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = list.get(i) else { break };
                let r = f(item);
                done.lock().unwrap().push((i, r));
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, r)| r).collect()
}
