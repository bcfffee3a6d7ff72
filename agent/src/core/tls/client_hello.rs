//! ClientHello (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2).
//!
//! ```text
//! struct {
//!     ProtocolVersion legacy_version;
//!     Random random;
//!     opaque legacy_session_id<0..32>;
//!     CipherSuite cipher_suites<2..2^16-2>;
//!     opaque legacy_compression_methods<1..2^8-1>;
//!     Extension extensions<8..2^16-1>;
//! } ClientHello;
//! ```

use std::fmt;
use std::net::Ipv4Addr;

use super::codes::{TLS13, extension, normal_version};
use super::reader::{InvalidMessage, Reader};
use crate::core::record::ServerName;

/// Bytes of a ticket that name its key, where it has the format of RFC 5077, 4 (OpenSSL and its
/// relatives, nginx, HAProxy).
pub const KEY_NAME_BYTES: usize = 16;

/// Shortest identity that can be a ticket of that format: key name, IV and a block of state.
/// Shorter ones are names of entries in a server's cache, in OpenSSL of 32 bytes.
const MIN_TICKET_BYTES: usize = 48;

/// The facts of a ClientHello that say what it offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    pub legacy_version: u16,
    pub session_id: SessionId,
    pub server_name: Option<ServerName>,
    pub protocols: Vec<String>,
    /// TLS 1.3 stands in supported_versions.
    pub offers_tls13: bool,
    /// session_ticket extension (RFC 5077, 3.2); empty means support only.
    pub ticket: Option<Ticket>,
    /// First identity of pre_shared_key (RFC 8446, 4.2.11).
    pub psk: Option<Ticket>,
    /// Identities in pre_shared_key.
    pub psk_identities: usize,
    /// Where they are to be kept.
    pub whole: Option<Box<WholeTickets>>,
    pub early_data: bool,
    pub encrypted_client_hello: bool,
    /// A stapled OCSP response is asked for (RFC 6066, 8).
    pub asks_for_status: bool,
    /// A cipher suite up to TLS 1.2 with an ECDSA certificate is among those offered.
    pub offers_ecdsa: bool,
    /// An extension broke its own syntax; the server will refuse or ignore it.
    pub damaged: bool,
}

/// legacy_session_id, at most 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionId {
    bytes: [u8; 32],
    length: u8,
}

impl SessionId {
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, InvalidMessage> {
        let value = reader.vector8()?.rest();
        let mut id = Self::default();
        id.bytes
            .get_mut(..value.len())
            .ok_or(InvalidMessage::OutOfRange)?
            .copy_from_slice(value);
        id.length = value.len() as u8;
        Ok(id)
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What `ticket` and `psk` describe, to the last byte.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WholeTickets {
    pub ticket: Vec<u8>,
    pub psk: Vec<u8>,
}

/// Not the bytes: whoever has a ticket and steals its key reads the session.
impl fmt::Debug for WholeTickets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WholeTickets")
            .finish_non_exhaustive()
    }
}

/// Length of a ticket, and the name of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub bytes: u32,
    pub key_name: Option<[u8; KEY_NAME_BYTES]>,
    /// Its last bytes, which are part of a MAC in every format that has one: no two tickets share
    /// them. `None` where the end was not read.
    pub tail: Option<[u8; TAIL_BYTES]>,
}

/// Bytes of a ticket that tell it from others.
pub const TAIL_BYTES: usize = 16;

impl Ticket {
    fn new(ticket: &[u8]) -> Self {
        Self {
            tail: ticket.last_chunk().copied(),
            ..Self::beginning(ticket.len() as u32, ticket)
        }
    }

    /// A ticket of `bytes` bytes that begins with `start`.
    pub(super) fn beginning(bytes: u32, start: &[u8]) -> Self {
        Self {
            bytes,
            key_name: (bytes as usize >= MIN_TICKET_BYTES)
                .then(|| start.first_chunk().copied())
                .flatten(),
            tail: None,
        }
    }
}

impl ClientHello {
    /// Reads the body of the message. What precedes the extensions must be sound; an extension
    /// that is not is noted in `damaged`, since servers differ in what they forgive.
    pub fn read(body: &[u8]) -> Result<Self, InvalidMessage> {
        Self::read_keeping(body, false)
    }

