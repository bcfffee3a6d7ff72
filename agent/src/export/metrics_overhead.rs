//! `resumetry_probe_…`: what watching costs the watched servers.

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

use super::metrics::{NO_EXEMPLAR, counter};
use crate::core::overhead::{Optional, Overhead, PROBES};

pub(super) fn encode(overhead: &Overhead, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    if let Some(ratio) = overhead.ratio {
        encoder
            .encode_descriptor(
                "resumetry_probe_overhead_ratio",
                "Estimated CPU time that probes cost, over that of the processes that make handshakes.",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&ratio)?;
    }

    let mut metric = encoder.encode_descriptor(
        "resumetry_probe_hits",
        "Runs of a probe, by what they had to do.",
        None,
        MetricType::Counter,
    )?;
    for (probe, hits) in PROBES.iter().zip(overhead.hits) {
        counter(&mut metric, &[("probe", probe.name)], hits)?;
    }

    let mut metric = encoder.encode_descriptor(
        "resumetry_probe_cost_seconds",
        "Estimated CPU time that the runs of a probe took.",
        None,
        MetricType::Counter,
    )?;
    for (probe, seconds) in PROBES.iter().zip(overhead.cost_seconds) {
        metric
            .encode_family(&[("probe", probe.name)])?
            .encode_counter(&seconds, NO_EXEMPLAR)?;
    }

    let mut metric = encoder.encode_descriptor(
        "resumetry_probe_shed",
        "1 while a group of probes is left out because watching costs too much.",
        None,
        MetricType::Gauge,
    )?;
    for (group, shed) in Optional::ALL.into_iter().zip(overhead.shed) {
        metric
            .encode_family(&[("probe", group.as_str())])?
            .encode_gauge(&u32::from(shed))?;
    }
    Ok(())
}
