//! Fills what a person looks at (`core::view`) from the state: a copy under the lock, the rest without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::process::Process;
use super::{Readiness, State, lock};
use crate::core::aggregate::hour::{Count, Counted, HostHour, MINUTE_NS, MINUTES, of_reason};
use crate::core::aggregate::native::NativeBuckets;
use crate::core::aggregate::{
    DurationKey, HandshakeKey, Histogram, Key, KeySample, Labels, Quota, Sample, SparedSum,
    TicketUse,
};
use crate::core::lifetimes;
use crate::core::record::{Outcome, RejectReason, Role};
use crate::core::view::{
    Counts, FindingCounts, Findings, Gap, History, Key as KeyView, Keys, KeysOfService, Lifetimes,
    LifetimesOfService, Name, NameRow, Names, Overview, Pair, Part, Point, Reason, Spared,
};

impl State {
    /// The host as a whole.
    pub fn overview(&self) -> Overview {
        let moment = self.moment();
        let (host, saved, lost, gaps) = {
            let aggregator = lock(&self.aggregator);
            let names = aggregator.names();
            let (mut saved, mut lost) = (Vec::new(), Vec::new());
            aggregator.samples(&names, |set| &set.saved, &mut saved);
            aggregator.samples(&names, |set| &set.lost, &mut lost);
            (aggregator.host().clone(), saved, lost, aggregator.gaps())
        };
        let server = sum(&host.server, moment.now_ns);
        let gaps = gaps
            .into_iter()
            .filter(|gap| gap.key.common.role == Role::Server);
        Overview {
            timestamp_seconds: moment.unix(moment.now_ns),
            started_timestamp_seconds: moment.unix(moment.started_ns),
            version: env!("CARGO_PKG_VERSION"),
            labels: self.labels.iter().cloned().collect(),
            target: self.limits.target,
            server: counts(&server),
            client: counts(&sum(&host.client, moment.now_ns)),
            history: history_of_host(&host.server, moment),
            reasons: reasons(&server),
            gaps: gaps
                .map(|gap| Gap {
                    service: gap.service.name.clone(),
                    transport: gap.key.common.transport.as_str(),
                    version: gap.key.version.as_str(),
                    plain_gap_seconds: gap.plain_ns.map(seconds),
                    matched_gap_seconds: gap.matched_ns.map(seconds),
                })
                .collect(),
            saved: spared(&saved),
            lost: spared(&lost),
            findings: self.finding_counts(),
            health: self.health(),
        }
    }

    /// Server names, busiest first.
    pub fn names(&self) -> Names {
        let moment = self.moment();
        let (handshakes, hours, medians) = {
            let aggregator = lock(&self.aggregator);
            let names = aggregator.names();
            let mut handshakes = Vec::new();
            aggregator.samples(&names, |set| &set.handshakes, &mut handshakes);
            let hours = aggregator.hours(|hour| hour.sum(moment.now_ns));
            let mut medians = Medians::default();
            // Histograms are large: those of one name after the other.
            for name in &names {
                let of_name = std::slice::from_ref(name);
                let (mut first_bytes, mut cpu) = (Vec::new(), Vec::new());
                aggregator.samples(of_name, |set| &set.first_bytes, &mut first_bytes);
                aggregator.samples(of_name, |set| &set.cpu, &mut cpu);
                medians.add(&first_bytes, &cpu);
            }
            (handshakes, hours, medians)
        };
        let mut sums: BTreeMap<(&str, Role), Counted> = BTreeMap::new();
        for hour in &hours {
            let key = (&*hour.server_name, hour.key.role);
            sums.entry(key).or_default().add(&hour.value);
        }
        let rows = Quota::of(&handshakes).into_iter().map(|quota| NameRow {
            hour: sums.get(&(&*quota.server_name, quota.role)).map(counts),
            first_byte_seconds: medians.first_byte(&quota.server_name, quota.role),
            cpu_seconds: medians.cpu(&quota.server_name, quota.role),
            total: total(&quota),
            server_name: quota.server_name.to_string(),
            role: quota.role.as_str(),
        });
        Names {
            timestamp_seconds: moment.unix(moment.now_ns),
            names: rows.collect(),
        }
    }

