//! From handshake records to bounded counters and histograms.
//!
//! Pure: time comes in as `now_ns`. It must not know how its series are written (`export` does),
//! nor where records come from.
//!
//! What a client sends never makes a series by itself. Names are those of the busiest by
//! *completed* handshakes (`names`), services those of processes of this host, all other labels
//! are closed sets; and no single name may hold more series than `series::NAMED_LIMITS`. What
//! finds no room counts under `_other`, which only ever grows (or goes away as a whole after
//! [`AggregateConfig::series_ttl_ns`] without a change).

mod decay;
pub mod hour;
mod keys;
pub mod labels;
mod names;
pub mod native;
pub mod returns;
mod samples;
mod series;
mod services;
mod sketch;
#[cfg(test)]
mod tests;

pub use keys::{Key, KeyLife, TicketUse};
pub use samples::{GapSample, KeySample, Quota, Sample};
pub use series::{
    AGE_BOUNDS_NS, AgeKey, AlertKey, CPU_BOUNDS_NS, Common, CryptoKey, DURATION_BOUNDS_NS,
    DurationKey, EarlyDataKey, Family, HandshakeKey, Histogram, Labels, LostKey, RejectionKey,
    SavedKey, SeriesSet, SparedSum,
};
pub use services::{Service, ServiceId};

use agent_common::primitive;
use ahash::AHashMap;
use std::sync::Arc;

use self::hour::{Host, Notes};
use self::keys::Keys;
use self::labels::{EarlyData, VersionLabel, known_alert};
use self::names::Names;
use self::returns::Returns;
use self::series::{OTHER_LIMITS, Target};
use self::services::Services;
use super::costs::Costs;
use super::names::{INVALID_SERVER_NAME, NO_SERVER_NAME};
use super::record::{Handshake, Pod, ServerName};

/// Limits of an [`Aggregator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateConfig {
    /// Most server names that have series of their own.
    pub max_server_names: usize,
    /// Most server names that have histograms of their own.
    pub histogram_server_names: usize,
    /// A series that did not change for so long goes away, nanoseconds.
    pub series_ttl_ns: u64,
    /// Most services that are told apart.
    pub max_services: usize,
}

impl Default for AggregateConfig {
    fn default() -> Self {
        AggregateConfig {
            max_server_names: 1_000,
            histogram_server_names: 100,
            series_ttl_ns: 3_600_000_000_000,
            max_services: 256,
        }
    }
}

/// Counts handshakes by label, within the limits of its [`AggregateConfig`].
#[derive(Debug)]
pub struct Aggregator {
    config: AggregateConfig,
    /// Latest time seen: records of different taps may come slightly out of order.
    now_ns: u64,
    services: Services,
    names: Names,
    keys: Keys,
    host: Host,
    /// Bounded by the number of services.
    costs: AHashMap<SavedKey, Costs>,
    returns: AHashMap<ServiceId, Returns>,
    /// `server_name="_other"`: no room, or a name that never completed a handshake.
    other: SeriesSet,
    /// `server_name="_none"`: no SNI.
    none: SeriesSet,
    /// `server_name="_invalid"`: an SNI that is no host name.
    invalid: SeriesSet,
}

impl Aggregator {
    pub fn new(config: AggregateConfig) -> Self {
        Aggregator {
            config,
            now_ns: 0,
            services: Services::new(config.max_services),
            names: Names::new(config.max_server_names, config.histogram_server_names),
            keys: Keys::default(),
            host: Host::default(),
            costs: AHashMap::new(),
            returns: AHashMap::new(),
            other: SeriesSet::new(OTHER_LIMITS),
            none: SeriesSet::new(OTHER_LIMITS),
            invalid: SeriesSet::new(OTHER_LIMITS),
        }
    }

    /// Counts one finished handshake. Allocates only where it makes a new series.
    pub fn record(&mut self, handshake: &Handshake, service: Option<&str>, now_ns: u64) {
        self.record_in(handshake, service, None, now_ns);
    }

    /// The same, where a pod may serve.
    pub fn record_in(
        &mut self,
        handshake: &Handshake,
        service: Option<&str>,
        pod: Option<&Arc<Pod>>,
        now_ns: u64,
    ) {
        self.now_ns = self.now_ns.max(now_ns);
        let now_ns = self.now_ns;
        let common = Common {
            role: handshake.role,
            transport: handshake.transport,
            service: self.services.intern(service, pod),
        };
        let (own, own_histograms) = match &handshake.server_name {
            None => (Some(&mut self.none), true),
            Some(ServerName::Invalid) => (Some(&mut self.invalid), true),
            Some(ServerName::Host(name)) => {
                let tracked = if handshake.established {
                    self.names.completed(name, now_ns)
                } else {
                    self.names.tracked(name)
                };
                match tracked {
                    Some(tracked) => (Some(&mut tracked.series), tracked.histograms),
                    None => (None, false),
                }
            }
        };
        let target = Target {
            own,
            own_histograms,
            other: &mut self.other,
            now_ns,
        };
        let notes = Notes::of(handshake);
        observe(target, common, handshake, notes);
        self.host.observe(handshake, notes, now_ns);
        let returns = self.returns.entry(common.service).or_default();
        returns.observe(handshake, now_ns);
        self.keys.observe(common.service, handshake, now_ns);
        if handshake.time_to_first_byte_ns.is_some() {
            let key = SavedKey {
                common,
                version: VersionLabel::from(handshake.version),
            };
            self.costs.entry(key).or_default().learn(handshake, now_ns);
        }
    }

