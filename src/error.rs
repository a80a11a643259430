//! One error type: what is wrong, where, and what to do next.

use std::fmt;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an error. It decides the exit code and is the stable `code` of `--json` output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The input is damaged, contradictory or hostile.
    Input,
    /// The input is fine but this version cannot handle it.
    Unsupported,
    /// The request makes no sense (flags that contradict each other, an unknown name).
    Usage,
    /// Reading or writing failed.
    Io,
    /// A tool that is needed is not installed or failed.
    Tool,
    /// The answer is no: the plan does not fit the target.
    DoesNotFit,
    /// The answer is no: two computations differ.
    Differs,
}

impl Kind {
    /// Stable name for machines.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Input => "bad-input",
            Kind::Unsupported => "unsupported",
            Kind::Usage => "usage",
            Kind::Io => "io",
            Kind::Tool => "tool",
            Kind::DoesNotFit => "does-not-fit",
            Kind::Differs => "differs",
        }
    }

    /// 1 = the answer is no, 2 = could not do it.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::DoesNotFit | Kind::Differs => 1,
            _ => 2,
        }
    }
}

/// An error with its place and, where there is one, a next step.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    message: String,
    file: Option<PathBuf>,
    tensor: Option<String>,
    offset: Option<u64>,
    hint: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), file: None, tensor: None, offset: None, hint: None }))
    }

    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn tool(message: impl Into<String>) -> Self {
        Self::new(Kind::Tool, message)
    }

    /// An operating-system error while doing `what` with `path`.
    pub fn io(what: &str, path: &Path, source: &std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::NotFound => Some("check the path"),
            std::io::ErrorKind::PermissionDenied => Some("check the permissions, or choose another path"),
            std::io::ErrorKind::StorageFull => {
                Some("free some space, or write to another disk; nothing was left behind")
            }
            _ => None,
        };
        let e = Self::new(Kind::Io, format!("cannot {what}: {source}")).at_file(path);
        match hint {
            Some(h) => e.hint(h),
            None => e,
        }
    }

    /// Adds the file, unless a deeper place already named one.
    pub fn at_file(mut self, path: &Path) -> Self {
        self.0.file.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Adds the tensor, unless a deeper place already named one.
    pub fn at_tensor(mut self, name: &str) -> Self {
        self.0.tensor.get_or_insert_with(|| name.to_string());
        self
    }

    /// Adds the byte offset in the whole file, unless a deeper place already named one.
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Adds a next step, unless there is one.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Continuation lines are indented, so that none can pass for a line of its own.
        for (i, line) in self.0.message.split('\n').enumerate() {
            let start = match line.starts_with("  ") {
                _ if i == 0 => "",
                true => "\n",
                false => "\n  ",
            };
            write!(f, "{start}{}", printable(line))?;
        }
        let mut places = Vec::new();
        if let Some(p) = &self.0.file {
            places.push(format!("`{}`", printable(&p.display().to_string())));
        }
        if let Some(t) = &self.0.tensor {
            places.push(format!("tensor `{}`", printable(t)));
        }
        if let Some(o) = self.0.offset {
            places.push(format!("byte {o}"));
        }
        if !places.is_empty() {
            write!(f, "\n  in {}", places.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Text that may come from a stranger's file, with control characters spelled out, so that it cannot steer a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
