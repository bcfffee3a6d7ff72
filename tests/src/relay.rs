//! What a long and bad link does to packets: holds them back, loses, reorders and doubles them.
//!
//! [`Queue`] decides, from a seed and the times it is told; [`pump`] moves packets between two TUN
//! devices as the queue says. Knows nothing of addresses or namespaces.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use crate::rng::Rng;

/// What befalls packets, each by its own chance (0 to 1). The default link is a good one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbance {
    /// The packet never arrives.
    pub loss: f64,
    /// The packet arrives up to [`LATE`] after its turn, so that others overtake it.
    pub reorder: f64,
    /// A second copy of the packet arrives, up to [`LATE`] after its turn.
    pub duplicate: f64,
    /// The same seed and the same packets give the same fate.
    pub seed: u64,
}

/// Most that a packet is later than its turn.
pub const LATE: Duration = Duration::from_millis(2);

/// How long before a packet is due the relay begins to watch the clock: it takes about as long to
/// wake up, in a virtual machine at least.
const WATCH: Duration = Duration::from_micros(100);

/// Packets under way in one direction.
#[derive(Debug)]
pub struct Queue {
    hold: Duration,
    disturbance: Disturbance,
    rng: Rng,
    /// By arrival, then in the order in which they were sent.
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sent: u64,
}

impl Queue {
    /// Every packet is under way for `hold`.
    pub fn new(hold: Duration, disturbance: Disturbance) -> Self {
        Self {
            hold,
            disturbance,
            rng: Rng::new(disturbance.seed),
            waiting: BinaryHeap::new(),
            sent: 0,
        }
    }

    /// Takes in a packet that was sent at `now`.
    pub fn send(&mut self, packet: &[u8], now: Instant) {
        let Disturbance {
            loss,
            reorder,
            duplicate,
            ..
        } = self.disturbance;
        if self.rng.chance(loss) {
            return;
        }
        let turn = now + self.hold;
        let first = self.rng.chance(reorder);
        let second = self.rng.chance(duplicate);
        let due = if first { self.late(turn) } else { turn };
        self.push(due, packet);
        if second {
            let due = self.late(turn);
            self.push(due, packet);
        }
    }

    /// When the next packet arrives.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, ..))| *due)
    }

    /// A packet that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = self.next()?;
        (due <= now).then(|| self.waiting.pop().map(|Reverse((.., packet))| packet))?
    }

    fn late(&mut self, turn: Instant) -> Instant {
        turn + LATE.mul_f64(self.rng.share())
    }

    fn push(&mut self, due: Instant, packet: &[u8]) {
        self.waiting
            .push(Reverse((due, self.sent, packet.to_vec())));
        self.sent += 1;
    }
}

/// Moves IPv4 packets from one device to the other until `stop` becomes readable.
///
/// `from` must not block.
pub fn pump(
    from: &SyncDevice,
    to: &SyncDevice,
    mut queue: Queue,
    stop: BorrowedFd<'_>,
) -> Result<()> {
    be_punctual()?;
    let mut buffer = [0; 65_536];
    loop {
        let timeout = match queue.next() {
            Some(due) => {
                // Without time left, `poll` looks and returns: the loop turns until it is time.
                let left = due.saturating_duration_since(Instant::now() + WATCH);
                Some(Timespec::try_from(left).context("a packet is due too far away")?)
            }
            None => None,
        };
        let mut descriptors = [
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN),
        ];
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for packets"),
        }
        if !descriptors[0].revents().is_empty() {
            return Ok(());
        }
        // What has waited the longest goes first.
        while let Some(packet) = queue.receive(Instant::now()) {
            // A full queue loses the packet, as links do; TCP sends it again.
            let _ = to.send(&packet);
        }
        while let Ok(length) = from.recv(&mut buffer) {
            // The kernel also speaks IPv6 on a new link, of which the seeded fate of the other
            // packets must not depend.
            if buffer[0] >> 4 == 4 {
                queue.send(&buffer[..length], Instant::now());
            }
        }
    }
}

/// Lets the calling thread wake when it wants to, also while the machine is busy: it is punctual
/// to some 10 µs then, where an ordinary thread waits for its turn (some ms).
fn be_punctual() -> Result<()> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt")
        .args(["--fifo", "--pid", "1", &thread])
        .stdin(Stdio::null())
        .status()
        .context("cannot run chrt (of util-linux)")?;
    anyhow::ensure!(
        status.success(),
        "chrt cannot give the relay a real-time priority: {status}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Indices of the packets in order of arrival, each sent 0.1 ms after the one before.
    fn arrivals(disturbance: Disturbance) -> Vec<usize> {
        let mut queue = Queue::new(Duration::from_millis(10), disturbance);
        let start = Instant::now();
        for index in 0..1_000_u32 {
            queue.send(
                &index.to_be_bytes(),
                start + index * Duration::from_micros(100),
            );
        }
        let end = start + Duration::from_secs(1);
        std::iter::from_fn(|| queue.receive(end))
            .map(|packet| usize::from(packet[2]) << 8 | usize::from(packet[3]))
            .collect()
    }

    #[test]
    fn holds_back_and_keeps_order() {
        let mut queue = Queue::new(Duration::from_millis(10), Disturbance::default());
        let start = Instant::now();
        queue.send(b"first", start);
        queue.send(b"second", start);
        assert_eq!(queue.next(), Some(start + Duration::from_millis(10)));
        assert_eq!(queue.receive(start + Duration::from_micros(9_999)), None);
        let due = start + Duration::from_millis(10);
        assert_eq!(queue.receive(due), Some(b"first".to_vec()));
        assert_eq!(queue.receive(due), Some(b"second".to_vec()));
        assert_eq!(queue.receive(due), None);
        let all = arrivals(Disturbance::default());
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn loses_the_share_asked_for_and_the_same_for_the_same_seed() {
        let lossy = |seed| {
            arrivals(Disturbance {
                loss: 0.1,
                seed,
                ..Disturbance::default()
            })
        };
        let left = lossy(1);
        assert!((870..=930).contains(&left.len()), "{}", left.len());
        assert_eq!(left, lossy(1));
        assert_ne!(left, lossy(2));
    }

    #[test]
    fn reorders_and_doubles_without_losing() {
        let mut all = arrivals(Disturbance {
            reorder: 0.5,
            duplicate: 0.25,
            ..Disturbance::default()
        });
        assert!((1_200..=1_300).contains(&all.len()), "{}", all.len());
        assert!(all.windows(2).filter(|pair| pair[0] > pair[1]).count() > 100);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_000);
    }
}
