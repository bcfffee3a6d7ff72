//! What the beginning of a datagram says about DTLS (RFC 6347, 4.1; RFC 9147, 5.2), which is counted and
//! not followed.

/// Bytes that [`may_begin`] looks at.
pub const PREFIX_BYTES: usize = 5;
/// Bytes of a record's header: type, version, epoch, sequence number, length.
pub const RECORD_HEADER_BYTES: u32 = 13;
/// Bytes of the message's header that [`is_first_hello`] looks at: type, length, message_seq.
pub const MESSAGE_BYTES: usize = 6;

/// True for a record of a handshake in the clear: ContentType 22, version 1.0 or 1.2 (which 1.3 writes as
/// well), epoch 0.
#[inline(always)]
pub const fn may_begin(prefix: &[u8; PREFIX_BYTES]) -> bool {
    matches!(prefix, [22, 0xfe, 0xff | 0xfd, 0, 0])
}

/// True for a ClientHello that is the first of its handshake: a server may ask for a second one, with a
/// cookie.
#[inline(always)]
pub const fn is_first_hello(message: &[u8; MESSAGE_BYTES]) -> bool {
    matches!(message, [1, _, _, _, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_first_hello_from_a_second_and_from_other_records() {
        assert!(may_begin(&[22, 0xfe, 0xfd, 0, 0]));
        assert!(may_begin(&[22, 0xfe, 0xff, 0, 0]));
        // Encrypted, another type, and a TLS record.
        assert!(!may_begin(&[22, 0xfe, 0xfd, 0, 1]));
        assert!(!may_begin(&[23, 0xfe, 0xfd, 0, 0]));
        assert!(!may_begin(&[22, 3, 1, 0, 0]));
        assert!(is_first_hello(&[1, 0, 0, 200, 0, 0]));
        assert!(!is_first_hello(&[1, 0, 0, 232, 0, 1]));
        assert!(!is_first_hello(&[2, 0, 0, 200, 0, 0]));
    }
}
