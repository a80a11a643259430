//! How long work tells how far it is. Only the command line draws.

/// Receives the progress of one job.
pub trait Progress {
    /// A stage begins; `total` is in bytes, 0 if unknown.
    fn stage(&self, name: &str, total: u64);
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
    /// The stage is over.
    fn done(&self);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn done(&self) {}
}
