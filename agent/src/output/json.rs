//! The handshake record as one line of JSON (contract, section 2): the dots of field names are
//! nesting. What is not known is `null`.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use agent_common::primitive;

use super::Shown;
use crate::config::values::{AddressMask, Label};
use crate::core::names;
use crate::core::record::{
    Alert, Failure, Handshake, Outcome, Pod, Process, RejectReason, ServerName, Source,
    alert_direction,
};

/// What all records of one run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Wall-clock nanoseconds since 1970 at which the clock of `Handshake::client_hello_ns` was 0.
    pub wall_offset_ns: i128,
    pub client_address: AddressMask,
    pub labels: &'a [Label],
}

/// Appends the record and a line feed, in many small writes: give it a buffer. It fails only as
/// `out` does.
pub fn write_line(
    out: &mut impl io::Write,
    handshake: &Handshake,
    process: Option<&Process>,
    context: Context<'_>,
) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &record(handshake, process, context))?;
    out.write_all(b"\n")
}

/// The record as a value, for those who write it in another form.
pub fn value(
    handshake: &Handshake,
    process: Option<&Process>,
    context: Context<'_>,
) -> serde_json::Value {
    // Only keys that are no text could fail.
    serde_json::to_value(record(handshake, process, context)).unwrap_or_default()
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
        role: handshake.role.as_str(),
        network: Network {
            transport: handshake.transport.as_str(),
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
            failure: handshake.failure.filter(|_| failed).map(Failure::as_str),
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
                    Some(ServerName::Invalid) => Some(names::INVALID_SERVER_NAME),
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
            offered: handshake.offered.as_str(),
            method: handshake.method.as_str(),
            reject_reason: handshake.reject_reason.map(RejectReason::as_str),
            reject_source: handshake.reject_source.map(Source::as_str),
            wire_reject_reason: handshake.wire_reason.map(RejectReason::as_str),
            ticket: Ticket {
                key: handshake.ticket_key.map(ticket_key),
                bytes: handshake.ticket_bytes,
                weak_key: handshake.weak_key,
                age_seconds: seconds(handshake.ticket_age_ns),
                lifetime_seconds: seconds(handshake.ticket_lifetime_ns),
            },
            tickets_issued: handshake.tickets_issued.or(handshake.tickets_sent),
            saved: Spare::new(handshake, Outcome::Resumed),
            lost: Spare::new(handshake, Outcome::Full),
        },
        early_data: EarlyData {
            offered: handshake.early_data_offered,
            sent: handshake.early_data_sent,
            accepted: handshake.early_data_accepted,
        },
        timing: Timing {
            established_to_client_hello_seconds: seconds(handshake.established_to_client_hello_ns),
            handshake_seconds: seconds(handshake.handshake_ns),
            time_to_first_byte_seconds: seconds(handshake.time_to_first_byte_ns),
            response_wait_seconds: seconds(handshake.response_wait_ns),
            rtt_seconds: seconds(handshake.rtt_ns),
            sources: Sources {
                handshake: handshake.handshake_source.map(Source::as_str),
                time_to_first_byte: handshake.time_to_first_byte_source.map(Source::as_str),
            },
        },
        cpu: Cpu {
            handshake_seconds: seconds(handshake.cpu_ns),
            primitives: handshake.primitives_ns.map(Primitives::new),
        },
        bytes: Bytes {
            client: handshake.client_bytes,
            server: handshake.server_bytes,
        },
        k8s: process
            .and_then(|process| process.pod.as_deref())
            .map(Kubernetes::new),
        labels: Labels {
            constant: context.labels,
            pod: process
                .and_then(|process| process.pod.as_deref())
                .map_or(&[], |pod| &pod.labels),
        },
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
    cpu: Cpu,
    bytes: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<Kubernetes<'a>>,
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
    direction: &'static str,
}

impl AlertFields {
    fn new(alert: Alert) -> Self {
        Self {
            level: alert.level.and_then(names::alert_level),
            description: alert.description.map(names::alert),
            direction: alert_direction(alert.sent),
        }
    }
}

