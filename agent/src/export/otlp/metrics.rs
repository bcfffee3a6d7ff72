//! The metrics of `/metrics` as OTLP: the same values by construction, under OpenTelemetry's names.
//!
//! Each service that is observed is a resource of its own (`service.name`), as in other agents that
//! watch from outside; what the agent says of itself belongs to the service `resumetry`.

use std::collections::BTreeMap;
use std::mem;

use ahash::{AHashMap, RandomState};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value,
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as prometheus;

use super::names;
use super::resource::{Identity, Observed, scope, text};
use crate::core::aggregate;

/// Data points of one request: far below the 4 MiB that gRPC servers take by default.
const POINTS_PER_REQUEST: usize = 2_000;

/// `service.name` of what no process is known of, as OpenTelemetry has it.
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";

/// The label that a resource is named by.
const SERVICE: &str = "service";

/// A request, and how many data points are in it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) request: ExportMetricsServiceRequest,
    pub(super) points: u64,
}

/// Since when each cumulative series counts. A series that went idle and came back counts from zero,
/// which a store must be told (OTLP data model, "Resets and Gaps").
#[derive(Debug)]
pub(super) struct Starts {
    hasher: RandomState,
    points: AHashMap<u64, Start>,
    /// Those of the export that is being made.
    next: AHashMap<u64, Start>,
    /// When the last export was made, Unix nanoseconds; before the first, when the agent started.
    last_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    since_ns: u64,
    value: f64,
}

impl Starts {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            points: AHashMap::new(),
            next: AHashMap::new(),
            last_ns: now_ns,
        }
    }

    fn of(&mut self, family: &str, labels: &[prometheus::LabelPair], value: f64) -> u64 {
        let id = self.hasher.hash_one((family, labels));
        let since_ns = match self.points.get(&id) {
            Some(start) if start.value <= value => start.since_ns,
            _ => self.last_ns,
        };
        self.next.insert(id, Start { since_ns, value });
        since_ns
    }

    fn finish(&mut self, now_ns: u64) {
        self.points = mem::take(&mut self.next);
        self.last_ns = now_ns;
    }
}

/// All `families` in as many requests as they need, as of `now_ns` (Unix, nanoseconds).
pub(super) fn requests(
    families: &[prometheus::MetricFamily],
    identity: &Identity,
    starts: &mut Starts,
    now_ns: u64,
) -> Vec<Batch> {
    // By service; `None` is the agent itself.
    let mut services: BTreeMap<Option<Observed<'_>>, Vec<Metric>> = BTreeMap::new();
    for family in families {
        let observed = family.name.starts_with("tls_");
        let mut parts: BTreeMap<Option<Observed<'_>>, Vec<&prometheus::Metric>> = BTreeMap::new();
        for metric in &family.metric {
            let service = observed.then(|| service(&metric.label));
            parts.entry(service).or_default().push(metric);
        }
        for (service, metrics) in parts {
            for metrics in metrics.chunks(POINTS_PER_REQUEST) {
                let metric = translate(family, metrics, observed, starts, now_ns);
                services.entry(service.clone()).or_default().push(metric);
            }
        }
    }
    starts.finish(now_ns);

    let mut batches = vec![Batch::default()];
    for (service, metrics) in services {
        for metric in metrics {
            let points = points(&metric);
            let full = |batch: &Batch| {
                batch.points > 0 && batch.points + points > POINTS_PER_REQUEST as u64
            };
            if batches.last().is_none_or(full) {
                batches.push(Batch::default());
            }
            if let Some(batch) = batches.last_mut() {
                batch.push(identity, service.as_ref(), metric, points);
            }
        }
    }
    batches.retain(|batch| batch.points > 0);
    batches
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            request: ExportMetricsServiceRequest {
                resource_metrics: Vec::new(),
            },
            points: 0,
        }
    }
}

impl Batch {
    fn push(
        &mut self,
        identity: &Identity,
        service: Option<&Observed<'_>>,
        metric: Metric,
        points: u64,
    ) {
        self.points += points;
        let resource = identity.resource(service);
        let all = &mut self.request.resource_metrics;
        match all.last_mut() {
            Some(last) if last.resource.as_ref() == Some(&resource) => {
                last.scope_metrics[0].metrics.push(metric);
            }
            _ => all.push(ResourceMetrics {
                resource: Some(resource),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: vec![metric],
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }),
        }
    }
}

