//! The packets of a datagram, as far as they are in clear text (RFC 9000, 17; RFC 9369, 3.2).

use std::fmt;

pub use agent_common::quic::Version;

use crate::core::tls::reader::{InvalidMessage, Reader};

/// Form bit: a long header.
const LONG: u8 = 0x80;

/// Packets with long headers, by their type in version 1.
const KINDS: [Kind; 4] = [Kind::Initial, Kind::ZeroRtt, Kind::Handshake, Kind::Retry];

/// Longest connection ID of every version that is read here (RFC 9000, 17.2).
pub const MAX_CONNECTION_ID: usize = 20;

/// Version of a Version Negotiation packet (RFC 8999, 6).
const NEGOTIATION: u32 = 0;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
    VersionNegotiation,
    /// Short header: application data, which ends the datagram.
    OneRtt,
    /// A long header of a version that is not read here.
    Foreign,
}

/// A connection ID.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    bytes: [u8; MAX_CONNECTION_ID],
    length: u8,
}

impl ConnectionId {
    fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self::default();
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        id.length = bytes.len() as u8;
        Some(id)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One packet of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub kind: Kind,
    /// `None` in a short header, and where it is not read here.
    pub version: Option<Version>,
    /// Empty in a short header, whose length of it is the receiver's secret.
    pub destination: ConnectionId,
    /// Empty in a short header.
    pub source: ConnectionId,
    /// The whole packet as far as it was captured.
    pub bytes: &'a [u8],
    /// Where the packet number begins, which is protected; 0 where there is none.
    pub number_at: usize,
    /// Bytes of packet number and payload together, as the header has it.
    pub length: u64,
}

/// The packets of a datagram, one after the other; ends early where it makes no sense.
pub fn packets(datagram: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let packet = first(rest)?;
        rest = &rest[packet.bytes.len()..];
        Some(packet)
    })
}

fn first(bytes: &[u8]) -> Option<Packet<'_>> {
    let first = *bytes.first()?;
    if first & LONG == 0 {
        // Zeros are what some fill a datagram with.
        return bytes.iter().any(|byte| *byte != 0).then_some(Packet {
            kind: Kind::OneRtt,
            version: None,
            destination: ConnectionId::default(),
            source: ConnectionId::default(),
            bytes,
            number_at: 0,
            length: bytes.len() as u64,
        });
    }
    long(first, bytes).ok().flatten()
}

fn long(first: u8, bytes: &[u8]) -> Result<Option<Packet<'_>>, InvalidMessage> {
    let mut reader = Reader::new(&bytes[1..]);
    let code = u32::from(reader.u16()?) << 16 | u32::from(reader.u16()?);
    let (destination, source) = (reader.vector8()?.rest(), reader.vector8()?.rest());
    let (Some(destination), Some(source)) =
        (ConnectionId::new(destination), ConnectionId::new(source))
    else {
        return Ok(None);
    };
    let version = Version::of(code);
    let kind = match version {
        Some(version) => KINDS[usize::from(version.packet_type(first))],
        None if code == NEGOTIATION => Kind::VersionNegotiation,
        None => Kind::Foreign,
    };
    let mut packet = Packet {
        kind,
        version,
        destination,
        source,
        bytes,
        number_at: 0,
        length: 0,
    };
    if kind == Kind::Initial {
        let token = varint(&mut reader)?;
        reader.take(usize::try_from(token).map_err(|_| InvalidMessage::OutOfRange)?)?;
    }
    if matches!(kind, Kind::Initial | Kind::ZeroRtt | Kind::Handshake) {
        packet.length = varint(&mut reader)?;
        let rest = reader.rest();
        packet.number_at = bytes.len() - rest.len();
        // What was cut off by the capture ends where that does.
        let length = usize::try_from(packet.length)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        packet.bytes = &bytes[..packet.number_at + length];
    }
    Ok(Some(packet))
}

/// A variable-length integer (RFC 9000, 16).
pub(super) fn varint(reader: &mut Reader<'_>) -> Result<u64, InvalidMessage> {
    let first = reader.u8()?;
    let more = reader.take((1 << (first >> 6)) - 1)?;
    Ok(more.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_integers_are_those_of_rfc_9000() {
        // Appendix A.1.
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(varint(&mut Reader::new(bytes)), Ok(value));
            for end in 0..bytes.len() {
                assert!(varint(&mut Reader::new(&bytes[..end])).is_err());
            }
        }
    }

    #[test]
    fn packets_of_one_datagram_follow_each_other() {
        let long = |first: u8, length: u8| {
            let mut bytes = vec![first, 0, 0, 0, 1, 2, 0xaa, 0xbb, 0];
            if first == 0xc0 {
                bytes.push(0);
            }
            bytes.push(length);
            bytes.extend(vec![7; length.into()]);
            bytes
        };
        let datagram = [long(0xc0, 30), long(0xe0, 40), vec![0x40; 20]].concat();
        let filled = [long(0xc0, 30), vec![0; 20]].concat();
        assert_eq!(packets(&filled).count(), 1);
        let found: Vec<_> = packets(&datagram)
            .map(|packet| (packet.kind, packet.length, packet.bytes.len()))
            .collect();
        assert_eq!(
            found,
            [
                (Kind::Initial, 30, 41),
                (Kind::Handshake, 40, 50),
                (Kind::OneRtt, 20, 20)
            ]
        );
        for end in 0..datagram.len() {
            packets(&datagram[..end]).for_each(drop);
        }
    }

    #[test]
    fn connection_id_that_is_too_long_ends_the_datagram() {
        let mut datagram = vec![0xc0, 0, 0, 0, 1, 21];
        datagram.extend([0; 60]);
        assert_eq!(packets(&datagram).count(), 0);
    }
}
