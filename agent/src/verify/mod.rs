//! `trace --verify`: holds what was seen against what a server logged of the same connections.
//!
//! Pure: records, lines and the time come in. A connection is known by its two ends. A server writes a line
//! a request, and only that of a connection's first one is of its handshake.

pub mod follow;
pub mod nginx;

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::core::record::{Handshake, Outcome, Role, Transport};

/// Records and lines that may wait for each other; beyond that all of the kind are given up, and counted.
const MAX_WAITING: usize = 64 * 1024;

/// A handshake and its line come within this time of each other: the line follows the response, the record
/// the response too, or ten seconds. Nanoseconds.
const PATIENCE_NS: u64 = 60_000_000_000;

/// The client's end and the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

impl Ends {
    /// As a log has addresses: without the form in which a socket of IPv6 takes one of IPv4.
    fn plain(self) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self {
            client: plain(self.client),
            server: plain(self.server),
        }
    }
}

/// What a server logged of the first request on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub ends: Ends,
    pub resumed: bool,
}

/// One that waits for its counterpart.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    resumed: bool,
    since_ns: u64,
}

type Waitings = HashMap<Ends, Waiting, ahash::RandomState>;

/// A connection of which both know, and not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub ends: Ends,
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
#[derive(Debug)]
pub struct Verifier {
    records: Waitings,
    lines: Waitings,
    tally: Tally,
    now_ns: u64,
}

impl Verifier {
    /// Begins now.
    pub fn new(now_ns: u64) -> Self {
        Self {
            records: HashMap::default(),
            lines: HashMap::default(),
            tally: Tally::default(),
            now_ns,
        }
    }

    /// Takes a record; others than established ones of servers over TCP have no line.
    pub fn record(&mut self, handshake: &Handshake) -> Option<Difference> {
        let is_served = handshake.role == Role::Server && handshake.transport == Transport::Tcp;
        let outcome = handshake.outcome();
        if !is_served || outcome == Outcome::Failed {
            return None;
        }
        let ends = Ends {
            // Behind PROXY protocol a server logs its own peer.
            client: handshake.peer.unwrap_or(handshake.client),
            server: handshake.server,
        };
        let ends = ends.plain();
        let resumed = outcome == Outcome::Resumed;
        match self.lines.remove(&ends) {
            Some(line) => self.settle(ends, line.resumed, resumed),
            None => {
                let missing = &mut self.tally.without_line;
                wait(&mut self.records, ends, resumed, self.now_ns, missing);
                None
            }
        }
    }

    /// Takes a line of the log.
    pub fn line(&mut self, line: Line) -> Option<Difference> {
        let ends = line.ends.plain();
        match self.records.remove(&ends) {
            Some(record) => self.settle(ends, line.resumed, record.resumed),
            None => {
                let missing = &mut self.tally.without_record;
                wait(&mut self.lines, ends, line.resumed, self.now_ns, missing);
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
            ends,
            logged_resumed: logged,
        })
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
                *missing += u64::from(is_due);
                !is_due
            });
        }
    }

    /// The tally if nothing more comes.
    pub fn tally(&self) -> Tally {
        Tally {
            without_line: self.tally.without_line + self.records.len() as u64,
            without_record: self.tally.without_record + self.lines.len() as u64,
            ..self.tally
        }
    }
}

/// Notes one that has no counterpart yet. Another of the same ends has none: they serve a new connection.
fn wait(waiting: &mut Waitings, ends: Ends, resumed: bool, since_ns: u64, missing: &mut u64) {
    if waiting.len() >= MAX_WAITING {
        *missing += waiting.len() as u64;
        waiting.clear();
    }
    let one = Waiting { resumed, since_ns };
    if waiting.insert(ends, one).is_some() {
        *missing += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample;

    fn ends(port: u16) -> Ends {
        Ends {
            client: ([192, 0, 2, 7], port).into(),
            server: ([192, 0, 2, 1], 443).into(),
        }
    }

    fn record(port: u16, resumed: bool) -> Handshake {
        Handshake {
            role: Role::Server,
            transport: Transport::Tcp,
            client: ends(port).client,
            server: ends(port).server,
            peer: None,
            established: true,
            resumed,
            ..sample::bare()
        }
    }

    fn line(port: u16, resumed: bool) -> Line {
        Line {
            ends: ends(port),
            resumed,
        }
    }

    #[test]
    fn record_and_line_meet_in_either_order() {
        let mut verifier = Verifier::new(0);
        assert_eq!(verifier.record(&record(1, true)), None);
        assert_eq!(verifier.line(line(1, true)), None);
        assert_eq!(verifier.line(line(2, false)), None);
        assert_eq!(verifier.record(&record(2, false)), None);
        let expected = Tally {
            agree: 2,
            ..Tally::default()
        };
        assert_eq!(verifier.tally(), expected);
    }

    #[test]
    fn difference_is_told_with_its_connection() {
        let mut verifier = Verifier::new(0);
        verifier.record(&record(1, false));
        let difference = Difference {
            ends: ends(1),
            logged_resumed: true,
        };
        assert_eq!(verifier.line(line(1, true)), Some(difference));
        assert_eq!(verifier.tally().differ, 1);
    }

    #[test]
    fn same_ports_of_another_server_are_another_connection() {
        let mut verifier = Verifier::new(0);
        verifier.record(&record(1, true));
        let mut other = record(1, false);
        other.server = ([192, 0, 2, 2], 443).into();
        verifier.record(&other);
        assert_eq!(verifier.line(line(1, true)), None);
        let expected = Tally {
            agree: 1,
            without_line: 1,
            ..Tally::default()
        };
        assert_eq!(verifier.tally(), expected);
    }

    #[test]
    fn ports_that_are_used_again_are_another_connection() {
        let mut verifier = Verifier::new(0);
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
        let mut verifier = Verifier::new(PATIENCE_NS);
        verifier.record(&record(1, true));
        verifier.line(line(2, true));
        let expected = Tally {
            without_line: 1,
            without_record: 1,
            ..Tally::default()
        };
        verifier.tick(PATIENCE_NS + 1);
        assert_eq!((verifier.records.len(), verifier.lines.len()), (1, 1));
        assert_eq!(verifier.tally(), expected);
        verifier.tick(3 * PATIENCE_NS);
        assert_eq!(verifier.tally(), expected);
        assert!(verifier.records.is_empty() && verifier.lines.is_empty());
        for port in 0..=u16::MAX {
            for host in [1, 2] {
                let mut line = line(port, true);
                line.ends.server.set_ip([192, 0, 2, host].into());
                verifier.line(line);
            }
        }
        assert!(verifier.lines.len() <= MAX_WAITING);
        assert_eq!(verifier.tally().without_record, 1 + 2 * 65_536);
    }

    #[test]
    fn failed_handshakes_clients_and_quic_have_no_line() {
        let mut verifier = Verifier::new(0);
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
