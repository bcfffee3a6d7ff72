//! Follows every connection from its ClientHello to one record, and accounts for those that
//! yield none.
//!
//! Rules of truth: a flow of which something is missing is lost, never full, failed or "not
//! offered"; each flow that is opened ends in exactly one figure of [`TrackerStats`].

mod calls;
mod conversation;
mod decisions;
mod describe;
mod early;
mod flow;
mod joining;
mod opening;
mod proxy_protocol;
mod quic;
mod randoms;
mod table;

use std::collections::HashMap;

use agent_common::event::{EGRESS, SEGMENT_EARLY, SEGMENT_FIN, SEGMENT_HELLO, SEGMENT_RST};

use self::calls::{Calls, Name};
use self::decisions::{Decided, Decisions};
use self::early::EarlySegments;
use self::flow::{Ending, Verdict};
use self::quic::Quic;
use self::randoms::Randoms;
use self::table::{Queue, Slot, Table};
use super::decode::{Event, Segment};
use super::fingerprint::Fingerprinter;
use super::record::Handshake;
use super::weak_keys::WeakKeys;

/// Bounds on memory and patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows tracked at once, finished ones that linger included. One takes about 1 KiB.
    pub flows: usize,
    /// QUIC connections tracked at once, finished ones that linger included. One takes about 2 KiB.
    pub quic: usize,
    /// Flows of which segments are held before their start came.
    pub early_flows: usize,
    /// Bytes kept of each direction of a flow ahead of a gap.
    pub bytes_per_flow: usize,
    /// From the start of a flow to giving up on it, nanoseconds.
    pub handshake_timeout_ns: u64,
    /// How long an established flow waits for the library's word, or for the server to refuse
    /// the client's certificate, nanoseconds.
    pub linger_ns: u64,
    /// How long a flow whose handshake is over waits for the server's first response, nanoseconds.
    pub answer_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 32 * 1024,
            quic: 8 * 1024,
            early_flows: 1024,
            bytes_per_flow: 64 * 1024,
            handshake_timeout_ns: 30_000_000_000,
            linger_ns: 1_000_000_000,
            answer_ns: 10_000_000_000,
        }
    }
}

/// What became of all flows. `hellos` is the sum of all others but `uncounted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerStats {
    /// Flows opened by a `SEGMENT_HELLO`.
    pub hellos: u64,
    /// Of these, QUIC connections that the kernel half did not count, since they share addresses and
    /// ports with an earlier one.
    pub uncounted: u64,
    /// Records made.
    pub described: u64,
    /// Flows that turned out not to be TLS, or never came to a whole ClientHello.
    pub not_tls: u64,
    /// Flows of which events were lost.
    pub lost_ring_loss: u64,
    /// Flows of which bytes that matter were not copied, or that the kernel forgot too early.
    pub lost_truncated: u64,
    /// Flows given up for want of room.
    pub lost_evicted: u64,
    /// Flows in progress at the end of input.
    pub unfinished: u64,
    /// Flows in progress now.
    pub flows: u64,
}

impl TrackerStats {
    /// Flows that ended, each in exactly one figure.
    pub fn ended(&self) -> u64 {
        self.described
            + self.not_tls
            + self.lost_ring_loss
            + self.lost_truncated
            + self.lost_evicted
            + self.unfinished
    }

    /// Handshakes that should have a record by now, where the kernel half counted so many flows: what is
    /// in progress, or turned out not to be TLS, is not missing.
    pub fn due(&self, kernel_hellos: u64) -> u64 {
        (kernel_hellos + self.uncounted)
            .saturating_sub(self.not_tls + self.flows + self.unfinished)
            .max(self.described)
    }
}

/// Receives each finished record.
pub type Sink<'a> = &'a mut dyn FnMut(Handshake);

/// Whether the name of a flow is kept for a while after its record is made, so that a repeated
/// ClientHello does not look like a new connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tombstone {
    Keep,
    None,
}

