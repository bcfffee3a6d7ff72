//! The frames of an Initial packet (RFC 9000, 17.2.2 and 19).

use super::packet::varint;
use crate::core::tls::reader::{InvalidMessage, Reader};

const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const ACK: u64 = 0x02;
const ACK_ECN: u64 = 0x03;
const CRYPTO: u64 = 0x06;
const CONNECTION_CLOSE: u64 = 0x1c;

/// First error code of CRYPTO_ERROR, which carries an alert (RFC 9001, 4.8).
const CRYPTO_ERROR: u64 = 0x0100;

/// What matters of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Bytes of the handshake's stream.
    Crypto { offset: u64, data: &'a [u8] },
    /// The sender gave up; with the alert that it gave as the reason.
    Close { alert: Option<u8> },
}

/// Hands over the frames of a packet.
///
/// # Errors
/// At a frame that is damaged, or that no Initial packet may hold; those before it were handed over.
pub fn frames<'a>(
    payload: &'a [u8],
    mut receive: impl FnMut(Frame<'a>),
) -> Result<(), InvalidMessage> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        match varint(&mut reader)? {
            PADDING | PING => {}
            kind @ (ACK | ACK_ECN) => {
                varint(&mut reader)?;
                varint(&mut reader)?;
                let ranges = varint(&mut reader)?;
                varint(&mut reader)?;
                // Each range takes two bytes at least, so that its end comes before long.
                for _ in 0..ranges {
                    varint(&mut reader)?;
                    varint(&mut reader)?;
                }
                for _ in 0..if kind == ACK_ECN { 3 } else { 0 } {
                    varint(&mut reader)?;
                }
            }
            CRYPTO => {
                let offset = varint(&mut reader)?;
                let data = bytes(&mut reader)?;
                receive(Frame::Crypto { offset, data });
            }
            CONNECTION_CLOSE => {
                let error = varint(&mut reader)?;
                varint(&mut reader)?;
                bytes(&mut reader)?;
                let alert = error.checked_sub(CRYPTO_ERROR);
                receive(Frame::Close {
                    alert: alert.and_then(|alert| u8::try_from(alert).ok()),
                });
            }
            _ => return Err(InvalidMessage::OutOfRange),
        }
    }
    Ok(())
}

/// Bytes behind their length.
fn bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], InvalidMessage> {
    let length = varint(reader)?;
    reader.take(usize::try_from(length).map_err(|_| InvalidMessage::OutOfRange)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> (Vec<Frame<'_>>, bool) {
        let mut found = Vec::new();
        let result = frames(payload, |frame| found.push(frame));
        (found, result.is_ok())
    }

    #[test]
    fn finds_what_matters_among_the_rest() {
        let payload = [
            0, 0, 1, // PADDING, PING
            2, 9, 0, 1, 2, 0, 3, // ACK of two ranges
            3, 9, 0, 0, 2, 1, 1, 1, // ACK with ECN counts
            6, 5, 3, b'a', b'b', b'c', // CRYPTO
            0x1c, 0x41, 0x28, 6, 2, b'n', b'o', // CONNECTION_CLOSE: handshake_failure
        ];
        let (found, whole) = read(&payload);
        let expected = [
            Frame::Crypto {
                offset: 5,
                data: b"abc",
            },
            Frame::Close { alert: Some(40) },
        ];
        assert_eq!((found.as_slice(), whole), (&expected[..], true));
        for end in 0..payload.len() {
            let (found, _) = read(&payload[..end]);
            assert!(expected.starts_with(&found));
        }
    }

    #[test]
    fn stops_at_what_no_initial_packet_may_hold() {
        assert_eq!(read(&[1, 8, 0]), (Vec::new(), false));
        // No memory is taken for what a length promises.
        assert_eq!(
            read(&[2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]),
            (Vec::new(), false)
        );
        assert_eq!(
            read(&[6, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (Vec::new(), false)
        );
    }

    #[test]
    fn other_errors_than_alerts_are_none() {
        assert_eq!(read(&[0x1c, 2, 0, 0]).0, [Frame::Close { alert: None }]);
        assert_eq!(
            read(&[0x1c, 0x42, 0, 0, 0]).0,
            [Frame::Close { alert: None }]
        );
    }
}
