//! ONNX Runtime, from a shared library that the user names. Nothing is linked or downloaded; one library a process.

use super::{elements, Data, Engine, Port, Tensor};
use crate::error::{Error, Result};
use crate::format::onnx::Elem;
use ::ort::memory::Allocator;
use ::ort::session::builder::SessionBuilder;
use ::ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ::ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, ValueType};
use std::ffi::{c_char, c_void, CStr};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Oldest version of the library whose interface is used.
const OLDEST: u32 = ::ort::MINOR_VERSION;

/// The library of this process: ONNX Runtime cannot be loaded twice.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

#[derive(Clone)]
struct Library {
    path: PathBuf,
    version: String,
}

/// A session of ONNX Runtime on the CPU.
pub struct Ort {
    session: Session,
    version: String,
    path: PathBuf,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Ort {
    /// Opens a model with the library at `lib`: the file itself, or a folder it lies in, such as `onnxruntime/capi` of the Python package
    /// (or a folder above it). One thread is used unless [`Ort::with_threads`] is called instead.
    ///
    /// # Errors
    /// No library there, another one or one that is too old; a model that the library refuses, in its words.
    pub fn open(path: &Path, lib: &Path) -> Result<Self> {
        Self::with_threads(path, lib, 1)
    }

    /// As [`Ort::open`], with so many threads for one operator.
    ///
    /// # Errors
    /// As [`Ort::open`].
    pub fn with_threads(path: &Path, lib: &Path, threads: usize) -> Result<Self> {
        let version = load(&find(lib)?)?;
        if !path.is_file() {
            return Err(
                Error::new(crate::error::Kind::Io, "cannot open the model: there is no such file").at_file(path)
            );
        }
        let refused = |e: ::ort::Error| {
            let message = format!("ONNX Runtime {version} refuses the model: {}", e.message());
            Error::unsupported(message).at_file(path).hint("a newer library may take it: --lib PATH")
        };
        let options = |b: SessionBuilder| -> ::ort::Result<SessionBuilder, ::ort::Error<SessionBuilder>> {
            // What it would log comes back as an error, too.
            let quiet = b.with_log_level(::ort::logging::LogLevel::Fatal)?;
            quiet.with_intra_threads(threads)?.with_inter_threads(1)?.with_intra_op_spinning(false)
        };
        let builder = SessionBuilder::new().map_err(refused)?;
        let mut builder = options(builder).map_err(|e| Error::tool(format!("ONNX Runtime: {}", e.message())))?;
        let session = builder.commit_from_file(path).map_err(refused)?;
        let ports = |all: &[::ort::value::Outlet]| all.iter().map(port).collect::<Result<Vec<_>>>();
        let inputs = ports(session.inputs()).map_err(|e| e.at_file(path))?;
        let outputs = ports(session.outputs()).map_err(|e| e.at_file(path))?;
        Ok(Ort { session, version, path: path.to_path_buf(), inputs, outputs })
    }

    fn compute(&mut self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<Vec<Tensor>> {
        // The binding does not check names: an unknown one is a mistake of the caller.
        if let Some(name) = wanted.iter().find(|n| !self.outputs.iter().any(|p| p.name == **n)) {
            return Err(Error::input(format!("the graph has no output `{name}`")));
        }
        if let Some((name, _)) = inputs.iter().find(|(n, _)| !self.inputs.iter().any(|p| p.name == *n)) {
            return Err(Error::input(format!("the graph has no input `{name}`")));
        }
        let failed = |e: ::ort::Error| Error::input(format!("ONNX Runtime: {}", e.message()));
        let mut values = Vec::with_capacity(inputs.len());
        for (name, t) in inputs {
            values.push((name.to_string(), given(t)?));
        }
        let selected = wanted.iter().fold(OutputSelector::no_default(), |s, n| s.with(*n));
        let options = RunOptions::new().map_err(failed)?.with_outputs(selected);
        let made = self.session.run_with_options(values, &options).map_err(failed)?;
        let taken = wanted
            .iter()
            .map(|name| made.get(name).ok_or_else(|| Error::tool(format!("no value for `{name}`"))).and_then(taken));
        taken.collect()
    }
}

impl Engine for Ort {
    fn name(&self) -> String {
        format!("onnxruntime {}", self.version)
    }

    fn inputs(&self) -> Vec<Port> {
        self.inputs.clone()
    }

    fn outputs(&self) -> Vec<Port> {
        self.outputs.clone()
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<Vec<Tensor>> {
        self.compute(inputs, wanted).map_err(|e| e.at_file(&self.path))
    }
}

/// Names that the library has on the systems that it is made for.
fn is_library(name: &str) -> bool {
    let plain =
        name.starts_with("libonnxruntime.so") || name.starts_with("libonnxruntime.") && name.ends_with(".dylib");
    plain || name == "onnxruntime.dll"
}

/// The library that `given` names: a file, or one in a folder or in `onnxruntime/capi` or `capi` below it.
///
/// # Errors
/// `Usage` if there is none.
pub fn find(given: &Path) -> Result<PathBuf> {
    let missing = |what: &str| {
        Error::usage(format!("no ONNX Runtime {what}")).at_file(given).hint(
            "name the shared library (libonnxruntime.so, .dylib, onnxruntime.dll) or the folder it is in: --lib PATH, or BITNET_ORT_LIB; \
             the Python package `onnxruntime` has it in onnxruntime/capi",
        )
    };
    if given.is_file() {
        return std::fs::canonicalize(given).map_err(|e| Error::io("open the library", given, &e));
    }
    for below in ["", "capi", "onnxruntime/capi", "lib"] {
        let Ok(entries) = std::fs::read_dir(given.join(below)) else { continue };
        let named = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(is_library));
        // Several are links to one file, or copies of it: the first by name, so that the choice is always the same.
        if let Some(found) = named.filter(|p| p.is_file()).min() {
            return std::fs::canonicalize(&found).map_err(|e| Error::io("open the library", &found, &e));
        }
    }
    Err(missing(if given.exists() { "library is in it" } else { "library is there" }))
}

/// The library in BITNET_ORT_LIB, if that is set.
pub fn from_environment() -> Option<PathBuf> {
    std::env::var_os("BITNET_ORT_LIB").filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// The first function of the library's interface: the rest by version, and the version as text.
#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const c_void,
    version: unsafe extern "C" fn() -> *const c_char,
}

/// Loads a library once; gives its version.
fn load(path: &Path) -> Result<String> {
    let mut loaded = LOADED.lock().unwrap_or_else(|e| e.into_inner());
    match &*loaded {
        Some(l) if l.path == path => return Ok(l.version.clone()),
        Some(l) => {
            let message =
                format!("ONNX Runtime is loaded already, from `{}`; a process can have one", l.path.display());
            return Err(Error::usage(message).at_file(path).hint("compare two libraries in two runs"));
        }
        None => {}
    }
    // The binding stops the process over a wrong library, so a look first.
    let version = probe(path)?;
    let failed = |e: ::ort::Error| Error::tool(format!("ONNX Runtime {version}: {}", e.message())).at_file(path);
    ::ort::init_from(path).map_err(failed)?.with_name("bitnet-convert").with_telemetry(false).commit();
    *loaded = Some(Library { path: path.to_path_buf(), version: version.clone() });
    Ok(version)
}

fn probe(path: &Path) -> Result<String> {
    let wrong = |what: String| {
        let e = Error::input(what).at_file(path);
        e.hint("name the library of ONNX Runtime for this machine: --lib PATH, or BITNET_ORT_LIB")
    };
    // SAFETY: the initialisers of a library that the user names run; its one function is called with the types of its public header.
    let version = unsafe {
        let library =
            libloading::Library::new(path).map_err(|e| wrong(format!("the library cannot be loaded: {e}")))?;
        let base = library
            .get::<unsafe extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0")
            .map_err(|_| wrong("this library is not ONNX Runtime: it has no function OrtGetApiBase".to_string()))?;
        let base = base().as_ref().ok_or_else(|| wrong("ONNX Runtime gives no interface".to_string()))?;
        let text = (base.version)();
        let version = if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        let new_enough = minor(&version).is_some_and(|m| m >= OLDEST);
        let known = new_enough && !(base.get_api)(OLDEST).is_null();
        // It stays loaded, as the binding needs it.
        std::mem::forget(library);
        if known {
            Ok(version)
        } else {
            Err(version)
        }
    };
    version.map_err(|version| wrong(format!("ONNX Runtime {version} is too old: 1.{OLDEST} is the oldest that works")))
}

/// 31 of "1.31.1".
fn minor(version: &str) -> Option<u32> {
    let (major, rest) = version.split_once('.')?;
    let minor: u32 = rest.split('.').next()?.parse().ok()?;
    match major.parse().ok()? {
        1 => Some(minor),
        n => (n > 1u32).then_some(u32::MAX),
    }
}

fn elem(t: TensorElementType) -> Option<Elem> {
    Some(match t {
        TensorElementType::Float32 => Elem::F32,
        TensorElementType::Float64 => Elem::F64,
        TensorElementType::Int8 => Elem::I8,
        TensorElementType::Uint8 => Elem::U8,
        TensorElementType::Int16 => Elem::I16,
        TensorElementType::Uint16 => Elem::U16,
        TensorElementType::Int32 => Elem::I32,
        TensorElementType::Uint32 => Elem::U32,
        TensorElementType::Int64 => Elem::I64,
        TensorElementType::Uint64 => Elem::U64,
        TensorElementType::Bool => Elem::Bool,
        _ => return None,
    })
}

fn port(o: &::ort::value::Outlet) -> Result<Port> {
    let wrong =
        || Error::unsupported(format!("`{}` is no tensor of a type that is read here: {}", o.name(), o.dtype()));
    let ValueType::Tensor { ty, shape, .. } = o.dtype() else { return Err(wrong()) };
    let elem = elem(*ty).ok_or_else(wrong)?;
    // Unknown sizes are -1.
    let dims = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    Ok(Port { name: o.name().to_string(), elem, dims })
}

fn given(t: &Tensor) -> Result<SessionInputValue<'_>> {
    match &t.data {
        Data::F32(v) => view(&t.dims, v),
        Data::F64(v) => view(&t.dims, v),
        Data::I8(v) => view(&t.dims, v),
        Data::U8(v) => view(&t.dims, v),
        Data::I16(v) => view(&t.dims, v),
        Data::U16(v) => view(&t.dims, v),
        Data::I32(v) => view(&t.dims, v),
        Data::U32(v) => view(&t.dims, v),
        Data::I64(v) => view(&t.dims, v),
        Data::U64(v) => view(&t.dims, v),
        Data::Bool(v) => view(&t.dims, v),
    }
}

/// A value that lies where the tensor has it. The binding refuses a dimension of 0 there, so an empty one is allocated.
fn view<'v, T: PrimitiveTensorElementType + Debug + Clone + 'static>(
    dims: &[usize],
    v: &'v [T],
) -> Result<SessionInputValue<'v>> {
    if elements(dims) != Some(v.len()) {
        return Err(Error::input(format!("a tensor of shape {dims:?} has {} elements", v.len())));
    }
    let failed = |e: ::ort::Error| Error::tool(format!("ONNX Runtime: {}", e.message()));
    if v.is_empty() {
        return Ok(::ort::value::Tensor::<T>::new(&Allocator::default(), dims.to_vec()).map_err(failed)?.into());
    }
    Ok(TensorRef::from_array_view((dims.to_vec(), v)).map_err(failed)?.into())
}

