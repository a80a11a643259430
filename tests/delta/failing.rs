//! The real disk, until something goes wrong.

use crate::watched::{Change, Watched};
use std::cell::Cell;
use std::io::{Error, ErrorKind};

/// The machine stops before the operation of this number that changes anything; it and all after it do not happen.
pub fn stopped_at(operation: u64) -> Watched {
    let left = Cell::new(operation);
    Watched::new(move |_| match left.get().checked_sub(1) {
        Some(n) => {
            left.set(n);
            Ok(())
        }
        None => Err(Error::other("the machine has stopped")),
    })
}

/// There is no room for the operation of this number among those that need some, nor for those after it.
pub fn full_at(write: u64) -> Watched {
    let left = Cell::new(write);
    Watched::new(move |change| {
        if !matches!(change, Change::Create | Change::Write | Change::Length | Change::Link) {
            return Ok(());
        }
        match left.get().checked_sub(1) {
            Some(n) => {
                left.set(n);
                Ok(())
            }
            None => Err(Error::from(ErrorKind::StorageFull)),
        }
    })
}

/// So many bytes are free, and the disk says so.
pub fn with_free(bytes: u64) -> Watched {
    Watched::new(|_| Ok(())).with_free(bytes)
}
