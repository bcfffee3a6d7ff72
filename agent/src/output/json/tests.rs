#![allow(clippy::unwrap_used, reason = "a test may panic")]

use expect_test::{Expect, expect};
use serde_json::Value;

use super::*;
use crate::core::record::Method;
use crate::core::sample;

const CONTEXT: Context<'static> = Context {
    wall_offset_ns: sample::WALL_OFFSET_NS,
    client_address: AddressMask::Full,
    labels: &[],
};

fn line(handshake: &Handshake, process: Option<&Process>, context: Context<'_>) -> String {
    let mut out = Vec::new();
    write_line(&mut out, handshake, process, context).unwrap();
    String::from_utf8(out).unwrap()
}

fn value(handshake: &Handshake, context: Context<'_>) -> Value {
    serde_json::from_str(&line(handshake, None, context)).unwrap()
}

fn check(handshake: &Handshake, process: Option<&Process>, context: Context<'_>, expected: Expect) {
    let value: Value = serde_json::from_str(&line(handshake, process, context)).unwrap();
    expected.assert_eq(&serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn writes_every_field_of_a_resumed_handshake() {
    let labels = ["pop=fra1".parse().unwrap(), "tier=edge".parse().unwrap()];
    let context = Context {
        labels: &labels,
        ..CONTEXT
    };
    check(
        &sample::resumed(),
        Some(&sample::process()),
        context,
        expect![[r#"
            {
              "bytes": {
                "client": 777,
                "server": 1234
              },
              "client": {
                "address": "203.0.113.77",
                "port": 51234
              },
              "container": {
                "id": null
              },
              "cpu": {
                "handshake_seconds": 0.000412,
                "primitives": null
              },
              "early_data": {
                "accepted": false,
                "offered": true,
                "sent": null
              },
              "labels": {
                "pop": "fra1",
                "tier": "edge"
              },
              "network": {
                "peer": {
                  "address": "10.0.0.2",
                  "port": 40000
                },
                "transport": "tcp"
              },
              "process": {
                "executable": {
                  "name": "nginx"
                },
                "pid": 4242
              },
              "resumption": {
                "lost": {
                  "cpu_seconds": null,
                  "wait_seconds": null
                },
                "method": "psk",
                "offered": "psk",
                "reject_reason": null,
                "reject_source": null,
                "saved": {
                  "cpu_seconds": null,
                  "wait_seconds": null
                },
                "ticket": {
                  "age_seconds": 61.0,
                  "bytes": 192,
                  "key": "00abcdef",
                  "lifetime_seconds": 300.0,
                  "weak_key": null
                },
                "tickets_issued": 1,
                "wire_reject_reason": null
              },
              "role": "server",
              "server": {
                "address": "192.0.2.1",
                "port": 443
              },
              "service": {
                "name": "nginx"
              },
              "timestamp": "2026-11-25T03:16:21.123456789Z",
              "timing": {
                "established_to_client_hello_seconds": 0.00025,
                "handshake_seconds": 0.001500001,
                "response_wait_seconds": 0.005,
                "rtt_seconds": 0.012345,
                "sources": {
                  "handshake": "library",
                  "time_to_first_byte": "library"
                },
                "time_to_first_byte_seconds": 0.03125
              },
              "tls": {
                "alert": null,
                "cipher": "TLS_AES_128_GCM_SHA256",
                "client": {
                  "ech_offered": false,
                  "server_name": "www.example.com",
                  "supported_protocols": [
                    "h2",
                    "http/1.1"
                  ]
                },
                "curve": "X25519MLKEM768",
                "established": true,
                "failure": null,
                "hello_retry": false,
                "next_protocol": "h2",
                "protocol": {
                  "version": "1.3"
                },
                "resumed": true,
                "server": {
                  "certificate_chain_bytes": null,
                  "ocsp_stapled": null
                }
              }
            }"#]],
    );
}

#[test]
fn writes_the_reason_and_source_of_a_refused_ticket() {
    let value = value(&sample::refused(), CONTEXT);
    assert_eq!(value["resumption"]["offered"], "ticket");
    assert_eq!(value["resumption"]["method"], "none");
    assert_eq!(value["resumption"]["reject_reason"], "key_unknown");
    assert_eq!(value["resumption"]["reject_source"], "wire");
    assert_eq!(value["tls"]["protocol"]["version"], "1.2");
    assert_eq!(value["tls"]["server"]["certificate_chain_bytes"], 2_800);
    assert_eq!(value["tls"]["server"]["ocsp_stapled"], true);
}

#[test]
fn writes_null_for_all_that_a_failed_handshake_does_not_tell() {
    check(
        &sample::failed(),
        None,
        CONTEXT,
        expect![[r#"
            {
              "bytes": {
                "client": 777,
                "server": 1234
              },
              "client": {
                "address": "203.0.113.77",
                "port": 51234
              },
              "container": {
                "id": null
              },
              "cpu": {
                "handshake_seconds": null,
                "primitives": null
              },
              "early_data": {
                "accepted": null,
                "offered": false,
                "sent": null
              },
              "network": {
                "transport": "tcp"
              },
              "process": {
                "executable": {
                  "name": null
                },
                "pid": null
              },
              "resumption": {
                "lost": {
                  "cpu_seconds": null,
                  "wait_seconds": null
                },
                "method": "none",
                "offered": "none",
                "reject_reason": null,
                "reject_source": null,
                "saved": {
                  "cpu_seconds": null,
                  "wait_seconds": null
                },
                "ticket": {
                  "age_seconds": null,
                  "bytes": null,
                  "key": null,
                  "lifetime_seconds": null,
                  "weak_key": null
                },
                "tickets_issued": null,
                "wire_reject_reason": null
              },
              "role": "client",
              "server": {
                "address": "192.0.2.1",
                "port": 443
              },
              "service": {
                "name": null
              },
              "timestamp": "2026-11-25T03:16:21.123456789Z",
              "timing": {
                "established_to_client_hello_seconds": null,
                "handshake_seconds": null,
                "response_wait_seconds": null,
                "rtt_seconds": null,
                "sources": {
                  "handshake": null,
                  "time_to_first_byte": null
                },
                "time_to_first_byte_seconds": null
              },
              "tls": {
                "alert": {
                  "description": "unknown_ca",
                  "direction": "received",
                  "level": "fatal"
                },
                "cipher": null,
                "client": {
                  "ech_offered": false,
                  "server_name": null,
                  "supported_protocols": []
                },
                "curve": null,
                "established": false,
                "failure": "alert",
                "hello_retry": false,
                "next_protocol": null,
                "protocol": {
                  "version": null
                },
                "resumed": false,
                "server": {
                  "certificate_chain_bytes": null,
                  "ocsp_stapled": null
                }
              }
            }"#]],
    );
}

#[test]
fn is_one_line_whatever_the_peer_sent() {
    let hostile = Handshake {
        next_protocol: Some("a\nb\u{1b}[31m".to_owned()),
        supported_protocols: vec!["\r\n\u{0}\"".to_owned()],
        ..sample::resumed()
    };
    let line = line(&hostile, None, CONTEXT);
    assert_eq!(line.find('\n'), Some(line.len() - 1));
    assert!(!line.contains('\u{1b}') && !line.contains('\r'));
    assert_eq!(
        value(&hostile, CONTEXT)["tls"]["next_protocol"],
        "a\nb\u{1b}[31m"
    );
}

#[test]
fn masks_the_client_and_the_peer_but_not_the_server() {
    let prefix = value(
        &sample::resumed(),
        Context {
            client_address: AddressMask::Prefix,
            ..CONTEXT
        },
    );
    assert_eq!(prefix["client"]["address"], "203.0.113.0/24");
    assert_eq!(prefix["client"]["port"], Value::Null);
    assert_eq!(prefix["network"]["peer"]["address"], "10.0.0.0/24");
    assert_eq!(prefix["server"]["address"], "192.0.2.1");

    let context = Context {
        client_address: AddressMask::None,
        ..CONTEXT
    };
    let none = line(&sample::resumed(), None, context);
    assert!(
        !none.contains("203.0.113") && !none.contains("51234"),
        "{none}"
    );
    assert!(
        !none.contains("10.0.0") && !none.contains("40000"),
        "{none}"
    );
}

#[test]
fn keeps_nanoseconds() {
    let handshake = Handshake {
        handshake_ns: Some(86_400_000_000_001),
        ..sample::resumed()
    };
    let text = line(&handshake, None, CONTEXT);
    assert!(
        text.contains("\"handshake_seconds\":86400.000000001"),
        "{text}"
    );
}

#[test]
fn a_time_beyond_the_calendar_is_null_and_no_panic() {
    for wall_offset_ns in [i128::MAX, i128::MIN, i128::MAX - u64::MAX as i128] {
        let value = value(
            &sample::resumed(),
            Context {
                wall_offset_ns,
                ..CONTEXT
            },
        );
        assert_eq!(value["timestamp"], Value::Null);
    }
}

#[test]
fn whole_seconds_still_have_nine_decimals() {
    let handshake = Handshake {
        client_hello_ns: 1_000_000_000,
        ..sample::resumed()
    };
    assert_eq!(
        value(&handshake, CONTEXT)["timestamp"],
        "2026-11-25T03:16:21.000000000Z"
    );
}

#[test]
fn an_invalid_name_is_told_from_none() {
    let invalid = Handshake {
        server_name: Some(ServerName::Invalid),
        ..sample::resumed()
    };
    assert_eq!(
        value(&invalid, CONTEXT)["tls"]["client"]["server_name"],
        "_invalid"
    );
    let none = Handshake {
        server_name: None,
        offered: Method::None,
        ..sample::resumed()
    };
    assert_eq!(
        value(&none, CONTEXT)["tls"]["client"]["server_name"],
        Value::Null
    );
}
