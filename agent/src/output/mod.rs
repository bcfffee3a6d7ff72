//! How handshake records are shown: JSON for programs, text for people. Pure: a record in, a
//! line out; the caller has the clock and the file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::values::AddressMask;

pub mod filter;
pub mod findings;
pub mod json;
pub mod summary;
pub mod text;

/// An address as far as `--client-address` lets it be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Full(SocketAddr),
    /// The network and its length in bits. The port is left out: with a time it tells clients
    /// behind one address apart.
    Prefix(IpAddr, u8),
    Nothing,
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(address) => address.fmt(formatter),
            Self::Prefix(network, bits) => write!(formatter, "{network}/{bits}"),
            Self::Nothing => formatter.write_str("-"),
        }
    }
}

/// A client's address in a message, as far as it may be seen.
pub fn masked(address: SocketAddr, how: AddressMask) -> String {
    mask(address, how).to_string()
}

fn mask(address: SocketAddr, how: AddressMask) -> Shown {
    // A dual-stack socket writes IPv4 peers as ::ffff:a.b.c.d, whose /48 would be the same for
    // all of them.
    let ip = address.ip().to_canonical();
    match (how, ip) {
        (AddressMask::Full, _) => Shown::Full(SocketAddr::new(ip, address.port())),
        (AddressMask::Prefix, IpAddr::V4(ip)) => {
            let network = Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - 24)));
            Shown::Prefix(network.into(), 24)
        }
        (AddressMask::Prefix, IpAddr::V6(ip)) => {
            let network = Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - 48)));
            Shown::Prefix(network.into(), 48)
        }
        (AddressMask::None, _) => Shown::Nothing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn shown(address: &str, how: AddressMask) -> Shown {
        mask(address.parse().unwrap(), how)
    }

    #[test]
    fn prefixes_keep_the_network_only() {
        assert_eq!(
            shown("203.0.113.77:4711", AddressMask::Prefix),
            Shown::Prefix("203.0.113.0".parse().unwrap(), 24)
        );
        assert_eq!(
            shown("[2001:db8:aaaa:bbbb::1]:4711", AddressMask::Prefix),
            Shown::Prefix("2001:db8:aaaa::".parse().unwrap(), 48)
        );
        assert_eq!(
            shown("203.0.113.77:4711", AddressMask::None),
            Shown::Nothing
        );
    }

    #[test]
    fn mapped_addresses_are_masked_as_ipv4() {
        assert_eq!(
            shown("[::ffff:203.0.113.77]:4711", AddressMask::Prefix),
            Shown::Prefix("203.0.113.0".parse().unwrap(), 24)
        );
        assert_eq!(
            shown("[::ffff:203.0.113.77]:4711", AddressMask::Full),
            Shown::Full("203.0.113.77:4711".parse().unwrap())
        );
    }
}
