//! Findings: what was observed, judged now and then, and what stands as a metric.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{State, lock};
use crate::core::aggregate::{
    DurationKey, GapSample, Histogram, Key, KeySample, Sample, Service, TicketUse, labels,
};
use crate::core::findings::{self, Cost, Name, Observations, Return, Standing, TicketKey};
use crate::core::lifetimes;
use crate::core::record::{Outcome, Role, Transport};
use crate::core::view::Finding;

/// Newest minutes that a quota is judged by.
const RECENT_MINUTES: u64 = 5;

/// Completed handshakes for which it is judged by more of them.
const RECENT_COMPLETED: u64 = 1_000;

/// Measured handshakes of each kind below which their means are not compared.
const MIN_MEASURED: u64 = 10;

/// What stands, and since when.
#[derive(Debug, Default)]
pub(super) struct Judged {
    standing: Standing,
    pub(super) found: Vec<Finding>,
}

impl State {
    /// Judges what was seen; once in some seconds is enough.
    pub fn judge(&self) {
        let moment = self.moment();
        let drafts = findings::evaluate(&self.observations(), &self.limits);
        let mut judged = lock(&self.findings);
        judged.found = judged.standing.update(drafts, moment.unix(moment.now_ns));
    }

    /// What findings are drawn from.
    pub fn observations(&self) -> Observations {
        let now_ns = self.moment().now_ns;
        let (hours, keys, gaps, cpu, returns) = {
            let aggregator = lock(&self.aggregator);
            let mut cpu = Vec::new();
            aggregator.samples(&aggregator.names(), |set| &set.cpu, &mut cpu);
            (
                aggregator.hours(),
                aggregator.ticket_keys(),
                aggregator.gaps(),
                cpu,
                aggregator.returns(),
            )
        };
        let names = hours.iter().map(|sample| Name {
            server_name: sample.server_name.to_string(),
            service: sample.service.name.clone(),
            instance: instance(&sample.service),
            is_client: sample.key.role == Role::Client,
            is_quic: sample.key.transport == Transport::Quic,
            hour: sample.value.sum(now_ns),
            recent: sample
                .value
                .newest(now_ns, RECENT_MINUTES, RECENT_COMPLETED),
            five_minutes: sample.value.newest(now_ns, 5, 0).completed(),
            ciphers: sample.value.ciphers().to_vec(),
        });
        let of_keys = keys
            .iter()
            .filter(|key| matches!(key.key, Key::Fingerprint(_)));
        Observations {
            labels: self.labels.iter().cloned().collect(),
            names: names.collect(),
            keys: of_keys.map(|key| ticket_key(key, now_ns)).collect(),
            costs: costs(&gaps, &cpu),
            returns: returns
                .iter()
                .map(|(service, returns)| {
                    let lifetime = returns.lifetime_ns.map(|ns| ns as f64 / 1e9);
                    let quota = |factor: f64| {
                        let lifetime = lifetime?;
                        lifetimes::predict(returns, lifetime * factor).quota
                    };
                    Return {
                        service: service.name.clone(),
                        lifetime,
                        quota: quota(1.0),
                        quota_at_double: quota(2.0),
                    }
                })
                .collect(),
            clock_synchronised: *lock(&self.clock_synchronised),
        }
    }
}

/// A service, and the pod where it is one.
fn instance(service: &Service) -> String {
    let pod = service
        .labels
        .iter()
        .find(|(name, _)| name == labels::POD_NAME);
    match pod {
        Some((_, pod)) => format!("{} in {pod}", service.name),
        None => service.name.clone(),
    }
}

fn ticket_key(sample: &KeySample, now_ns: u64) -> TicketKey {
    let life = &sample.life;
    let age = |ns: Option<u64>| ns.map(|ns| now_ns.saturating_sub(ns) as f64 / 1e9);
    TicketKey {
        service: sample.service.name.clone(),
        key: sample.key.label(),
        first_ticket_age: age(life.first_ticket_ns),
        last_ticket_age: age(life.last_ticket_ns),
        lifetime: life.lifetime_ns.map(|ns| ns as f64 / 1e9),
        issued: life.counts[TicketUse::Issued as usize],
        accepted: life.counts[TicketUse::Accepted as usize],
        rejected: life.counts[TicketUse::Rejected as usize],
        unknown: life.unknown,
        last_unknown_age: age(life.last_unknown_ns),
        refused_early: life.refused_early,
        weak: life.weak,
    }
}

/// What was measured in one service.
#[derive(Default)]
struct Measured {
    /// Matched gaps, seconds.
    waits: Vec<f64>,
    /// Number and sum (nanoseconds) of CPU times, of full and of resumed handshakes.
    cpu: [(u64, u64); 2],
}

/// What resuming spares in each service: means over its versions and transports.
fn costs(gaps: &[GapSample], cpu: &[Sample<DurationKey, Histogram>]) -> Vec<Cost> {
    let mut costs: BTreeMap<(String, bool), Measured> = BTreeMap::new();
    for gap in gaps {
        if let Some(ns) = gap.matched_ns {
            let key = (
                gap.service.name.clone(),
                gap.key.common.role == Role::Client,
            );
            let measured = costs.entry(key).or_default();
            measured.waits.push(ns.max(0) as f64 / 1e9);
        }
    }
    for sample in cpu {
        let kind = match sample.key.result {
            Outcome::Full => 0,
            Outcome::Resumed => 1,
            Outcome::Failed => continue,
        };
        let key = (
            sample.service.name.clone(),
            sample.key.common.role == Role::Client,
        );
        let (count, sum) = &mut costs.entry(key).or_default().cpu[kind];
        *count += sample.value.count();
        *sum = sum.saturating_add(sample.value.sum_ns);
    }
    let costs = costs
        .into_iter()
        .map(|((service, is_client), Measured { waits, cpu })| {
            let is_enough = cpu.iter().all(|(count, _)| *count >= MIN_MEASURED);
            let mean = |(count, sum): (u64, u64)| sum as f64 / count as f64 / 1e9;
            Cost {
                service,
                is_client,
                wait: (!waits.is_empty()).then(|| waits.iter().sum::<f64>() / waits.len() as f64),
                cpu: is_enough.then(|| (mean(cpu[0]) - mean(cpu[1])).max(0.0)),
            }
        });
    costs.collect()
}

/// `resumetry_finding`: one series for each finding that stands.
#[derive(Debug)]
pub(super) struct FindingCollector(pub(super) Vec<Finding>);

impl Collector for FindingCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "resumetry_finding",
            "1 for each rule of good ticket practice that is broken; `resumetry findings` says more.",
            None,
            MetricType::Gauge,
        )?;
        for finding in &self.0 {
            let labels = [
                ("id", finding.id.as_str()),
                ("severity", finding.severity.as_str()),
                ("server_name", finding.server_name.as_deref().unwrap_or("")),
                ("service", finding.service.as_deref().unwrap_or("")),
            ];
            metric.encode_family(&labels)?.encode_gauge(&1_i64)?;
        }
        Ok(())
    }
}
