//! Builds the events of a connection, as the kernel half would send them.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use agent_common::event::{
    EGRESS, INGRESS, SEGMENT_AFTER_CALL, SEGMENT_EARLY, SEGMENT_FIN, SEGMENT_FOLLOWED,
    SEGMENT_HELLO, SEGMENT_LAST, SEGMENT_RST,
};
use agent_common::flow::FlowKey;
use resumetry::core::decode::{CallRandom, Datagram, Event, LibraryCall, Segment};
use resumetry::core::fingerprint::Fingerprinter;
use resumetry::core::record::{Handshake, ServerName};
use resumetry::core::tracker::{Limits, Tracker, TrackerStats};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}
pub use End::{Client, Server};

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MILLISECOND;
pub const PID: u32 = 4242;
pub const SSL: u64 = 0x5555_0000_1000;

/// An event that owns its data.
#[derive(Clone, Debug)]
pub enum Owned {
    Segment(Segment<'static>, Vec<u8>),
    Datagram(Datagram<'static>, Vec<u8>),
    Library(LibraryCall),
}

impl Owned {
    pub fn with<T>(&self, f: impl FnOnce(&Event<'_>) -> T) -> T {
        match self {
            Self::Segment(fixed, data) => f(&Event::Segment(Segment { data, ..*fixed })),
            Self::Datagram(fixed, data) => f(&Event::Datagram(Datagram { data, ..*fixed })),
            Self::Library(call) => f(&Event::Library(*call)),
        }
    }
}

/// One connection; the observed process is its server unless said otherwise.
#[derive(Clone, Debug)]
pub struct Wire {
    pub key: FlowKey,
    pub observed: End,
    pub ssl: u64,
    /// The thread that calls the library, and sends.
    pub thread: u64,
    /// The observed end sends what an earlier call wrote to memory.
    pub sends_after_calls: bool,
    /// What the library tells of its connection.
    pub random: Option<CallRandom>,
    /// Followed to its first response.
    pub is_followed: bool,
    pub now_ns: u64,
    start: [u32; 2],
    sent: [u32; 2],
    saw_hello: bool,
    calls: u32,
    pub events: Vec<Owned>,
}

pub fn key(remote_port: u16) -> FlowKey {
    let mapped = |last| {
        let mut address = [0; 16];
        address[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, last]);
        address
    };
    FlowKey {
        netns: 1,
        local_address: mapped(1),
        remote_address: mapped(9),
        local_port: 443,
        remote_port,
        padding: 0,
    }
}

impl Wire {
    pub fn new(remote_port: u16) -> Self {
        Self {
            key: key(remote_port),
            observed: Server,
            ssl: 0,
            thread: 7,
            sends_after_calls: false,
            random: None,
            is_followed: false,
            now_ns: SECOND,
            // The client's sequence numbers wrap around early.
            start: [u32::MAX - 100, 1000],
            sent: [0; 2],
            saw_hello: false,
            calls: 0,
            events: Vec::new(),
        }
    }

    /// A segment of `payload` bytes at an offset, of which `data` was captured.
    pub fn segment(&self, from: End, offset: u32, data: &[u8], payload: u32, flags: u8) -> Owned {
        let (own, other) = (from as usize, 1 - from as usize);
        let is_egress = from == self.observed;
        let segment = Segment {
            time_ns: self.now_ns,
            key: self.key,
            established_ns: if flags & SEGMENT_HELLO != 0 {
                SECOND / 2
            } else {
                0
            },
            pid_tgid: if is_egress {
                u64::from(PID) << 32 | self.thread
            } else {
                0
            },
            ssl: if is_egress { self.ssl } else { 0 },
            sequence: self.start[own].wrapping_add(offset),
            acknowledgment: self.start[other].wrapping_add(self.sent[other]),
            payload,
            srtt_us: 250,
            direction: if is_egress { EGRESS } else { INGRESS },
            flags: match is_egress && self.sends_after_calls {
                true => flags | SEGMENT_AFTER_CALL,
                false => flags,
            },
            data: &[],
        };
        Owned::Segment(segment, data.to_vec())
    }

    fn push(&mut self, from: End, data: &[u8], payload: u32, flags: u8) -> &mut Self {
        let hello = match self.is_followed {
            true => SEGMENT_HELLO | SEGMENT_FOLLOWED,
            false => SEGMENT_HELLO,
        };
        let flags = flags | if self.saw_hello { 0 } else { hello };
        self.saw_hello = true;
        let event = self.segment(from, self.sent[from as usize], data, payload, flags);
        self.events.push(event);
        self.sent[from as usize] += payload;
        self
    }

    pub fn send(&mut self, from: End, data: &[u8]) -> &mut Self {
        self.push(from, data, data.len() as u32, 0)
    }

    /// Sends data of which the last `hole` bytes are not captured.
    pub fn send_with_hole(&mut self, from: End, data: &[u8], hole: usize) -> &mut Self {
        self.push(from, &data[..data.len() - hole], data.len() as u32, 0)
    }

    /// Sends data whose event is lost.
    pub fn lose(&mut self, from: End, data: &[u8]) -> &mut Self {
        self.send(from, data);
        self.events.pop();
        self
    }

    /// Sends data in these pieces, out of order and with repetitions: (from, to) each.
    pub fn scatter(&mut self, from: End, data: &[u8], pieces: &[(usize, usize)]) -> &mut Self {
        let base = self.sent[from as usize];
        for &(start, end) in pieces {
            let flags = match (self.saw_hello, base == 0 && start == 0) {
                (true, _) => 0,
                (false, true) => SEGMENT_HELLO,
                (false, false) => SEGMENT_EARLY,
            };
            self.saw_hello |= flags == SEGMENT_HELLO;
            let part = &data[start..end];
            let event = self.segment(from, base + start as u32, part, part.len() as u32, flags);
            self.events.push(event);
        }
        self.sent[from as usize] = base + data.len() as u32;
        self
    }

    pub fn fin(&mut self, from: End) -> &mut Self {
        self.push(from, &[], 0, SEGMENT_FIN)
    }

    pub fn reset(&mut self, from: End) -> &mut Self {
        self.push(from, &[], 0, SEGMENT_RST)
    }

    pub fn last(&mut self, from: End) -> &mut Self {
        self.push(from, &[], 0, SEGMENT_LAST)
    }

    pub fn library(&mut self) -> &mut Self {
        self.call(1)
    }

    /// A call of the library that returns this, and was on the CPU for 1,000 ns.
    pub fn call(&mut self, result: i32) -> &mut Self {
        self.calls += 1;
        self.events.push(Owned::Library(LibraryCall {
            time_ns: self.now_ns,
            entry_ns: self.now_ns,
            pid_tgid: u64::from(PID) << 32 | self.thread,
            ssl: self.ssl,
            cpu_ns: Some(1_000),
            result,
            number: self.calls,
            begins: self.calls == 1,
            is_exact: false,
            has_primitives: true,
            random: self.random,
        }));
        self
    }

    pub fn wait(&mut self, duration_ns: u64) -> &mut Self {
        self.now_ns += duration_ns;
        self
    }
}

/// A tracker and what it told.
pub struct Bench {
    pub tracker: Tracker,
    pub records: Vec<Handshake>,
}

impl Bench {
    pub fn new(limits: Limits) -> Self {
        Self {
            tracker: Tracker::new(limits, Fingerprinter::new(b"salt")),
            records: Vec::new(),
        }
    }

    pub fn feed(&mut self, events: &[Owned]) -> &mut Self {
        for event in events {
            event.with(|event| {
                self.tracker
                    .on_event(event, &mut |record| self.records.push(record));
            });
        }
        self
    }

    pub fn tick(&mut self, now_ns: u64, kernel_lost: u64) -> &mut Self {
        self.tracker
            .tick(now_ns, kernel_lost, &mut |record| self.records.push(record));
        self
    }

    pub fn finish(&mut self) -> &mut Self {
        self.tracker.finish(&mut |record| self.records.push(record));
        self
    }
}

/// A recorded handshake over QUIC, one millisecond between datagrams, as its server sees it.
pub fn recorded_quic(name: &str) -> Vec<Owned> {
    let mut now_ns = SECOND;
    let mut is_first = true;
    let datagrams = flights(name).into_iter().map(|(from, data)| {
        now_ns += MILLISECOND;
        let datagram = Datagram {
            time_ns: now_ns,
            key: key(50_000),
            pid_tgid: match from {
                Server => u64::from(PID) << 32 | 7,
                Client => 0,
            },
            payload: data.len() as u32,
            direction: if from == Server { EGRESS } else { INGRESS },
            flags: if is_first { SEGMENT_HELLO } else { 0 },
            data: &[],
        };
        is_first = false;
        Owned::Datagram(datagram, data)
    });
    datagrams.collect()
}

/// Runs one connection until every timeout has passed.
pub fn run(wire: &Wire) -> (Vec<Handshake>, TrackerStats) {
    run_with_loss(wire, 0)
}

/// Likewise, with events lost in the kernel after the last one.
pub fn run_with_loss(wire: &Wire, kernel_lost: u64) -> (Vec<Handshake>, TrackerStats) {
    run_events(&wire.events, wire.now_ns, kernel_lost)
}

/// Likewise from events that end at a time.
pub fn run_events(
    events: &[Owned],
    end_ns: u64,
    kernel_lost: u64,
) -> (Vec<Handshake>, TrackerStats) {
    let mut bench = Bench::new(Limits::default());
    bench.feed(events).tick(end_ns + MILLISECOND, kernel_lost);
    bench.tick(end_ns + 100 * SECOND, kernel_lost);
    let stats = bench.tracker.stats();
    assert_balance(&stats);
    assert_eq!(stats.flows, 0, "a flow was left behind");
    (bench.records, stats)
}

/// Every flow ends in exactly one figure.
pub fn assert_balance(stats: &TrackerStats) {
    assert_eq!(stats.hellos, stats.ended() + stats.flows, "{stats:?}");
}

/// The one record of a connection.
pub fn record(wire: &Wire) -> Handshake {
    let (mut records, stats) = run(wire);
    assert_eq!(records.len(), 1, "{stats:?}");
    records.remove(0)
}

/// A recorded handshake of `tests/data`: who sent what, flight by flight.
pub fn flights(name: &str) -> Vec<(End, Vec<u8>)> {
    let path = format!("{}/tests/data/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    text.lines()
        .map(|line| {
            let (from, hex) = line.split_once(' ').unwrap();
            let bytes = (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            (if from == "C" { Client } else { Server }, bytes)
        })
        .collect()
}

/// A recorded handshake as a connection, one millisecond between flights.
pub fn recorded(name: &str) -> Wire {
    let mut wire = Wire::new(50_000);
    for (from, bytes) in flights(name) {
        wire.send(from, &bytes).wait(MILLISECOND);
    }
    wire
}

/// The figures that matter in one line.
pub fn line(record: &Handshake) -> String {
    let name = match &record.server_name {
        None => "_none",
        Some(ServerName::Invalid) => "_invalid",
        Some(ServerName::Host(name)) => name,
    };
    let alert = record.alert.map_or(String::new(), |alert| {
        let way = if alert.sent { "sent" } else { "received" };
        format!(" alert {:?} {way}", alert.description)
    });
    let failure = record.failure.map_or(String::new(), |f| format!(" {f:?}"));
    format!(
        "{:?}{failure} {:04x} {:04x} {name} {:?}->{:?}{}{alert}",
        record.outcome(),
        record.version.unwrap_or(0),
        record.cipher.unwrap_or(0),
        record.offered,
        record.method,
        if record.hello_retry { " retry" } else { "" },
    )
}

/// A TLS record.
pub fn tls(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&(body.len() as u16).to_be_bytes());
    record.extend_from_slice(body);
    record
}

/// A protected record of this length.
pub fn protected(length: usize) -> Vec<u8> {
    tls(23, &vec![0xee; length])
}

/// The ClientHello of a record with one more extension at the front.
pub fn with_extension(record: &[u8], extension: &[u8]) -> Vec<u8> {
    let mut body = record[9..].to_vec();
    let session = 34 + 1 + usize::from(body[34]);
    let ciphers = session + 2 + usize::from(u16::from_be_bytes([body[session], body[session + 1]]));
    let at = ciphers + 1 + usize::from(body[ciphers]);
    let length = u16::from_be_bytes([body[at], body[at + 1]]) + extension.len() as u16;
    body[at..at + 2].copy_from_slice(&length.to_be_bytes());
    body.splice(at + 2..at + 2, extension.iter().copied());
    let mut message = vec![1, 0];
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(&body);
    tls(22, &message)
}
