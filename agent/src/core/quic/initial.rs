//! Opens Initial packets, whose keys follow from what stands in the first of them (RFC 9001, 5.2): they
//! protect against accidents, not against readers.

use std::ops::Range;

use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{self, DirectionalKeys, Keys};

use super::packet::{ConnectionId, Packet, Version};

/// Where the sample for the header's protection begins, behind the packet number's begin (RFC 9001,
/// 5.4.2).
const SAMPLE_AT: usize = 4;

/// Low bits of the first byte: length of the packet number, less one.
const NUMBER_LENGTH: u8 = 0x03;

/// The keys of a connection's Initial packets.
pub struct InitialKeys {
    keys: Keys,
}

impl InitialKeys {
    /// Of the connection whose client chose `destination` in its first packet, or whose server did in
    /// its Retry; `None` where this build lacks the cipher.
    pub fn derive(version: Version, destination: &ConnectionId) -> Option<Self> {
        let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
        let keys = Keys::initial(
            secrets(version),
            suite,
            suite.quic?,
            destination.as_bytes(),
            Side::Client,
        );
        Some(Self { keys })
    }

    fn of(&self, from_client: bool) -> &DirectionalKeys {
        match from_client {
            true => &self.keys.local,
            false => &self.keys.remote,
        }
    }

    /// Opens a packet in `buffer`; `None` where it is not authentic. `largest` is the largest packet
    /// number that was seen of its sender.
    pub fn open(
        &self,
        from_client: bool,
        packet: &Packet<'_>,
        largest: u64,
        buffer: &mut Vec<u8>,
    ) -> Option<Opened> {
        let DirectionalKeys {
            header,
            packet: key,
        } = self.of(from_client);
        buffer.clear();
        buffer.extend_from_slice(packet.bytes);
        let (clear, protected) = buffer.split_at_mut_checked(packet.number_at)?;
        let first = clear.first_mut()?;
        let (number, rest) = protected.split_at_mut_checked(SAMPLE_AT)?;
        let sample = rest.get(..header.sample_len())?;
        header.decrypt_in_place(sample, first, number).ok()?;
        let number_length = usize::from(*first & NUMBER_LENGTH) + 1;
        let truncated = number[..number_length]
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        let number = whole_number(truncated, number_length, largest);
        let begin = packet.number_at + number_length;
        let (header, payload) = buffer.split_at_mut_checked(begin)?;
        let length = key.decrypt_in_place(number, header, payload).ok()?.len();
        Some(Opened {
            payload: begin..begin + length,
            largest: number.max(largest),
        })
    }
}

/// What only tests make: packets of their own.
#[cfg(any(test, fuzzing))]
impl InitialKeys {
    /// Seals a packet whose packet number takes one byte and stands right before `length` bytes of
    /// payload, which end the packet.
    pub fn seal(
        &self,
        from_client: bool,
        number: u64,
        packet: &mut Vec<u8>,
        length: usize,
    ) -> Option<()> {
        let DirectionalKeys {
            header,
            packet: key,
        } = self.of(from_client);
        let payload_at = packet.len().checked_sub(length)?;
        let (head, payload) = packet.split_at_mut(payload_at);
        let tag = key.encrypt_in_place(number, head, payload).ok()?;
        packet.extend_from_slice(tag.as_ref());
        let number_at = payload_at.checked_sub(1)?;
        let (clear, protected) = packet.split_at_mut_checked(number_at)?;
        let (number, rest) = protected.split_at_mut_checked(SAMPLE_AT)?;
        let sample = rest.get(..header.sample_len())?;
        header
            .encrypt_in_place(sample, clear.first_mut()?, number.get_mut(..1)?)
            .ok()
    }
}

/// A packet that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where its payload is in the buffer.
    pub payload: Range<usize>,
    /// The largest packet number of its sender by now.
    pub largest: u64,
}

/// How keys follow in a version.
fn secrets(version: Version) -> quic::Version {
    match version {
        Version::Draft => quic::Version::V1Draft,
        Version::V1 => quic::Version::V1,
        Version::V2 => quic::Version::V2,
    }
}

impl std::fmt::Debug for InitialKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("InitialKeys")
            .finish_non_exhaustive()
    }
}

/// The packet number that ends in `truncated` and lies next to the one expected (RFC 9000, A.3).
fn whole_number(truncated: u64, length: usize, largest: u64) -> u64 {
    let window = 1 << (8 * length);
    let expected = largest + 1;
    let candidate = (expected & !(window - 1)) | truncated;
    if candidate + window / 2 <= expected {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::quic::frames::{Frame, frames};
    use crate::core::quic::packet::packets;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    /// The server's Initial packet of RFC 9001, A.3, and of RFC 9369, A.3.
    const SERVER: [&str; 2] = [
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb3
         8cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84
         022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee",
        "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf872630
         17915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2
         c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140",
    ];
    const DESTINATION: &str = "8394c8f03e515708";

    fn destination() -> ConnectionId {
        let first = [&[0xc0, 0, 0, 0, 1, 8][..], &bytes(DESTINATION), &[0, 0, 0]].concat();
        packets(&first).next().expect("a packet").destination
    }

    #[test]
    fn opens_the_packets_of_the_standards() {
        for (hex, version) in SERVER.into_iter().zip([Version::V1, Version::V2]) {
            let datagram = bytes(hex);
            let packet = packets(&datagram).next().expect("a packet");
            assert_eq!(packet.version, Some(version));
            let keys = InitialKeys::derive(version, &destination()).expect("keys");
            let mut buffer = Vec::new();
            let opened = keys
                .open(false, &packet, 0, &mut buffer)
                .expect("authentic");
            let mut kinds = Vec::new();
            frames(&buffer[opened.payload], |frame| {
                if let Frame::Crypto { offset: 0, data } = frame {
                    kinds.push((data[0], data.len()));
                }
            })
            .expect("frames");
            // A ServerHello.
            assert_eq!((kinds.as_slice(), opened.largest), (&[(2, 90)][..], 1));
            assert_eq!(keys.open(true, &packet, 0, &mut buffer), None);
            for end in 0..datagram.len() {
                if let Some(packet) = packets(&datagram[..end]).next() {
                    assert_eq!(keys.open(false, &packet, 0, &mut buffer), None);
                }
            }
        }
    }

    #[test]
    fn opens_what_it_sealed() {
        let keys = InitialKeys::derive(Version::V1, &destination()).expect("keys");
        let mut sealed = [
            &[0xc0, 0, 0, 0, 1, 8][..],
            &bytes(DESTINATION),
            &[0, 0, 0x40, 27],
        ]
        .concat();
        sealed.push(7);
        sealed.extend([1; 10]);
        keys.seal(true, 7, &mut sealed, 10).expect("room");
        let packet = packets(&sealed).next().expect("a packet");
        let mut buffer = Vec::new();
        let opened = keys.open(true, &packet, 0, &mut buffer).expect("authentic");
        assert_eq!((&buffer[opened.payload], opened.largest), (&[1; 10][..], 7));
    }

    #[test]
    fn packet_numbers_lie_next_to_the_one_expected() {
        // RFC 9000, A.3.
        assert_eq!(whole_number(0x9b32, 2, 0xa82f_30ea), 0xa82f_9b32);
        assert_eq!(whole_number(0, 1, 255), 256);
        assert_eq!(whole_number(255, 1, 256), 255);
        assert_eq!(whole_number(3, 1, 0), 3);
    }
}
