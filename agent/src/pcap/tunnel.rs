//! The IP packet in a packet of a tunnel.

use etherparse::IpNumber;

use super::link::{behind_type, ethernet, u16_at};

/// Ports of VXLAN (RFC 7348), GENEVE (RFC 8926) and GTP-U (3GPP TS 29.281).
const VXLAN: u16 = 4789;
const GENEVE: u16 = 6081;
const GTP_U: u16 = 2152;

/// EtherType of a frame of Ethernet in another protocol.
const BRIDGED: u16 = 0x6558;

/// In the payload of a datagram to this port.
pub fn in_udp(port: u16, payload: &[u8]) -> Option<&[u8]> {
    match port {
        VXLAN => {
            // The flag says that the network's number is there.
            let has_number = *payload.first()? == 0x08;
            has_number.then(|| ethernet(payload.get(8..)?)).flatten()
        }
        GENEVE => {
            let first = *payload.first()?;
            let options = usize::from(first & 0x3f) * 4;
            let is_version_0 = first >> 6 == 0;
            let rest = payload.get(8 + options..)?;
            is_version_0
                .then(|| of_type(u16_at(payload, 2)?, rest))
                .flatten()
        }
        GTP_U => gtp(payload),
        _ => None,
    }
}

/// In the payload of an IP packet: IP itself, or GRE (RFC 2784, 2890).
pub fn in_ip(protocol: IpNumber, payload: &[u8]) -> Option<&[u8]> {
    match protocol {
        IpNumber::IPV4 | IpNumber::IPV6 => Some(payload),
        IpNumber::GRE => {
            let flags = *payload.first()?;
            let is_version_0 = payload.get(1)? & 7 == 0;
            // Checksum, key, sequence number.
            let optional = [0x80, 0x20, 0x10]
                .into_iter()
                .filter(|flag| flags & flag != 0)
                .count();
            let rest = payload.get(4 + 4 * optional..)?;
            is_version_0
                .then(|| of_type(u16_at(payload, 2)?, rest))
                .flatten()
        }
        _ => None,
    }
}

fn of_type(kind: u16, rest: &[u8]) -> Option<&[u8]> {
    match kind {
        BRIDGED => ethernet(rest),
        kind => behind_type(kind, rest),
    }
}

/// A packet of a user in GTP-U: version 1, message type G-PDU.
fn gtp(payload: &[u8]) -> Option<&[u8]> {
    const G_PDU: u8 = 255;
    let [flags, kind, ..] = *payload else {
        return None;
    };
    if flags >> 4 != 3 || kind != G_PDU {
        return None;
    }
    // Sequence number, N-PDU number and the type of the first extension stand there together.
    if flags & 7 == 0 {
        return payload.get(8..);
    }
    let mut rest = payload.get(11..)?;
    loop {
        match *rest.first()? {
            0 => return rest.get(1..),
            // Each extension has its length in words, and ends in the type of the next.
            _ => {
                let length = usize::from(*rest.get(1)?) * 4;
                if length == 0 {
                    return None;
                }
                rest = rest.get(length..)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = &[0x45, 0, 0, 20];

    fn in_ethernet() -> Vec<u8> {
        [&[2; 12][..], &[8, 0], IP].concat()
    }

    #[test]
    fn opens_every_kind() {
        let found = [
            in_udp(
                VXLAN,
                &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &in_ethernet()].concat(),
            ),
            in_udp(
                GENEVE,
                &[
                    &[1, 0, 0x65, 0x58, 0, 0, 1, 0, 9, 9, 9, 9][..],
                    &in_ethernet(),
                ]
                .concat(),
            ),
            in_udp(GENEVE, &[&[0, 0, 8, 0, 0, 0, 1, 0][..], IP].concat()),
            in_udp(GTP_U, &[&[0x30, 255, 0, 4, 0, 0, 0, 1][..], IP].concat()),
            in_udp(
                GTP_U,
                &[&[0x32, 255, 0, 8, 0, 0, 0, 1, 0, 1, 0, 0][..], IP].concat(),
            ),
            in_udp(
                GTP_U,
                &[
                    &[0x34, 255, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0][..],
                    IP,
                ]
                .concat(),
            ),
            in_ip(IpNumber::GRE, &[&[0, 0, 8, 0][..], IP].concat()),
            in_ip(
                IpNumber::GRE,
                &[&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1][..], &in_ethernet()].concat(),
            ),
            in_ip(IpNumber::IPV4, IP),
        ]
        .map(|found| found.map(<[u8]>::to_vec));
        for (index, found) in found.into_iter().enumerate() {
            assert_eq!(found.as_deref(), Some(IP), "{index}");
        }
    }

    #[test]
    fn every_prefix_is_refused_or_read_without_panic() {
        let bytes = [
            &[0x34, 255, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0][..],
            IP,
        ]
        .concat();
        for end in 0..bytes.len() {
            for port in [VXLAN, GENEVE, GTP_U] {
                in_udp(port, &bytes[..end]);
            }
            in_ip(IpNumber::GRE, &bytes[..end]);
        }
    }
}
