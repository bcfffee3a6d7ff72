//! The handshake record as one line of JSON (contract, section 2): the dots of field names are
//! nesting. What is not known is `null`.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Shown;
use crate::config::values::{AddressMask, Label};
use crate::core::names;
use crate::core::record::{Alert, Handshake, Process, ServerName, Source, Transport};
use crate::output::filter::INVALID_NAME;

/// What all records of one run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Wall-clock nanoseconds since 1970 at which the clock of `Handshake::client_hello_ns` was 0.
    pub wall_offset_ns: i128,
    pub client_address: AddressMask,
    pub labels: &'a [Label],
}

/// Appends the record and a line feed. It fails only as `out` does.
pub fn write_line(
    out: &mut impl io::Write,
    handshake: &Handshake,
    process: Option<&Process>,
    context: Context<'_>,
) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &record(handshake, process, context))?;
    out.write_all(b"\n")
}

/// The record in RFC 3339, UTC, nine decimals; `None` where the year has no four digits.
fn timestamp(handshake: &Handshake, wall_offset_ns: i128) -> Option<String> {
    let nanoseconds = wall_offset_ns.checked_add(i128::from(handshake.client_hello_ns))?;
    let time = jiff::Timestamp::from_nanosecond(nanoseconds).ok()?;
    Some(format!("{time:.9}"))
}

fn record<'a>(
    handshake: &'a Handshake,
    process: Option<&'a Process>,
    context: Context<'a>,
) -> Record<'a> {
    let failed = !handshake.established;
    Record {
        timestamp: timestamp(handshake, context.wall_offset_ns),
        role: super::role(handshake.role),
        network: Network {
            transport: match handshake.transport {
                Transport::Tcp => "tcp",
                Transport::Quic => "quic",
            },
            peer: handshake
                .peer
                .map(|peer| Endpoint::new(super::mask(peer, context.client_address))),
        },
        client: Endpoint::new(super::mask(handshake.client, context.client_address)),
        // The server's own address is no client's, and is never masked.
        server: Endpoint::new(super::mask(handshake.server, AddressMask::Full)),
        process: ProcessFields {
            pid: process.map(|process| process.pid).or(handshake.pid),
            executable: Named {
                name: process.and_then(|process| process.executable.as_deref()),
            },
        },
        service: Named {
            name: process.and_then(|process| process.service.as_deref()),
        },
        container: Container {
            id: process.and_then(|process| process.container_id.as_deref()),
        },
        tls: Tls {
            established: handshake.established,
            failure: handshake.failure.filter(|_| failed).map(super::failure),
            resumed: handshake.resumed,
            protocol: Protocol {
                version: handshake.version.map(names::version),
            },
            cipher: handshake.cipher.map(names::cipher_suite),
            curve: handshake.group.map(names::group),
            next_protocol: handshake.next_protocol.as_deref(),
            client: TlsClient {
                server_name: match &handshake.server_name {
                    Some(ServerName::Host(name)) => Some(name),
                    Some(ServerName::Invalid) => Some(INVALID_NAME),
                    None => None,
                },
                supported_protocols: &handshake.supported_protocols,
                ech_offered: handshake.ech_offered,
            },
            hello_retry: handshake.hello_retry,
            alert: handshake.alert.map(AlertFields::new),
            server: TlsServer {
                certificate_chain_bytes: handshake.certificate_chain_bytes,
                ocsp_stapled: handshake.ocsp_stapled,
            },
        },
        resumption: Resumption {
            offered: super::method(handshake.offered),
            method: super::method(handshake.method),
            reject_reason: handshake.reject_reason.map(super::reject_reason),
            reject_source: handshake.reject_source.map(source),
            ticket: Ticket {
                key: handshake.ticket_key.map(ticket_key),
                bytes: handshake.ticket_bytes,
            },
            tickets_issued: handshake.tickets_issued,
        },
        early_data: EarlyData {
            offered: handshake.early_data_offered,
            accepted: handshake.early_data_accepted,
        },
        timing: Timing {
            established_to_client_hello_seconds: seconds(handshake.established_to_client_hello_ns),
            handshake_seconds: seconds(handshake.handshake_ns),
            rtt_seconds: seconds(handshake.rtt_ns),
            sources: Sources {
                handshake: handshake.handshake_source.map(source),
            },
        },
        bytes: Bytes {
            client: handshake.client_bytes,
            server: handshake.server_bytes,
        },
        labels: Labels(context.labels),
    }
}

/// Eight hex digits.
pub(super) fn ticket_key(key: u32) -> String {
    format!("{key:08x}")
}

/// Seconds of nanoseconds. A double has 15 digits: nanoseconds stay exact up to a week.
fn seconds(nanoseconds: Option<u64>) -> Option<f64> {
    nanoseconds.map(|nanoseconds| nanoseconds as f64 / 1e9)
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Library => "library",
        Source::Wire => "wire",
    }
}

