//! Records for tests.
#![allow(clippy::unwrap_used, reason = "test data is known to parse")]

use crate::core::record::{
    Alert, Failure, Handshake, Method, Process, RejectReason, Role, ServerName, Source, Transport,
};

/// 2026-11-25T03:16:21.000000000Z less 1 s of CLOCK_MONOTONIC.
pub(crate) const WALL_OFFSET_NS: i128 = 1_795_576_581_000_000_000 - 1_000_000_000;

/// A resumed TLS 1.3 handshake of nginx behind PROXY protocol, everything known.
pub(crate) fn resumed() -> Handshake {
    Handshake {
        client_hello_ns: 1_123_456_789,
        role: Role::Server,
        transport: Transport::Tcp,
        client: "203.0.113.77:51234".parse().unwrap(),
        server: "192.0.2.1:443".parse().unwrap(),
        peer: Some("10.0.0.2:40000".parse().unwrap()),
        netns: 1,
        pid: Some(4242),
        established: true,
        failure: None,
        resumed: true,
        version: Some(0x0304),
        cipher: Some(0x1301),
        group: Some(0x11ec),
        next_protocol: Some("h2".to_owned()),
        server_name: Some(ServerName::Host("www.example.com".into())),
        supported_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
        ech_offered: false,
        hello_retry: false,
        alert: None,
        certificate_chain_bytes: None,
        ocsp_stapled: None,
        asks_for_status: false,
        takes_tickets: true,
        offers_tls13: true,
        offers_ecdsa: false,
        offered: Method::Psk,
        method: Method::Psk,
        reject_reason: None,
        reject_source: None,
        wire_reason: None,
        ticket_key: Some(0x00ab_cdef),
        ticket_bytes: Some(192),
        ticket_age_ns: Some(61_000_000_000),
        ticket_lifetime_ns: Some(300_000_000_000),
        tickets_issued: Some(1),
        tickets_sent: None,
        weak_key: None,
        issued_key: None,
        issued_lifetime_ns: None,
        offers_resumption: true,
        offered_session_id: None,
        offered_ticket: None,
        ticket_reoffered: false,
        issued_session_id: None,
        early_data_offered: true,
        early_data_sent: None,
        early_data_accepted: Some(false),
        established_to_client_hello_ns: Some(250_000),
        handshake_ns: Some(1_500_001),
        handshake_source: Some(Source::Library),
        time_to_first_byte_ns: Some(31_250_000),
        time_to_first_byte_source: Some(Source::Library),
        response_wait_ns: Some(5_000_000),
        answer: None,
        spared: None,
        cpu_ns: Some(412_000),
        primitives_ns: None,
        http2: Some(true),
        rtt_ns: Some(12_345_000),
        client_bytes: 777,
        server_bytes: 1_234,
    }
}

/// A full TLS 1.2 handshake whose ticket was refused.
pub(crate) fn refused() -> Handshake {
    Handshake {
        resumed: false,
        version: Some(0x0303),
        cipher: Some(0xc02f),
        group: Some(0x001d),
        certificate_chain_bytes: Some(2_800),
        ocsp_stapled: Some(true),
        offered: Method::Ticket,
        method: Method::None,
        reject_reason: Some(RejectReason::KeyUnknown),
        reject_source: Some(Source::Wire),
        wire_reason: Some(RejectReason::KeyUnknown),
        early_data_offered: false,
        early_data_sent: None,
        early_data_accepted: None,
        peer: None,
        ..resumed()
    }
}

/// A handshake of which nothing but its ends is known.
pub(crate) fn bare() -> Handshake {
    Handshake {
        peer: None,
        pid: None,
        established: false,
        resumed: false,
        version: None,
        cipher: None,
        group: None,
        next_protocol: None,
        server_name: None,
        supported_protocols: Vec::new(),
        offered: Method::None,
        method: Method::None,
        ticket_key: None,
        ticket_bytes: None,
        ticket_age_ns: None,
        ticket_lifetime_ns: None,
        tickets_issued: None,
        issued_key: None,
        early_data_offered: false,
        early_data_sent: None,
        early_data_accepted: None,
        established_to_client_hello_ns: None,
        handshake_ns: None,
        handshake_source: None,
        cpu_ns: None,
        time_to_first_byte_ns: None,
        time_to_first_byte_source: None,
        response_wait_ns: None,
        rtt_ns: None,
        ..resumed()
    }
}

/// A handshake of which nothing but the ClientHello and an alert came.
pub(crate) fn failed() -> Handshake {
    Handshake {
        role: Role::Client,
        failure: Some(Failure::Alert),
        alert: Some(Alert {
            level: Some(2),
            description: Some(48),
            sent: false,
        }),
        ..bare()
    }
}

pub(crate) fn process() -> Process {
    Process {
        pid: 4242,
        executable: Some("nginx".to_owned()),
        service: Some("nginx".to_owned()),
        container_id: None,
        pod: None,
    }
}
