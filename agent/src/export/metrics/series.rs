//! Series of server names, with the labels that all their families have: as text, as messages, or as
//! what `prometheus-client` builds.

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;

use super::protobuf::{self, Messages, Points};
use super::text::{self, Lines, Text};
use super::{Labels, NO_EXEMPLAR, Scrape, of_service};
use crate::core::aggregate::{
    self, Common, DURATION_BOUNDS_NS, Histogram, Sample, Service, native,
};

/// Upper bounds of a histogram's buckets, nanoseconds.
pub(super) type Bounds = [u64; DURATION_BOUNDS_NS.len()];

/// The bounds in seconds, and that of the bucket for all that is above.
pub(super) fn in_seconds(bounds: &Bounds) -> impl Iterator<Item = f64> {
    let bounds = bounds.iter().map(|&bound| bound as f64 / 1e9);
    bounds.chain([f64::INFINITY])
}

/// What the samples of a family have behind its name.
pub(super) fn suffix(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "_total",
        _ => "",
    }
}

/// Where families go.
pub(super) enum Sink<'s, 'e> {
    Objects(&'s mut DescriptorEncoder<'e>),
    Text(&'s mut Text<'e>),
    Messages(&'s mut Messages),
}

/// What a series stands at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

/// The series of one family.
pub(super) struct Series<'a> {
    scrape: &'a Scrape,
    kind: MetricType,
    bounds: Option<&'a Bounds>,
    form: Form<'a>,
}

enum Form<'a> {
    Objects(MetricEncoder<'a>),
    Text(Lines<'a>, Written<String>),
    Messages(Points<'a>, Written<Vec<u8>>),
}

/// Where labels are written.
trait Buffer: Default {
    fn push(&mut self, name: &str, value: &str);
    fn len(&self) -> usize;
    fn truncate(&mut self, length: usize);
}

impl Buffer for String {
    fn push(&mut self, name: &str, value: &str) {
        text::push_label(self, name, value);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn truncate(&mut self, length: usize) {
        self.truncate(length);
    }
}

impl Buffer for Vec<u8> {
    fn push(&mut self, name: &str, value: &str) {
        protobuf::push_label(self, name, value);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn truncate(&mut self, length: usize) {
        self.truncate(length);
    }
}

/// Labels of the last series as they are sent: those that all families have are written once for all
/// series that share them.
#[derive(Default)]
struct Written<B> {
    labels: B,
    /// Whose labels it begins with, and how far.
    shared: Option<(Arc<str>, Arc<Service>, Common)>,
    shared_length: usize,
}

impl Sink<'_, '_> {
    /// Begins a family of counters; `_total` is added to its name.
    pub(super) fn counters<'a>(
        &'a mut self,
        scrape: &'a Scrape,
        name: &'a str,
        help: &'a str,
    ) -> Result<Series<'a>, fmt::Error> {
        self.family(scrape, name, help, MetricType::Counter, None)
    }

    pub(super) fn gauges<'a>(
        &'a mut self,
        scrape: &'a Scrape,
        name: &'a str,
        help: &'a str,
    ) -> Result<Series<'a>, fmt::Error> {
        self.family(scrape, name, help, MetricType::Gauge, None)
    }

    pub(super) fn histograms<'a>(
        &'a mut self,
        scrape: &'a Scrape,
        name: &'a str,
        help: &'a str,
        bounds: &'a Bounds,
    ) -> Result<Series<'a>, fmt::Error> {
        self.family(scrape, name, help, MetricType::Histogram, Some(bounds))
    }

    fn family<'a>(
        &'a mut self,
        scrape: &'a Scrape,
        name: &'a str,
        help: &'a str,
        kind: MetricType,
        bounds: Option<&'a Bounds>,
    ) -> Result<Series<'a>, fmt::Error> {
        let form = match self {
            Sink::Objects(encoder) => {
                Form::Objects(encoder.encode_descriptor(name, help, None, kind)?)
            }
            Sink::Text(text) => {
                let lines = text.family(name, help, kind, bounds)?;
                Form::Text(lines, Written::default())
            }
            Sink::Messages(messages) => {
                let points = messages.family(name, help, kind).map_err(|_| fmt::Error)?;
                Form::Messages(points, Written::default())
            }
        };
        Ok(Series {
            scrape,
            kind,
            bounds,
            form,
        })
    }
}

