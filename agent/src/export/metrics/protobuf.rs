//! Prometheus' protocol buffers: each family a message behind its length.
//!
//! `prometheus-client` builds a family as objects before it writes one, a dozen strings for each
//! series: at ten thousand server names that takes 50 MB, and at a thousand three times as long as
//! text. For the families of server names the labels are written once for the series that share them,
//! and behind them what the library's own message has of the value: messages of a type that are
//! joined are one message (Protocol Buffers, "Encoding", Last One Wins). A test holds both against
//! each other, byte by byte.

use prometheus_client::encoding::prometheus_protobuf::encode_to_vec;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prometheus_client::metrics::MetricType;
use prost::Message as _;
use prost::encode_length_delimiter;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use std::io::{self, Write as _};
use std::sync::Arc;

use super::Scrape;
use super::series::{Bounds, NATIVE_ZERO_THRESHOLD, Sink, Value, in_seconds, suffix};
use super::tls::{PARTS, Part};
use crate::core::aggregate::{Histogram, native};
use crate::export::State;
use crate::export::held::Held;

/// Writes out everything in `state`.
pub(super) fn write(state: &Arc<State>, out: &mut impl io::Write) -> io::Result<()> {
    let scrape = Scrape::of(state, true);
    for part in PARTS {
        let write = match part {
            Part::OfNames(write) => write,
            Part::OfServices(_) => {
                let bytes = encode_to_vec(&scrape.registry(part)).map_err(io::Error::other)?;
                out.write_all(&bytes)?;
                continue;
            }
        };
        let mut messages = Messages::default();
        write(&scrape, &mut Sink::Messages(&mut messages)).map_err(io::Error::other)?;
        for family in messages.0 {
            let mut length = Vec::new();
            encode_length_delimiter(family.len(), &mut length)?;
            out.write_all(&length)?;
            for part in family.into_parts()? {
                out.write_all(&part?)?;
            }
        }
    }
    let own = encode_to_vec(&scrape.own_registry()).map_err(io::Error::other)?;
    out.write_all(&own)
}

/// Messages of families.
#[derive(Default)]
pub(super) struct Messages(Vec<Held>);

/// The message of one family.
pub(super) struct Points<'a> {
    family: &'a mut Held,
    /// One series.
    point: Vec<u8>,
}

impl Messages {
    /// Begins a family.
    pub(super) fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
    ) -> io::Result<Points<'_>> {
        let head = model::MetricFamily {
            name: format!("{name}{}", suffix(kind)),
            help: help.to_owned(),
            r#type: model::MetricType::from(kind).into(),
            ..model::MetricFamily::default()
        };
        let mut family = Held::default();
        family.write_all(&head.encode_to_vec())?;
        Ok(Points {
            family: self.0.push_mut(family),
            point: Vec::new(),
        })
    }
}

impl Points<'_> {
    /// A counter or gauge with these labels, which are written.
    pub(super) fn value(
        &mut self,
        labels: &[u8],
        kind: MetricType,
        value: Value,
    ) -> io::Result<()> {
        let value = match value {
            Value::Whole(value) => value as f64,
            Value::Real(value) => value,
        };
        let mut metric = model::Metric::default();
        match kind {
            MetricType::Counter => {
                metric.counter = Some(model::Counter {
                    value,
                    ..model::Counter::default()
                });
            }
            _ => metric.gauge = Some(model::Gauge { value }),
        }
        self.metric(labels, &metric)
    }

    /// A histogram with these labels, which are written.
    pub(super) fn histogram(
        &mut self,
        labels: &[u8],
        bounds: &Bounds,
        histogram: &Histogram,
    ) -> io::Result<()> {
        let mut cumulative_count = 0;
        let bucket = in_seconds(bounds)
            .zip(&histogram.buckets)
            .map(|(upper_bound, count)| {
                cumulative_count += count;
                model::Bucket {
                    cumulative_count,
                    upper_bound,
                    ..model::Bucket::default()
                }
            })
            .collect();
        let fine = &histogram.native;
        let span = model::BucketSpan {
            offset: fine.first,
            length: u32::try_from(fine.counts.len()).map_err(io::Error::other)?,
        };
        let histogram = model::Histogram {
            sample_count: histogram.count(),
            sample_sum: histogram.sum_ns as f64 / 1e9,
            bucket,
            schema: native::SCHEMA,
            zero_threshold: NATIVE_ZERO_THRESHOLD,
            zero_count: fine.zeros,
            positive_span: vec![span],
            positive_delta: fine.deltas().collect(),
            ..model::Histogram::default()
        };
        let metric = model::Metric {
            histogram: Some(histogram),
            ..model::Metric::default()
        };
        self.metric(labels, &metric)
    }

    fn metric(&mut self, labels: &[u8], value: &model::Metric) -> io::Result<()> {
        const METRIC: u32 = 4;
        let length = labels.len() + value.encoded_len();
        self.point.clear();
        encode_key(METRIC, WireType::LengthDelimited, &mut self.point);
        encode_varint(length as u64, &mut self.point);
        self.point.extend_from_slice(labels);
        value.encode(&mut self.point)?;
        self.family.write_all(&self.point)
    }
}

/// Writes a label as a field of a `Metric`.
pub(super) fn push_label(labels: &mut Vec<u8>, name: &str, value: &str) {
    const LABEL: u32 = 1;
    const NAME: u32 = 1;
    const VALUE: u32 = 2;
    // What is empty is left out.
    let fields = [(NAME, name), (VALUE, value)];
    let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
    let length = |(tag, text): (u32, &str)| {
        key_len(tag) + encoded_len_varint(text.len() as u64) + text.len()
    };
    encode_key(LABEL, WireType::LengthDelimited, labels);
    encode_varint(fields.clone().map(length).sum::<usize>() as u64, labels);
    for (tag, text) in fields {
        encode_key(tag, WireType::LengthDelimited, labels);
        encode_varint(text.len() as u64, labels);
        labels.extend_from_slice(text.as_bytes());
    }
}
