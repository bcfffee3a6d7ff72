//! The ClientHello in the form of SSL 2.0 by which old clients open TLS (RFC 5246, E.2):
//!
//! ```text
//! uint8 V2CipherSpec[3];
//! struct {
//!     uint16 msg_length;             // the highest bit set
//!     uint8 msg_type;                // 1
//!     Version version;
//!     uint16 cipher_spec_length;
//!     uint16 session_id_length;
//!     uint16 challenge_length;
//!     V2CipherSpec cipher_specs[V2ClientHello.cipher_spec_length];
//!     opaque session_id[V2ClientHello.session_id_length];
//!     opaque challenge[V2ClientHello.challenge_length;
//! } V2ClientHello;
//! ```

use super::client_hello::ClientHello;
use super::reader::{InvalidMessage, Reader};

/// Highest bit of the length: no padding.
const NO_PADDING: u8 = 0x80;
const CLIENT_HELLO: u8 = 1;
/// Message type, version and three lengths.
const FIXED_BYTES: usize = 9;
/// Longer ones are not sent: they would hold 300 cipher suites.
const MAX_BYTES: usize = 1024;

/// Whether a stream that starts with this byte may start with such a hello.
pub fn may_start_with(byte: u8) -> bool {
    byte & NO_PADDING != 0
}

/// Reads one, in any portions.
#[derive(Debug, Default)]
pub struct Ssl2Hello {
    bytes: Vec<u8>,
}

impl Ssl2Hello {
    pub fn restart(&mut self) {
        self.bytes.clear();
    }

    /// Takes the hello's bytes off `data`; what it says, once it is whole, and the rest of `data`.
    ///
    /// # Errors
    /// When it is none, or one of SSL 2.0 itself.
    pub fn data<'a>(
        &mut self,
        mut data: &'a [u8],
    ) -> Result<(&'a [u8], Option<ClientHello>), InvalidMessage> {
        while let [byte, rest @ ..] = data {
            self.bytes.push(*byte);
            data = rest;
            let [high, low, ..] = *self.bytes.as_slice() else {
                continue;
            };
            let length = usize::from(u16::from_be_bytes([high & !NO_PADDING, low]));
            if !(FIXED_BYTES..=MAX_BYTES).contains(&length) {
                return Err(InvalidMessage::OutOfRange);
            }
            if self.bytes.len() == 2 + length {
                return Ok((data, Some(read(&self.bytes[2..])?)));
            }
        }
        Ok((data, None))
    }
}

fn read(message: &[u8]) -> Result<ClientHello, InvalidMessage> {
    let mut reader = Reader::new(message);
    let (kind, legacy_version) = (reader.u8()?, reader.u16()?);
    if kind != CLIENT_HELLO || legacy_version >> 8 != 3 {
        return Err(InvalidMessage::OutOfRange);
    }
    let mut rest = 0;
    for _ in 0..3 {
        rest += usize::from(reader.u16()?);
    }
    reader.take(rest)?;
    reader.end()?;
    // A session is never resumed by it: its ID is empty, or one of SSL 2.0.
    Ok(ClientHello {
        legacy_version,
        ..ClientHello::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: [u8; 2]) -> Vec<u8> {
        let mut bytes = vec![0x80, 31, 1, version[0], version[1], 0, 6, 0, 0, 0, 16];
        bytes.extend([0, 0, 4, 0, 0, 5]);
        bytes.extend([7; 16]);
        bytes
    }

    #[test]
    fn any_portions_give_the_same() {
        let bytes = [hello([3, 1]), vec![22, 3, 1]].concat();
        for cut in 0..bytes.len() {
            let mut reader = Ssl2Hello::default();
            let (mut found, mut behind) = (None, 0);
            for mut part in [&bytes[..cut], &bytes[cut..]] {
                if found.is_none() {
                    (part, found) = reader.data(part).expect("a hello");
                }
                behind += part.len();
            }
            let hello = found.expect("whole");
            assert_eq!((hello.legacy_version, behind), (0x0301, 3), "{cut}");
        }
    }

    #[test]
    fn refuses_ssl_2_itself_and_what_is_none() {
        for bytes in [
            hello([0, 2]),
            vec![0xff, 0xff, 1],
            vec![0x80, 3, 1, 3, 1],
            [&[0x80, 31, 4][..], &[3; 40]].concat(),
        ] {
            assert!(Ssl2Hello::default().data(&bytes).is_err(), "{bytes:?}");
        }
    }
}
