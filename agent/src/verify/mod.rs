//! `trace --verify`: holds what was seen against what a server logged of the same connections.
//!
//! Pure: records, lines and the time come in. A connection is known by its peer and the server's port; a
//! server writes one line a request, so that every line after a connection's first is none of a
//! handshake's.

pub mod follow;
pub mod nginx;

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::core::record::{Handshake, Outcome, Role, Transport};

/// Connections of each kind that are remembered; beyond that the oldest are let go.
const MAX_REMEMBERED: usize = 64 * 1024;

/// A handshake and its line come within this time of each other: the line follows the response, the record
/// the response too, or ten seconds. Nanoseconds.
const PATIENCE_NS: u64 = 60_000_000_000;

/// The client's end, and the server's port.
type Ends = (SocketAddr, u16);

/// What a server logged of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub peer: SocketAddr,
    pub server_port: u16,
    pub resumed: bool,
}

/// What was seen of a connection and is not confirmed yet, or what is known already.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    resumed: bool,
    since_ns: u64,
    /// Record and line met.
    is_settled: bool,
}

/// A connection of which both know, and not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub peer: SocketAddr,
    pub server_port: u16,
    /// What the server logged; the record has the opposite.
    pub logged_resumed: bool,
}

/// How far both agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub agree: u64,
    pub differ: u64,
    /// Handshakes without a line: the client asked for nothing, or elsewhere.
    pub without_line: u64,
    /// Lines without a handshake: of connections that are older than the trace, or that it missed.
    pub without_record: u64,
}

/// Joins records and lines.
#[derive(Debug, Default)]
pub struct Verifier {
    records: HashMap<Ends, Remembered, ahash::RandomState>,
    lines: HashMap<Ends, Remembered, ahash::RandomState>,
    tally: Tally,
    now_ns: u64,
}

impl Verifier {
    /// Takes a record; other than established ones of servers over TCP have no line.
    pub fn record(&mut self, handshake: &Handshake) -> Option<Difference> {
        let is_served = handshake.role == Role::Server && handshake.transport == Transport::Tcp;
        let outcome = handshake.outcome();
        if !is_served || outcome == Outcome::Failed {
            return None;
        }
        // Behind PROXY protocol a server logs its own peer.
        let peer = plain(handshake.peer.unwrap_or(handshake.client));
        let ends = (peer, handshake.server.port());
        let resumed = outcome == Outcome::Resumed;
        let waiting = self.lines.remove(&ends);
        let settled = waiting.map(|line| self.settle(ends, line.resumed, resumed));
        let before = self.remember(ends, resumed, waiting.is_some());
        if before.is_some_and(|before| !before.is_settled) {
            // The ports serve another connection already.
            self.tally.without_line += 1;
        }
        settled.flatten()
    }

    /// Takes a line of the log.
    pub fn line(&mut self, line: Line) -> Option<Difference> {
        let ends = (plain(line.peer), line.server_port);
        match self.records.get_mut(&ends) {
            // Another request on the same connection.
            Some(record) if record.is_settled => None,
            Some(record) => {
                record.is_settled = true;
                let resumed = record.resumed;
                self.settle(ends, line.resumed, resumed)
            }
            None => {
                let since_ns = self.now_ns;
                make_room(&mut self.lines, &mut self.tally.without_record);
                self.lines.entry(ends).or_insert(Remembered {
                    resumed: line.resumed,
                    since_ns,
                    is_settled: false,
                });
                None
            }
        }
    }

    fn settle(&mut self, ends: Ends, logged: bool, seen: bool) -> Option<Difference> {
        if logged == seen {
            self.tally.agree += 1;
            return None;
        }
        self.tally.differ += 1;
        Some(Difference {
            peer: ends.0,
            server_port: ends.1,
            logged_resumed: logged,
        })
    }

    fn remember(&mut self, ends: Ends, resumed: bool, is_settled: bool) -> Option<Remembered> {
        let since_ns = self.now_ns;
        make_room(&mut self.records, &mut self.tally.without_line);
        self.records.insert(
            ends,
            Remembered {
                resumed,
                since_ns,
                is_settled,
            },
        )
    }

