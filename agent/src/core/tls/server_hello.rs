//! ServerHello (RFC 8446, 4.1.3; RFC 5246, 7.4.1.3), the named curve of a ServerKeyExchange, and
//! the ticket of a NewSessionTicket.
//!
//! ```text
//! struct {
//!     ProtocolVersion legacy_version;
//!     Random random;
//!     opaque legacy_session_id_echo<0..32>;
//!     CipherSuite cipher_suite;
//!     uint8 legacy_compression_method;
//!     Extension extensions<6..2^16-1>;
//! } ServerHello;
//! ```

use super::client_hello::{KEY_NAME_BYTES, SessionId, Ticket};
use super::codes::{extension, normal_version};
use super::reader::{InvalidMessage, Reader};

/// The random that makes a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3): SHA-256 of
/// "HelloRetryRequest".
pub const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The facts of a ServerHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// Selected version; drafts count as TLS 1.3.
    pub version: u16,
    pub is_retry: bool,
    /// The first eight bytes of its random, as a number of the host.
    pub random: u64,
    pub session_id: SessionId,
    pub cipher: u16,
    /// Group of key_share.
    pub group: Option<u16>,
    /// pre_shared_key is present: the offered PSK was accepted.
    pub psk_accepted: bool,
    /// session_ticket is present: a NewSessionTicket follows (RFC 5077, 3.2).
    pub issues_ticket: bool,
    /// ALPN, which TLS 1.3 sends encrypted instead.
    pub protocol: Option<String>,
}

impl ServerHello {
    /// Reads the body of the message.
    pub fn read(body: &[u8]) -> Result<Self, InvalidMessage> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        // Drafts before 22 say their version here and have neither session ID nor compression.
        let is_old_draft = legacy_version >> 8 == 0x7f;
        if legacy_version >> 8 != 3 && !is_old_draft {
            return Err(InvalidMessage::OutOfRange);
        }
        let random = reader.take(32)?;
        let session_id = match is_old_draft {
            true => SessionId::default(),
            false => SessionId::read(&mut reader)?,
        };
        let cipher = reader.u16()?;
        if !is_old_draft {
            reader.u8()?;
        }
        let mut hello = Self {
            version: normal_version(legacy_version),
            is_retry: random == RETRY_RANDOM,
            random: random
                .first_chunk()
                .map_or(0, |start| u64::from_ne_bytes(*start)),
            session_id,
            cipher,
            group: None,
            psk_accepted: false,
            issues_ticket: false,
            protocol: None,
        };
        if reader.is_empty() {
            return Ok(hello);
        }
        let mut extensions = reader.vector16()?;
        reader.end()?;
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let mut body = extensions.vector16()?;
            match kind {
                extension::SUPPORTED_VERSIONS => hello.version = normal_version(body.u16()?),
                extension::KEY_SHARE => hello.group = Some(body.u16()?),
                extension::PRE_SHARED_KEY => hello.psk_accepted = true,
                extension::SESSION_TICKET => hello.issues_ticket = true,
                extension::ALPN => {
                    let name = body.vector16()?.vector8()?.rest();
                    hello.protocol = std::str::from_utf8(name).ok().map(str::to_owned);
                }
                _ => {}
            }
        }
        Ok(hello)
    }
}

/// Bytes of a ServerKeyExchange that [`named_curve`] needs.
pub const NAMED_CURVE_BYTES: u32 = 4;

/// The group of an ECDHE ServerKeyExchange (RFC 8422, 5.4): curve_type named_curve (3), group,
/// and the length of a point. A finite-field exchange starts with the length of its prime; the
/// length of a point, one of a few values, tells them apart.
pub fn named_curve(cipher: u16, start: &[u8]) -> Option<u16> {
    let &[3, high, low, point] = start else {
        return None;
    };
    let is_elliptic =
        matches!(cipher >> 8, 0xc0 | 0xcc) && matches!(point, 32 | 56 | 65 | 97 | 133);
    is_elliptic.then(|| u16::from_be_bytes([high, low]))
}

/// Bytes of a NewSessionTicket that [`new_session_ticket`] needs: lifetime hint, length, key name.
pub const NEW_TICKET_BYTES: u32 = 4 + 2 + KEY_NAME_BYTES as u32;

/// What a server issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    pub ticket: Ticket,
    /// Seconds; `None` where the server leaves it to the client (RFC 5077, 3.3).
    pub lifetime_s: Option<u32>,
}

/// The ticket in the start of a NewSessionTicket of TLS 1.2 (RFC 5077, 3.3).
pub fn new_session_ticket(start: &[u8]) -> Result<Issued, InvalidMessage> {
    let mut reader = Reader::new(start);
    let hint = u32::from(reader.u16()?) << 16 | u32::from(reader.u16()?);
    let length = reader.u16()?;
    Ok(Issued {
        ticket: Ticket::beginning(length.into(), reader.rest()),
        lifetime_s: (hint != 0).then_some(hint),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn body(random: [u8; 32], extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&random);
        body.extend_from_slice(&[0, 0x13, 0x01, 0]);
        if !extensions.is_empty() {
            body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
            body.extend_from_slice(extensions);
        }
        body
    }

    #[test]
    fn selected_version_overrides_the_legacy_one() {
        let hello = ServerHello::read(&body([0; 32], &[0, 43, 0, 2, 3, 4])).unwrap();
        assert_eq!(hello.version, 0x0304);
        let draft = ServerHello::read(&body([0; 32], &[0, 43, 0, 2, 0x7f, 28])).unwrap();
        assert_eq!(draft.version, 0x0304);
        assert_eq!(
            ServerHello::read(&body([0; 32], &[])).unwrap().version,
            0x0303
        );
    }

    #[test]
    fn fixed_random_is_a_retry() {
        assert!(
            ServerHello::read(&body(RETRY_RANDOM, &[]))
                .unwrap()
                .is_retry
        );
    }

    #[test]
    fn rejects_every_prefix() {
        let whole = body([0; 32], &[0, 43, 0, 2, 3, 4]);
        for length in 0..whole.len() {
            // A hello without extensions is whole: TLS 1.0 servers send such.
            let ends_before_extensions = length == 38;
            assert_eq!(
                ServerHello::read(&whole[..length]).is_ok(),
                ends_before_extensions,
                "prefix {length}"
            );
        }
    }

    #[test]
    fn a_prime_is_no_curve() {
        assert_eq!(named_curve(0xc02f, &[3, 0, 29, 32]), Some(29));
        assert_eq!(named_curve(0xc09e, &[3, 0, 0xff, 0xff]), None);
        assert_eq!(named_curve(0x009e, &[3, 0, 29, 32]), None);
    }
}
