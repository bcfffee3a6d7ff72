//! What the agent says of itself: events, losses, coverage, attachments.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::metrics::{Labels, NO_EXEMPLAR, counter};
use super::metrics_overhead;
use super::otlp;
use crate::core::overhead::Overhead;
use crate::core::view::{Health, Library};
use crate::tap::Tap;

/// Why an event was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLoss {
    /// No room in the ring buffer: user space was too slow.
    RingFull,
    /// No room in a kernel map.
    MapFull,
    /// Packet bytes could not be loaded.
    LoadFailed,
    /// User space could not make sense of it.
    Undecodable,
}

impl EventLoss {
    const ALL: [EventLoss; 4] = [
        EventLoss::RingFull,
        EventLoss::MapFull,
        EventLoss::LoadFailed,
        EventLoss::Undecodable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            EventLoss::RingFull => "ring_full",
            EventLoss::MapFull => "map_full",
            EventLoss::LoadFailed => "load_failed",
            EventLoss::Undecodable => "undecodable",
        }
    }
}

/// Why a handshake that was seen has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeLoss {
    /// Some of its events were lost on the way from the kernel.
    EventsLost,
    /// Bytes that matter were not copied.
    Truncated,
    /// Given up for want of room in user space.
    Evicted,
}

impl HandshakeLoss {
    const ALL: [HandshakeLoss; 3] = [
        HandshakeLoss::EventsLost,
        HandshakeLoss::Truncated,
        HandshakeLoss::Evicted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            HandshakeLoss::EventsLost => "events_lost",
            HandshakeLoss::Truncated => "truncated",
            HandshakeLoss::Evicted => "evicted",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Coverage {
    described: u64,
    counted: u64,
}

/// Counters by label; closed labels start at zero, so that a first loss is seen as an increase.
#[derive(Clone, Debug)]
pub(super) struct SelfMetrics {
    events: [u64; Tap::ALL.len()],
    events_lost: [[u64; EventLoss::ALL.len()]; Tap::ALL.len()],
    handshakes_lost: [u64; HandshakeLoss::ALL.len()],
    /// ClientHellos of DTLS.
    dtls_hellos: u64,
    /// Only of taps that describe handshakes.
    coverage: [Option<Coverage>; Tap::ALL.len()],
    /// Files attached, by library and version.
    libraries: BTreeMap<(String, String), u64>,
    /// Unix time in seconds, by probe.
    probe_hits: BTreeMap<String, f64>,
    overhead: Overhead,
    /// Known, and how often the API could not be read; `None` where there are none.
    pods: Option<(usize, u64)>,
}

impl Default for SelfMetrics {
    fn default() -> Self {
        let mut coverage = [None; Tap::ALL.len()];
        coverage[Tap::Wire as usize] = Some(Coverage {
            described: 0,
            counted: 0,
        });
        SelfMetrics {
            events: Default::default(),
            events_lost: Default::default(),
            handshakes_lost: Default::default(),
            dtls_hellos: 0,
            coverage,
            libraries: BTreeMap::new(),
            probe_hits: BTreeMap::new(),
            overhead: Overhead::default(),
            pods: None,
        }
    }
}

impl SelfMetrics {
    pub(super) fn set_events(&mut self, tap: Tap, total: u64) {
        raise(&mut self.events[tap as usize], total);
    }

    pub(super) fn set_events_lost(&mut self, tap: Tap, reason: EventLoss, total: u64) {
        raise(&mut self.events_lost[tap as usize][reason as usize], total);
    }

    pub(super) fn set_handshakes_lost(&mut self, reason: HandshakeLoss, total: u64) {
        raise(&mut self.handshakes_lost[reason as usize], total);
    }

    pub(super) fn set_dtls_hellos(&mut self, total: u64) {
        raise(&mut self.dtls_hellos, total);
    }

    pub(super) fn set_coverage(&mut self, tap: Tap, described: u64, counted: u64) {
        self.coverage[tap as usize] = Some(Coverage { described, counted });
    }

    pub(super) fn set_libraries(&mut self, attached: impl IntoIterator<Item = (String, String)>) {
        self.libraries.clear();
        for library in attached {
            *self.libraries.entry(library).or_default() += 1;
        }
    }

    pub(super) fn set_pods(&mut self, known: usize, failures: u64) {
        self.pods = Some((known, failures));
    }

    pub(super) fn set_overhead(&mut self, overhead: Overhead) {
        self.overhead = overhead;
    }

    /// How the agent is doing, as far as it is counted here.
    pub(super) fn health(&self) -> Health {
        let libraries = self.libraries.iter();
        Health {
            coverage: self.coverage[Tap::Wire as usize].map(Coverage::ratio),
            events: self.events.iter().sum(),
            events_lost: self.events_lost.iter().flatten().sum(),
            handshakes_lost: self.handshakes_lost.iter().sum(),
            overhead_ratio: self.overhead.ratio,
            libraries: libraries
                .map(|((library, version), files)| Library {
                    library: library.clone(),
                    version: version.clone(),
                    files: *files,
                })
                .collect(),
            ..Health::default()
        }
    }

    pub(super) fn set_probe_hit(&mut self, probe: &str, unix_seconds: f64) {
        match self.probe_hits.get_mut(probe) {
            Some(hit) => *hit = hit.max(unix_seconds),
            None => {
                self.probe_hits.insert(probe.into(), unix_seconds);
            }
        }
    }
}

/// A counter never falls, even if a sum over CPUs was read in two halves.
fn raise(counter: &mut u64, total: u64) {
    *counter = (*counter).max(total);
}

impl Coverage {
    /// 1 when there was nothing to describe. A record may be made before its ClientHello is
    /// counted; that is no more than full coverage.
    fn ratio(self) -> f64 {
        if self.counted == 0 {
            1.0
        } else {
            (self.described as f64 / self.counted as f64).min(1.0)
        }
    }
}

#[derive(Debug)]
pub(super) struct SelfCollector {
    pub(super) metrics: SelfMetrics,
    pub(super) server_names: usize,
    pub(super) otlp: Option<Arc<otlp::Counters>>,
}

impl Collector for SelfCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let SelfCollector {
            metrics,
            server_names,
            otlp,
        } = self;

        let mut metric = encoder.encode_descriptor(
            "resumetry_events",
            "Events that a tap submitted.",
            None,
            MetricType::Counter,
        )?;
        for tap in Tap::ALL {
            counter(
                &mut metric,
                &[("tap", tap.as_str())],
                metrics.events[tap as usize],
            )?;
        }

        let mut metric = encoder.encode_descriptor(
            "resumetry_events_lost",
            "Events of a tap that were lost.",
            None,
            MetricType::Counter,
        )?;
        for tap in Tap::ALL {
            for reason in EventLoss::ALL {
                let labels = [("tap", tap.as_str()), ("reason", reason.as_str())];
                let value = metrics.events_lost[tap as usize][reason as usize];
                counter(&mut metric, &labels, value)?;
            }
        }

        let mut metric = encoder.encode_descriptor(
            "resumetry_coverage_ratio",
            "Handshakes fully described over handshakes counted in the kernel.",
            None,
            MetricType::Gauge,
        )?;
        for tap in Tap::ALL {
            if let Some(coverage) = metrics.coverage[tap as usize] {
                metric
                    .encode_family(&[("tap", tap.as_str())])?
                    .encode_gauge(&coverage.ratio())?;
            }
        }

        let mut metric = encoder.encode_descriptor(
            "resumetry_handshakes_lost",
            "Handshakes that were seen but could not be described.",
            None,
            MetricType::Counter,
        )?;
        for reason in HandshakeLoss::ALL {
            let value = metrics.handshakes_lost[reason as usize];
            counter(&mut metric, &[("reason", reason.as_str())], value)?;
        }

        let mut metric = encoder.encode_descriptor(
            "resumetry_unfollowed_handshakes",
            "ClientHellos of protocols that are recognised and not followed.",
            None,
            MetricType::Counter,
        )?;
        counter(&mut metric, &[("protocol", "dtls")], metrics.dtls_hellos)?;

        let mut metric = encoder.encode_descriptor(
            "resumetry_libraries_attached",
            "TLS library files that probes are attached to.",
            None,
            MetricType::Gauge,
        )?;
        for ((library, version), files) in &metrics.libraries {
            let labels: Labels<'_, 2> = [("library", library), ("version", version)];
            metric.encode_family(&labels)?.encode_gauge(files)?;
        }

        let mut metric = encoder.encode_descriptor(
            "resumetry_probe_last_hit_timestamp_seconds",
            "When a probe last fired, Unix time.",
            None,
            MetricType::Gauge,
        )?;
        for (probe, unix_seconds) in &metrics.probe_hits {
            metric
                .encode_family(&[("probe", probe.as_str())])?
                .encode_gauge(unix_seconds)?;
        }

        metrics_overhead::encode(&metrics.overhead, &mut encoder)?;
        if let Some((known, failures)) = metrics.pods {
            encoder
                .encode_descriptor(
                    "resumetry_pods",
                    "Pods of this node that the Kubernetes API told of.",
                    None,
                    MetricType::Gauge,
                )?
                .encode_gauge(&known)?;
            encoder
                .encode_descriptor(
                    "resumetry_kubernetes_failures",
                    "How often the Kubernetes API could not be read.",
                    None,
                    MetricType::Counter,
                )?
                .encode_counter(&failures, NO_EXEMPLAR)?;
        }
        if let Some(otlp) = otlp {
            otlp.encode(&mut encoder)?;
        }

        encoder
            .encode_descriptor(
                "resumetry_server_names",
                "Server names that have series of their own.",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(server_names)?;

        let labels: Labels<'_, 2> = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("arch", std::env::consts::ARCH),
        ];
        encoder
            .encode_descriptor(
                "resumetry_build_info",
                "1; the build is in the labels.",
                None,
                MetricType::Gauge,
            )?
            .encode_family(&labels)?
            .encode_gauge(&1u32)
    }
}