#[derive(Serialize)]
struct Record<'a> {
    timestamp: Option<String>,
    role: &'static str,
    network: Network,
    client: Endpoint,
    server: Endpoint,
    process: ProcessFields<'a>,
    service: Named<'a>,
    container: Container<'a>,
    tls: Tls<'a>,
    resumption: Resumption,
    early_data: EarlyData,
    timing: Timing,
    bytes: Bytes,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: Labels<'a>,
}

#[derive(Serialize)]
struct Network {
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Endpoint>,
}

#[derive(Serialize)]
struct Endpoint {
    address: Option<String>,
    port: Option<u16>,
}

impl Endpoint {
    fn new(shown: Shown) -> Self {
        match shown {
            Shown::Full(address) => Self {
                address: Some(address.ip().to_string()),
                port: Some(address.port()),
            },
            Shown::Prefix(network, bits) => Self {
                address: Some(format!("{network}/{bits}")),
                port: None,
            },
            Shown::Nothing => Self {
                address: None,
                port: None,
            },
        }
    }
}

#[derive(Serialize)]
struct ProcessFields<'a> {
    pid: Option<u32>,
    executable: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Container<'a> {
    id: Option<&'a str>,
}

#[derive(Serialize)]
struct Tls<'a> {
    established: bool,
    failure: Option<&'static str>,
    resumed: bool,
    protocol: Protocol,
    cipher: Option<Cow<'static, str>>,
    curve: Option<Cow<'static, str>>,
    next_protocol: Option<&'a str>,
    client: TlsClient<'a>,
    hello_retry: bool,
    alert: Option<AlertFields>,
    server: TlsServer,
}

#[derive(Serialize)]
struct Protocol {
    version: Option<Cow<'static, str>>,
}

#[derive(Serialize)]
struct TlsClient<'a> {
    server_name: Option<&'a str>,
    supported_protocols: &'a [String],
    ech_offered: bool,
}

#[derive(Serialize)]
struct TlsServer {
    certificate_chain_bytes: Option<u32>,
    ocsp_stapled: Option<bool>,
}

#[derive(Serialize)]
struct AlertFields {
    level: Option<&'static str>,
    description: Option<Cow<'static, str>>,
    /// Seen from the observed process.
    direction: &'static str,
}

impl AlertFields {
    fn new(alert: Alert) -> Self {
        Self {
            level: alert.level.and_then(names::alert_level),
            description: alert.description.map(names::alert),
            direction: if alert.sent { "sent" } else { "received" },
        }
    }
}

#[derive(Serialize)]
struct Resumption {
    offered: &'static str,
    method: &'static str,
    reject_reason: Option<&'static str>,
    reject_source: Option<&'static str>,
    ticket: Ticket,
    tickets_issued: Option<u32>,
}

#[derive(Serialize)]
struct Ticket {
    key: Option<String>,
    bytes: Option<u32>,
}

#[derive(Serialize)]
struct EarlyData {
    offered: bool,
    accepted: Option<bool>,
}

#[derive(Serialize)]
struct Timing {
    established_to_client_hello_seconds: Option<f64>,
    handshake_seconds: Option<f64>,
    rtt_seconds: Option<f64>,
    sources: Sources,
}

#[derive(Serialize)]
struct Sources {
    handshake: Option<&'static str>,
}

#[derive(Serialize)]
struct Bytes {
    client: u64,
    server: u64,
}

struct Labels<'a>(&'a [Label]);

impl Labels<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for label in self.0 {
            map.serialize_entry(&label.name, &label.value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use expect_test::{Expect, expect};
    use serde_json::Value;

    use super::*;
    use crate::core::record::Method;
    use crate::output::sample;

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

    fn check(
        handshake: &Handshake,
        process: Option<&Process>,
        context: Context<'_>,
        expected: Expect,
    ) {
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
                  "early_data": {
                    "accepted": false,
                    "offered": true
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
                    "method": "psk",
                    "offered": "psk",
                    "reject_reason": null,
                    "reject_source": null,
                    "ticket": {
                      "bytes": 192,
                      "key": "00abcdef"
                    },
                    "tickets_issued": 1
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
                    "rtt_seconds": 0.012345,
                    "sources": {
                      "handshake": "library"
                    }
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
              "early_data": {
                "accepted": null,
                "offered": false
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
                "method": "none",
                "offered": "none",
                "reject_reason": null,
                "reject_source": null,
                "ticket": {
                  "bytes": null,
                  "key": null
                },
                "tickets_issued": null
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
                "rtt_seconds": null,
                "sources": {
                  "handshake": null
                }
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
}
