//! Findings: what was observed, judged now and then, and what stands as a metric.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{State, lock};
use crate::core::aggregate::hour::{Counted, Hour, MINUTES};
use crate::core::aggregate::labels::VersionLabel;
use crate::core::aggregate::returns::Returns;
use crate::core::aggregate::{
    Common, DurationKey, GapSample, Histogram, Key, KeySample, Sample, Service, TicketUse, labels,
};
use crate::core::findings::{self, Cost, Name, Observations, Return, Standing, TicketKey};
use crate::core::lifetimes;
use crate::core::record::{Role, Transport};
use crate::core::view::Finding;

/// Newest minutes that a quota is judged by.
const RECENT_MINUTES: usize = 5;

/// Completed handshakes for which it is judged by more of them.
const RECENT_COMPLETED: u64 = 1_000;

/// Measured handshakes of each kind below which their means are not compared.
const MIN_MEASURED: u64 = 10;

/// What stands, and since when.
#[derive(Debug, Default)]
pub(super) struct Judged {
    standing: Standing,
    pub(super) found: Vec<Finding>,
    /// Completed handshakes of the last hour.
    pub(super) completed: u64,
}

impl State {
    /// Judges what was seen; once in some seconds is enough.
    pub fn judge(&self) {
        let moment = self.moment();
        let observations = self.observations();
        let completed = observations.names.iter().map(|name| name.hour.completed());
        let completed = completed.sum();
        let drafts = findings::evaluate(&observations, &self.limits);
        let mut judged = lock(&self.findings);
        judged.completed = completed;
        judged.found = judged.standing.update(drafts, moment.unix(moment.now_ns));
    }

    /// What findings are drawn from.
    pub fn observations(&self) -> Observations {
        let moment = self.moment();
        let now_ns = moment.now_ns;
        let (hours, keys, gaps, cpu, returns) = {
            let aggregator = lock(&self.aggregator);
            let mut cpu = Vec::new();
            aggregator.samples(&aggregator.names(), |set| &set.cpu, &mut cpu);
            (
                aggregator.hours(|hour| Windows::of(hour, now_ns)),
                aggregator.ticket_keys(),
                aggregator.gaps(),
                cpu,
                aggregator.returns(),
            )
        };
        let recent = recent(&hours);
        let names = hours.iter().map(|sample| Name {
            server_name: sample.server_name.to_string(),
            service: sample.service.name.clone(),
            instance: instance(&sample.service),
            is_client: sample.key.role == Role::Client,
            is_quic: sample.key.transport == Transport::Quic,
            hour: sample.value.newest(MINUTES),
            recent: sample
                .value
                .newest(recent.get(&sample.server_name).copied().unwrap_or(0)),
            five_minutes: sample.value.newest(RECENT_MINUTES).completed(),
            ciphers: sample.value.ciphers.clone(),
        });
        let of_keys = keys
            .iter()
            .filter(|key| matches!(key.key, Key::Fingerprint(_)));
        Observations {
            labels: self.labels.iter().cloned().collect(),
            names: names.collect(),
            keys: of_keys.map(|key| ticket_key(key, now_ns)).collect(),
            costs: costs(&gaps, &cpu),
            returns: self::returns(&returns),
            watched: now_ns.saturating_sub(moment.started_ns) as f64 / 1e9,
            clock_synchronised: *lock(&self.clock_synchronised),
        }
    }
}

/// The last hour of one name, service, role and transport in steps that findings look back by, so that it is
/// not copied whole.
struct Windows {
    steps: [Counted; STEPS.len()],
    ciphers: Vec<(u16, u32)>,
}

/// Minutes.
const STEPS: [usize; 4] = [RECENT_MINUTES, 15, 30, MINUTES];

impl Windows {
    fn of(hour: &Hour, now_ns: u64) -> Self {
        Self {
            steps: STEPS.map(|minutes| hour.newest(now_ns, minutes as u64)),
            ciphers: hour.ciphers().to_vec(),
        }
    }

    /// The shortest step that is not shorter than this.
    fn newest(&self, minutes: usize) -> Counted {
        let step = STEPS.iter().position(|step| *step >= minutes);
        step.map_or_else(Counted::default, |step| self.steps[step])
    }
}