fn taken(value: &DynValue) -> Result<Tensor> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(Error::unsupported("an output that is no tensor"));
    };
    match elem(*ty) {
        Some(Elem::F32) => copy(value, Data::F32),
        Some(Elem::F64) => copy(value, Data::F64),
        Some(Elem::I8) => copy(value, Data::I8),
        Some(Elem::U8) => copy(value, Data::U8),
        Some(Elem::I16) => copy(value, Data::I16),
        Some(Elem::U16) => copy(value, Data::U16),
        Some(Elem::I32) => copy(value, Data::I32),
        Some(Elem::U32) => copy(value, Data::U32),
        Some(Elem::I64) => copy(value, Data::I64),
        Some(Elem::U64) => copy(value, Data::U64),
        Some(Elem::Bool) => copy(value, Data::Bool),
        _ => Err(Error::unsupported(format!("an output of {ty}"))),
    }
}

fn copy<T: PrimitiveTensorElementType + Clone>(value: &DynValue, wrap: fn(Vec<T>) -> Data) -> Result<Tensor> {
    let (shape, data) =
        value.try_extract_tensor::<T>().map_err(|e| Error::tool(format!("ONNX Runtime: {}", e.message())))?;
    let dims = shape.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>();
    let dims = dims.ok_or_else(|| Error::tool("ONNX Runtime gave a tensor without a shape"))?;
    Tensor::new(&dims, wrap(data.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(minor("1.31.1"), Some(31));
        assert_eq!(minor("1.18"), Some(18));
        assert_eq!(minor("2.0.0"), Some(u32::MAX));
        assert_eq!((minor(""), minor("1"), minor("0.5.0"), minor("1.x")), (None, None, None, None));
    }

    #[test]
    fn a_library_that_is_none_is_refused_before_the_binding_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libonnxruntime.so");
        std::fs::write(&text, "no library").unwrap();
        let e = Ort::open(Path::new("model.onnx"), &text).err().unwrap();
        assert!(e.message().contains("cannot be loaded"), "{e}");
        // A folder is searched.
        let e = Ort::open(Path::new("model.onnx"), dir.path()).err().unwrap();
        assert!(e.message().contains("cannot be loaded"), "{e}");
        let e = Ort::open(Path::new("model.onnx"), &dir.path().join("nothing")).err().unwrap();
        assert!(e.message().contains("no ONNX Runtime library is there"), "{e}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_library_is_refused_before_the_binding_sees_it() {
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        let Some(libc) = maps.lines().filter_map(|l| l.split_whitespace().last()).find(|p| p.contains("libc.so"))
        else {
            return;
        };
        let e = Ort::open(Path::new("model.onnx"), Path::new(libc)).err().unwrap();
        assert!(e.message().contains("not ONNX Runtime"), "{e}");
    }
}
