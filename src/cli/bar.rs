//! Draws progress: a bar with bytes and time left on a terminal, one plain line a stage elsewhere.

use crate::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::{stderr, IsTerminal};

pub struct Bar {
    silent: bool,
    terminal: bool,
    texts: bool,
    current: RefCell<Option<ProgressBar>>,
}

impl Bar {
    pub fn new(silent: bool) -> Self {
        Bar { silent, terminal: stderr().is_terminal(), texts: false, current: RefCell::new(None) }
    }

    /// What is counted are texts.
    pub fn in_texts(silent: bool) -> Self {
        Bar { texts: true, ..Bar::new(silent) }
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, total: u64) {
        if self.silent {
            return;
        }
        if !self.terminal {
            super::say(name);
            return;
        }
        let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
        let style = match (total, self.texts) {
            (0, _) => "{spinner} {msg}",
            (_, false) => "{msg}  {bar:30} {bytes}/{total_bytes}  {eta} left",
            (_, true) => "{msg}  {bar:30} {human_pos}/{human_len}  {per_sec}  {eta} left",
        };
        // The templates are constants of this file; a bad one would only lose the bar.
        if let Ok(s) = ProgressStyle::with_template(style) {
            bar.set_style(s);
        }
        bar.set_message(name.to_string());
        *self.current.borrow_mut() = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(b) = &*self.current.borrow() {
            b.inc(bytes);
        }
    }

    fn done(&self) {
        if let Some(b) = self.current.borrow_mut().take() {
            b.finish_and_clear();
        }
    }
}