    /// Like [`Self::read`], with whole tickets where they are to be kept.
    pub fn read_keeping(body: &[u8], keeps_tickets: bool) -> Result<Self, InvalidMessage> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        if legacy_version >> 8 != 3 {
            return Err(InvalidMessage::OutOfRange);
        }
        reader.take(32)?;
        let session_id = SessionId::read(&mut reader)?;
        let ciphers = reader.vector16()?.rest();
        if ciphers.is_empty() || ciphers.len() % 2 != 0 {
            return Err(InvalidMessage::OutOfRange);
        }
        if reader.vector8()?.is_empty() {
            return Err(InvalidMessage::OutOfRange);
        }
        let mut hello = Self {
            legacy_version,
            session_id,
            offers_ecdsa: offers_ecdsa(ciphers),
            whole: keeps_tickets.then(Box::default),
            ..Self::default()
        };
        // Extensions were added by RFC 3546: an older client ends here.
        if !reader.is_empty() {
            hello.damaged = hello.read_extensions(&mut reader).is_err();
        }
        Ok(hello)
    }

    fn read_extensions(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidMessage> {
        let mut extensions = reader.vector16()?;
        reader.end()?;
        let mut result = Ok(());
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let body = extensions.vector16()?;
            result = result.and(self.read_extension(kind, body));
        }
        result
    }

    fn read_extension(&mut self, kind: u16, mut body: Reader<'_>) -> Result<(), InvalidMessage> {
        match kind {
            extension::SERVER_NAME => self.server_name = read_server_name(body)?,
            extension::ALPN => {
                let mut list = body.vector16()?;
                body.end()?;
                while !list.is_empty() {
                    let name = list.vector8()?.rest();
                    // Only what survives as text is kept: GREASE and binary names do not.
                    if let Ok(name) = std::str::from_utf8(name) {
                        self.protocols.push(name.to_owned());
                    }
                }
            }
            extension::SUPPORTED_VERSIONS => {
                let mut list = body.vector8()?;
                body.end()?;
                while !list.is_empty() {
                    self.offers_tls13 |= normal_version(list.u16()?) == TLS13;
                }
            }
            extension::SESSION_TICKET => {
                let ticket = body.rest();
                self.ticket = Some(Ticket::new(ticket));
                if let Some(whole) = &mut self.whole {
                    whole.ticket = ticket.to_vec();
                }
            }
            extension::PRE_SHARED_KEY => {
                // Its presence is an offer, even where the rest is damaged.
                self.psk = Some(Ticket {
                    bytes: 0,
                    key_name: None,
                    tail: None,
                });
                let mut identities = body.vector16()?;
                let identity = identities.vector16()?.rest();
                self.psk = Some(Ticket::new(identity));
                if let Some(whole) = &mut self.whole {
                    whole.psk = identity.to_vec();
                }
                self.psk_identities = 1;
                identities.take(4)?;
                while !identities.is_empty() {
                    identities.vector16()?;
                    identities.take(4)?;
                    self.psk_identities += 1;
                }
            }
            extension::EARLY_DATA => self.early_data = true,
            extension::STATUS_REQUEST => self.asks_for_status = true,
            extension::ENCRYPTED_CLIENT_HELLO => self.encrypted_client_hello = true,
            _ => {}
        }
        Ok(())
    }

    /// A ticket of TLS 1.2 was sent, not just support for it.
    pub fn offered_ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref().filter(|ticket| ticket.bytes > 0)
    }
}

/// Whether one of these suites is ECDHE_ECDSA (RFC 8422, 5289, 7905) with an authenticated cipher.
fn offers_ecdsa(ciphers: &[u8]) -> bool {
    const ECDSA: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
    let (ciphers, _) = ciphers.as_chunks::<2>();
    ciphers
        .iter()
        .any(|code| ECDSA.contains(&u16::from_be_bytes(*code)))
}

/// ServerNameList (RFC 6066, 3): the first host name.
fn read_server_name(mut body: Reader<'_>) -> Result<Option<ServerName>, InvalidMessage> {
    const HOST_NAME: u8 = 0;
    if body.is_empty() {
        return Ok(None);
    }
    let mut list = body.vector16()?;
    body.end()?;
    while !list.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?.rest();
        if kind == HOST_NAME {
            return Ok((!name.is_empty()).then(|| server_name(name)));
        }
    }
    Ok(None)
}

/// Judges a host name: letters, digits, hyphens inside labels (RFC 1123, 2.1) and underscores; no
/// IP literal (RFC 6066, 3). A name whose last label is a number is an IPv4 address to a resolver.
fn server_name(name: &[u8]) -> ServerName {
    const MAX_NAME: usize = 253;
    const MAX_LABEL: usize = 63;
    let label_is_valid = |label: &[u8]| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // Nobody may pass for `_none` or `_other`, which are no names.
    let is_reserved = name.starts_with(b"_") && !name.contains(&b'.');
    let valid = name.len() <= MAX_NAME
        && name.split(|byte| *byte == b'.').all(label_is_valid)
        && !is_reserved;
    match std::str::from_utf8(name) {
        Ok(text) if valid && text.parse::<Ipv4Addr>().is_err() && !ends_in_number(text) => {
            ServerName::Host(text.to_ascii_lowercase().into_boxed_str())
        }
        _ => ServerName::Invalid,
    }
}

fn ends_in_number(name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn host(name: &str) -> ServerName {
        ServerName::Host(name.into())
    }

    #[test]
    fn lowers_the_case_of_host_names() {
        assert_eq!(server_name(b"Www.Example.COM"), host("www.example.com"));
        assert_eq!(
            server_name(b"_dmarc.a-b.example"),
            host("_dmarc.a-b.example")
        );
        assert_eq!(server_name(b"localhost"), host("localhost"));
    }

    #[test]
    fn rejects_ip_literals_and_odd_names() {
        for name in [
            &b"127.0.0.1"[..],
            b"::1",
            b"[::1]",
            b"_other",
            b"_none",
            b"example.com.",
            b"a..b",
            b"-a.example",
            b"a b.example",
            b"\xff\xfe",
            b"{\"x\":1}",
            b"1.2.3.4567",
            &[b'a'; 64],
        ] {
            assert_eq!(server_name(name), ServerName::Invalid, "{name:?}");
        }
    }

    #[test]
    fn short_identities_name_no_key() {
        assert_eq!(Ticket::new(&[1; 47]).key_name, None);
        assert_eq!(Ticket::new(&[1; 48]).key_name, Some([1; 16]));
    }

    #[test]
    fn needs_every_fixed_field() {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[0; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
        assert!(ClientHello::read(&body).is_ok());
        for length in 0..body.len() {
            assert!(
                ClientHello::read(&body[..length]).is_err(),
                "prefix {length}"
            );
        }
    }

    #[test]
    fn a_damaged_extension_is_noted_and_the_others_read() {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[0; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
        // ALPN with a list beyond its end, then early_data.
        body.extend_from_slice(&[0, 10, 0, 16, 0, 2, 0, 9, 0, 42, 0, 0]);
        let hello = ClientHello::read(&body).unwrap();
        assert!(hello.damaged && hello.early_data);
    }
}