    /// One server name in detail; `None` where nothing is known of it.
    pub fn name(&self, server_name: &str, role: Role) -> Option<Name> {
        let moment = self.moment();
        let names = [Arc::from(server_name)];
        let (mut handshakes, mut hours) = (Vec::new(), Vec::new());
        let (mut first_bytes, mut cpu) = (Vec::new(), Vec::new());
        {
            let aggregator = lock(&self.aggregator);
            aggregator.samples(&names, |set| &set.handshakes, &mut handshakes);
            aggregator.samples(&names, |set| &set.hours, &mut hours);
            aggregator.samples(&names, |set| &set.first_bytes, &mut first_bytes);
            aggregator.samples(&names, |set| &set.cpu, &mut cpu);
        }
        handshakes.retain(|sample| sample.key.common.role == role);
        hours.retain(|sample| sample.key.role == role);
        let quota = Quota::of(&handshakes).into_iter().next()?;
        let mut medians = Medians::default();
        medians.add(&first_bytes, &cpu);
        let mut minutes: BTreeMap<u64, Counted> = BTreeMap::new();
        for (number, counted) in hours
            .iter()
            .flat_map(|hour| hour.value.minutes(moment.now_ns))
        {
            minutes.entry(number).or_default().add(counted);
        }
        let mut hour = Counted::default();
        minutes.values().for_each(|counted| hour.add(counted));
        let findings = self.findings().findings.into_iter();
        Some(Name {
            timestamp_seconds: moment.unix(moment.now_ns),
            row: NameRow {
                server_name: server_name.to_owned(),
                role: role.as_str(),
                hour: (!hours.is_empty()).then(|| counts(&hour)),
                total: total(&quota),
                first_byte_seconds: medians.first_byte(server_name, role),
                cpu_seconds: medians.cpu(server_name, role),
            },
            history: history(
                minutes
                    .iter()
                    .map(|(number, counted)| (*number, counted, [Pair::default(); 2])),
                moment,
            ),
            reasons: reasons(&hour),
            parts: parts(&handshakes),
            findings: findings
                .filter(|finding| {
                    let is_upstream = finding.id.starts_with("upstream_");
                    finding.server_name.as_deref() == Some(server_name)
                        && is_upstream == (role == Role::Client)
                })
                .collect(),
        })
    }

    /// Ticket keys, by service.
    pub fn keys(&self) -> Keys {
        let moment = self.moment();
        let samples = lock(&self.aggregator).ticket_keys();
        let mut services: BTreeMap<String, Vec<KeyView>> = BTreeMap::new();
        for sample in samples {
            let keys = services.entry(sample.service.name.clone()).or_default();
            keys.push(key(&sample, moment));
        }
        let services = services.into_iter();
        Keys {
            timestamp_seconds: moment.unix(moment.now_ns),
            services: services
                .map(|(service, keys)| KeysOfService { service, keys })
                .collect(),
        }
    }

    /// What stands, worst first.
    pub fn findings(&self) -> Findings {
        let moment = self.moment();
        let judged = lock(&self.findings);
        Findings {
            timestamp_seconds: moment.unix(moment.now_ns),
            completed: judged.completed,
            findings: judged.found.clone(),
        }
    }

    fn finding_counts(&self) -> FindingCounts {
        let findings = lock(&self.findings);
        let of = |severity: &str| {
            let found = findings.found.iter();
            found.filter(|finding| finding.severity == severity).count() as u64
        };
        FindingCounts {
            error: of("error"),
            warning: of("warning"),
            info: of("info"),
        }
    }

