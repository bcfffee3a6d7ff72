//! Which datagrams of a capture the tracker is to see: what the kernel half decides on a live host.
//!
//! Pure: datagrams in, events out. Who sends the first Initial packet is the client.

use std::collections::HashMap;
use std::net::SocketAddr;

use agent_common::event::{EGRESS, INGRESS, SEGMENT_HELLO};
use agent_common::quic::{Header, MIN_INITIAL_BYTES, PREFIX_BYTES, header};

use super::link::UdpDatagram;
use crate::core::decode::{Datagram, Event};

#[derive(Debug)]
struct Path {
    client: SocketAddr,
    last_ns: u64,
}

/// Addresses and ports between which QUIC is spoken.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// By both ends, the lower first.
    paths: HashMap<(SocketAddr, SocketAddr), Path, ahash::RandomState>,
}

impl Datagrams {
    /// Takes the next datagram; what the tracker is to see of it.
    pub fn take<'a>(&mut self, datagram: &UdpDatagram<'a>) -> Option<Event<'a>> {
        let UdpDatagram { from, to, .. } = *datagram;
        let header = header(datagram.data.first_chunk::<PREFIX_BYTES>()?)?;
        let ends = (from.min(to), from.max(to));
        if header == Header::Initial
            && datagram.payload >= MIN_INITIAL_BYTES
            && !self.paths.contains_key(&ends)
        {
            super::make_room(&mut self.paths, |path| path.last_ns);
            let path = Path {
                client: from,
                last_ns: 0,
            };
            self.paths.insert(ends, path);
        }
        let path = self.paths.get_mut(&ends)?;
        path.last_ns = datagram.time_ns;
        let is_from_client = path.client == from;
        if header == Header::Short && !is_from_client {
            return None;
        }
        let (client, server) = match is_from_client {
            true => (from, to),
            false => (to, from),
        };
        Some(Event::Datagram(Datagram {
            time_ns: datagram.time_ns,
            key: super::seen_by_server(client, server),
            pid_tgid: 0,
            payload: datagram.payload,
            direction: if is_from_client { INGRESS } else { EGRESS },
            flags: SEGMENT_HELLO,
            data: datagram.data,
        }))
    }
}