    /// Removes what did not change for [`AggregateConfig::series_ttl_ns`]. Call it now and then;
    /// it walks all series.
    pub fn expire(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let Some(oldest_ns) = self.now_ns.checked_sub(self.config.series_ttl_ns) else {
            return;
        };
        for set in [&mut self.other, &mut self.none, &mut self.invalid] {
            set.expire(oldest_ns);
        }
        self.names.expire(oldest_ns);
        self.keys.expire(oldest_ns, self.now_ns);
        self.costs.retain(|_, costs| costs.changed_ns > oldest_ns);
        self.returns
            .retain(|_, returns| returns.changed_ns > oldest_ns);

        let mut used = self.services.none_used();
        self.keys.mark_services(&mut used);
        for key in self.costs.keys() {
            key.common.service.mark(&mut used);
        }
        for service in self.returns.keys() {
            service.mark(&mut used);
        }
        let fixed = self.fixed().map(|(_, set)| set);
        for set in fixed.into_iter().chain(self.names.sets()) {
            set.mark_services(&mut used);
        }
        self.services.release_unused(&used);
    }

    /// Server names that have series of their own now.
    pub fn server_names(&self) -> usize {
        self.names.len()
    }

    /// The sets that exist once each, in the order of their names.
    fn fixed(&self) -> [(&'static str, &SeriesSet); 3] {
        [
            (INVALID_SERVER_NAME, &self.invalid),
            (NO_SERVER_NAME, &self.none),
            (labels::OTHER, &self.other),
        ]
    }
}

/// A handshake whose primitives were timed stands for all of its kind since the last such one, itself
/// included: a ratio estimator, which neither knows nor needs to know how long the windows were.
fn estimate_primitives(
    target: &mut Target<'_>,
    kind: DurationKey,
    primitives_ns: Option<[u64; primitive::COUNT]>,
) {
    let untimed = target.series(|set| &mut set.untimed, kind);
    *untimed += 1;
    let Some(primitives_ns) = primitives_ns else {
        return;
    };
    let weight = std::mem::take(untimed);
    for (primitive, nanoseconds) in primitives_ns.into_iter().enumerate() {
        let key = CryptoKey {
            common: kind.common,
            primitive,
        };
        let sum = target.series(|set| &mut set.crypto, key);
        *sum = sum.saturating_add(nanoseconds.saturating_mul(weight));
    }
}

/// Enters one handshake into every family it belongs to.
fn observe(mut target: Target<'_>, common: Common, handshake: &Handshake, notes: Notes) {
    let version = VersionLabel::from(handshake.version);
    let result = handshake.outcome();
    let key = HandshakeKey {
        common,
        version,
        offered: handshake.offered,
        result,
    };
    *target.series(|set| &mut set.handshakes, key) += 1;
    let now_ns = target.now_ns;
    target
        .detailed(|set| &mut set.hours, common)
        .observe(handshake, notes, now_ns);

    let key = DurationKey {
        common,
        version,
        result,
    };
    if let Some(handshake_ns) = handshake.handshake_ns {
        target
            .detailed(|set| &mut set.durations, key)
            .observe(&DURATION_BOUNDS_NS, handshake_ns);
    }
    if let Some(first_byte_ns) = handshake.time_to_first_byte_ns {
        target
            .detailed(|set| &mut set.first_bytes, key)
            .observe(&DURATION_BOUNDS_NS, first_byte_ns);
    }
    if handshake.established {
        estimate_primitives(&mut target, key, handshake.primitives_ns);
    }
    if let Some(cpu_ns) = handshake.plain_cpu_ns() {
        target
            .detailed(|set| &mut set.cpu, key)
            .observe(&CPU_BOUNDS_NS, cpu_ns);
    }
    if let Some(spared) = handshake.spared {
        let sum = match handshake.reject_reason {
            None => target.series(|set| &mut set.saved, SavedKey { common, version }),
            Some(reason) => {
                let key = LostKey {
                    common,
                    version,
                    reason,
                };
                target.series(|set| &mut set.lost, key)
            }
        };
        sum.add(spared);
    }
    if handshake.early_data_offered {
        let mut count = |status| {
            let key = EarlyDataKey { common, status };
            *target.series(|set| &mut set.early_data, key) += 1;
        };
        count(EarlyData::Offered);
        match handshake.early_data_accepted {
            Some(true) => count(EarlyData::Accepted),
            Some(false) => count(EarlyData::Rejected),
            None => {}
        }
    }
    if handshake.ech_offered {
        *target.series(|set| &mut set.ech_offers, common) += 1;
    }
    if let Some(reason) = handshake.reject_reason {
        let key = RejectionKey { common, reason };
        *target.series(|set| &mut set.rejections, key) += 1;
    }
    if let Some(age_ns) = handshake.ticket_age_ns {
        let key = AgeKey { common, result };
        target
            .detailed(|set| &mut set.ticket_ages, key)
            .observe(&AGE_BOUNDS_NS, age_ns);
    }
    if let Some(alert) = handshake.alert {
        let description = alert.description.map(known_alert);
        let key = AlertKey {
            common,
            description,
            sent: alert.sent,
        };
        *target.series(|set| &mut set.alerts, key) += 1;
    }
    if let Some(bytes) = handshake.certificate_chain_bytes {
        target.set_chain_bytes(common, bytes);
    }
}
