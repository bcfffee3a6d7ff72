//! Records as they happen, for those who look on.
//!
//! Nobody looks most of the time, and then a record costs a look whether somebody does. However many come, few are
//! passed on, since a person cannot read more, and a slow reader loses the oldest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast::{Receiver, Sender, channel};

use super::lock;

/// Records passed on in a second.
const MOST: u64 = 20;

/// Records that may wait for a slow reader.
const WAITING: usize = 64;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Passes records on to those who follow.
#[derive(Debug)]
pub(super) struct Live {
    /// `None` once it ended.
    sender: Mutex<Option<Sender<Arc<str>>>>,
    /// Second of CLOCK_MONOTONIC, and records passed on in it.
    budget: Mutex<(u64, u64)>,
    skipped: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            sender: Mutex::new(Some(channel(WAITING).0)),
            budget: Mutex::default(),
            skipped: AtomicU64::new(0),
        }
    }
}

impl Live {
    /// Passes on what `write` makes, if somebody follows and this second still has room.
    pub(super) fn show(&self, now_ns: u64, write: impl FnOnce() -> Option<String>) {
        let sender = lock(&self.sender);
        let Some(sender) = sender.as_ref().filter(|sender| sender.receiver_count() > 0) else {
            return;
        };
        let mut budget = lock(&self.budget);
        let second = now_ns / SECOND;
        if budget.0 != second {
            *budget = (second, 0);
        }
        if budget.1 >= MOST {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        budget.1 += 1;
        if let Some(record) = write() {
            // Whoever followed may have left meanwhile.
            let _ = sender.send(record.into());
        }
    }

    /// Records as they come; `None` once it ended.
    pub(super) fn follow(&self) -> Option<Receiver<Arc<str>>> {
        lock(&self.sender).as_ref().map(Sender::subscribe)
    }

    /// Records that were left out so far.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Ends it for all who follow.
    pub(super) fn end(&self) {
        lock(&self.sender).take();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    #[test]
    fn nothing_is_written_while_nobody_follows() {
        let live = Live::default();
        live.show(0, || panic!("nobody reads it"));
        let mut follower = live.follow().unwrap();
        live.show(0, || Some("a record".to_owned()));
        assert_eq!(&*follower.try_recv().unwrap(), "a record");
    }

    #[test]
    fn what_no_person_can_read_is_left_out_and_counted() {
        let live = Live::default();
        let _follower = live.follow();
        for record in 0..100 {
            live.show(7 * SECOND + record, || Some(record.to_string()));
        }
        assert_eq!(live.skipped(), 100 - MOST);
        live.show(8 * SECOND, || Some("of the next second".to_owned()));
        assert_eq!(live.skipped(), 100 - MOST);
    }

    #[test]
    fn whoever_follows_is_told_of_the_end() {
        let live = Live::default();
        let mut follower = live.follow().unwrap();
        live.end();
        assert!(follower.try_recv().is_err() && live.follow().is_none());
    }
}