    /// Advances time: what is overdue is counted and forgotten.
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let now_ns = self.now_ns;
        for (waiting, missing) in [
            (&mut self.records, &mut self.tally.without_line),
            (&mut self.lines, &mut self.tally.without_record),
        ] {
            waiting.retain(|_, one| {
                let is_due = now_ns.saturating_sub(one.since_ns) > PATIENCE_NS;
                *missing += u64::from(is_due && !one.is_settled);
                !is_due
            });
        }
    }

    /// The tally if nothing more comes.
    pub fn tally(&self) -> Tally {
        let unsettled = |waiting: &HashMap<Ends, Remembered, ahash::RandomState>| {
            waiting.values().filter(|one| !one.is_settled).count() as u64
        };
        Tally {
            without_line: self.tally.without_line + unsettled(&self.records),
            without_record: self.tally.without_record + unsettled(&self.lines),
            ..self.tally
        }
    }
}

/// An address as a log has it: without the form in which a socket of IPv6 takes one of IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Lets all go at once where there are too many: they are counted as missing.
fn make_room(waiting: &mut HashMap<Ends, Remembered, ahash::RandomState>, missing: &mut u64) {
    if waiting.len() >= MAX_REMEMBERED {
        *missing += waiting.values().filter(|one| !one.is_settled).count() as u64;
        waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 7], port).into()
    }

    fn record(port: u16, resumed: bool) -> Handshake {
        Handshake {
            role: Role::Server,
            transport: Transport::Tcp,
            client: peer(port),
            server: ([192, 0, 2, 1], 443).into(),
            peer: None,
            established: true,
            resumed,
            ..sample::bare()
        }
    }

    fn line(port: u16, resumed: bool) -> Line {
        Line {
            peer: peer(port),
            server_port: 443,
            resumed,
        }
    }

    #[test]
    fn record_and_line_meet_in_either_order_and_once() {
        let mut verifier = Verifier::default();
        assert_eq!(verifier.record(&record(1, true)), None);
        assert_eq!(verifier.line(line(1, true)), None);
        // Keep-alive.
        assert_eq!(verifier.line(line(1, true)), None);
        assert_eq!(verifier.line(line(2, false)), None);
        assert_eq!(verifier.record(&record(2, false)), None);
        assert_eq!(verifier.line(line(2, false)), None);
        let expected = Tally {
            agree: 2,
            ..Tally::default()
        };
        assert_eq!(verifier.tally(), expected);
    }

    #[test]
    fn difference_is_told_with_its_connection() {
        let mut verifier = Verifier::default();
        verifier.record(&record(1, false));
        let difference = Difference {
            peer: peer(1),
            server_port: 443,
            logged_resumed: true,
        };
        assert_eq!(verifier.line(line(1, true)), Some(difference));
        assert_eq!(verifier.tally().differ, 1);
    }

    #[test]
    fn ports_that_are_used_again_are_another_connection() {
        let mut verifier = Verifier::default();
        for resumed in [false, true] {
            verifier.record(&record(1, resumed));
            assert_eq!(verifier.line(line(1, resumed)), None);
        }
        assert_eq!(verifier.tally().agree, 2);
        // No request on the third.
        verifier.record(&record(1, true));
        verifier.record(&record(1, false));
        verifier.line(line(1, false));
        let expected = Tally {
            agree: 3,
            without_line: 1,
            ..Tally::default()
        };
        assert_eq!(verifier.tally(), expected);
    }

    #[test]
    fn what_never_meets_is_counted_and_forgotten() {
        let mut verifier = Verifier::default();
        verifier.record(&record(1, true));
        verifier.line(line(2, true));
        let expected = Tally {
            without_line: 1,
            without_record: 1,
            ..Tally::default()
        };
        assert_eq!(verifier.tally(), expected);
        verifier.tick(2 * PATIENCE_NS);
        assert_eq!(verifier.tally(), expected);
        assert!(verifier.records.is_empty() && verifier.lines.is_empty());
        for port in 0..=u16::MAX {
            verifier.line(line(port, true));
            verifier.line(Line {
                server_port: 444,
                ..line(port, true)
            });
        }
        assert!(verifier.lines.len() <= MAX_REMEMBERED);
        assert_eq!(verifier.tally().without_record, 1 + 2 * 65_536);
    }

    #[test]
    fn failed_handshakes_clients_and_quic_have_no_line() {
        let mut verifier = Verifier::default();
        for handshake in [
            Handshake {
                established: false,
                ..record(1, false)
            },
            Handshake {
                role: Role::Client,
                ..record(1, false)
            },
            Handshake {
                transport: Transport::Quic,
                ..record(1, false)
            },
        ] {
            verifier.record(&handshake);
        }
        assert_eq!(verifier.tally(), Tally::default());
    }
}
