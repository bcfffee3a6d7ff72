//! Metrics in the form that was negotiated: OpenMetrics 1.0, the Prometheus text format 0.0.4, or
//! Prometheus' protocol buffers, which alone carry native histograms.

mod costs;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
    NoLabelSet, prometheus_protobuf, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use std::fmt;

use super::State;
use super::metrics_self::SelfCollector;
use super::process::{Process, ProcessCollector};
use crate::core::aggregate::labels;
use crate::core::aggregate::{
    AGE_BOUNDS_NS, Common, DURATION_BOUNDS_NS, Histogram, Key, KeyLife, KeySample, Sample, Service,
    Snapshot, TicketUse, native,
};
use crate::core::record::alert_direction;
use crate::pipeline::unix_seconds;

/// The formats that a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0: what Prometheus asks for.
    OpenMetrics,
    /// Prometheus text format 0.0.4: what a person with a browser or curl gets.
    Prometheus,
    /// Prometheus' protocol buffers, each message behind its length: what Prometheus prefers when
    /// it takes native histograms.
    Protobuf,
}

impl Format {
    /// Value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// The format that `Accept` prefers (RFC 9110, 12.5.1); others than plain text only where they
    /// are named.
    pub fn negotiate(headers: &HeaderMap) -> Format {
        let mut open_metrics = 0.0_f32;
        let mut protobuf = 0.0_f32;
        let mut plain = 0.0_f32;
        let values = headers.get_all(ACCEPT).into_iter();
        for range in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let has = |parameter| {
                let mut parts = range.split(';').map(str::trim);
                parts.any(|part| part.eq_ignore_ascii_case(parameter))
            };
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match media.as_str() {
                "application/openmetrics-text" => open_metrics = open_metrics.max(quality),
                "application/vnd.google.protobuf"
                    if has("proto=io.prometheus.client.MetricFamily")
                        && has("encoding=delimited") =>
                {
                    protobuf = protobuf.max(quality);
                }
                "text/plain" | "text/*" | "*/*" => plain = plain.max(quality),
                _ => {}
            }
        }
        if protobuf > 0.0 && protobuf >= open_metrics && protobuf >= plain {
            Format::Protobuf
        } else if open_metrics > 0.0 && open_metrics >= plain {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }
}

/// Writes out everything in `state`. The pipeline is held up only while its series are copied.
pub fn render(state: &State, format: Format) -> Result<Vec<u8>, fmt::Error> {
    let [tls, registry] = registries(state, &state.labels);
    let mut body = String::new();
    match format {
        Format::Protobuf => {
            let part =
                |registry| prometheus_protobuf::encode_to_vec(registry).map_err(|_| fmt::Error);
            return Ok([part(&tls)?, part(&registry)?].concat());
        }
        Format::OpenMetrics => {
            text::encode_registry(&mut body, &tls)?;
            text::encode(&mut body, &registry)?;
        }
        Format::Prometheus => {
            prometheus_text::encode(&mut body, &tls)?;
            prometheus_text::encode(&mut body, &registry)?;
        }
    }
    Ok(body.into_bytes())
}

/// The same as families of Prometheus' data model, without the constant labels.
pub(super) fn families(
    state: &State,
) -> Result<Vec<prometheus_protobuf::prometheus_data_model::MetricFamily>, fmt::Error> {
    let mut families = Vec::new();
    for part in registries(state, &[]) {
        families.append(&mut prometheus_protobuf::encode(&part)?);
    }
    Ok(families)
}

/// What is observed, with `labels` on every series, and what the agent says of itself.
fn registries(state: &State, labels: &[(String, String)]) -> [Registry; 2] {
    let snapshot = state.snapshot();
    let server_names = snapshot.server_names;
    let labels = labels
        .iter()
        .map(|(name, value)| (name.clone().into(), value.clone().into()));

    let mut registry = Registry::default();
    let mut tls = Registry::with_labels(labels);
    tls.register_collector(Box::new(TlsCollector {
        snapshot,
        wall_offset_ns: state.wall_offset_ns(),
    }));
    registry.register_collector(Box::new(SelfCollector {
        metrics: state.own(),
        server_names,
        otlp: state.otlp.get().cloned(),
    }));
    registry.register_collector(Box::new(ProcessCollector(Process::read())));
    [tls, registry]
}

/// Labels as pairs.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Absent exemplar, for encoders that take one.
pub(super) const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// Writes one counter of a family.
pub(super) fn counter(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: u64,
) -> fmt::Result {
    metric
        .encode_family(labels)?
        .encode_counter(&value, NO_EXEMPLAR)
}

/// Metric names as they stand in the contract. `prometheus-client` adds `_total` to counters.
#[derive(Debug)]
struct TlsCollector {
    snapshot: Snapshot,
    /// Added to CLOCK_MONOTONIC it gives Unix time.
    wall_offset_ns: i128,
}