#[derive(Serialize)]
struct Resumption {
    offered: &'static str,
    method: &'static str,
    reject_reason: Option<&'static str>,
    reject_source: Option<&'static str>,
    wire_reject_reason: Option<&'static str>,
    ticket: Ticket,
    tickets_issued: Option<u32>,
    saved: Spare,
    lost: Spare,
}

/// What resuming saved, or what a refused offer lost.
#[derive(Serialize)]
struct Spare {
    wait_seconds: Option<f64>,
    cpu_seconds: Option<f64>,
}

impl Spare {
    fn new(handshake: &Handshake, outcome: Outcome) -> Self {
        let spared = handshake.spared.filter(|_| handshake.outcome() == outcome);
        Self {
            wait_seconds: seconds(spared.and_then(|spared| spared.wait_ns)),
            cpu_seconds: seconds(spared.and_then(|spared| spared.cpu_ns)),
        }
    }
}

#[derive(Serialize)]
struct Ticket {
    key: Option<String>,
    bytes: Option<u32>,
    weak_key: Option<bool>,
    age_seconds: Option<f64>,
    lifetime_seconds: Option<f64>,
}

#[derive(Serialize)]
struct EarlyData {
    offered: bool,
    sent: Option<bool>,
    accepted: Option<bool>,
}

#[derive(Serialize)]
struct Timing {
    established_to_client_hello_seconds: Option<f64>,
    handshake_seconds: Option<f64>,
    time_to_first_byte_seconds: Option<f64>,
    response_wait_seconds: Option<f64>,
    rtt_seconds: Option<f64>,
    sources: Sources,
}

#[derive(Serialize)]
struct Sources {
    handshake: Option<&'static str>,
    time_to_first_byte: Option<&'static str>,
}

#[derive(Serialize)]
struct Cpu {
    handshake_seconds: Option<f64>,
    primitives: Option<Primitives>,
}

#[derive(Serialize)]
struct Primitives {
    sign_seconds: Option<f64>,
    key_generation_seconds: Option<f64>,
    key_agreement_seconds: Option<f64>,
    verify_seconds: Option<f64>,
    ticket_seconds: Option<f64>,
}

impl Primitives {
    fn new(times: [u64; primitive::COUNT]) -> Self {
        let of = |kind: usize| seconds(Some(times[kind]));
        Self {
            sign_seconds: of(primitive::SIGN),
            key_generation_seconds: of(primitive::KEY_GENERATION),
            key_agreement_seconds: of(primitive::KEY_AGREEMENT),
            verify_seconds: of(primitive::VERIFY),
            ticket_seconds: of(primitive::TICKET),
        }
    }
}

#[derive(Serialize)]
struct Bytes {
    client: u64,
    server: u64,
}

/// The pod, as OpenTelemetry calls its parts; what made the pod is its workload.
#[derive(Serialize)]
struct Kubernetes<'a> {
    namespace: Named<'a>,
    pod: Named<'a>,
    container: Named<'a>,
    workload: Workload<'a>,
}

#[derive(Serialize)]
struct Workload<'a> {
    kind: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Kubernetes<'a> {
    fn new(pod: &'a Pod) -> Self {
        let workload = pod.workload.as_ref();
        Self {
            namespace: Named {
                name: Some(&pod.namespace),
            },
            pod: Named {
                name: Some(&pod.name),
            },
            container: Named {
                name: pod.container.as_deref(),
            },
            workload: Workload {
                kind: workload.map(|(kind, _)| kind.as_str()),
                name: workload.map(|(_, name)| name.as_str()),
            },
        }
    }
}

/// Constant labels, and those of the pod that were asked for.
struct Labels<'a> {
    constant: &'a [Label],
    pod: &'a [(String, String)],
}

impl Labels<'_> {
    fn is_empty(&self) -> bool {
        self.constant.is_empty() && self.pod.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.constant.len() + self.pod.len()))?;
        for label in self.constant {
            map.serialize_entry(&label.name, &label.value)?;
        }
        for (name, value) in self.pod {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
