//! Metrics as text: OpenMetrics 1.0 or the Prometheus text format 0.0.4, as negotiated.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use std::fmt;

use super::State;
use super::metrics_self::SelfCollector;
use super::process::{Process, ProcessCollector};
use crate::core::aggregate::labels;
use crate::core::aggregate::{Common, DURATION_BOUNDS_NS, Histogram, Sample, Snapshot};
use crate::core::record::alert_direction;

/// The text formats that a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0: what Prometheus asks for.
    OpenMetrics,
    /// Prometheus text format 0.0.4: what a person with a browser or curl gets.
    Prometheus,
}

impl Format {
    /// Value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }

    /// The format that `Accept` prefers (RFC 9110, 12.5.1); OpenMetrics only where it is named.
    pub fn negotiate(headers: &HeaderMap) -> Format {
        let mut open_metrics = 0.0_f32;
        let mut plain = 0.0_f32;
        let values = headers.get_all(ACCEPT).into_iter();
        for range in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match media.as_str() {
                "application/openmetrics-text" => open_metrics = open_metrics.max(quality),
                "text/plain" | "text/*" | "*/*" => plain = plain.max(quality),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }
}

/// Writes out everything in `state`. The pipeline is held up only while its series are copied.
pub fn render(state: &State, format: Format) -> Result<String, fmt::Error> {
    let snapshot = state.snapshot();
    let server_names = snapshot.server_names;
    let labels = state
        .labels
        .iter()
        .map(|(name, value)| (name.clone().into(), value.clone().into()));

    let mut registry = Registry::default();
    let mut tls = Registry::with_labels(labels);
    tls.register_collector(Box::new(TlsCollector(snapshot)));
    registry.register_collector(Box::new(SelfCollector {
        metrics: state.own(),
        server_names,
    }));
    registry.register_collector(Box::new(ProcessCollector(Process::read())));

    let mut body = String::new();
    match format {
        Format::OpenMetrics => {
            text::encode_registry(&mut body, &tls)?;
            text::encode(&mut body, &registry)?;
        }
        Format::Prometheus => {
            prometheus_text::encode(&mut body, &tls)?;
            prometheus_text::encode(&mut body, &registry)?;
        }
    }
    Ok(body)
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
struct TlsCollector(Snapshot);

impl Collector for TlsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let TlsCollector(snapshot) = self;

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

        let mut metric = encoder.encode_descriptor(
            "tls_handshake_duration_seconds",
            "First byte of the ClientHello to the end of the handshake at the server.",
            None,
            MetricType::Histogram,
        )?;
        for sample in &snapshot.durations {
            let further: Labels<'_, 2> = [
                ("version", sample.key.version.as_str()),
                ("result", sample.key.result.as_str()),
            ];
            let labels = (common(sample, &sample.key.common), further);
            encode_histogram(metric.encode_family(&labels)?, &sample.value)?;
        }

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

fn common<'a, K, V>(sample: &'a Sample<K, V>, common: &Common) -> Labels<'a, 4> {
    [
        ("role", common.role.as_str()),
        ("server_name", &sample.server_name),
        ("service", &sample.service),
        ("transport", common.transport.as_str()),
    ]
}

fn encode_histogram(mut encoder: MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    // The encoder adds the buckets up itself.
    let mut buckets = [(f64::INFINITY, 0); DURATION_BOUNDS_NS.len() + 1];
    for (bucket, &bound) in buckets.iter_mut().zip(&DURATION_BOUNDS_NS) {
        bucket.0 = bound as f64 / 1e9;
    }
    for (bucket, &count) in buckets.iter_mut().zip(&histogram.buckets) {
        bucket.1 = count;
    }
    let sum = histogram.sum_ns as f64 / 1e9;
    encoder.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
}

#[cfg(test)]
pub(super) mod tests;
