//! A copy of all series at one moment, so that writing them out holds up nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Aggregator;
use super::keys::{Key, KeyLife};
use super::series::{
    AgeKey, AlertKey, Common, CryptoKey, DurationKey, EarlyDataKey, Family, HandshakeKey,
    Histogram, Labels, LostKey, RejectionKey, SavedKey, SparedSum,
};
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

/// All series at one moment, in no order until [`Snapshot::sort`].
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub handshakes: Vec<Sample<HandshakeKey, u64>>,
    pub durations: Vec<Sample<DurationKey, Histogram>>,
    pub first_bytes: Vec<Sample<DurationKey, Histogram>>,
    pub cpu: Vec<Sample<DurationKey, Histogram>>,
    pub saved: Vec<Sample<SavedKey, SparedSum>>,
    pub lost: Vec<Sample<LostKey, SparedSum>>,
    /// Nanoseconds.
    pub crypto: Vec<Sample<CryptoKey, u64>>,
    pub gaps: Vec<GapSample>,
    pub early_data: Vec<Sample<EarlyDataKey, u64>>,
    pub alerts: Vec<Sample<AlertKey, u64>>,
    pub rejections: Vec<Sample<RejectionKey, u64>>,
    pub ticket_ages: Vec<Sample<AgeKey, Histogram>>,
    pub keys: Vec<KeySample>,
    /// Service, kind and number of tickets that had been offered before.
    pub reoffered: Vec<(Arc<Service>, Method, u64)>,
    /// Bytes.
    pub chain_bytes: Vec<Sample<Common, u32>>,
    /// Server names that have series of their own.
    pub server_names: usize,
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
}

impl Aggregator {
    /// Copies all series. Sort the copy where order matters: after the lock is released.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            server_names: self.server_names(),
            keys: self
                .keys
                .iter()
                .map(|(service, key, life)| KeySample {
                    service: Arc::clone(self.services.get(service)),
                    key,
                    life,
                })
                .collect(),
            reoffered: self
                .keys
                .reoffered()
                .map(|(service, offered, count)| {
                    (Arc::clone(self.services.get(service)), offered, count)
                })
                .collect(),
            gaps: self
                .costs
                .iter()
                .map(|(&key, costs)| GapSample {
                    service: Arc::clone(self.services.get(key.common.service)),
                    key,
                    plain_ns: costs.plain_gap(),
                    matched_ns: costs.matched_gap(),
                })
                .collect(),
            ..Snapshot::default()
        };
        for (name, set) in self.sets() {
            let name: Arc<str> = name.into();
            self.copy(&name, &set.handshakes, &mut snapshot.handshakes);
            self.copy(&name, &set.durations, &mut snapshot.durations);
            self.copy(&name, &set.first_bytes, &mut snapshot.first_bytes);
            self.copy(&name, &set.cpu, &mut snapshot.cpu);
            self.copy(&name, &set.saved, &mut snapshot.saved);
            self.copy(&name, &set.lost, &mut snapshot.lost);
            self.copy(&name, &set.crypto, &mut snapshot.crypto);
            self.copy(&name, &set.early_data, &mut snapshot.early_data);
            self.copy(&name, &set.alerts, &mut snapshot.alerts);
            self.copy(&name, &set.rejections, &mut snapshot.rejections);
            self.copy(&name, &set.ticket_ages, &mut snapshot.ticket_ages);
            self.copy(&name, &set.chain_bytes, &mut snapshot.chain_bytes);
        }
        snapshot
    }

    fn copy<K: Labels + Copy + Eq + std::hash::Hash, V: Clone + Default>(
        &self,
        name: &Arc<str>,
        family: &Family<K, V>,
        samples: &mut Vec<Sample<K, V>>,
    ) {
        samples.extend(family.iter().map(|(key, value)| Sample {
            server_name: Arc::clone(name),
            service: Arc::clone(self.services.get(key.common().service)),
            key,
            value: value.clone(),
        }));
    }
}

impl Snapshot {
    /// Puts all series into the order of their labels.
    pub fn sort(&mut self) {
        fn by_labels<K: Ord, V>(samples: &mut [Sample<K, V>]) {
            samples
                .sort_unstable_by(|a, b| (&a.server_name, &a.key).cmp(&(&b.server_name, &b.key)));
        }
        by_labels(&mut self.handshakes);
        by_labels(&mut self.durations);
        by_labels(&mut self.first_bytes);
        by_labels(&mut self.cpu);
        by_labels(&mut self.saved);
        by_labels(&mut self.lost);
        by_labels(&mut self.crypto);
        self.gaps.sort_unstable_by_key(|gap| gap.key);
        by_labels(&mut self.early_data);
        by_labels(&mut self.alerts);
        by_labels(&mut self.rejections);
        by_labels(&mut self.ticket_ages);
        by_labels(&mut self.chain_bytes);
        self.keys
            .sort_unstable_by(|a, b| (&a.service, a.key).cmp(&(&b.service, b.key)));
        self.reoffered.sort_unstable();
    }

    /// Quota per server name and role, busiest first.
    pub fn quotas(&self) -> Vec<Quota> {
        let mut quotas: BTreeMap<(&str, Role), Quota> = BTreeMap::new();
        for sample in &self.handshakes {
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
