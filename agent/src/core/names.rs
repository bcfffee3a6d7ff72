//! Names of TLS code points, as IANA spells them. A value without a name is written in hex, so
//! that nothing is lost and nothing is guessed.

use std::borrow::Cow;

use crate::core::record::Version;

mod cipher_suites;

/// In place of a server name: there was no SNI.
pub const NO_SERVER_NAME: &str = "_none";
/// In place of a server name: the SNI is no host name.
pub const INVALID_SERVER_NAME: &str = "_invalid";

/// `tls.protocol.version`: `1.0` … `1.3`, and `ssl3.0` for its ancestor.
pub fn version(version: Version) -> Cow<'static, str> {
    named(version_name(version), version)
}

/// `tls.cipher`, e.g. `TLS_AES_128_GCM_SHA256`.
pub fn cipher_suite(suite: u16) -> Cow<'static, str> {
    named(find(cipher_suites::CIPHER_SUITES, suite), suite)
}

/// `tls.curve`, e.g. `x25519`, `X25519MLKEM768`.
pub fn group(group: u16) -> Cow<'static, str> {
    named(find(GROUPS, group), group)
}

/// The `description` of an alert (RFC 8446, 6.2), e.g. `unknown_ca`; a number where unknown.
pub fn alert(description: u8) -> Cow<'static, str> {
    match alert_name(description) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(description.to_string()),
    }
}

/// The name of an alert, where it has one.
pub fn alert_name(description: u8) -> Option<&'static str> {
    find(ALERTS, description)
}

/// The `level` of an alert (RFC 8446, 6); `None` for a value that the protocol does not have.
pub fn alert_level(level: u8) -> Option<&'static str> {
    match level {
        1 => Some("warning"),
        2 => Some("fatal"),
        _ => None,
    }
}

/// The name of a version, where it has one.
pub fn version_name(version: Version) -> Option<&'static str> {
    match version {
        0x0300 => Some("ssl3.0"),
        0x0301 => Some("1.0"),
        0x0302 => Some("1.1"),
        0x0303 => Some("1.2"),
        0x0304 => Some("1.3"),
        _ => None,
    }
}

fn named(name: Option<&'static str>, code: u16) -> Cow<'static, str> {
    match name {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("0x{code:04x}")),
    }
}

fn find<C: Ord + Copy>(table: &'static [(C, &'static str)], code: C) -> Option<&'static str> {
    let index = table.binary_search_by_key(&code, |&(code, _)| code).ok()?;
    Some(table[index].1)
}

/// TLS supported groups registry of IANA (RFC 8446, 4.2.7; RFC 7919; draft-ietf-tls-ecdhe-mlkem),
/// and the hybrid draft that browsers and servers spoke before it.
#[rustfmt::skip]
static GROUPS: &[(u16, &str)] = &[
    (0x0001, "sect163k1"),
    (0x0002, "sect163r1"),
    (0x0003, "sect163r2"),
    (0x0004, "sect193r1"),
    (0x0005, "sect193r2"),
    (0x0006, "sect233k1"),
    (0x0007, "sect233r1"),
    (0x0008, "sect239k1"),
    (0x0009, "sect283k1"),
    (0x000a, "sect283r1"),
    (0x000b, "sect409k1"),
    (0x000c, "sect409r1"),
    (0x000d, "sect571k1"),
    (0x000e, "sect571r1"),
    (0x000f, "secp160k1"),
    (0x0010, "secp160r1"),
    (0x0011, "secp160r2"),
    (0x0012, "secp192k1"),
    (0x0013, "secp192r1"),
    (0x0014, "secp224k1"),
    (0x0015, "secp224r1"),
    (0x0016, "secp256k1"),
    (0x0017, "secp256r1"),
    (0x0018, "secp384r1"),
    (0x0019, "secp521r1"),
    (0x001a, "brainpoolP256r1"),
    (0x001b, "brainpoolP384r1"),
    (0x001c, "brainpoolP512r1"),
    (0x001d, "x25519"),
    (0x001e, "x448"),
    (0x001f, "brainpoolP256r1tls13"),
    (0x0020, "brainpoolP384r1tls13"),
    (0x0021, "brainpoolP512r1tls13"),
    (0x0022, "GC256A"),
    (0x0023, "GC256B"),
    (0x0024, "GC256C"),
    (0x0025, "GC256D"),
    (0x0026, "GC512A"),
    (0x0027, "GC512B"),
    (0x0028, "GC512C"),
    (0x0029, "curveSM2"),
    (0x0100, "ffdhe2048"),
    (0x0101, "ffdhe3072"),
    (0x0102, "ffdhe4096"),
    (0x0103, "ffdhe6144"),
    (0x0104, "ffdhe8192"),
    (0x0200, "MLKEM512"),
    (0x0201, "MLKEM768"),
    (0x0202, "MLKEM1024"),
    (0x11eb, "SecP256r1MLKEM768"),
    (0x11ec, "X25519MLKEM768"),
    (0x11ed, "SecP384r1MLKEM1024"),
    (0x11ee, "curveSM2MLKEM768"),
    (0x6399, "X25519Kyber768Draft00"),
    (0x639a, "SecP256r1Kyber768Draft00"),
    (0xff01, "arbitrary_explicit_prime_curves"),
    (0xff02, "arbitrary_explicit_char2_curves"),
];

