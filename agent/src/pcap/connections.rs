//! Which segments of a capture the tracker is to see: what the kernel half decides on a live host.
//!
//! Pure: segments in, events out. A connection is seen from its server's end, so that all segments of
//! a connection have one key.

use std::collections::HashMap;
use std::net::SocketAddr;

use agent_common::event::{
    EGRESS, INGRESS, SEGMENT_EARLY, SEGMENT_FIN, SEGMENT_HELLO, SEGMENT_RST,
};
use agent_common::{limits, upgrade};

use super::link::TcpSegment;
use crate::core::decode::{Event, Segment};

/// How a TLS record of a ClientHello begins (RFC 8446, 5.1): handshake, a version of the three.
const HANDSHAKE: u8 = 22;
const MAJOR_VERSION: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No data yet.
    Open,
    /// Something else is spoken, which may be left for TLS (STARTTLS and the like).
    Plain,
    /// Its ClientHello was seen, or what may become one.
    Handshake,
}

/// How far a connection has come in its handshake, to tell where another one begins.
#[derive(Debug, Default)]
struct Progress {
    /// Changes of the direction of data since the ClientHello, which is the first.
    turn: u16,
    /// Of the end that spoke last: 0 the client, 1 the server.
    latest: usize,
    /// The next byte of each.
    next: [u32; 2],
}

impl Progress {
    /// Of a connection whose ClientHello this is.
    fn begin(segment: &TcpSegment<'_>) -> Self {
        Self {
            turn: 1,
            latest: 0,
            next: [segment.end(), segment.acknowledgment],
        }
    }

    /// Takes the next segment, of one `end`; whether it begins another handshake.
    fn begins_again(&mut self, segment: &TcpSegment<'_>, end: usize) -> bool {
        let is_new = segment.sequence.wrapping_sub(self.next[end]) as i32 >= 0;
        if segment.payload == 0 || !is_new {
            return false;
        }
        self.next[end] = segment.end();
        if self.latest == end {
            return false;
        }
        self.latest = end;
        self.turn = self.turn.saturating_add(1);
        self.turn > limits::HELLO_TURNS && is_client_hello(segment.data)
    }
}

#[derive(Debug)]
struct Connection {
    client: SocketAddr,
    /// Number of the first payload byte, where known.
    client_start: Option<u32>,
    server_start: Option<u32>,
    established_ns: u64,
    phase: Phase,
    /// Of its handshake.
    progress: Progress,
    /// The client, the server sent its FIN.
    finished: [bool; 2],
    last_ns: u64,
}

/// Connections in progress.
#[derive(Debug, Default)]
pub struct Connections {
    /// By both ends, the lower first.
    table: HashMap<(SocketAddr, SocketAddr), Connection, ahash::RandomState>,
}

impl Connections {
    /// Takes the next segment; what the tracker is to see of it.
    pub fn take<'a>(&mut self, segment: &TcpSegment<'a>) -> Option<Event<'a>> {
        let ends = (segment.from.min(segment.to), segment.from.max(segment.to));
        if segment.syn {
            self.open(ends, segment);
            return None;
        }
        if !self.table.contains_key(&ends) {
            // Its beginning was not captured. Only a ClientHello is one for certain.
            if !is_client_hello(segment.data) {
                return None;
            }
            self.make_room();
            self.table.insert(
                ends,
                Connection::new(
                    segment.from,
                    Some(segment.sequence),
                    segment.ack.then_some(segment.acknowledgment),
                    segment.time_ns,
                ),
            );
        }
        let connection = self.table.get_mut(&ends)?;
        connection.last_ns = segment.time_ns;
        let event = connection.segment(segment);
        if segment.fin {
            connection.finished[usize::from(segment.from != connection.client)] = true;
        }
        if segment.rst || connection.finished == [true; 2] {
            self.table.remove(&ends);
        }
        event
    }

    fn open(&mut self, ends: (SocketAddr, SocketAddr), segment: &TcpSegment<'_>) {
        let start = Some(segment.sequence.wrapping_add(1));
        if segment.ack {
            let connection = self.table.entry(ends).or_insert_with(|| {
                let client_start = Some(segment.acknowledgment);
                Connection::new(segment.to, client_start, start, segment.time_ns)
            });
            if connection.client == segment.to {
                connection.server_start = start;
                connection.client_start = Some(segment.acknowledgment);
            }
            return;
        }
        let is_known = self.table.get(&ends).is_some_and(|connection| {
            connection.client == segment.from && connection.client_start == start
        });
        // The same SYN again is no new connection.
        if !is_known {
            self.make_room();
            let connection = Connection::new(segment.from, start, None, segment.time_ns);
            self.table.insert(ends, connection);
        }
    }

    fn make_room(&mut self) {
        super::make_room(&mut self.table, |connection| connection.last_ns);
    }
}