    /// What other lifetimes of tickets would do, and one that is asked for, seconds.
    pub fn lifetimes(&self, asked: Option<f64>) -> Lifetimes {
        let moment = self.moment();
        let returns = lock(&self.aggregator).returns();
        let services = returns.into_iter().map(|(service, returns)| {
            let of = |lifetime| lifetimes::predict(&returns, lifetime);
            LifetimesOfService {
                service: service.name.clone(),
                lifetime_seconds: returns.lifetime_ns.map(|ns| ns as f64 / 1e9),
                returns: lifetimes::known_returns(&returns),
                completed: returns.tls12.completed() + returns.tls13.completed(),
                points: lifetimes::to_tell(returns.lifetime_ns)
                    .into_iter()
                    .map(of)
                    .collect(),
                asked: asked.map(of),
            }
        });
        Lifetimes {
            timestamp_seconds: moment.unix(moment.now_ns),
            services: services.filter(|service| service.completed > 0).collect(),
        }
    }

    fn health(&self) -> crate::core::view::Health {
        let readiness = self.readiness();
        let mut health = self.own().health();
        health.ready = readiness == Readiness::Ready;
        health.trouble = match readiness {
            Readiness::Ready => None,
            Readiness::NotReady(reason) => Some(reason),
        };
        health.resident_bytes = Process::read().resident_bytes;
        health
    }
}

/// Now, and how to tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
    pub started_ns: u64,
    /// Added to it, it gives Unix time, nanoseconds.
    pub offset_ns: i128,
}

impl Moment {
    /// Unix time in seconds.
    pub fn unix(self, ns: u64) -> f64 {
        (i128::from(ns) + self.offset_ns) as f64 / 1e9
    }
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn counts(counted: &Counted) -> Counts {
    let completed = counted.completed();
    let resumed = counted.get(Count::Resumed);
    Counts {
        full: counted.get(Count::Full),
        resumed,
        failed: counted.get(Count::Failed),
        offered: counted.get(Count::Offered),
        quota: (completed > 0).then(|| resumed as f64 / completed as f64),
    }
}

fn total(quota: &Quota) -> Counts {
    Counts {
        full: quota.full,
        resumed: quota.resumed,
        failed: quota.failed,
        offered: quota.offered,
        quota: quota.ratio(),
    }
}

fn sum(hour: &HostHour, now_ns: u64) -> Counted {
    let mut sum = Counted::default();
    hour.minutes(now_ns)
        .for_each(|(_, minute)| sum.add(&minute.counted));
    sum
}

/// Commonest first.
fn reasons(counted: &Counted) -> Vec<Reason> {
    let never = counted
        .completed()
        .saturating_sub(counted.get(Count::Offered));
    let refused = RejectReason::ALL
        .iter()
        .map(|&reason| (reason.as_str(), counted.get(of_reason(reason))));
    let mut reasons: Vec<Reason> = refused
        .chain([("never_offered", never)])
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| Reason { reason, count })
        .collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    reasons
}

/// All minutes since the first of these, those without handshakes too.
fn history<'a>(
    minutes: impl Iterator<Item = (u64, &'a Counted, [Pair; 2])>,
    moment: Moment,
) -> History {
    let known: BTreeMap<u64, (&Counted, [Pair; 2])> = minutes
        .map(|(number, counted, pairs)| (number, (counted, pairs)))
        .collect();
    let last = moment.now_ns / MINUTE_NS;
    let first = known.keys().next().copied().unwrap_or(last + 1);
    let nothing = (&Counted([0; Count::ALL.len()]), [Pair::default(); 2]);
    let points = (first.max((last + 1).saturating_sub(MINUTES as u64))..=last).map(|number| {
        let (counted, [first_byte_seconds, cpu_seconds]) = known.get(&number).unwrap_or(&nothing);
        Point {
            timestamp_seconds: moment.unix(number * MINUTE_NS),
            counts: counts(counted),
            first_byte_seconds: *first_byte_seconds,
            cpu_seconds: *cpu_seconds,
        }
    });
    History {
        step_seconds: MINUTE_NS / 1_000_000_000,
        points: points.collect(),
    }
}

