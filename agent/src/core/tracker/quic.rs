//! QUIC connections in their handshake: found by addresses, ports and connection IDs, since one socket
//! of a client may open many to the same server.

mod connection;

use std::collections::{BTreeMap, HashMap};

use agent_common::event::{EGRESS, SEGMENT_HELLO};
use agent_common::flow::FlowKey;

use self::connection::Connection;
use super::flow::Verdict;
use super::{Sink, Tracker};
use crate::core::decode::Datagram;
use crate::core::quic::packet::{Kind, Packet, packets};

/// Connections on one pair of addresses and ports at once. Each packet is compared with all of them.
const MAX_PER_PATH: usize = 64;

/// Name of a connection, for its deadline.
type Number = u64;

/// All connections.
#[derive(Default)]
pub(super) struct Quic {
    /// By addresses and ports; no list is empty.
    paths: HashMap<FlowKey, Vec<Connection>, ahash::RandomState>,
    /// When each is given up, or forgotten, soonest first.
    deadlines: BTreeMap<(u64, Number), FlowKey>,
    next: Number,
    /// Where packets are opened.
    buffer: Vec<u8>,
}

impl Tracker {
    /// Takes a datagram.
    pub(super) fn datagram(&mut self, datagram: &Datagram<'_>, sink: Sink<'_>) {
        self.now_ns = self.now_ns.max(datagram.time_ns);
        let mut buffer = std::mem::take(&mut self.quic.buffer);
        let place = self.packets(datagram, &mut buffer, sink);
        self.quic.buffer = buffer;
        if let Some(place) = place {
            self.settle_quic(&datagram.key, place, sink);
        }
    }

    /// Takes the packets of a datagram; the place of their connection on its path.
    fn packets(
        &mut self,
        datagram: &Datagram<'_>,
        buffer: &mut Vec<u8>,
        sink: Sink<'_>,
    ) -> Option<usize> {
        let mut current = None;
        for packet in packets(datagram.data) {
            // Packets in one datagram are of one connection (RFC 9000, 12.2).
            let place = match current {
                Some(place) => Some(place),
                None => self.quic_connection(datagram, &packet, buffer, sink),
            }?;
            let connection = self.quic.connection(&datagram.key, place)?;
            if current.is_none() {
                current = Some(place);
                connection.count(datagram);
                if datagram.direction == EGRESS && datagram.pid_tgid != 0 {
                    connection.sent_by(datagram, &mut self.decisions);
                }
            }
            connection.packet(datagram, &packet, buffer);
        }
        current
    }

    /// The place of the packet's connection on its path; one that the packet opens, perhaps.
    fn quic_connection(
        &mut self,
        datagram: &Datagram<'_>,
        packet: &Packet<'_>,
        buffer: &mut Vec<u8>,
        sink: Sink<'_>,
    ) -> Option<usize> {
        if let Some(place) = self.quic.find(datagram, packet, buffer) {
            return Some(place);
        }
        let is_counted = datagram.flags & SEGMENT_HELLO != 0;
        if packet.kind != Kind::Initial {
            return None;
        }
        self.stats.hellos += 1;
        if !is_counted {
            self.stats.uncounted += 1;
        }
        let Some(mut connection) = Connection::open(datagram, packet, buffer) else {
            // Of a server whose client was not seen, or of nobody.
            self.stats.not_tls += 1;
            return None;
        };
        while self.quic.deadlines.len() >= self.limits.quic.max(1) {
            self.evict_quic(None, sink);
        }
        while self.quic.count_on(&datagram.key) >= MAX_PER_PATH {
            self.evict_quic(Some(datagram.key), sink);
        }
        self.stats.flows += 1;
        connection.talk.keeps_tickets = self.weak_keys.is_some();
        connection.lost_before = self.kernel_lost;
        let deadline_ns = datagram
            .time_ns
            .saturating_add(self.limits.handshake_timeout_ns);
        Some(self.quic.insert(connection, deadline_ns))
    }

    /// Makes a record of a connection whose handshake is over, or lets it wait for what is missing.
    fn settle_quic(&mut self, key: &FlowKey, place: usize, sink: Sink<'_>) {
        let Some(connection) = self.quic.connection(key, place) else {
            return;
        };
        if connection.is_done {
            return;
        }
        let failed = connection.talk.failure.is_some() && !connection.has_gap();
        let is_over = connection.talk.is_not_tls || connection.talk.is_certain() || failed;
        let awaits_proof = connection.talk.established().is_some() && !connection.is_lingering;
        if !is_over && !awaits_proof {
            return;
        }
        connection.is_lingering = true;
        if is_over {
            self.conclude_quic(key, place, sink);
        }
        let deadline_ns = self.now_ns.saturating_add(self.limits.linger_ns);
        self.quic.requeue(key, place, deadline_ns);
    }

