//! Protocols that are spoken in the open first and may go over to TLS on the same connection: how their
//! streams begin.

/// Bytes that [`may_upgrade`] looks at.
pub const PREFIX_BYTES: usize = 6;

/// True where the first bytes of either direction may be those of such a protocol: SMTP, FTP, LMTP, NNTP
/// (RFC 3207, 4217, 4642), IMAP and POP3 (RFC 2595), XMPP (RFC 6120), LDAP (RFC 4511), HTTP CONNECT
/// (RFC 9110, 9.3.6), SOCKS 4 and 5 (RFC 1928), PostgreSQL's SSLRequest, MySQL's greeting, RDP's
/// connection request.
#[inline(always)]
pub const fn may_upgrade(prefix: &[u8; PREFIX_BYTES]) -> bool {
    match *prefix {
        [b'2', b'2' | b'0', b'0' | b'1', b' ' | b'-', _, _] => true,
        [b'*', b' ', b'O' | b'P', _, _, _] | [b'+', b'O', b'K', _, _, _] => true,
        [b'<', b'?', b'x', b'm', b'l', _] | [b'<', b's', b't', b'r', b'e', b'a'] => true,
        // A BER sequence with a message number in it.
        [0x30, length, 0x02, _, _, _] if length < 0x80 => true,
        [0x30, 0x81..=0x84, _, _, _, _] => true,
        [b'C', b'O', b'N', b'N', b'E', b'C'] => true,
        [5, 1..=8, _, _, _, _] | [4, 1, _, _, _, _] => true,
        [0, 0, 0, 8, 0x04, 0xd2] => true,
        // Length, number of the packet, version 10 of the protocol, and its own in digits.
        [_, 0, 0, 0, 10, b'0'..=b'9'] => true,
        [3, 0, 0, _, _, 0xe0] => true,
        _ => false,
    }
}

/// True for bytes that begin a record with a ClientHello in it (RFC 8446, 5.1), and nothing else that
/// is likely to stand in another protocol.
#[inline(always)]
pub const fn is_client_hello(prefix: &[u8; PREFIX_BYTES]) -> bool {
    matches!(*prefix, [22, 3, 0..=4, _, _, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(stream: &[u8]) -> bool {
        let mut prefix = [0; PREFIX_BYTES];
        let length = stream.len().min(PREFIX_BYTES);
        prefix[..length].copy_from_slice(&stream[..length]);
        may_upgrade(&prefix)
    }

    #[test]
    fn knows_how_they_begin() {
        for stream in [
            &b"220 mail.example.com ESMTP"[..],
            b"220-first line of several",
            b"200 news.example.com ready",
            b"* OK [CAPABILITY IMAP4rev1 STARTTLS]",
            b"* PREAUTH ready",
            b"+OK POP3 ready",
            b"<?xml version='1.0'?><stream:stream",
            b"<stream:stream to='example.com'",
            b"\x30\x1d\x02\x01\x01\x77\x18",
            b"\x30\x84\x00\x00\x00\x1d\x02",
            b"CONNECT www.example.com:443 HTTP/1.1",
            b"\x05\x01\x00",
            b"\x05\x02\x00\x02",
            b"\x04\x01\x01\xbb\x7f\x00",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x4a\x00\x00\x00\x0a5.7.29",
            b"\x03\x00\x00\x13\x0e\xe0",
        ] {
            assert!(begins(stream), "{stream:?}");
        }
        for stream in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST /",
            b"SSH-2.0-OpenSSH",
            b"PRI * HTTP/2.0",
            b"HTTP/1.1 200 OK",
            b"\x16\x03\x01\x02\x00\x01",
            b"\x00\x00\x00\x55\x00\x03",
        ] {
            assert!(!begins(stream), "{stream:?}");
        }
    }
}