fn service(labels: &[prometheus::LabelPair]) -> Observed<'_> {
    let mut observed = Observed {
        name: UNKNOWN_SERVICE,
        further: Vec::new(),
    };
    for label in labels {
        if label.name == SERVICE {
            if label.value != aggregate::labels::UNKNOWN_SERVICE {
                observed.name = &label.value;
            }
        } else if names::attribute(&label.name).is_none() {
            let name = names::resource_attribute(&label.name);
            observed.further.push((name, &label.value));
        }
    }
    observed
}

fn points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    };
    points as u64
}

fn translate(
    family: &prometheus::MetricFamily,
    metrics: &[&prometheus::Metric],
    observed: bool,
    starts: &mut Starts,
    now_ns: u64,
) -> Metric {
    let kind = prometheus::MetricType::try_from(family.r#type);
    let stem = family.name.strip_suffix("_total").unwrap_or(&family.name);
    let (name, unit) = names::metric(stem);
    let attributes = |pairs| attributes(pairs, observed);
    let cumulative = AggregationTemporality::Cumulative as i32;
    let data = match kind {
        Ok(prometheus::MetricType::Counter) => Data::Sum(Sum {
            data_points: metrics
                .iter()
                .map(|metric| {
                    let value = metric.counter.as_ref().map_or(0.0, |counter| counter.value);
                    NumberDataPoint {
                        attributes: attributes(&metric.label),
                        start_time_unix_nano: starts.of(&family.name, &metric.label, value),
                        time_unix_nano: now_ns,
                        value: Some(number(value, unit)),
                        ..NumberDataPoint::default()
                    }
                })
                .collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Ok(prometheus::MetricType::Histogram) => Data::Histogram(Histogram {
            data_points: metrics
                .iter()
                .filter_map(|metric| Some((metric, metric.histogram.as_ref()?)))
                .map(|(metric, histogram)| {
                    let count = histogram.sample_count as f64;
                    HistogramDataPoint {
                        attributes: attributes(&metric.label),
                        start_time_unix_nano: starts.of(&family.name, &metric.label, count),
                        time_unix_nano: now_ns,
                        ..buckets(histogram)
                    }
                })
                .collect(),
            aggregation_temporality: cumulative,
        }),
        _ => Data::Gauge(Gauge {
            data_points: metrics
                .iter()
                .map(|metric| NumberDataPoint {
                    attributes: attributes(&metric.label),
                    time_unix_nano: now_ns,
                    value: Some(Value::AsDouble(
                        metric.gauge.as_ref().map_or(0.0, |gauge| gauge.value),
                    )),
                    ..NumberDataPoint::default()
                })
                .collect(),
        }),
    };
    Metric {
        name,
        description: family.help.clone(),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

/// What is counted is a whole number.
fn number(value: f64, unit: &str) -> Value {
    if unit == "s" || value.fract() != 0.0 {
        Value::AsDouble(value)
    } else {
        // Exact up to 2^53, further than a counter of handshakes gets.
        Value::AsInt(value as i64)
    }
}

/// Cumulative buckets, of which the last is without bound, become single ones.
fn buckets(histogram: &prometheus::Histogram) -> HistogramDataPoint {
    let mut below = 0;
    let mut counts = Vec::with_capacity(histogram.bucket.len() + 1);
    let mut bounds = Vec::with_capacity(histogram.bucket.len());
    for bucket in &histogram.bucket {
        if bucket.upper_bound.is_finite() {
            counts.push(bucket.cumulative_count.saturating_sub(below));
            bounds.push(bucket.upper_bound);
            below = bucket.cumulative_count;
        }
    }
    counts.push(histogram.sample_count.saturating_sub(below));
    HistogramDataPoint {
        count: histogram.sample_count,
        sum: Some(histogram.sample_sum),
        bucket_counts: counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    }
}

fn attributes(labels: &[prometheus::LabelPair], observed: bool) -> Vec<KeyValue> {
    labels
        .iter()
        .filter_map(|label| {
            let name = if observed {
                names::attribute(&label.name)?
            } else {
                names::own_attribute(&label.name)
            };
            Some(text(name, &label.value))
        })
        .collect()
}

#[cfg(test)]
mod tests;
