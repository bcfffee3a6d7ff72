//! What the fuzz targets share. The code under test is taken in as it is, without the daemon around it,
//! whose dependencies would take minutes to compile.
#![allow(dead_code, reason = "the daemon uses the rest")]

#[path = "../../src/core/mod.rs"]
pub mod core;
#[path = "../../src/pcap/mod.rs"]
pub mod pcap;

use agent_common::event::{EGRESS, INGRESS, SEGMENT_EARLY, SEGMENT_FIN, SEGMENT_HELLO};
use agent_common::flow::FlowKey;

use crate::core::decode::{Event, Segment};
use crate::core::fingerprint::Fingerprinter;
use crate::core::record::Handshake;
use crate::core::tracker::{Limits, Tracker, TrackerStats};

/// Reads what a target is told to do off its input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte, or 0 at the end.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, or all that are left.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length, of two bytes.
    pub fn vector(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()) << 8 | usize::from(self.byte());
        self.take(length)
    }
}

/// A key of a connection.
pub fn key(port: u16) -> FlowKey {
    FlowKey {
        netns: 1,
        local_address: [1; 16],
        remote_address: [2; 16],
        local_port: 443,
        remote_port: port,
        padding: 0,
    }
}

/// A tracker with little room, and what it told.
pub struct Bench {
    pub tracker: Tracker,
    pub records: Vec<Handshake>,
}

pub const LIMITS: usize = 8;
pub const SECOND: u64 = 1_000_000_000;

impl Default for Bench {
    fn default() -> Self {
        let limits = Limits {
            flows: LIMITS,
            quic: LIMITS,
            early_flows: LIMITS,
            ..Limits::default()
        };
        Self {
            tracker: Tracker::new(limits, Fingerprinter::new(b"fuzz")),
            records: Vec::new(),
        }
    }
}

impl Bench {
    pub fn take(&mut self, event: &Event<'_>) {
        self.tracker
            .on_event(event, &mut |record| self.records.push(record));
        let stats = self.tracker.stats();
        assert!(stats.flows <= 2 * LIMITS as u64, "{stats:?}");
    }

    /// Lets all time pass; each flow must then be in exactly one figure.
    pub fn end(&mut self, now_ns: u64) -> TrackerStats {
        for passed in [1, 100] {
            let now_ns = now_ns.saturating_add(passed * SECOND);
            self.tracker.tick(now_ns, 0, &mut |record| {
                self.records.push(record);
            });
        }
        let stats = self.tracker.stats();
        assert_eq!((stats.hellos, stats.flows), (stats.ended(), 0), "{stats:?}");
        assert_eq!(stats.described, self.records.len() as u64);
        stats
    }
}

/// What one end sent before the other did.
pub struct Flight<'a> {
    pub from_client: bool,
    pub data: &'a [u8],
}

/// The pieces of a flight in the order in which they come: where each begins and ends.
pub type Pieces = Vec<(usize, usize)>;

/// Plays a connection whose flights come in these pieces.
pub fn play(flights: &[Flight<'_>], pieces: &[Pieces]) -> Vec<Handshake> {
    let mut bench = Bench::default();
    let start = [u32::MAX - 50, 7_000];
    let mut sent = [0_u32; 2];
    let mut saw_hello = false;
    let mut now_ns = SECOND;
    let mut send = |bench: &mut Bench, from: usize, at: u32, data: &[u8], acknowledged, flags| {
        bench.take(&Event::Segment(Segment {
            time_ns: now_ns,
            key: key(50_000),
            established_ns: SECOND / 2,
            pid_tgid: 0,
            ssl: 0,
            sequence: start[from].wrapping_add(at),
            acknowledgment: start[1 - from].wrapping_add(acknowledged),
            payload: data.len() as u32,
            srtt_us: 0,
            direction: if from == 0 { INGRESS } else { EGRESS },
            flags,
            data,
        }));
        now_ns += 1_000;
    };
    for (flight, pieces) in flights.iter().zip(pieces) {
        let from = usize::from(!flight.from_client);
        let (base, acknowledged) = (sent[from], sent[1 - from]);
        for &(begin, end) in pieces {
            let is_start = from == 0 && base == 0 && begin == 0;
            let flags = match (saw_hello, is_start) {
                (true, _) => 0,
                (false, true) => SEGMENT_HELLO,
                (false, false) => SEGMENT_EARLY,
            };
            saw_hello |= is_start;
            let at = base + begin as u32;
            send(
                &mut bench,
                from,
                at,
                &flight.data[begin..end],
                acknowledged,
                flags,
            );
        }
        sent[from] += flight.data.len() as u32;
    }
    for from in [0, 1] {
        send(
            &mut bench,
            from,
            sent[from],
            &[],
            sent[1 - from],
            SEGMENT_FIN,
        );
    }
    bench.end(now_ns);
    bench.records
}
