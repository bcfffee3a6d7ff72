//! What was observed of handshakes, as metrics. Names as they stand in the contract;
//! `prometheus-client` adds `_total` to counters.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;

use super::series::{Bounds, Sink, Value};
use super::{Labels, Scrape, costs, counter, keys, of_service};
use crate::core::aggregate::{
    self, AGE_BOUNDS_NS, DURATION_BOUNDS_NS, DurationKey, Family, Histogram, SeriesSet, labels,
};
use crate::core::record::alert_direction;

/// Writes one family, or a few that are made from the same series.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// Its series belong to server names: it can be made for some names after others.
    OfNames(fn(&Scrape, &mut Sink<'_, '_>) -> fmt::Result),
    /// Its series belong to services.
    OfServices(fn(&Scrape, &mut DescriptorEncoder<'_>) -> fmt::Result),
}

/// All there is, in the order in which it is written.
pub(super) const PARTS: [Part; 16] = [
    Part::OfNames(handshakes),
    Part::OfNames(durations),
    Part::OfNames(costs::first_bytes),
    Part::OfNames(costs::cpu),
    Part::OfNames(costs::crypto),
    Part::OfServices(costs::gaps),
    Part::OfNames(costs::saved),
    Part::OfNames(costs::lost),
    Part::OfNames(rejections),
    Part::OfNames(ticket_ages),
    Part::OfNames(early_data),
    Part::OfNames(ech_offers),
    Part::OfNames(alerts),
    Part::OfServices(keys::encode),
    Part::OfServices(reoffered),
    Part::OfNames(chain_bytes),
];

/// Makes a part when it is asked for.
pub(super) struct PartCollector {
    pub(super) scrape: Arc<Scrape>,
    pub(super) part: Part,
}

impl fmt::Debug for PartCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartCollector").finish_non_exhaustive()
    }
}

impl Collector for PartCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.part {
            Part::OfNames(write) => write(&self.scrape, &mut Sink::Objects(&mut encoder)),
            Part::OfServices(write) => write(&self.scrape, &mut encoder),
        }
    }
}

fn handshakes(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    counters(
        scrape,
        sink,
        (
            "tls_handshakes",
            "Finished TLS handshakes, failed ones included.",
        ),
        |set| &set.handshakes,
        |key| {
            [
                ("version", key.version.as_str()),
                ("offered", key.offered.as_str()),
                ("result", key.result.as_str()),
            ]
        },
    )
}

fn durations(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    histograms(
        scrape,
        sink,
        (
            "tls_handshake_duration_seconds",
            "First byte of the ClientHello to the end of the handshake at the server.",
            &DURATION_BOUNDS_NS,
        ),
        |set| &set.durations,
        duration_labels,
    )
}

fn rejections(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    counters(
        scrape,
        sink,
        (
            "tls_resumption_rejections",
            "Offers to resume that the server refused, by reason.",
        ),
        |set| &set.rejections,
        |key| [("reason", key.reason.as_str())],
    )
}

fn ticket_ages(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    histograms(
        scrape,
        sink,
        (
            "tls_ticket_age_seconds",
            "Age of the session in an offered ticket that the server could decrypt.",
            &AGE_BOUNDS_NS,
        ),
        |set| &set.ticket_ages,
        |key| [("result", key.result.as_str())],
    )
}

fn early_data(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    counters(
        scrape,
        sink,
        (
            "tls_early_data",
            "Handshakes with early data (0-RTT) by what became of it.",
        ),
        |set| &set.early_data,
        |key| [("status", key.status.as_str())],
    )
}

fn ech_offers(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    counters(
        scrape,
        sink,
        (
            "tls_encrypted_client_hello_offers",
            "Handshakes whose ClientHello holds another one, encrypted (ECH), or pretends to (GREASE): \
             their server name is the outer one.",
        ),
        |set| &set.ech_offers,
        |_| [],
    )
}

fn alerts(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    counters(
        scrape,
        sink,
        (
            "tls_alerts",
            "Alerts that ended a handshake, by description (IANA) and as seen by the process.",
        ),
        |set| &set.alerts,
        |key| {
            [
                ("description", labels::alert(key.description)),
                ("direction", alert_direction(key.sent)),
            ]
        },
    )
}

fn reoffered(scrape: &Scrape, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let samples = scrape.state.aggregator().reoffered();
    let mut metric = encoder.encode_descriptor(
        "tls_tickets_reoffered",
        "Offered tickets that had been offered before: clients that do not use them once.",
        None,
        MetricType::Counter,
    )?;
    for (service, offered, count) in &samples {
        let labels = (of_service(service), [("offered", offered.as_str())]);
        counter(&mut metric, &labels, *count)?;
    }
    Ok(())
}

fn chain_bytes(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    let mut series = sink.gauges(
        scrape,
        "tls_server_certificate_chain_bytes",
        "Length of the server's last Certificate message (TLS 1.2 and older).",
    )?;
    scrape.each(
        |set| &set.chain_bytes,
        |sample| series.write(&sample, &[], Value::Whole(sample.value.into())),
    )
}

/// `version` and `result`.
pub(super) fn duration_labels(key: &DurationKey) -> Labels<'static, 2> {
    [
        ("version", key.version.as_str()),
        ("result", key.result.as_str()),
    ]
}

/// Writes one family of counters: its name and help, and what labels a series has besides those
/// that all have.
fn counters<K: aggregate::Labels + Copy + Ord, const N: usize>(
    scrape: &Scrape,
    sink: &mut Sink<'_, '_>,
    (name, help): (&str, &str),
    family: fn(&SeriesSet) -> &Family<K, u64>,
    labels: fn(&K) -> Labels<'static, N>,
) -> fmt::Result {
    let mut series = sink.counters(scrape, name, help)?;
    scrape.each(family, |sample| {
        let value = Value::Whole(sample.value);
        series.write(&sample, &labels(&sample.key), value)
    })
}

/// Writes one family of histograms: its name, help and bounds, and what labels a series has besides
/// those that all have.
pub(super) fn histograms<K: aggregate::Labels + Copy + Ord, const N: usize>(
    scrape: &Scrape,
    sink: &mut Sink<'_, '_>,
    (name, help, bounds): (&str, &str, &Bounds),
    family: fn(&SeriesSet) -> &Family<K, Histogram>,
    labels: fn(&K) -> Labels<'static, N>,
) -> fmt::Result {
    let mut series = sink.histograms(scrape, name, help, bounds)?;
    scrape.each(family, |sample| {
        series.write_histogram(&sample, &labels(&sample.key))
    })
}
