//! Log lines while the screen is taken: they would garble it, so warnings wait until it is given back.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{Level, Log, Metadata, Record};

use crate::explain::say;

/// Most that wait; the oldest go first.
const MOST: usize = 100;

#[derive(Debug, Default)]
struct Waiting {
    /// The screen is taken.
    taken: bool,
    lines: VecDeque<String>,
    /// How many went for want of room.
    dropped: u64,
    last: Option<String>,
}

/// Where warnings wait.
#[derive(Clone, Debug, Default)]
pub struct Messages(Arc<Mutex<Waiting>>);

impl Messages {
    /// From now on warnings wait.
    pub fn hold(&self) {
        self.waiting().taken = true;
    }

    /// The last warning, for the screen.
    pub fn last(&self) -> Option<String> {
        self.waiting().last.clone()
    }

    /// Prints what waited; from now on nothing waits.
    pub fn release(&self) {
        let mut waiting = self.waiting();
        waiting.taken = false;
        if waiting.dropped > 0 {
            say(format_args!(
                "warn: {} earlier messages were left out",
                waiting.dropped
            ));
        }
        for line in waiting.lines.drain(..) {
            say(format_args!("{line}"));
        }
        waiting.dropped = 0;
    }

    /// Takes a line; false where it may be printed at once.
    fn keep(&self, level: Level, line: &str) -> bool {
        let mut waiting = self.waiting();
        if !waiting.taken {
            return false;
        }
        if level <= Level::Warn {
            if waiting.lines.len() == MOST {
                waiting.lines.pop_front();
                waiting.dropped += 1;
            }
            waiting.lines.push_back(line.to_owned());
            waiting.last = Some(line.to_owned());
        }
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A logger that hands on to another what need not wait.
pub struct Logger<L> {
    inner: L,
    messages: Messages,
    /// Where standard error is no terminal, a line garbles nothing.
    passes: bool,
}

impl<L: Log> Logger<L> {
    /// Lets warnings for `inner` wait in `messages`.
    pub fn new(inner: L, messages: Messages) -> Self {
        Self {
            inner,
            messages,
            passes: !io::stderr().is_terminal(),
        }
    }
}

impl<L: Log> Log for Logger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.enabled(record.metadata()) {
            return;
        }
        let level = record.level();
        let line = format!("{}: {}", level.as_str().to_ascii_lowercase(), record.args());
        let waits = self.messages.keep(level, &line);
        if !waits || self.passes {
            self.inner.log(record);
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn warnings_wait_only_while_the_screen_is_taken() {
        let messages = Messages::default();
        assert!(!messages.keep(Level::Warn, "warn: early"));
        messages.hold();
        assert!(messages.keep(Level::Info, "info: attached"));
        assert!(messages.keep(Level::Warn, "warn: lost"));
        assert_eq!(messages.last().as_deref(), Some("warn: lost"));
        assert_eq!(messages.waiting().lines, ["warn: lost"]);
        messages.release();
        assert!(messages.waiting().lines.is_empty());
        assert!(!messages.keep(Level::Warn, "warn: late"));
    }

    #[test]
    fn what_waits_is_bounded_and_the_rest_counted() {
        let messages = Messages::default();
        messages.hold();
        for number in 0..MOST + 5 {
            messages.keep(Level::Error, &format!("error: {number}"));
        }
        let waiting = messages.waiting();
        assert_eq!((waiting.lines.len(), waiting.dropped), (MOST, 5));
        assert_eq!(waiting.lines.front().unwrap(), "error: 5");
    }
}