/// How many minutes each server name is judged by: the shortest step with enough handshakes, or the hour.
fn recent(hours: &[Sample<Common, Windows>]) -> BTreeMap<Arc<str>, usize> {
    let mut sums: BTreeMap<Arc<str>, [u64; STEPS.len()]> = BTreeMap::new();
    for sample in hours
        .iter()
        .filter(|sample| sample.key.role == Role::Server)
    {
        let sums = sums.entry(Arc::clone(&sample.server_name)).or_default();
        for (sum, step) in sums.iter_mut().zip(&sample.value.steps) {
            *sum += step.completed();
        }
    }
    let minutes = sums.into_iter().map(|(name, sums)| {
        let enough = sums.iter().position(|sum| *sum >= RECENT_COMPLETED);
        (name, enough.map_or(MINUTES, |step| STEPS[step]))
    });
    minutes.collect()
}

/// What came back to each service; of pods the one that knows most.
fn returns(returns: &[(Arc<Service>, Returns)]) -> Vec<Return> {
    let mut busiest: BTreeMap<&str, &Returns> = BTreeMap::new();
    for (service, returns) in returns {
        let known = busiest.entry(&service.name).or_insert(returns);
        if lifetimes::known_returns(returns) > lifetimes::known_returns(known) {
            *known = returns;
        }
    }
    let told = busiest.into_iter().map(|(service, returns)| {
        let lifetime = returns.lifetime_ns.map(|ns| ns as f64 / 1e9);
        let quota = |factor: f64| lifetimes::predict(returns, lifetime? * factor).quota;
        Return {
            service: service.to_owned(),
            lifetime,
            quota: quota(1.0),
            quota_at_double: quota(2.0),
        }
    });
    told.collect()
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
        last_used_age: age(life.last_issued_ns.max(life.last_accepted_ns)),
        refused_early: life.refused_early_lately,
        last_refused_early_age: age(life.last_refused_early_ns),
        weak: life.weak,
    }
}

/// Number and sum (nanoseconds) of CPU times, of full and of resumed handshakes.
type Cpu = [(u64, u64); 2];

/// What resuming spares in each service: the mean of its versions and transports; of CPU time as often as each
/// version resumes.
fn costs(gaps: &[GapSample], cpu: &[Sample<DurationKey, Histogram>]) -> Vec<Cost> {
    let mut waits: BTreeMap<(&str, bool), Vec<f64>> = BTreeMap::new();
    for gap in gaps {
        if let Some(ns) = gap.matched_ns {
            let key = (
                gap.service.name.as_str(),
                gap.key.common.role == Role::Client,
            );
            waits.entry(key).or_default().push(ns.max(0) as f64 / 1e9);
        }
    }
    let mut measured: BTreeMap<(&str, bool), BTreeMap<VersionLabel, Cpu>> = BTreeMap::new();
    for sample in cpu {
        let Some(kind) = sample.key.result.place() else {
            continue;
        };
        let key = (
            sample.service.name.as_str(),
            sample.key.common.role == Role::Client,
        );
        let versions = measured.entry(key).or_default();
        let (count, sum) = &mut versions.entry(sample.key.version).or_default()[kind];
        *count += sample.value.count();
        *sum = sum.saturating_add(sample.value.sum_ns);
    }
    let services: BTreeSet<_> = waits.keys().chain(measured.keys()).copied().collect();
    let costs = services.into_iter().map(|key| Cost {
        service: key.0.to_owned(),
        is_client: key.1,
        wait: waits
            .get(&key)
            .map(|waits| waits.iter().sum::<f64>() / waits.len() as f64),
        cpu: measured.get(&key).and_then(spared_cpu),
    });
    costs.collect()
}

/// Seconds of CPU time that resuming spares, where enough was measured.
fn spared_cpu(versions: &BTreeMap<VersionLabel, Cpu>) -> Option<f64> {
    let is_enough = |cpu: &&Cpu| cpu.iter().all(|(count, _)| *count >= MIN_MEASURED);
    let mean = |(count, sum): (u64, u64)| sum as f64 / count as f64 / 1e9;
    let (mut spared, mut resumed) = (0.0, 0.0);
    for [full, again] in versions.values().filter(is_enough) {
        spared += (mean(*full) - mean(*again)).max(0.0) * again.0 as f64;
        resumed += again.0 as f64;
    }
    (resumed > 0.0).then(|| spared / resumed)
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