/// From events to records.
pub struct Tracker {
    limits: Limits,
    fingerprinter: Fingerprinter,
    /// Where keys of accepted tickets are to be tried.
    weak_keys: Option<WeakKeys>,
    tells_unfinished: bool,
    table: Table,
    quic: Quic,
    early: EarlySegments,
    /// The latest flow that a thread handshakes on, by process and `SSL*`.
    by_library: HashMap<Name, Slot, ahash::RandomState>,
    randoms: Randoms,
    decisions: Decisions,
    calls: Calls,
    /// Added to CLOCK_MONOTONIC it gives Unix time, nanoseconds.
    wall_offset_ns: i128,
    kernel_lost: u64,
    /// The latest time heard of.
    now_ns: u64,
    stats: TrackerStats,
}

impl Tracker {
    pub fn new(limits: Limits, fingerprinter: Fingerprinter) -> Self {
        Self {
            early: EarlySegments::new(limits.early_flows),
            limits,
            fingerprinter,
            weak_keys: None,
            tells_unfinished: false,
            table: Table::default(),
            quic: Quic::default(),
            by_library: HashMap::default(),
            randoms: Randoms::default(),
            decisions: Decisions::default(),
            calls: Calls::default(),
            wall_offset_ns: 0,
            kernel_lost: 0,
            now_ns: 0,
            stats: TrackerStats::default(),
        }
    }

    /// Tries from now on whether the keys of accepted tickets can be guessed. Tickets are kept for
    /// it until their connection's record is made.
    pub fn check_weak_keys(&mut self) {
        self.weak_keys = Some(WeakKeys::default());
    }

    pub fn stats(&self) -> TrackerStats {
        self.stats
    }

    /// Tells since when cryptographic primitives are timed in every library, CLOCK_MONOTONIC
    /// nanoseconds; 0: they are not.
    pub fn set_primitives_since(&mut self, since_ns: u64) {
        self.calls.set_primitives_since(since_ns);
    }

    /// Tells what to add to the times of the events that follow to get Unix time, nanoseconds.
    pub fn set_wall_offset(&mut self, offset_ns: i128) {
        self.wall_offset_ns = offset_ns;
    }

    /// Takes the next event.
    pub fn on_event(&mut self, event: &Event<'_>, sink: Sink<'_>) {
        match event {
            Event::Segment(segment) => self.segment(segment, sink),
            Event::Datagram(datagram) => self.datagram(datagram, sink),
            Event::Library(call) => self.library(call, sink),
            Event::Ticket {
                time_ns,
                pid_tgid,
                decision,
            } => self.decisions.note(
                *pid_tgid,
                Decided {
                    time_ns: *time_ns,
                    unix_ns: i128::from(*time_ns) + self.wall_offset_ns,
                    decision: *decision,
                },
            ),
            Event::Primitive(call) => self.primitive(call),
            Event::Exec { .. } => {}
        }
    }

    /// Advances time, and learns how many events the kernel has lost so far. The figure must have
    /// been read after the last event was taken: only then are flows that ended since known to
    /// have lost nothing.
    pub fn tick(&mut self, now_ns: u64, kernel_lost: u64, sink: Sink<'_>) {
        self.kernel_lost = self.kernel_lost.max(kernel_lost);
        self.now_ns = self.now_ns.max(now_ns);
        while let Some((slot, _)) = self.table.front(Queue::Ending) {
            self.conclude(slot, Tombstone::None, sink);
        }
        for (queue, ending) in [
            (Queue::Lingering, None),
            (Queue::Answering, None),
            (Queue::Handshaking, Some(Ending::Timeout)),
        ] {
            while let Some((slot, deadline_ns)) = self.table.front(queue) {
                if deadline_ns > now_ns {
                    break;
                }
                if let Some(ending) = ending {
                    self.table.flow(slot).end(ending);
                }
                self.conclude(slot, Tombstone::None, sink);
            }
        }
        self.expire_quic(Some(now_ns), sink);
        self.early.expire(now_ns);
    }

