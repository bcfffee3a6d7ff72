//! What handshakes cost and what resuming spares, as metrics.

use agent_common::primitive;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder};
use prometheus_client::metrics::MetricType;
use std::fmt;

use super::{Labels, NO_EXEMPLAR, common, histograms, of_service};
use crate::core::aggregate::{
    CPU_BOUNDS_NS, DURATION_BOUNDS_NS, DurationKey, GapSample, Snapshot, SparedSum,
};

/// One of the two figures of a sum.
type Part = fn(&SparedSum) -> Option<u64>;

/// Writes the families of time to first byte and of what is saved and lost.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    histograms(
        encoder,
        (
            "tls_time_to_first_byte_seconds",
            "TCP established to the first byte of the response, as the client sees it \
             (connections sampled by --responses).",
            &DURATION_BOUNDS_NS,
        ),
        &snapshot.first_bytes,
        duration_labels,
    )?;
    histograms(
        encoder,
        (
            "tls_handshake_cpu_seconds",
            "On-CPU time of the serving thread inside the handshake (sampled by \
             --handshake-calls).",
            &CPU_BOUNDS_NS,
        ),
        &snapshot.cpu,
        duration_labels,
    )?;
    let mut metric = encoder.encode_descriptor(
        "tls_crypto_cpu_seconds",
        "On-CPU time in cryptographic primitives of handshakes, estimated from those timed in \
         windows (--primitives): each stands for all of its kind since the last.",
        None,
        MetricType::Counter,
    )?;
    for sample in &snapshot.crypto {
        let further = [("operation", operation(sample.key.primitive))];
        let labels = (common(sample, &sample.key.common), further);
        seconds(&mut metric, &labels, sample.value)?;
    }
    gaps(encoder, &snapshot.gaps)?;
    for (name, help, part) in [
        (
            "tls_resumption_saved_wait_seconds",
            "Time to first byte that resumed handshakes spared, against full ones of the same \
             service; absent before enough of both were measured.",
            (|sum| sum.wait_ns) as Part,
        ),
        (
            "tls_resumption_saved_cpu_seconds",
            "CPU time in handshakes that resumed ones spared, against full ones of the same \
             service; absent before enough of both were measured.",
            |sum| sum.cpu_ns,
        ),
    ] {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for sample in &snapshot.saved {
            if let Some(sum_ns) = part(&sample.value) {
                let further = [("version", sample.key.version.as_str())];
                let labels = (common(sample, &sample.key.common), further);
                seconds(&mut metric, &labels, sum_ns)?;
            }
        }
    }
    for (name, help, part) in [
        (
            "tls_resumption_lost_wait_seconds",
            "Time to first byte that refused offers to resume cost, by reason of the refusal.",
            (|sum| sum.wait_ns) as Part,
        ),
        (
            "tls_resumption_lost_cpu_seconds",
            "CPU time in handshakes that refused offers to resume cost, by reason of the refusal.",
            |sum| sum.cpu_ns,
        ),
    ] {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for sample in &snapshot.lost {
            if let Some(sum_ns) = part(&sample.value) {
                let further = [
                    ("version", sample.key.version.as_str()),
                    ("reason", sample.key.reason.as_str()),
                ];
                let labels = (common(sample, &sample.key.common), further);
                seconds(&mut metric, &labels, sum_ns)?;
            }
        }
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

/// `version` and `result`.
pub(super) fn duration_labels(
    key: &DurationKey,
) -> (&crate::core::aggregate::Common, Labels<'static, 2>) {
    let further = [
        ("version", key.version.as_str()),
        ("result", key.result.as_str()),
    ];
    (&key.common, further)
}

fn gaps(encoder: &mut DescriptorEncoder<'_>, samples: &[GapSample]) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(
        "tls_time_to_first_byte_gap_seconds",
        "Time to first byte of full handshakes less that of resumed ones, of the last five to ten \
         minutes: between connections of like distance, without the server's thinking (matched), \
         and between all (plain).",
        None,
        MetricType::Gauge,
    )?;
    for sample in samples {
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

/// Writes one counter of nanoseconds as seconds.
fn seconds(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    nanoseconds: u64,
) -> fmt::Result {
    metric
        .encode_family(labels)?
        .encode_counter(&(nanoseconds as f64 / 1e9), NO_EXEMPLAR)
}
