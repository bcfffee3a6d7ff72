//! Metrics in the form that was negotiated: OpenMetrics 1.0, the Prometheus text format 0.0.4, or
//! Prometheus' protocol buffers, which alone carry native histograms.

mod costs;
mod keys;
mod protobuf;
mod series;
mod text;
mod tls;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use prometheus_client::encoding::{
    EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_protobuf, prometheus_text,
};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::sync::Arc;
use std::{fmt, io};

use self::series::Sink;
use self::text::Text;
use self::tls::{Part, PartCollector};
use super::State;
use super::judge::FindingCollector;
use super::metrics_self::SelfCollector;
use super::process::{Process, ProcessCollector};
use crate::core::aggregate::{self, Family, Sample, SeriesSet, Service};

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

/// Writes out everything in `state`, little by little: copies of few series are held at a time, and
/// the pipeline is held up only while those are made.
///
/// # Errors
/// Those of `out`.
pub fn write(state: &Arc<State>, format: Format, out: &mut impl io::Write) -> io::Result<()> {
    if format == Format::Protobuf {
        return protobuf::write(state, out);
    }
    let scrape = Scrape::of(state, true);
    let mut text = Text::new(out, format);
    for part in tls::PARTS {
        match part {
            Part::OfNames(write) => write(&scrape, &mut Sink::Text(&mut text)),
            Part::OfServices(_) => text.registry(&scrape.registry(part)),
        }
        .map_err(io::Error::other)?;
    }
    text.registry(&scrape.own_registry())
        .map_err(io::Error::other)?;
    text.end()
}

/// The same as families of Prometheus' data model, without the constant labels.
pub(super) fn families(
    state: &Arc<State>,
) -> Result<Vec<prometheus_protobuf::prometheus_data_model::MetricFamily>, fmt::Error> {
    let mut families = Vec::new();
    for registry in Scrape::of(state, false).registries() {
        families.append(&mut prometheus_protobuf::encode(&registry)?);
    }
    Ok(families)
}

/// Server names whose series are copied at a time.
const NAMES_AT_A_TIME: usize = 256;

/// What a scrape is made from.
#[derive(Debug)]
struct Scrape {
    state: Arc<State>,
    /// Server names of which series are shown, in order: the same ones in every family.
    names: Vec<Arc<str>>,
    /// Added to CLOCK_MONOTONIC it gives Unix time.
    wall_offset_ns: i128,
    /// Whether the constant labels are shown.
    has_labels: bool,
}

impl Scrape {
    fn of(state: &Arc<State>, has_labels: bool) -> Arc<Self> {
        let mut names = state.aggregator().names();
        names.sort_unstable();
        Arc::new(Scrape {
            state: Arc::clone(state),
            names,
            wall_offset_ns: state.wall_offset_ns(),
            has_labels,
        })
    }

    /// Hands over a copy of each series of one family.
    fn each<K: aggregate::Labels + Copy + Ord, V: Clone + Default>(
        &self,
        family: fn(&SeriesSet) -> &Family<K, V>,
        mut take: impl FnMut(Sample<K, V>) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = Vec::new();
        for names in self.names.chunks(NAMES_AT_A_TIME) {
            self.state.aggregator().samples(names, family, &mut samples);
            samples.drain(..).try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// Constant labels of what is observed.
    fn labels(&self) -> &[(String, String)] {
        if self.has_labels {
            &self.state.labels
        } else {
            &[]
        }
    }

    /// What is observed, and what the agent says of itself; each registry makes its families when it
    /// is encoded.
    fn registries(self: &Arc<Self>) -> impl Iterator<Item = Registry> {
        let parts = tls::PARTS.map(|part| self.registry(part));
        parts.into_iter().chain([self.own_registry()])
    }

    /// A part of what is observed.
    fn registry(self: &Arc<Self>, part: Part) -> Registry {
        let labels = self.labels().iter().cloned();
        let mut registry =
            Registry::with_labels(labels.map(|(name, value)| (name.into(), value.into())));
        let scrape = Arc::clone(self);
        registry.register_collector(Box::new(PartCollector { scrape, part }));
        registry
    }

    /// What the agent says of itself.
    fn own_registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SelfCollector {
            metrics: self.state.own(),
            server_names: self.state.aggregator().server_names(),
            otlp: self.state.otlp.get().cloned(),
        }));
        let findings = self.state.findings().findings;
        registry.register_collector(Box::new(FindingCollector(findings)));
        registry.register_collector(Box::new(ProcessCollector(Process::read())));
        registry
    }
}

/// Labels as pairs.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Absent exemplar, for encoders that take one.
pub(super) const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// Absent exemplars of a histogram.
const NO_EXEMPLARS: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;

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

/// `service`, and the labels of the pod that it runs in.
pub(super) fn of_service(service: &Service) -> impl EncodeLabelSet + '_ {
    (
        [("service", service.name.as_str())],
        service.labels.as_slice(),
    )
}

#[cfg(test)]
pub(super) mod tests;