fn history_of_host(hour: &HostHour, moment: Moment) -> History {
    let pair = |[full, resumed]: &[NativeBuckets; 2]| Pair {
        full: full.median(),
        resumed: resumed.median(),
    };
    let minutes = hour.minutes(moment.now_ns).map(|(number, minute)| {
        let pairs = [pair(&minute.first_byte), pair(&minute.cpu)];
        (number, &minute.counted, pairs)
    });
    history(minutes, moment)
}

fn spared<K>(samples: &[Sample<K, SparedSum>]) -> Spared
where
    K: Labels,
{
    let of_servers = || {
        samples
            .iter()
            .filter(|sample| sample.key.common().role == Role::Server)
    };
    let all = |of: fn(&SparedSum) -> Option<u64>| {
        let known = of_servers().filter_map(|sample| of(&sample.value));
        known.reduce(u64::saturating_add).map(|ns| ns as f64 / 1e9)
    };
    Spared {
        cpu_seconds: all(|sum| sum.cpu_ns),
        wait_seconds: all(|sum| sum.wait_ns),
    }
}

fn parts(handshakes: &[Sample<HandshakeKey, u64>]) -> Vec<Part> {
    let mut parts: BTreeMap<_, Part> = BTreeMap::new();
    for sample in handshakes {
        let key = &sample.key;
        let (transport, version) = (key.common.transport.as_str(), key.version.as_str());
        let (service, offered) = (&sample.service.name, key.offered.as_str());
        let part = parts
            .entry((service, transport, version, offered))
            .or_insert_with(|| Part {
                service: service.clone(),
                transport,
                version,
                offered,
                full: 0,
                resumed: 0,
                failed: 0,
            });
        match key.result {
            Outcome::Full => part.full += sample.value,
            Outcome::Resumed => part.resumed += sample.value,
            Outcome::Failed => part.failed += sample.value,
        }
    }
    parts.into_values().collect()
}

fn key(sample: &KeySample, moment: Moment) -> KeyView {
    let life = &sample.life;
    let count = |usage: TicketUse| life.counts[usage as usize];
    let time = |ns: Option<u64>| ns.map(|ns| moment.unix(ns));
    KeyView {
        key: sample.key.label(),
        first_seen_timestamp_seconds: moment.unix(life.first_seen_ns),
        last_seen_timestamp_seconds: moment.unix(life.last_seen_ns),
        last_issued_timestamp_seconds: time(life.last_issued_ns),
        last_accepted_timestamp_seconds: time(life.last_accepted_ns),
        valid_until_timestamp_seconds: time(life.valid_until_ns)
            .filter(|_| matches!(sample.key, Key::Fingerprint(_))),
        issued: count(TicketUse::Issued),
        accepted: count(TicketUse::Accepted),
        rejected: count(TicketUse::Rejected),
        refused_early: life.refused_early,
        weak: life.weak,
    }
}

/// Medians of full and of resumed handshakes, by server name and role.
#[derive(Default)]
struct Medians(BTreeMap<(Arc<str>, Role), [[NativeBuckets; 2]; 2]>);

impl Medians {
    fn add(
        &mut self,
        first_bytes: &[Sample<DurationKey, Histogram>],
        cpu: &[Sample<DurationKey, Histogram>],
    ) {
        for (what, samples) in [first_bytes, cpu].into_iter().enumerate() {
            for sample in samples {
                let Some(kind) = sample.key.result.place() else {
                    continue;
                };
                let key = (Arc::clone(&sample.server_name), sample.key.common.role);
                self.0.entry(key).or_default()[what][kind].add(&sample.value.native);
            }
        }
    }

    fn pair(&self, name: &str, role: Role, what: usize) -> Pair {
        let Some(known) = self.0.get(&(Arc::from(name), role)) else {
            return Pair::default();
        };
        let [full, resumed] = &known[what];
        Pair {
            full: full.median(),
            resumed: resumed.median(),
        }
    }

    fn first_byte(&self, name: &str, role: Role) -> Pair {
        self.pair(name, role, 0)
    }

    fn cpu(&self, name: &str, role: Role) -> Pair {
        self.pair(name, role, 1)
    }
}
