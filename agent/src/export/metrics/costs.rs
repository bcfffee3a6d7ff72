//! What handshakes cost and what resuming spares, as metrics.

use agent_common::primitive;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

use super::series::{Sink, Value};
use super::tls::{duration_labels, histograms};
use super::{Labels, Scrape, of_service};
use crate::core::aggregate::{
    self, CPU_BOUNDS_NS, DURATION_BOUNDS_NS, Family, SeriesSet, SparedSum,
};

/// One of the two figures of a sum.
type Figure = fn(&SparedSum) -> Option<u64>;

pub(super) fn first_bytes(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    histograms(
        scrape,
        sink,
        (
            "tls_time_to_first_byte_seconds",
            "TCP established to the first byte of the response, as the client sees it \
             (connections sampled by --responses).",
            &DURATION_BOUNDS_NS,
        ),
        |set| &set.first_bytes,
        duration_labels,
    )
}

pub(super) fn cpu(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    histograms(
        scrape,
        sink,
        (
            "tls_handshake_cpu_seconds",
            "On-CPU time of the serving thread inside the handshake (sampled by \
             --handshake-calls).",
            &CPU_BOUNDS_NS,
        ),
        |set| &set.cpu,
        duration_labels,
    )
}

pub(super) fn crypto(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    let mut series = sink.counters(
        scrape,
        "tls_crypto_cpu_seconds",
        "On-CPU time in cryptographic primitives of handshakes, estimated from those timed in \
         windows (--primitives): each stands for all of its kind since the last.",
    )?;
    scrape.each(
        |set| &set.crypto,
        |sample| {
            let further = [("operation", operation(sample.key.primitive))];
            series.write(&sample, &further, seconds(sample.value))
        },
    )
}

pub(super) fn saved(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    let families: [(&str, &str, Figure); 2] = [
        (
            "tls_resumption_saved_wait_seconds",
            "Time to first byte that resumed handshakes spared, against full ones of the same \
             service; absent before enough of both were measured.",
            |sum| sum.wait_ns,
        ),
        (
            "tls_resumption_saved_cpu_seconds",
            "CPU time in handshakes that resumed ones spared, against full ones of the same \
             service; absent before enough of both were measured.",
            |sum| sum.cpu_ns,
        ),
    ];
    spared(
        scrape,
        sink,
        families,
        |set| &set.saved,
        |key| [("version", key.version.as_str())],
    )
}

pub(super) fn lost(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    let families: [(&str, &str, Figure); 2] = [
        (
            "tls_resumption_lost_wait_seconds",
            "Time to first byte that refused offers to resume cost, by reason of the refusal.",
            |sum| sum.wait_ns,
        ),
        (
            "tls_resumption_lost_cpu_seconds",
            "CPU time in handshakes that refused offers to resume cost, by reason of the refusal.",
            |sum| sum.cpu_ns,
        ),
    ];
    spared(
        scrape,
        sink,
        families,
        |set| &set.lost,
        |key| {
            [
                ("version", key.version.as_str()),
                ("reason", key.reason.as_str()),
            ]
        },
    )
}

/// Writes both figures of sums, where something can be said.
fn spared<K: aggregate::Labels + Copy + Ord, const N: usize>(
    scrape: &Scrape,
    sink: &mut Sink<'_, '_>,
    families: [(&str, &str, Figure); 2],
    family: fn(&SeriesSet) -> &Family<K, SparedSum>,
    labels: fn(&K) -> Labels<'static, N>,
) -> fmt::Result {
    for (name, help, figure) in families {
        let mut series = sink.counters(scrape, name, help)?;
        scrape.each(family, |sample| match figure(&sample.value) {
            Some(sum_ns) => series.write(&sample, &labels(&sample.key), seconds(sum_ns)),
            None => Ok(()),
        })?;
    }
    Ok(())
}

/// `operation`.
fn operation(kind: usize) -> &'static str {
    match kind {
        primitive::SIGN => "sign",
        primitive::KEY_GENERATION => "key_generation",
        primitive::KEY_AGREEMENT => "key_agreement",
        primitive::TICKET => "ticket",
        _ => "verify",
    }
}

pub(super) fn gaps(scrape: &Scrape, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let samples = scrape.state.aggregator().gaps();
    let mut metric = encoder.encode_descriptor(
        "tls_time_to_first_byte_gap_seconds",
        "Time to first byte of full handshakes less that of resumed ones, of the last five to ten \
         minutes: between connections of like distance, without the server's thinking (matched), \
         and between all (plain).",
        None,
        MetricType::Gauge,
    )?;
    for sample in &samples {
        for (method, gap_ns) in [("matched", sample.matched_ns), ("plain", sample.plain_ns)] {
            if let Some(gap_ns) = gap_ns {
                let first = [("role", sample.key.common.role.as_str())];
                let further = [
                    ("transport", sample.key.common.transport.as_str()),
                    ("version", sample.key.version.as_str()),
                    ("method", method),
                ];
                let labels = ((first, of_service(&sample.service)), further);
                metric
                    .encode_family(&labels)?
                    .encode_gauge(&(gap_ns as f64 / 1e9))?;
            }
        }
    }
    Ok(())
}

/// Nanoseconds as a value.
fn seconds(nanoseconds: u64) -> Value {
    Value::Real(nanoseconds as f64 / 1e9)
}
