//! Capture files: the same records without a kernel to ask.
//!
//! [`file`] reads packets of any capture file, [`link`] finds the IP packet in each, [`connections`]
//! follows TCP as the kernel half does and says which segments the tracker is to see, [`datagrams`] does
//! so for QUIC. Only files are
//! read here; what is made of the records is others' business.

pub mod connections;
pub mod datagrams;
pub mod file;
pub mod link;
mod tunnel;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use agent_common::dtls;
use agent_common::flow::FlowKey;

use self::connections::Connections;
use self::datagrams::Datagrams;
use self::file::{Damage, FileError};
use self::link::{Content, Link, Unread};
use crate::core::fingerprint::Fingerprinter;
use crate::core::inference::Inference;
use crate::core::record::{Handshake, Process, Role};
use crate::core::tracker::{Limits, Tracker, TrackerStats};

/// How often flows that ended are looked for, packets.
const TICK_PACKETS: u64 = 1_024;

/// What a file held, besides records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub packets: u64,
    /// Of link layers, network protocols or transports that are not read here.
    pub foreign: u64,
    /// Pieces of IP packets, and how many packets were put together from them.
    pub pieces: u64,
    pub joined: u64,
    pub tcp_segments: u64,
    pub udp_datagrams: u64,
    /// ClientHellos of DTLS, the first of each handshake.
    pub dtls_hellos: u64,
    /// What became of what may have been TLS.
    pub flows: TrackerStats,
    /// Where the file ended before its end, or made no sense.
    pub damage: Option<Damage>,
}

/// Reads one capture file and hands over a record of each handshake in it, in the order in which they
/// were over. Memory does not grow with the file.
///
/// # Errors
/// When it is no capture file, or cannot be read. A file that is damaged further on is read until there.
pub fn read(
    file: impl Read + Send,
    fingerprinter: Fingerprinter,
    mut record: impl FnMut(Handshake),
) -> Result<Contents, FileError> {
    let mut contents = Contents::default();
    let mut tracker = Tracker::new(Limits::default(), fingerprinter);
    tracker.tell_unfinished();
    let mut inference = Inference::default();
    let mut connections = Connections::default();
    let mut datagrams = Datagrams::default();
    let mut link = Link::default();
    let mut sink = |mut handshake: Handshake| {
        // It is seen as the server sees it, and each server remembers for itself.
        let server = Process {
            pid: 0,
            executable: None,
            service: Some(handshake.server.to_string()),
            container_id: None,
            pod: None,
        };
        inference.complete(&mut handshake, Some(&server));
        handshake.role = Role::Observer;
        record(handshake);
    };
    let damage = file::packets(file, &mut |packet| {
        contents.packets += 1;
        if contents.packets.is_multiple_of(TICK_PACKETS) {
            tracker.tick(packet.time_ns, 0, &mut sink);
        }
        let event = match link.content(&packet) {
            Ok(Content::Tcp(segment)) => {
                contents.tcp_segments += 1;
                connections.take(&segment)
            }
            Ok(Content::Udp(datagram)) => {
                contents.udp_datagrams += 1;
                contents.dtls_hellos += u64::from(begins_dtls(datagram.data));
                datagrams.take(&datagram)
            }
            Err(Unread::Foreign) => {
                contents.foreign += 1;
                None
            }
            Err(Unread::Piece) => None,
        };
        if let Some(event) = event {
            tracker.on_event(&event, &mut sink);
        }
    })?;
    tracker.finish(&mut sink);
    contents.damage = damage;
    (contents.pieces, contents.joined) = (link.pieces(), link.joined());
    contents.flows = tracker.stats();
    Ok(contents)
}

/// True for a datagram with the first ClientHello of a handshake of DTLS.
fn begins_dtls(data: &[u8]) -> bool {
    let begins = data.first_chunk().is_some_and(dtls::may_begin);
    let message = data.get(dtls::RECORD_HEADER_BYTES as usize..);
    begins
        && message
            .and_then(|message| message.first_chunk())
            .is_some_and(dtls::is_first_hello)
}

/// Pairs of ends that are remembered at the same time; beyond that those go first that were quiet longest.
const CAPACITY: usize = 64 * 1024;

/// Forgets the half that was quiet longest, when there is no more room.
fn make_room<K: Eq + Hash, V, S: BuildHasher>(
    table: &mut HashMap<K, V, S>,
    last_ns: impl Fn(&V) -> u64,
) {
    if table.len() < CAPACITY {
        return;
    }
    let mut times: Vec<u64> = table.values().map(&last_ns).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    table.retain(|_, value| last_ns(value) > median);
}

/// A connection as its server sees it.
fn seen_by_server(client: SocketAddr, server: SocketAddr) -> FlowKey {
    FlowKey {
        netns: 0,
        local_address: mapped(server.ip()),
        remote_address: mapped(client.ip()),
        local_port: server.port(),
        remote_port: client.port(),
        padding: 0,
    }
}

/// IPv4 addresses IPv4-mapped (RFC 4291, 2.5.5.2).
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
