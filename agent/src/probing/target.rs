//! What is to be probed: a name, a port, and the addresses behind them.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use rustls::pki_types::ServerName;
use thiserror::Error;

const HTTPS: u16 = 443;

/// `NAME`, `NAME:PORT`, `[ADDRESS]:PORT` or a URL of https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it was given, without a port.
    pub host: String,
    pub port: u16,
    pub name: ServerName<'static>,
}

#[derive(Debug, Error)]
pub enum TargetError {
    #[error("`{0}` is no host name and no address; write NAME, NAME:PORT or https://NAME:PORT")]
    NoName(String),
    #[error("`{0}` is no port; write NAME:PORT with a number from 1 to 65535")]
    NoPort(String),
    #[error("cannot look up {0}: {1}; name its addresses by --address")]
    LookUp(String, #[source] io::Error),
    #[error("{0} has no address; name some by --address")]
    NoAddress(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let rest = text.strip_prefix("https://").unwrap_or(text);
        let authority = rest
            .split_once('/')
            .map_or(rest, |(authority, _)| authority);
        let (host, port) = match (authority.strip_prefix('['), authority.parse::<IpAddr>()) {
            // An address of version 6 by itself has colons of its own.
            (None, Ok(_)) => (authority, None),
            (Some(bracketed), _) => match bracketed.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, rest)) => (host, rest.strip_prefix(':').or(Some(rest))),
                None => return Err(TargetError::NoName(text.to_owned())),
            },
            (None, Err(_)) => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => HTTPS,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| TargetError::NoPort(port.to_owned()))?,
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TargetError::NoName(text.to_owned()))?;
        Ok(Self {
            host: host.to_owned(),
            port,
            name,
        })
    }
}

impl Target {
    /// As a Host header has it (RFC 9110, 7.2).
    pub fn authority(&self) -> String {
        let is_v6 = self.host.parse::<Ipv6Addr>().is_ok();
        let host = match is_v6 {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            HTTPS => host,
            port => format!("{host}:{port}"),
        }
    }

    /// The addresses that the name stands for, in order.
    ///
    /// # Errors
    /// When there is none.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, TargetError> {
        let found = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| TargetError::LookUp(self.host.clone(), error))?;
        let addresses: Vec<_> = found.collect();
        match addresses.is_empty() {
            true => Err(TargetError::NoAddress(self.host.clone())),
            false => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn takes_names_addresses_and_urls() {
        for (text, host, port) in [
            ("example.com", "example.com", 443),
            ("example.com:8443", "example.com", 8443),
            ("https://example.com/some/page", "example.com", 443),
            ("https://example.com:8443/", "example.com", 8443),
            ("192.0.2.1", "192.0.2.1", 443),
            ("192.0.2.1:8443", "192.0.2.1", 8443),
            ("2001:db8::1", "2001:db8::1", 443),
            ("[2001:db8::1]:8443", "2001:db8::1", 8443),
            ("[2001:db8::1]", "2001:db8::1", 443),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
        }
    }

    #[test]
    fn authority_has_the_port_where_it_is_another() {
        for (text, authority) in [
            ("example.com", "example.com"),
            ("example.com:8443", "example.com:8443"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.authority(), authority);
        }
    }

    #[test]
    fn says_what_is_wrong_with_others() {
        for text in ["", "two words", "a..b", "[2001:db8::1", ":443"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(matches!(error, TargetError::NoName(_)), "{text}: {error}");
        }
        for text in ["a:0", "a:65536", "a:https", "[::1]443x"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(matches!(error, TargetError::NoPort(_)), "{text}: {error}");
        }
    }
}