impl Connection {
    /// One without data so far, of which the numbers of the first bytes may be known.
    fn new(
        client: SocketAddr,
        client_start: Option<u32>,
        server_start: Option<u32>,
        now_ns: u64,
    ) -> Self {
        Self {
            client,
            client_start,
            server_start,
            established_ns: 0,
            phase: Phase::Open,
            progress: Progress::default(),
            finished: [false; 2],
            last_ns: now_ns,
        }
    }

    fn segment<'a>(&mut self, segment: &TcpSegment<'a>) -> Option<Event<'a>> {
        let from_client = segment.from == self.client;
        if from_client && segment.ack && self.established_ns == 0 && self.server_start.is_some() {
            self.established_ns = segment.time_ns;
        }
        let mut flags = 0;
        let mut acknowledgment = segment.acknowledgment;
        let begins_again = self.phase == Phase::Handshake
            && self
                .progress
                .begins_again(segment, usize::from(!from_client));
        if begins_again || self.phase == Phase::Plain && is_client_hello(segment.data) {
            // From here on the connection is one of TLS, whoever opened it.
            self.phase = Phase::Handshake;
            self.client = segment.from;
            self.client_start = Some(segment.sequence);
            self.server_start = Some(segment.acknowledgment);
            self.progress = Progress::begin(segment);
            flags |= SEGMENT_HELLO;
        }
        let from_client = segment.from == self.client;
        if segment.payload > 0 && self.phase == Phase::Open {
            let start = match from_client {
                true => &mut self.client_start,
                false => &mut self.server_start,
            };
            let is_first = *start.get_or_insert(segment.sequence) == segment.sequence;
            if !is_first {
                flags |= SEGMENT_EARLY;
            } else if from_client && may_be_tls(segment.data) {
                self.phase = Phase::Handshake;
                self.progress = Progress::begin(segment);
                flags |= SEGMENT_HELLO;
                acknowledgment = *self.server_start.get_or_insert(segment.acknowledgment);
            } else if !from_client && may_be_tls(segment.data) {
                // Captured before the ClientHello that it answers.
                flags |= SEGMENT_EARLY;
            } else {
                self.phase = Phase::Plain;
            }
        }
        let matters = segment.payload > 0 || segment.fin || segment.rst;
        if !matters || self.phase == Phase::Plain {
            return None;
        }
        if segment.fin {
            flags |= SEGMENT_FIN;
        }
        if segment.rst {
            flags |= SEGMENT_RST;
        }
        let (client, server) = match from_client {
            true => (segment.from, segment.to),
            false => (segment.to, segment.from),
        };
        Some(Event::Segment(Segment {
            time_ns: segment.time_ns,
            key: super::seen_by_server(client, server),
            established_ns: self.established_ns,
            pid_tgid: 0,
            ssl: 0,
            sequence: segment.sequence,
            acknowledgment,
            payload: segment.payload,
            srtt_us: 0,
            direction: if from_client { INGRESS } else { EGRESS },
            flags,
            data: segment.data,
        }))
    }
}

/// The first bytes of a stream may be those of a ClientHello, or of a PROXY header before one.
fn may_be_tls(data: &[u8]) -> bool {
    const PROXY_V1: &[u8] = b"PROXY ";
    const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let begins_like = |signature: &[u8]| {
        let length = data.len().min(signature.len());
        data[..length] == signature[..length]
    };
    match data {
        // Cut off before its first byte, which may be any.
        [] => true,
        [HANDSHAKE] => true,
        [HANDSHAKE, MAJOR_VERSION, ..] => true,
        // A ClientHello in the form of SSL 2.0 (RFC 5246, E.2).
        [0x80..=0x83, _, 1, MAJOR_VERSION, ..] => true,
        _ => begins_like(PROXY_V1) || begins_like(PROXY_V2),
    }
}

/// A segment begins with a record that begins with a ClientHello.
fn is_client_hello(data: &[u8]) -> bool {
    data.first_chunk().is_some_and(upgrade::is_client_hello)
}