/// TLS alerts registry of IANA (RFC 8446, 6.2, and what older versions used).
#[rustfmt::skip]
static ALERTS: &[(u8, &str)] = &[
    (0, "close_notify"),
    (10, "unexpected_message"),
    (20, "bad_record_mac"),
    (21, "decryption_failed"),
    (22, "record_overflow"),
    (30, "decompression_failure"),
    (40, "handshake_failure"),
    (41, "no_certificate"),
    (42, "bad_certificate"),
    (43, "unsupported_certificate"),
    (44, "certificate_revoked"),
    (45, "certificate_expired"),
    (46, "certificate_unknown"),
    (47, "illegal_parameter"),
    (48, "unknown_ca"),
    (49, "access_denied"),
    (50, "decode_error"),
    (51, "decrypt_error"),
    (52, "too_many_cids_requested"),
    (60, "export_restriction"),
    (70, "protocol_version"),
    (71, "insufficient_security"),
    (80, "internal_error"),
    (86, "inappropriate_fallback"),
    (90, "user_canceled"),
    (100, "no_renegotiation"),
    (109, "missing_extension"),
    (110, "unsupported_extension"),
    (111, "certificate_unobtainable"),
    (112, "unrecognized_name"),
    (113, "bad_certificate_status_response"),
    (114, "bad_certificate_hash_value"),
    (115, "unknown_psk_identity"),
    (116, "certificate_required"),
    (117, "general_error"),
    (120, "no_application_protocol"),
    (121, "ech_required"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_rise_strictly_so_that_binary_search_holds() {
        assert!(cipher_suites::CIPHER_SUITES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(GROUPS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(ALERTS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn names_suites_of_every_age_and_family() {
        for (code, name) in [
            (0x1301, "TLS_AES_128_GCM_SHA256"),
            (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
            (0x1305, "TLS_AES_128_CCM_8_SHA256"),
            (0x0003, "TLS_RSA_EXPORT_WITH_RC4_40_MD5"),
            (0x0005, "TLS_RSA_WITH_RC4_128_SHA"),
            (0x000a, "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
            (0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"),
            (0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"),
            (0x0041, "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA"),
            (0x00a8, "TLS_PSK_WITH_AES_128_GCM_SHA256"),
            (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            (0xc05d, "TLS_ECDHE_ECDSA_WITH_ARIA_256_GCM_SHA384"),
            (0xc0ac, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM"),
            (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        ] {
            assert_eq!(cipher_suite(code), name);
        }
    }

    #[test]
    fn names_groups_as_the_contract_spells_them() {
        assert_eq!(group(0x001d), "x25519");
        assert_eq!(group(0x0017), "secp256r1");
        assert_eq!(group(0x11ec), "X25519MLKEM768");
    }

    #[test]
    fn writes_unknown_code_points_in_hex() {
        assert_eq!(cipher_suite(0x1a1a), "0x1a1a");
        assert_eq!(group(0xfafa), "0xfafa");
        assert_eq!(version(0x0305), "0x0305");
        assert_eq!(alert(200), "200");
        assert_eq!(alert_level(0), None);
    }

    #[test]
    fn names_versions_and_alerts() {
        assert_eq!(version(0x0304), "1.3");
        assert_eq!(version(0x0301), "1.0");
        assert_eq!(alert(48), "unknown_ca");
        assert_eq!(alert_level(2), Some("fatal"));
    }
}