impl Collector for TlsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let TlsCollector {
            snapshot,
            wall_offset_ns,
        } = self;

        counters(
            &mut encoder,
            (
                "tls_handshakes",
                "Finished TLS handshakes, failed ones included.",
            ),
            &snapshot.handshakes,
            |key| {
                let further = [
                    ("version", key.version.as_str()),
                    ("offered", key.offered.as_str()),
                    ("result", key.result.as_str()),
                ];
                (&key.common, further)
            },
        )?;

        histograms(
            &mut encoder,
            (
                "tls_handshake_duration_seconds",
                "First byte of the ClientHello to the end of the handshake at the server.",
                &DURATION_BOUNDS_NS,
            ),
            &snapshot.durations,
            costs::duration_labels,
        )?;
        costs::encode(&mut encoder, snapshot)?;
        counters(
            &mut encoder,
            (
                "tls_resumption_rejections",
                "Offers to resume that the server refused, by reason.",
            ),
            &snapshot.rejections,
            |key| (&key.common, [("reason", key.reason.as_str())]),
        )?;
        histograms(
            &mut encoder,
            (
                "tls_ticket_age_seconds",
                "Age of the session in an offered ticket that the server could decrypt.",
                &AGE_BOUNDS_NS,
            ),
            &snapshot.ticket_ages,
            |key| (&key.common, [("result", key.result.as_str())]),
        )?;

        counters(
            &mut encoder,
            (
                "tls_early_data",
                "Handshakes with early data (0-RTT) by what became of it.",
            ),
            &snapshot.early_data,
            |key| (&key.common, [("status", key.status.as_str())]),
        )?;
        counters(
            &mut encoder,
            (
                "tls_alerts",
                "Alerts that ended a handshake, by description (IANA) and as seen by the process.",
            ),
            &snapshot.alerts,
            |key| {
                let further = [
                    ("description", labels::alert(key.description)),
                    ("direction", alert_direction(key.sent)),
                ];
                (&key.common, further)
            },
        )?;

        encode_keys(&mut encoder, &snapshot.keys, *wall_offset_ns)?;
        let mut metric = encoder.encode_descriptor(
            "tls_tickets_reoffered",
            "Offered tickets that had been offered before: clients that do not use them once.",
            None,
            MetricType::Counter,
        )?;
        for (service, offered, count) in &snapshot.reoffered {
            let labels = (of_service(service), [("offered", offered.as_str())]);
            counter(&mut metric, &labels, *count)?;
        }

        let mut metric = encoder.encode_descriptor(
            "tls_server_certificate_chain_bytes",
            "Length of the server's last Certificate message (TLS 1.2 and older).",
            None,
            MetricType::Gauge,
        )?;
        for sample in &snapshot.chain_bytes {
            metric
                .encode_family(&common(sample, &sample.key))?
                .encode_gauge(&sample.value)?;
        }
        Ok(())
    }
}

/// Writes one family of counters: its name and help, and what labels a series has besides those
/// that all have.
fn counters<K, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    samples: &[Sample<K, u64>],
    labels: fn(&K) -> (&Common, Labels<'static, N>),
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for sample in samples {
        let (shared, further) = labels(&sample.key);
        counter(
            &mut metric,
            &(common(sample, shared), further),
            sample.value,
        )?;
    }
    Ok(())
}

/// Writes one family of histograms: its name, help and bounds, and what labels a series has besides
/// those that all have.
fn histograms<K, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, bounds): (&str, &str, &[u64; DURATION_BOUNDS_NS.len()]),
    samples: &[Sample<K, Histogram>],
    labels: fn(&K) -> (&Common, Labels<'static, N>),
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for sample in samples {
        let (shared, further) = labels(&sample.key);
        let labels = (common(sample, shared), further);
        encode_histogram(metric.encode_family(&labels)?, bounds, &sample.value)?;
    }
    Ok(())
}

