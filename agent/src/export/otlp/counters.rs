//! What became of what was to be sent, for the agent's own metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::export::metrics::{Labels, counter};

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Logs,
}

impl Signal {
    const ALL: [Signal; 2] = [Signal::Metrics, Signal::Logs];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }
}

/// Why an item never reached the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// No room to keep it until the receiver takes more.
    QueueFull,
    /// The receiver does not want it.
    Rejected,
    /// The receiver could not be reached while it was of use.
    Undelivered,
}

impl Loss {
    const ALL: [Loss; 3] = [Loss::QueueFull, Loss::Rejected, Loss::Undelivered];

    fn as_str(self) -> &'static str {
        match self {
            Loss::QueueFull => "queue_full",
            Loss::Rejected => "rejected",
            Loss::Undelivered => "undelivered",
        }
    }
}

/// Items are data points and log records.
#[derive(Debug, Default)]
pub struct Counters {
    sent: [AtomicU64; Signal::ALL.len()],
    lost: [[AtomicU64; Loss::ALL.len()]; Signal::ALL.len()],
    failures: [AtomicU64; Signal::ALL.len()],
}

impl Counters {
    pub(super) fn sent(&self, signal: Signal, items: u64) {
        self.sent[signal as usize].fetch_add(items, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, signal: Signal, loss: Loss, items: u64) {
        self.lost[signal as usize][loss as usize].fetch_add(items, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, signal: Signal) {
        self.failures[signal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::export) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "resumetry_otlp_sent",
            "Data points and log records that the OTLP receiver took.",
            None,
            MetricType::Counter,
        )?;
        for signal in Signal::ALL {
            let value = self.sent[signal as usize].load(Ordering::Relaxed);
            counter(&mut metric, &[("signal", signal.as_str())], value)?;
        }
        let mut metric = encoder.encode_descriptor(
            "resumetry_otlp_lost",
            "Data points and log records that never reached the OTLP receiver. Lost data points are \
             made good by the next ones, whose totals contain them.",
            None,
            MetricType::Counter,
        )?;
        for signal in Signal::ALL {
            for loss in Loss::ALL {
                let value = self.lost[signal as usize][loss as usize].load(Ordering::Relaxed);
                let labels: Labels<'_, 2> =
                    [("signal", signal.as_str()), ("reason", loss.as_str())];
                counter(&mut metric, &labels, value)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "resumetry_otlp_failures",
            "Attempts to send to the OTLP receiver that failed.",
            None,
            MetricType::Counter,
        )?;
        for signal in Signal::ALL {
            let value = self.failures[signal as usize].load(Ordering::Relaxed);
            counter(&mut metric, &[("signal", signal.as_str())], value)?;
        }
        Ok(())
    }
}
