//! Cheap recognition: does a stream that starts like this deserve to be copied?
//!
//! It may say yes too often (user space parses and forgets), never no for a TLS stream.

/// True when the first payload bytes may begin a TLS stream: a handshake record with a ClientHello
/// (RFC 8446, 5.1) or a PROXY protocol header, version 1 or 2, before it, or a ClientHello in the
/// form of SSL 2.0 (RFC 5246, E.2). `length` is the payload's; a payload shorter than a pattern matches
/// when all its bytes do.
#[inline(always)]
pub fn may_start_tls(prefix: &[u8; 6], length: u32) -> bool {
    match prefix[0] {
        // ContentType handshake, major version 3, HandshakeType client_hello.
        0x16 => (length < 2 || prefix[1] == 3) && (length < 6 || prefix[5] == 1),
        b'P' => starts(prefix, length, b"PROXY "),
        // A length of less than 1024, msg_type client_hello, major version 3.
        0x80..=0x83 => (length < 3 || prefix[2] == 1) && (length < 4 || prefix[3] == 3),
        // The first half of the version 2 signature.
        b'\r' => starts(prefix, length, b"\r\n\r\n\0\r"),
        _ => false,
    }
}

#[inline(always)]
fn starts(prefix: &[u8; 6], length: u32, pattern: &[u8; 6]) -> bool {
    let mut index = 1;
    while index < 6 {
        if (index as u32) < length && prefix[index] != pattern[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// True for the start of an encrypted record: application_data, legacy version 3.3.
#[inline(always)]
pub fn is_application_data(prefix: &[u8; 6]) -> bool {
    prefix[0] == 0x17 && prefix[1] == 3 && prefix[2] == 3
}
