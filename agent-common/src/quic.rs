//! What the beginning of a datagram says about QUIC (RFC 8999, 5; RFC 9000, 17; RFC 9369, 3).

/// Shortest UDP payload of a datagram with a client's Initial packet (RFC 9000, 14.1).
pub const MIN_INITIAL_BYTES: u32 = 1200;

/// Bytes that [`header`] looks at.
pub const PREFIX_BYTES: usize = 5;

/// Form bit: a long header. The fixed bit behind it tells nothing once an end knows that the other does
/// without (RFC 9287), as a server does when it answers.
const LONG: u8 = 0x80;

/// A version of QUIC that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Drafts 29 to 32.
    Draft,
    /// RFC 9000, and drafts 33 and 34, which differ in nothing that is read here.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    /// The version of a wire code point; `None` for what is not read here.
    #[inline(always)]
    pub const fn of(code: u32) -> Option<Self> {
        match code {
            0x0000_0001 | 0xff00_0021 | 0xff00_0022 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            0xff00_001d..=0xff00_0020 => Some(Self::Draft),
            _ => None,
        }
    }

    /// The type of a long header packet as version 1 numbers them: 0 Initial, 1 0-RTT, 2 Handshake,
    /// 3 Retry. Version 2 has the same order, one on.
    #[inline(always)]
    pub const fn packet_type(self, first: u8) -> u8 {
        let number = first >> 4 & 3;
        match self {
            Self::Draft | Self::V1 => number,
            Self::V2 => (number + 3) & 3,
        }
    }
}

/// What a datagram begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// An Initial packet.
    Initial,
    /// Another packet with a long header, of a version that is read here, or Version Negotiation.
    Long,
    /// A short header, perhaps: anything may look like one.
    Short,
}

/// Tells from its first bytes what a datagram may be; `None` for what is no QUIC that is read here.
#[inline(always)]
pub const fn header(prefix: &[u8; PREFIX_BYTES]) -> Option<Header> {
    let [first, a, b, c, d] = *prefix;
    if first & LONG == 0 {
        return Some(Header::Short);
    }
    let code = u32::from_be_bytes([a, b, c, d]);
    match Version::of(code) {
        Some(version) if version.packet_type(first) == 0 => Some(Header::Initial),
        Some(_) => Some(Header::Long),
        None if code == 0 => Some(Header::Long),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_headers_by_form_version_and_type() {
        for (prefix, expected) in [
            ([0xc3, 0, 0, 0, 1], Some(Header::Initial)),
            ([0xd3, 0, 0, 0, 1], Some(Header::Long)),
            ([0xd3, 0x6b, 0x33, 0x43, 0xcf], Some(Header::Initial)),
            ([0xc3, 0x6b, 0x33, 0x43, 0xcf], Some(Header::Long)),
            ([0xc3, 0xff, 0, 0, 29], Some(Header::Initial)),
            ([0x80, 0, 0, 0, 0], Some(Header::Long)),
            ([0x83, 0, 0, 0, 1], Some(Header::Initial)),
            ([0xc3, 0x51, 0x30, 0x34, 0x36], None),
            ([0x43, 0, 0, 0, 1], Some(Header::Short)),
            ([0x00, 0, 0, 0, 1], Some(Header::Short)),
        ] {
            assert_eq!(header(&prefix), expected, "{prefix:02x?}");
        }
    }
}