    /// Gives up, or forgets, what is due. `None`: all of them, since the input is over.
    pub(super) fn expire_quic(&mut self, now_ns: Option<u64>, sink: Sink<'_>) {
        while let Some((&(deadline_ns, number), &key)) = self.quic.deadlines.first_key_value() {
            if now_ns.is_some_and(|now_ns| deadline_ns > now_ns) {
                return;
            }
            let Some(place) = self.quic.place(&key, number) else {
                self.quic.deadlines.remove(&(deadline_ns, number));
                continue;
            };
            let tells_unfinished = self.tells_unfinished;
            if now_ns.is_none()
                && let Some(connection) = self.quic.connection(&key, place)
                && !connection.is_done
                && !connection.is_decided()
                && !(tells_unfinished && !connection.has_gap() && connection.talk.end_unfinished())
            {
                self.stats.unfinished += 1;
                self.stats.flows -= 1;
                connection.is_done = true;
            }
            self.conclude_quic(&key, place, sink);
            self.quic.remove(&key, place);
        }
    }

    /// Tells what came of a connection, unless that was told. It stays, so that what is repeated of it
    /// is no new one.
    fn conclude_quic(&mut self, key: &FlowKey, place: usize, sink: Sink<'_>) {
        let Some(connection) = self.quic.connection(key, place) else {
            return;
        };
        if connection.is_done {
            return;
        }
        self.stats.flows -= 1;
        match connection.conclude(self.kernel_lost) {
            Verdict::Described => {
                self.stats.described += 1;
                sink(connection.describe(&self.fingerprinter, self.weak_keys.as_mut()));
            }
            Verdict::NotTls => self.stats.not_tls += 1,
            Verdict::RingLoss => self.stats.lost_ring_loss += 1,
            Verdict::Truncated => self.stats.lost_truncated += 1,
            Verdict::Evicted => self.stats.lost_evicted += 1,
        }
        connection.close();
    }

    /// Makes room: the connection that is due next, of all or of one path, is given up.
    fn evict_quic(&mut self, path: Option<FlowKey>, sink: Sink<'_>) {
        let (key, place) = match path {
            // They lie in the order in which they began.
            Some(key) => (key, 0),
            None => {
                let Some((&(_, number), &key)) = self.quic.deadlines.first_key_value() else {
                    return;
                };
                (key, self.quic.place(&key, number).unwrap_or_default())
            }
        };
        if let Some(connection) = self.quic.connection(&key, place)
            && !connection.is_done
            && !connection.is_decided()
        {
            self.stats.lost_evicted += 1;
            self.stats.flows -= 1;
            connection.is_done = true;
        }
        self.conclude_quic(&key, place, sink);
        self.quic.remove(&key, place);
    }
}

impl Quic {
    fn connection(&mut self, key: &FlowKey, place: usize) -> Option<&mut Connection> {
        self.paths.get_mut(key)?.get_mut(place)
    }

    fn count_on(&self, key: &FlowKey) -> usize {
        self.paths.get(key).map_or(0, Vec::len)
    }

    fn place(&self, key: &FlowKey, number: Number) -> Option<usize> {
        let path = self.paths.get(key)?;
        path.iter().position(|one| one.number == number)
    }

    fn find(
        &self,
        datagram: &Datagram<'_>,
        packet: &Packet<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<usize> {
        let path = self.paths.get(&datagram.key)?;
        let direction = datagram.direction;
        path.iter()
            .position(|one| one.owns(direction, packet))
            .or_else(|| {
                path.iter()
                    .position(|one| one.may_own(direction, packet, buffer))
            })
    }

    fn insert(&mut self, mut connection: Connection, deadline_ns: u64) -> usize {
        connection.number = self.next;
        connection.deadline_ns = deadline_ns;
        self.next += 1;
        self.deadlines
            .insert((deadline_ns, connection.number), connection.key);
        let path = self.paths.entry(connection.key).or_default();
        path.push(connection);
        path.len() - 1
    }

    fn requeue(&mut self, key: &FlowKey, place: usize, deadline_ns: u64) {
        let Some(connection) = self.paths.get_mut(key).and_then(|path| path.get_mut(place)) else {
            return;
        };
        let old = std::mem::replace(&mut connection.deadline_ns, deadline_ns);
        self.deadlines.remove(&(old, connection.number));
        self.deadlines
            .insert((deadline_ns, connection.number), *key);
    }

    fn remove(&mut self, key: &FlowKey, place: usize) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if place < path.len() {
            let gone = path.remove(place);
            self.deadlines.remove(&(gone.deadline_ns, gone.number));
        }
        if path.is_empty() {
            self.paths.remove(key);
        }
    }
}
