//! The live ring buffer. It is polled: the kernel half wakes the reader only when the buffer
//! fills, since every wake-up is paid by the server that is watched.

use std::{io, os::fd::AsFd, time::Duration};

use aya::maps::{MapData, RingBuf};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// Longest time an event waits when the buffer is not filling.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The reading end of the ring buffer.
pub struct EventRing {
    ring: RingBuf<MapData>,
}

impl EventRing {
    /// Wraps the map.
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Blocks until events may be there: at most `POLL_INTERVAL`.
    ///
    /// # Errors
    /// Whatever poll(2) returns, but for interruption by a signal.
    pub fn wait(&self) -> io::Result<()> {
        let interval = Timespec {
            tv_sec: 0,
            tv_nsec: POLL_INTERVAL.subsec_nanos().into(),
        };
        let mut ready = [PollFd::from_borrowed_fd(self.ring.as_fd(), PollFlags::IN)];
        match poll(&mut ready, Some(&interval)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives up to `limit` events to `each`; returns how many there were.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < limit {
            let Some(event) = self.ring.next() else { break };
            each(&event);
            count += 1;
        }
        count
    }
}
