//! Handshake records as OTLP log records: the fields of `trace --format json` as attributes.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, any_value::Value as Any,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use serde_json::Value;

use super::names;
use super::resource::{Identity, Observed, attribute, scope, text};
use crate::config::values::AddressMask;
use crate::core::aggregate::labels;
use crate::core::record::{Handshake, Process, Role};
use crate::output::json::{self, Context};

/// OpenTelemetry's name of the event.
const EVENT: &str = "tls.handshake";

/// A finished handshake on its way out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) handshake: Handshake,
    pub(super) process: Option<Process>,
    /// Added to the handshake's times it gives Unix time, nanoseconds.
    pub(super) wall_offset_ns: i128,
}

/// One request of all `entries`.
pub(super) fn request(
    entries: &[Entry],
    identity: &Identity,
    client_address: AddressMask,
    now_ns: u64,
) -> ExportLogsServiceRequest {
    let mut services: BTreeMap<Observed<'_>, Vec<LogRecord>> = BTreeMap::new();
    for entry in entries {
        let process = entry.process.as_ref();
        services
            .entry(observed(process))
            .or_default()
            .push(log_record(entry, client_address, now_ns));
    }
    let resource_logs = services
        .into_iter()
        .map(|(service, log_records)| ResourceLogs {
            resource: Some(identity.resource(Some(&service))),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        })
        .collect();
    ExportLogsServiceRequest { resource_logs }
}

/// The service of a handshake, with its pod.
fn observed(process: Option<&Process>) -> Observed<'_> {
    let service = process.and_then(|process| process.service.as_deref());
    let pod = process.and_then(|process| process.pod.as_deref());
    let further = pod.map_or_else(Vec::new, labels::of_pod);
    Observed {
        name: service.unwrap_or(super::metrics::UNKNOWN_SERVICE),
        further: further
            .into_iter()
            .map(|(label, value)| (names::resource_attribute(label), value))
            .collect(),
    }
}

fn log_record(entry: &Entry, client_address: AddressMask, now_ns: u64) -> LogRecord {
    let Entry {
        handshake,
        process,
        wall_offset_ns,
    } = entry;
    let context = Context {
        wall_offset_ns: *wall_offset_ns,
        client_address,
        // They are on the resource.
        labels: &[],
    };
    let mut attributes = Vec::with_capacity(48);
    flatten(
        &mut String::new(),
        json::value(handshake, process.as_ref(), context),
        &mut attributes,
    );
    // The time is the record's own, the service its resource.
    attributes.retain(|known| {
        let of_resource = known.key == "service.name" || known.key.starts_with("k8s.");
        !of_resource && known.key != "timestamp" && !known.key.starts_with("labels.")
    });
    name_the_server(handshake.role, &mut attributes);
    let time_ns = wall_offset_ns.saturating_add(i128::from(handshake.client_hello_ns));
    LogRecord {
        time_unix_nano: u64::try_from(time_ns).unwrap_or(0),
        observed_time_unix_nano: now_ns,
        severity_number: SeverityNumber::Info as i32,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue {
            value: Some(Any::StringValue(format!(
                "TLS handshake: {}",
                handshake.outcome().as_str()
            ))),
        }),
        attributes,
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    }
}

/// `server.address` is the name where the client sent one, since OpenTelemetry deprecated
/// `tls.client.server_name`; the address of the socket is that of the network then.
fn name_the_server(role: Role, attributes: &mut Vec<KeyValue>) {
    let Some(name) = attributes
        .iter()
        .position(|known| known.key == "tls.client.server_name")
        .map(|index| attributes.swap_remove(index))
    else {
        return;
    };
    let end = match role {
        Role::Client => "network.peer",
        Role::Server | Role::Observer => "network.local",
    };
    for known in attributes.iter_mut() {
        if let Some(part @ ("address" | "port")) = known.key.strip_prefix("server.") {
            known.key = format!("{end}.{part}");
        }
    }
    attributes.push(KeyValue {
        key: "server.address".to_owned(),
        ..name
    });
}

/// Appends `value` and what is in it under dotted names; what is not known is left out.
fn flatten(path: &mut String, value: Value, attributes: &mut Vec<KeyValue>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            let length = path.len();
            for (name, value) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(&name);
                flatten(path, value, attributes);
                path.truncate(length);
            }
        }
        Value::String(value) => attributes.push(text(path, &value)),
        other => attributes.extend(any(other).map(|value| attribute(path, value))),
    }
}

fn any(value: Value) -> Option<Any> {
    Some(match value {
        Value::Bool(value) => Any::BoolValue(value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Any::IntValue(whole),
            None => Any::DoubleValue(number.as_f64()?),
        },
        Value::String(value) => Any::StringValue(value),
        Value::Array(values) => Any::ArrayValue(ArrayValue {
            values: values
                .into_iter()
                .map(|value| AnyValue { value: any(value) })
                .collect(),
        }),
        Value::Null | Value::Object(_) => return None,
    })
}
