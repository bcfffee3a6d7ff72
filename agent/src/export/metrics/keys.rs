//! The life of ticket keys as metrics.

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

use super::{Scrape, counter, of_service};
use crate::core::aggregate::{Key, KeyLife, KeySample, TicketUse};
use crate::pipeline::unix_seconds;

/// Writes the families of ticket keys.
pub(super) fn encode(scrape: &Scrape, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let samples = scrape.state.aggregator().ticket_keys();
    let names: Vec<String> = samples.iter().map(|sample| sample.key.label()).collect();
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
                    .encode_gauge(&unix_seconds(i128::from(time_ns) + scrape.wall_offset_ns))?;
            }
        }
    }
    Ok(())
}