    /// From now on what is not over when the input is becomes a record nevertheless, if it is known
    /// what the server selected.
    pub fn tell_unfinished(&mut self) {
        self.tells_unfinished = true;
    }

    /// The input is over: what is decided is told, the rest is counted as unfinished.
    pub fn finish(&mut self, sink: Sink<'_>) {
        for queue in [
            Queue::Ending,
            Queue::Lingering,
            Queue::Answering,
            Queue::Handshaking,
        ] {
            while let Some((slot, _)) = self.table.front(queue) {
                let flow = self.table.flow(slot);
                let is_decided = flow.is_done
                    || flow.ending.is_some()
                    || flow.talk.established().is_some()
                    || flow.talk.failure.is_some();
                let is_known = self.tells_unfinished && !flow.has_gap();
                if is_decided || (is_known && flow.talk.end_unfinished()) {
                    self.conclude(slot, Tombstone::None, sink);
                } else {
                    self.stats.unfinished += 1;
                    self.forget(slot);
                }
            }
        }
        self.expire_quic(None, sink);
    }

    fn segment(&mut self, segment: &Segment<'_>, sink: Sink<'_>) {
        let known = self.table.find(&segment.key);
        if segment.flags & SEGMENT_HELLO != 0 {
            return self.hello(known, segment, sink);
        }
        let is_early = segment.flags & SEGMENT_EARLY != 0;
        match known {
            // Ports are reused: this may be the next connection.
            Some(slot) if is_early && !self.may_continue(slot, segment) => self.early.hold(segment),
            Some(slot) => self.advance(slot, segment, sink),
            None if is_early => self.early.hold(segment),
            // Of a flow that ended, or whose start was lost.
            None => {}
        }
    }

    fn may_continue(&mut self, slot: Slot, segment: &Segment<'_>) -> bool {
        let flow = self.table.flow(slot);
        !flow.is_done && flow.may_contain(segment)
    }

    fn hello(&mut self, known: Option<Slot>, segment: &Segment<'_>, sink: Sink<'_>) {
        if let Some(slot) = known {
            if self.table.flow(slot).starts_like(segment) {
                return self.advance(slot, segment, sink);
            }
            // The ports serve a new connection: the old one is over, though its end was not seen.
            self.table.flow(slot).end(Ending::Forgotten);
            self.conclude(slot, Tombstone::None, sink);
        }
        while self.table.len() >= self.limits.flows.max(1) {
            self.evict(sink);
        }
        let deadline_ns = segment
            .time_ns
            .saturating_add(self.limits.handshake_timeout_ns);
        let slot = self
            .table
            .insert(segment.key, Queue::Handshaking, deadline_ns);
        self.table
            .flow(slot)
            .open(segment, self.kernel_lost, self.weak_keys.is_some());
        self.stats.hellos += 1;
        self.stats.flows += 1;
        self.advance(slot, segment, sink);
        if let Some(released) = self.early.release(&segment.key) {
            for early in released.segments() {
                // A verdict may have removed the flow between two of them.
                if let Some(slot) = self.table.find(&segment.key)
                    && self.may_continue(slot, &early)
                {
                    // What was held becomes readable only now.
                    let time_ns = segment.time_ns.max(early.time_ns);
                    self.advance(slot, &Segment { time_ns, ..early }, sink);
                }
            }
        }
    }

    /// Lets a flow take a segment, and acts upon what is then known.
    fn advance(&mut self, slot: Slot, segment: &Segment<'_>, sink: Sink<'_>) {
        if segment.direction == EGRESS && segment.pid_tgid != 0 && segment.payload > 0 {
            self.join(slot, segment);
            self.table
                .flow(slot)
                .take_decision(segment, &mut self.decisions);
        }
        self.now_ns = self.now_ns.max(segment.time_ns);
        let flow = self.table.flow(slot);
        if flow.is_done {
            if segment.flags & (SEGMENT_FIN | SEGMENT_RST) != 0 {
                self.forget(slot);
            }
            return;
        }
        flow.segment(segment, self.limits.bytes_per_flow);
        self.join_by_random(slot);
        self.settle(slot, sink);
    }

