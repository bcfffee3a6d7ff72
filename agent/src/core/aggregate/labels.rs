//! Label values: closed sets, in the words of the contract.

use crate::core::record::{Method, Outcome, Role, Transport, Version};

/// `server_name` and `service` of everything that found no room.
pub const OTHER: &str = "_other";
/// `server_name` where there was no SNI.
pub const NONE: &str = "_none";
/// `server_name` where the SNI is no host name.
pub const INVALID: &str = "_invalid";
/// `service` where the process is not known.
pub const UNKNOWN_SERVICE: &str = "_unknown";

/// `version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VersionLabel {
    /// No ServerHello came, or it selected a version that is none.
    Unknown,
    Ssl3,
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl From<Option<Version>> for VersionLabel {
    fn from(version: Option<Version>) -> Self {
        match version {
            Some(0x0300) => VersionLabel::Ssl3,
            Some(0x0301) => VersionLabel::Tls10,
            Some(0x0302) => VersionLabel::Tls11,
            Some(0x0303) => VersionLabel::Tls12,
            Some(0x0304) => VersionLabel::Tls13,
            _ => VersionLabel::Unknown,
        }
    }
}

impl VersionLabel {
    pub fn as_str(self) -> &'static str {
        match self {
            VersionLabel::Unknown => "unknown",
            VersionLabel::Ssl3 => "ssl3",
            VersionLabel::Tls10 => "1.0",
            VersionLabel::Tls11 => "1.1",
            VersionLabel::Tls12 => "1.2",
            VersionLabel::Tls13 => "1.3",
        }
    }
}

/// `status` of early data (RFC 8446, 4.2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EarlyData {
    Offered,
    Accepted,
    Rejected,
}

impl EarlyData {
    pub fn as_str(self) -> &'static str {
        match self {
            EarlyData::Offered => "offered",
            EarlyData::Accepted => "accepted",
            EarlyData::Rejected => "rejected",
        }
    }
}

/// `role`.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Client => "client",
        Role::Observer => "observer",
    }
}

/// `transport`.
pub fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
    }
}

/// `offered`.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::None => "none",
        Method::SessionId => "session_id",
        Method::Ticket => "ticket",
        Method::Psk => "psk",
    }
}

/// `result`.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Full => "full",
        Outcome::Resumed => "resumed",
        Outcome::Failed => "failed",
    }
}

/// `direction` of an alert.
pub fn direction(sent: bool) -> &'static str {
    if sent { "sent" } else { "received" }
}

/// `description` of an alert; `None` is one that went out encrypted.
pub fn alert(description: Option<u8>) -> &'static str {
    match description {
        None => "encrypted",
        Some(code) => alert_name(code).unwrap_or("unknown"),
    }
}

/// Not assigned by IANA, nor will it be.
const UNKNOWN_ALERT: u8 = 255;

/// The code itself where it has a name, else one code for all others: a byte that a client picks
/// must not pick a series.
pub fn known_alert(code: u8) -> u8 {
    if alert_name(code).is_some() {
        code
    } else {
        UNKNOWN_ALERT
    }
}

/// Names of the IANA registry "TLS Alerts" (RFC 8446, 6; RFC 5246, 7.2), reserved ones included.
fn alert_name(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        52 => "too_many_cids_requested",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return None,
    })
}
