//! Code points (IANA TLS parameters) that the tracker acts upon. Unknown ones pass through as
//! plain numbers.

/// ContentType (RFC 8446, 5.1; RFC 6520 for heartbeat).
pub mod content {
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    pub const ALERT: u8 = 21;
    pub const HANDSHAKE: u8 = 22;
    pub const APPLICATION_DATA: u8 = 23;
    pub const HEARTBEAT: u8 = 24;
}

/// HandshakeType (RFC 8446, 4; RFC 5246, 7.4; RFC 6066, 8).
pub mod handshake {
    pub const HELLO_REQUEST: u8 = 0;
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const NEW_SESSION_TICKET: u8 = 4;
    /// A message of its own in drafts of TLS 1.3 before 22.
    pub const HELLO_RETRY_REQUEST_DRAFT: u8 = 6;
    pub const CERTIFICATE: u8 = 11;
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
    pub const CERTIFICATE_REQUEST: u8 = 13;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CERTIFICATE_STATUS: u8 = 22;
}

/// ExtensionType.
pub mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const ALPN: u16 = 16;
    pub const SESSION_TICKET: u16 = 35;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const STATUS_REQUEST: u16 = 5;
    pub const EARLY_DATA: u16 = 42;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
    pub const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

/// AlertDescription (RFC 8446, 6.2; RFC 5246, 7.2.2).
pub mod alert {
    pub const WARNING: u8 = 1;
    pub const FATAL: u8 = 2;
    pub const CLOSE_NOTIFY: u8 = 0;
    pub const USER_CANCELED: u8 = 90;
}

/// TLS 1.2.
pub const TLS12: u16 = 0x0303;
/// TLS 1.3.
pub const TLS13: u16 = 0x0304;

/// The version a code point stands for: drafts (0x7fXX) and the experiments before them (0x7eXX)
/// are TLS 1.3 by their handshake.
pub fn normal_version(code: u16) -> u16 {
    match code >> 8 {
        0x7e | 0x7f => TLS13,
        _ => code,
    }
}

/// GREASE values (RFC 8701, 2): both bytes equal, 0x?a.
pub fn is_grease(code: u16) -> bool {
    let [high, low] = code.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// Length of a TLS 1.3 record that holds just a Finished (RFC 8446, 4.4.4 and 5.2): message
/// header 4, hash of the suite, inner content type 1, tag 16 (8 with CCM_8).
pub fn finished_record_length(cipher: u16) -> u16 {
    match cipher {
        // TLS_AES_256_GCM_SHA384, and the GOST-free SHA-384 suites of RFC 9150 and RFC 8998 have
        // no other member in use.
        0x1302 => 4 + 48 + 1 + 16,
        // TLS_AES_128_CCM_8_SHA256.
        0x1305 => 4 + 32 + 1 + 8,
        _ => 4 + 32 + 1 + 16,
    }
}

/// Length of a TLS 1.3 record that holds just an alert: 2 bytes, type 1, tag.
pub fn alert_record_length(cipher: u16) -> u16 {
    if cipher == 0x1305 {
        2 + 1 + 8
    } else {
        2 + 1 + 16
    }
}

/// Bytes of the application in a protected record of this length, or one more where the suite pads:
/// what TLS 1.3 (RFC 8446, 5.2: inner type and tag) or an AEAD suite of TLS 1.2 (RFC 5288, 3; RFC
/// 6655, 3; RFC 7905, 2: nonce and tag) adds is taken off. `None` for suites with block padding.
pub fn content_length(version: u16, cipher: u16, record_length: u16) -> Option<u16> {
    let added = if version == TLS13 {
        alert_record_length(cipher) - 2
    } else {
        let name = super::super::names::cipher_suite(cipher);
        match &*name {
            name if name.contains("CHACHA20") => 16,
            name if name.contains("CCM_8") => 16,
            name if name.contains("GCM") || name.contains("CCM") => 24,
            _ => return None,
        }
    };
    record_length.checked_sub(added)
}

/// Length of a TLS 1.3 record that holds just an EndOfEarlyData: an empty message.
pub fn end_of_early_data_record_length(cipher: u16) -> u16 {
    if cipher == 0x1305 {
        4 + 1 + 8
    } else {
        4 + 1 + 16
    }
}