    /// Finishes a flow, or lets it wait for what is missing.
    fn settle(&mut self, slot: Slot, sink: Sink<'_>) {
        let queue = self.table.queue(slot);
        let flow = self.table.flow(slot);
        let awaits_library = flow.awaits_library();
        let is_established = flow.talk.established().is_some();
        let has_failed = flow.talk.failure.is_some();
        let is_decided = match flow.ending {
            _ if flow.talk.is_not_tls => true,
            _ if has_failed => !flow.has_gap(),
            Some(Ending::Closed | Ending::Reset) => is_established,
            // The library's event may still be on its way when the kernel forgets the flow.
            Some(Ending::Forgotten) => is_established && !awaits_library,
            Some(Ending::Timeout) | None => {
                flow.talk.is_certain() && !awaits_library && !flow.awaits_answer()
            }
        };
        let awaits_answer = flow.awaits_answer() && flow.ending.is_none();
        if is_decided {
            self.conclude(slot, Tombstone::Keep, sink);
        } else if is_established && awaits_answer && queue == Queue::Handshaking {
            let deadline_ns = self.now_ns.saturating_add(self.limits.answer_ns);
            self.table.requeue(slot, Queue::Answering, deadline_ns);
        } else if is_established
            && !awaits_answer
            && matches!(queue, Queue::Handshaking | Queue::Answering)
        {
            self.linger(slot);
        } else if (has_failed || flow.ending.is_some()) && !is_established && queue != Queue::Ending
        {
            // Whether something was lost is known at the next tick only.
            self.table.requeue(slot, Queue::Ending, self.now_ns);
        }
    }

    fn linger(&mut self, slot: Slot) {
        let deadline_ns = self.now_ns.saturating_add(self.limits.linger_ns);
        self.table.requeue(slot, Queue::Lingering, deadline_ns);
    }

    /// Ends a flow: a record, or a loss that is counted.
    fn conclude(&mut self, slot: Slot, tombstone: Tombstone, sink: Sink<'_>) {
        let kernel_lost = self.kernel_lost;
        let flow = self.table.flow(slot);
        if flow.is_done {
            return self.forget(slot);
        }
        let stats = &mut self.stats;
        match flow.conclude(kernel_lost) {
            Verdict::Described => {
                stats.described += 1;
                let calls = &self.calls;
                sink(flow.describe(&self.fingerprinter, self.weak_keys.as_mut(), calls));
                let is_over = matches!(flow.ending, Some(Ending::Closed | Ending::Reset));
                if tombstone == Tombstone::Keep && !is_over {
                    return self.retire(slot);
                }
            }
            Verdict::NotTls => stats.not_tls += 1,
            Verdict::RingLoss => stats.lost_ring_loss += 1,
            Verdict::Truncated => stats.lost_truncated += 1,
            Verdict::Evicted => stats.lost_evicted += 1,
        }
        self.forget(slot);
    }

    /// Keeps just the name of a flow whose record is made.
    fn retire(&mut self, slot: Slot) {
        self.release_name(slot);
        self.stats.flows -= 1;
        self.table.flow(slot).close();
        self.linger(slot);
    }

    fn forget(&mut self, slot: Slot) {
        self.release_name(slot);
        if !self.table.flow(slot).is_done {
            self.stats.flows -= 1;
        }
        self.table.remove(slot);
    }

    /// Makes room: first what is finished or established, then what nothing can be told of yet.
    fn evict(&mut self, sink: Sink<'_>) {
        let settled = self.table.front(Queue::Lingering);
        if let Some((slot, _)) = settled.or_else(|| self.table.front(Queue::Answering)) {
            return self.conclude(slot, Tombstone::None, sink);
        }
        let oldest = self.table.front(Queue::Handshaking);
        if let Some((slot, _)) = oldest.or_else(|| self.table.front(Queue::Ending)) {
            self.stats.lost_evicted += 1;
            self.forget(slot);
        }
    }
}
