//! What metrics and labels are called in OpenTelemetry.
//!
//! Names are chosen so that the usual translation to Prometheus (dots become underscores, the unit and
//! `total` are appended) gives the names of `/metrics` again: a store fed by OTLP can serve the same
//! rules.

use crate::core::aggregate::labels;

/// A metric's unit in the notation of UCUM, and the suffix that stands for it in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) ucum: &'static str,
    suffix: &'static str,
}

const SECONDS: Unit = Unit {
    ucum: "s",
    suffix: "_seconds",
};
const UNITS: [Unit; 3] = [
    SECONDS,
    Unit {
        ucum: "By",
        suffix: "_bytes",
    },
    Unit {
        ucum: "1",
        suffix: "_ratio",
    },
];

/// Metrics whose words are namespaces; elsewhere only the first word is.
const NAMESPACES: [(&str, &str); 13] = [
    ("tls_handshake_duration", "tls.handshake.duration"),
    ("tls_handshake_cpu", "tls.handshake.cpu"),
    ("tls_crypto_cpu", "tls.crypto.cpu"),
    ("tls_resumption_rejections", "tls.resumption.rejections"),
    ("tls_resumption_saved_cpu", "tls.resumption.saved.cpu"),
    ("tls_resumption_saved_wait", "tls.resumption.saved.wait"),
    ("tls_resumption_lost_cpu", "tls.resumption.lost.cpu"),
    ("tls_resumption_lost_wait", "tls.resumption.lost.wait"),
    ("tls_ticket_age", "tls.ticket.age"),
    (
        "tls_server_certificate_chain",
        "tls.server.certificate_chain",
    ),
    (
        "tls_ticket_key_first_seen_timestamp",
        "tls.ticket.key.first_seen_timestamp",
    ),
    (
        "tls_ticket_key_last_accepted_timestamp",
        "tls.ticket.key.last_accepted_timestamp",
    ),
    (
        "tls_ticket_key_last_issued_timestamp",
        "tls.ticket.key.last_issued_timestamp",
    ),
];

/// What a counter without a unit counts.
const COUNTED: [(&str, &str); 6] = [
    ("tls_handshakes", "{handshake}"),
    ("tls_resumption_rejections", "{handshake}"),
    ("tls_early_data", "{handshake}"),
    ("tls_encrypted_client_hello_offers", "{handshake}"),
    ("tls_tickets", "{ticket}"),
    ("tls_alerts", "{alert}"),
];

/// The name and unit of a family of `/metrics`, which has no `_total`.
pub(super) fn metric(family: &str) -> (String, &'static str) {
    let (stem, unit) = UNITS
        .iter()
        .find_map(|unit| Some((family.strip_suffix(unit.suffix)?, unit.ucum)))
        .unwrap_or_else(|| {
            let counted = COUNTED.iter().find(|(name, _)| *name == family);
            (family, counted.map_or("", |(_, unit)| unit))
        });
    let name = NAMESPACES
        .iter()
        .find(|(name, _)| *name == stem)
        .map_or_else(
            || stem.replacen('_', ".", 1),
            |(_, otel)| (*otel).to_owned(),
        );
    (name, unit)
}

/// The attribute of a label: as the field of handshake records where there is one. `None` where the
/// label is of the service, and so of its resource.
pub(super) fn attribute(label: &str) -> Option<&str> {
    Some(match label {
        // OpenTelemetry deprecated `tls.client.server_name`.
        "server_name" => "server.address",
        "transport" => "network.transport",
        "version" => "tls.protocol.version",
        "offered" => "resumption.offered",
        "reason" => "resumption.reject_reason",
        "key" => "resumption.ticket.key",
        "result" => "tls.handshake.result",
        "operation" => "tls.crypto.operation",
        "status" => "early_data.status",
        "event" => "tls.ticket.event",
        "description" => "tls.alert.description",
        "direction" => "tls.alert.direction",
        "role" | "method" => label,
        _ => return None,
    })
}

/// The attribute of a resource that a label of a service stands for; labels of pods keep their name.
pub(super) fn resource_attribute(label: &str) -> &str {
    match label {
        labels::POD_NAMESPACE => "k8s.namespace.name",
        labels::POD_NAME => "k8s.pod.name",
        labels::POD_CONTAINER => "k8s.container.name",
        labels::WORKLOAD_KIND => "k8s.workload.kind",
        labels::WORKLOAD_NAME => "k8s.workload.name",
        other => other,
    }
}

/// The same for the agent's own metrics, whose labels mean something else.
pub(super) fn own_attribute(label: &str) -> &str {
    match label {
        "library" => "tls.library.name",
        "version" => "version",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_leave_the_name() {
        for (family, name, unit) in [
            ("tls_handshakes", "tls.handshakes", "{handshake}"),
            (
                "tls_handshake_duration_seconds",
                "tls.handshake.duration",
                "s",
            ),
            (
                "tls_time_to_first_byte_seconds",
                "tls.time_to_first_byte",
                "s",
            ),
            (
                "tls_resumption_saved_cpu_seconds",
                "tls.resumption.saved.cpu",
                "s",
            ),
            (
                "tls_server_certificate_chain_bytes",
                "tls.server.certificate_chain",
                "By",
            ),
            ("resumetry_coverage_ratio", "resumetry.coverage", "1"),
            ("resumetry_events_lost", "resumetry.events_lost", ""),
        ] {
            assert_eq!(metric(family), (name.to_owned(), unit));
        }
    }

    /// As `opentelemetry-collector` and Prometheus' OTLP receiver do.
    #[test]
    fn names_translate_back() {
        for (family, name) in NAMESPACES {
            assert_eq!(name.replace('.', "_"), family);
        }
    }
}
