//! Copies of the series, one family after the other, so that writing them out holds up nobody and
//! takes little memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Aggregator;
use super::hour::{Host, Hour};
use super::keys::{Key, KeyLife};
use super::returns::Returns;
use super::series::{Common, Family, HandshakeKey, Labels, SavedKey, SeriesSet};
use super::services::Service;
use crate::core::costs::Difference;
use crate::core::record::{Method, Outcome, Role};

/// One series: its labels and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<K, V> {
    pub server_name: Arc<str>,
    pub service: Arc<Service>,
    pub key: K,
    pub value: V,
}

/// What became of one ticket key of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySample {
    pub service: Arc<Service>,
    pub key: Key,
    pub life: KeyLife,
}

/// The gap of the time to first byte, in one service.
#[derive(Clone, Debug, PartialEq)]
pub struct GapSample {
    pub service: Arc<Service>,
    pub key: SavedKey,
    /// Full less resumed, nanoseconds; `None` where too few were measured.
    pub plain_ns: Difference,
    pub matched_ns: Difference,
}

/// What a name's handshakes came to, over all series it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub server_name: Arc<str>,
    pub role: Role,
    pub full: u64,
    pub resumed: u64,
    pub failed: u64,
    /// Completed handshakes in which the client offered to resume.
    pub offered: u64,
}

impl Quota {
    /// Share of completed handshakes that resumed; `None` where none completed.
    pub fn ratio(&self) -> Option<f64> {
        let completed = self.full + self.resumed;
        (completed > 0).then(|| self.resumed as f64 / completed as f64)
    }

    /// Quota per server name and role, busiest first.
    pub fn of(handshakes: &[Sample<HandshakeKey, u64>]) -> Vec<Quota> {
        let mut quotas: BTreeMap<(&str, Role), Quota> = BTreeMap::new();
        for sample in handshakes {
            let role = sample.key.common.role;
            let quota = quotas
                .entry((&sample.server_name, role))
                .or_insert_with(|| Quota {
                    server_name: Arc::clone(&sample.server_name),
                    role,
                    full: 0,
                    resumed: 0,
                    failed: 0,
                    offered: 0,
                });
            match sample.key.result {
                Outcome::Full => quota.full += sample.value,
                Outcome::Resumed => quota.resumed += sample.value,
                Outcome::Failed => quota.failed += sample.value,
            }
            if sample.key.offered != Method::None && sample.key.result != Outcome::Failed {
                quota.offered += sample.value;
            }
        }
        let mut quotas: Vec<Quota> = quotas.into_values().collect();
        // Stable: names of equal traffic stay in the order of their letters.
        quotas.sort_by_key(|quota| std::cmp::Reverse(quota.full + quota.resumed));
        quotas
    }
}

impl Aggregator {
    /// Server names that have series, and what stands for the others, in no order.
    pub fn names(&self) -> Vec<Arc<str>> {
        let fixed = self.fixed().map(|(name, _)| name.into());
        fixed
            .into_iter()
            .chain(self.names.names().cloned())
            .collect()
    }

    fn set(&self, name: &str) -> Option<&SeriesSet> {
        // What stands for others is told by its first letter: this is asked of each name.
        let fixed = name.starts_with('_').then(|| self.fixed());
        let mut fixed = fixed.into_iter().flatten();
        match fixed.find(|(fixed, _)| *fixed == name) {
            Some((_, set)) => Some(set),
            None => self.names.set(name),
        }
    }

    /// Adds a copy of the series of one family: those of one name after the other, where it is still
    /// there, in the order of their labels.
    pub fn samples<K: Labels + Copy + Ord, V: Clone + Default>(
        &self,
        names: &[Arc<str>],
        family: fn(&SeriesSet) -> &Family<K, V>,
        samples: &mut Vec<Sample<K, V>>,
    ) {
        self.collect(names, family, V::clone, samples);
    }

    /// The same with what `of` makes of each value.
    fn collect<K: Labels + Copy + Ord, V: Default, T>(
        &self,
        names: &[Arc<str>],
        family: fn(&SeriesSet) -> &Family<K, V>,
        of: impl Fn(&V) -> T,
        samples: &mut Vec<Sample<K, T>>,
    ) {
        for name in names {
            let Some(set) = self.set(name) else {
                continue;
            };
            samples.extend(family(set).iter().map(|(key, value)| Sample {
                server_name: Arc::clone(name),
                service: Arc::clone(self.services.get(key.common().service)),
                key,
                value: of(value),
            }));
        }
    }

    /// Ticket keys and what became of them, by service.
    pub fn ticket_keys(&self) -> Vec<KeySample> {
        let mut samples: Vec<_> = self
            .keys
            .iter()
            .map(|(service, key, life)| KeySample {
                service: Arc::clone(self.services.get(service)),
                key,
                life,
            })
            .collect();
        samples.sort_unstable_by(|a, b| (&a.service, a.key).cmp(&(&b.service, b.key)));
        samples
    }

    /// Service, kind and number of tickets that had been offered before.
    pub fn reoffered(&self) -> Vec<(Arc<Service>, Method, u64)> {
        let mut samples: Vec<_> = self
            .keys
            .reoffered()
            .map(|(service, offered, count)| {
                (Arc::clone(self.services.get(service)), offered, count)
            })
            .collect();
        samples.sort_unstable();
        samples
    }

    /// What `of` makes of the last hour of each server name that has one of its own, and of what stands for
    /// others: hours are large, and are not copied.
    pub fn hours<T>(&self, of: impl Fn(&Hour) -> T) -> Vec<Sample<Common, T>> {
        let mut samples = Vec::new();
        self.collect(&self.names(), |set| &set.hours, of, &mut samples);
        samples
    }

    /// The last hour of the whole host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What came back to each service.
    pub fn returns(&self) -> Vec<(Arc<Service>, Returns)> {
        let mut samples: Vec<_> = self
            .returns
            .iter()
            .map(|(id, returns)| (Arc::clone(self.services.get(*id)), returns.clone()))
            .collect();
        samples.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        samples
    }

    /// Gaps of the time to first byte, by service.
    pub fn gaps(&self) -> Vec<GapSample> {
        let mut samples: Vec<_> = self
            .costs
            .iter()
            .map(|(&key, costs)| GapSample {
                service: Arc::clone(self.services.get(key.common.service)),
                key,
                plain_ns: costs.plain_gap(),
                matched_ns: costs.matched_gap(),
            })
            .collect();
        samples.sort_unstable_by_key(|gap| gap.key);
        samples
    }
}