/// The life of ticket keys.
fn encode_keys(
    encoder: &mut DescriptorEncoder<'_>,
    samples: &[KeySample],
    wall_offset_ns: i128,
) -> fmt::Result {
    let names: Vec<String> = samples.iter().map(|sample| key_label(sample.key)).collect();
    let named = || samples.iter().zip(names.iter().map(String::as_str));

    let mut metric = encoder.encode_descriptor(
        "tls_tickets",
        "Session tickets by the key that they name, issued (TLS 1.2 only), accepted and refused.",
        None,
        MetricType::Counter,
    )?;
    for (sample, key) in named() {
        for (usage, count) in TicketUse::ALL.iter().zip(sample.life.counts) {
            if count > 0 {
                let further = [("key", key), ("event", usage.as_str())];
                let labels = (of_service(&sample.service), further);
                counter(&mut metric, &labels, count)?;
            }
        }
    }
    let is_one_key = |(sample, _): &(&KeySample, &str)| sample.key != Key::Other;
    let mut metric = encoder.encode_descriptor(
        "tls_ticket_key_refused_early",
        "Tickets whose key this service did not hold although it had issued or accepted tickets of \
         the key that were still to be accepted: retired too early.",
        None,
        MetricType::Counter,
    )?;
    let is_named = |(sample, _): &(&KeySample, &str)| matches!(sample.key, Key::Fingerprint(_));
    for (sample, key) in named().filter(is_named) {
        if sample.life.refused_early > 0 {
            let labels = (of_service(&sample.service), [("key", key)]);
            counter(&mut metric, &labels, sample.life.refused_early)?;
        }
    }
    let mut metric = encoder.encode_descriptor(
        "tls_ticket_key_weak",
        "1 where the ticket key can be guessed, 0 where it was tried and is none of the known ones \
         (--check-weak-keys).",
        None,
        MetricType::Gauge,
    )?;
    for (sample, key) in named().filter(is_one_key) {
        if let Some(weak) = sample.life.weak {
            let labels = (of_service(&sample.service), [("key", key)]);
            metric
                .encode_family(&labels)?
                .encode_gauge(&i64::from(weak))?;
        }
    }
    type Time = fn(&KeyLife) -> Option<u64>;
    let times: [(&str, &str, Time); 3] = [
        (
            "tls_ticket_key_first_seen_timestamp_seconds",
            "When this service was first seen to issue, accept or refuse a ticket of this key.",
            |life| Some(life.first_seen_ns),
        ),
        (
            "tls_ticket_key_last_accepted_timestamp_seconds",
            "When this service last resumed from a ticket of this key.",
            |life| life.last_accepted_ns,
        ),
        (
            "tls_ticket_key_last_issued_timestamp_seconds",
            "When this service was last seen to issue a ticket of this key (TLS 1.2 only).",
            |life| life.last_issued_ns,
        ),
    ];
    for (name, help, time) in times {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (sample, key) in named().filter(is_one_key) {
            if let Some(time_ns) = time(&sample.life) {
                let labels = (of_service(&sample.service), [("key", key)]);
                metric
                    .encode_family(&labels)?
                    .encode_gauge(&unix_seconds(i128::from(time_ns) + wall_offset_ns))?;
            }
        }
    }
    Ok(())
}

/// `key`: as `resumption.ticket.key` in records.
fn key_label(key: Key) -> String {
    match key {
        Key::Fingerprint(fingerprint) => format!("{fingerprint:08x}"),
        Key::Other => labels::OTHER.to_owned(),
        Key::None => labels::NO_KEY.to_owned(),
    }
}

/// Labels that every family of handshakes has.
fn common<'a, K, V>(sample: &'a Sample<K, V>, common: &Common) -> impl EncodeLabelSet + 'a {
    let first = [
        ("role", common.role.as_str()),
        ("server_name", &*sample.server_name),
    ];
    let last = [("transport", common.transport.as_str())];
    ((first, of_service(&sample.service)), last)
}

/// `service`, and the labels of the pod that it runs in.
pub(super) fn of_service(service: &Service) -> impl EncodeLabelSet + '_ {
    (
        [("service", service.name.as_str())],
        service.labels.as_slice(),
    )
}

fn encode_histogram(
    mut encoder: MetricEncoder<'_>,
    bounds: &[u64; DURATION_BOUNDS_NS.len()],
    histogram: &Histogram,
) -> fmt::Result {
    // The encoder adds the buckets up itself.
    let mut buckets = [(f64::INFINITY, 0); DURATION_BOUNDS_NS.len() + 1];
    for (bucket, &bound) in buckets.iter_mut().zip(bounds) {
        bucket.0 = bound as f64 / 1e9;
    }
    for (bucket, &count) in buckets.iter_mut().zip(&histogram.buckets) {
        bucket.1 = count;
    }
    let sum = histogram.sum_ns as f64 / 1e9;
    let fine = &histogram.native;
    let deltas: Vec<i64> = fine.deltas().collect();
    let length = u32::try_from(deltas.len()).map_err(|_| fmt::Error)?;
    let native = NativeHistogram {
        schema: native::SCHEMA,
        zero_threshold: NATIVE_ZERO_THRESHOLD,
        zero_count: fine.zeros,
        negative: NativeHistogramBuckets {
            spans: &[],
            deltas: &[],
        },
        positive: NativeHistogramBuckets {
            spans: &[(fine.first, length)],
            deltas: &deltas,
        },
        created: None,
    };
    encoder.encode_histogram_with_native::<NoLabelSet>(
        sum,
        histogram.count(),
        &buckets,
        None,
        native,
    )
}

/// Breadth of the bucket for zero: as in Prometheus' own clients, 2^-128.
const NATIVE_ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

#[cfg(test)]
pub(super) mod tests;