impl Series<'_> {
    /// Writes a counter or gauge with these further labels.
    pub(super) fn write<K: aggregate::Labels, V, const N: usize>(
        &mut self,
        sample: &Sample<K, V>,
        further: &Labels<'_, N>,
        value: Value,
    ) -> fmt::Result {
        match &mut self.form {
            Form::Objects(metric) => {
                let labels = (shared(sample), *further);
                let mut series = metric.encode_family(&labels)?;
                match (self.kind, value) {
                    (MetricType::Counter, Value::Whole(value)) => {
                        series.encode_counter(&value, NO_EXEMPLAR)
                    }
                    (MetricType::Counter, Value::Real(value)) => {
                        series.encode_counter(&value, NO_EXEMPLAR)
                    }
                    (_, Value::Whole(value)) => series.encode_gauge(&value),
                    (_, Value::Real(value)) => series.encode_gauge(&value),
                }
            }
            Form::Text(lines, written) => {
                lines.value(written.set(self.scrape, sample, further), value)
            }
            Form::Messages(points, written) => {
                let labels = written.set(self.scrape, sample, further);
                let written = points.value(labels, self.kind, value);
                written.map_err(|_| fmt::Error)
            }
        }
    }

    /// Writes a histogram with these further labels.
    pub(super) fn write_histogram<K: aggregate::Labels, const N: usize>(
        &mut self,
        sample: &Sample<K, Histogram>,
        further: &Labels<'_, N>,
    ) -> fmt::Result {
        let bounds = self.bounds.ok_or(fmt::Error)?;
        match &mut self.form {
            Form::Objects(metric) => {
                let labels = (shared(sample), *further);
                encode_histogram(metric.encode_family(&labels)?, bounds, &sample.value)
            }
            Form::Text(lines, written) => {
                lines.histogram(written.set(self.scrape, sample, further), &sample.value)
            }
            Form::Messages(points, written) => {
                let labels = written.set(self.scrape, sample, further);
                let written = points.histogram(labels, bounds, &sample.value);
                written.map_err(|_| fmt::Error)
            }
        }
    }
}

impl<B: Buffer> Written<B> {
    /// All labels of a series.
    fn set<K: aggregate::Labels, V, const N: usize>(
        &mut self,
        scrape: &Scrape,
        sample: &Sample<K, V>,
        further: &Labels<'_, N>,
    ) -> &B {
        let common = sample.key.common();
        let is_shared = self.shared.as_ref().is_some_and(|(name, service, before)| {
            Arc::ptr_eq(name, &sample.server_name)
                && Arc::ptr_eq(service, &sample.service)
                && before == common
        });
        let labels = &mut self.labels;
        if is_shared {
            labels.truncate(self.shared_length);
        } else {
            labels.truncate(0);
            for (name, value) in scrape.labels() {
                labels.push(name, value);
            }
            labels.push("role", common.role.as_str());
            labels.push("server_name", &sample.server_name);
            labels.push("service", &sample.service.name);
            for (name, value) in &sample.service.labels {
                labels.push(name, value);
            }
            labels.push("transport", common.transport.as_str());
            self.shared_length = labels.len();
            let (name, service) = (&sample.server_name, &sample.service);
            self.shared = Some((Arc::clone(name), Arc::clone(service), *common));
        }
        for (name, value) in further {
            labels.push(name, value);
        }
        labels
    }
}

/// Labels that every family of server names has.
fn shared<K: aggregate::Labels, V>(sample: &Sample<K, V>) -> impl EncodeLabelSet {
    let common = sample.key.common();
    let first = [
        ("role", common.role.as_str()),
        ("server_name", &*sample.server_name),
    ];
    let last = [("transport", common.transport.as_str())];
    ((first, of_service(&sample.service)), last)
}

fn encode_histogram(
    mut encoder: MetricEncoder<'_>,
    bounds: &Bounds,
    histogram: &Histogram,
) -> fmt::Result {
    // The encoder adds the buckets up itself.
    let counts = histogram.buckets.iter().copied();
    let buckets: Vec<_> = in_seconds(bounds).zip(counts).collect();
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
pub(super) const NATIVE_ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
