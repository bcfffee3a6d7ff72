//! The series of one server name, and how many it may have.

use super::hour::Hour;
use super::labels::{EarlyData, VersionLabel};
use super::native::NativeBuckets;
use super::services::ServiceId;
use crate::core::record::{Method, Outcome, RejectReason, Role, Spared, Transport};

/// Upper bounds of the duration buckets, nanoseconds; one more bucket holds what is above.
///
/// A resumed handshake over loopback takes some 0.3 ms, one across the globe 0.3 s.
pub const DURATION_BOUNDS_NS: [u64; 15] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of the buckets of CPU time, nanoseconds: a resumed handshake takes some 0.15 ms, a
/// full one with RSA-4096 4 ms.
pub const CPU_BOUNDS_NS: [u64; DURATION_BOUNDS_NS.len()] = [
    50_000, 100_000, 150_000, 200_000, 300_000, 400_000, 600_000, 800_000, 1_000_000, 1_500_000,
    2_000_000, 3_000_000, 5_000_000, 10_000_000, 25_000_000,
];

/// Upper bounds of the buckets of ticket ages, nanoseconds: from a second to the week that RFC 8446,
/// 4.6.1 allows at most.
pub const AGE_BOUNDS_NS: [u64; DURATION_BOUNDS_NS.len()] = seconds([
    1, 10, 60, 300, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400, 172_800, 345_600,
    604_800,
]);

const fn seconds<const N: usize>(mut bounds: [u64; N]) -> [u64; N] {
    let mut index = 0;
    while index < N {
        bounds[index] *= 1_000_000_000;
        index += 1;
    }
    bounds
}

/// Labels that every family has, besides the server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Common {
    pub role: Role,
    pub transport: Transport,
    pub service: ServiceId,
}

/// Labels of `tls_handshakes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandshakeKey {
    pub common: Common,
    pub version: VersionLabel,
    pub offered: Method,
    pub result: Outcome,
}

/// Labels of `tls_handshake_duration_seconds` and `tls_time_to_first_byte_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DurationKey {
    pub common: Common,
    pub version: VersionLabel,
    pub result: Outcome,
}

/// Labels of `tls_resumption_saved_…_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SavedKey {
    pub common: Common,
    pub version: VersionLabel,
}

/// Labels of `tls_crypto_cpu_seconds_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CryptoKey {
    pub common: Common,
    /// One of `agent_common::primitive`.
    pub primitive: usize,
}

/// Labels of `tls_resumption_lost_…_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LostKey {
    pub common: Common,
    pub version: VersionLabel,
    pub reason: RejectReason,
}

/// What was saved or lost in all, nanoseconds; `None` where nothing could be said yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SparedSum {
    pub wait_ns: Option<u64>,
    pub cpu_ns: Option<u64>,
}

impl SparedSum {
    pub(super) fn add(&mut self, spared: Spared) {
        for (sum, more) in [
            (&mut self.wait_ns, spared.wait_ns),
            (&mut self.cpu_ns, spared.cpu_ns),
        ] {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
    }
}

/// Labels of `tls_early_data_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EarlyDataKey {
    pub common: Common,
    pub status: EarlyData,
}

/// Labels of `tls_alerts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlertKey {
    pub common: Common,
    /// `None` where it was encrypted; see [`super::labels::known_alert`].
    pub description: Option<u8>,
    pub sent: bool,
}

/// Labels of `tls_resumption_rejections_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RejectionKey {
    pub common: Common,
    pub reason: RejectReason,
}

/// Labels of `tls_ticket_age_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgeKey {
    pub common: Common,
    pub result: Outcome,
}

/// Labels of some family.
pub trait Labels {
    /// Those that every family has.
    fn common(&self) -> &Common;
}

macro_rules! labels {
    ($($key:ty),+) => {
        $(impl Labels for $key {
            fn common(&self) -> &Common {
                &self.common
            }
        })+
    };
}

labels!(
    HandshakeKey,
    DurationKey,
    SavedKey,
    CryptoKey,
    LostKey,
    EarlyDataKey,
    AlertKey,
    RejectionKey,
    AgeKey
);

impl Labels for Common {
    fn common(&self) -> &Common {
        self
    }
}

/// A histogram over [`DURATION_BOUNDS_NS`] or [`AGE_BOUNDS_NS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Observations by bucket, not cumulative.
    pub buckets: [u64; DURATION_BOUNDS_NS.len() + 1],
    /// Nanoseconds.
    pub sum_ns: u64,
    /// The same observations, more finely.
    pub native: NativeBuckets,
}

impl Histogram {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn observe(&mut self, bounds: &[u64; DURATION_BOUNDS_NS.len()], nanoseconds: u64) {
        let bucket = bounds.partition_point(|&bound| bound < nanoseconds);
        self.buckets[bucket] += 1;
        self.sum_ns = self.sum_ns.saturating_add(nanoseconds);
        self.native.observe(nanoseconds);
    }
}

/// Most series a set may have in each of its families.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    counters: usize,
    histograms: usize,
}

/// For a set that bears a client-chosen name. Clients can vary version, offer, result and alert
/// for a name that exists; 256 leaves room for five services at all 48 combinations of those.
pub(super) const NAMED_LIMITS: Limits = Limits {
    counters: 256,
    histograms: 64,
};
/// For the three sets that exist once each: closed labels and the number of services bound them.
pub(super) const OTHER_LIMITS: Limits = Limits {
    counters: usize::MAX,
    histograms: usize::MAX,
};

#[derive(Debug)]
struct Series<K, V> {
    key: K,
    value: V,
    changed_ns: u64,
}

/// The series of one metric within a set, in the order of their labels. A set has few of each: to
/// search among them is as quick as to hash, and they take the memory that they need and no more,
/// which counts with ten thousand names.
#[derive(Debug)]
pub struct Family<K, V>(Vec<Series<K, V>>);

impl<K, V> Default for Family<K, V> {
    fn default() -> Self {
        Family(Vec::new())
    }
}

impl<K: Copy + Ord, V: Default> Family<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|series| series.key.cmp(key))
    }

    fn has_room(&self, key: &K, limit: usize) -> bool {
        self.0.len() < limit || self.find(key).is_ok()
    }

    fn change(&mut self, key: K, now_ns: u64) -> &mut V {
        let place = self.find(&key).unwrap_or_else(|place| {
            if self.0.len() == self.0.capacity() {
                self.0.reserve_exact(self.0.len() / 2 + 1);
            }
            let value = V::default();
            self.0.insert(
                place,
                Series {
                    key,
                    value,
                    changed_ns: now_ns,
                },
            );
            place
        });
        let series = &mut self.0[place];
        series.changed_ns = now_ns;
        &mut series.value
    }

    /// In the order of their labels.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|series| (series.key, &series.value))
    }
}

/// What is done to every family alike.
trait AnyFamily {
    fn expire(&mut self, oldest_ns: u64);
    fn mark_services(&self, used: &mut [bool]);
}

impl<K: Labels, V> AnyFamily for Family<K, V> {
    fn expire(&mut self, oldest_ns: u64) {
        self.0.retain(|series| series.changed_ns > oldest_ns);
        self.0.shrink_to_fit();
    }

    fn mark_services(&self, used: &mut [bool]) {
        for series in &self.0 {
            series.key.common().service.mark(used);
        }
    }
}

/// All series of one server name.
#[derive(Debug)]
pub struct SeriesSet {
    limits: Limits,
    pub handshakes: Family<HandshakeKey, u64>,
    pub durations: Family<DurationKey, Histogram>,
    pub first_bytes: Family<DurationKey, Histogram>,
    pub cpu: Family<DurationKey, Histogram>,
    pub saved: Family<SavedKey, SparedSum>,
    pub lost: Family<LostKey, SparedSum>,
    /// Nanoseconds.
    pub crypto: Family<CryptoKey, u64>,
    /// Handshakes since the last one whose primitives were timed; no metric.
    pub(super) untimed: Family<DurationKey, u64>,
    pub early_data: Family<EarlyDataKey, u64>,
    pub ech_offers: Family<Common, u64>,
    pub alerts: Family<AlertKey, u64>,
    pub rejections: Family<RejectionKey, u64>,
    pub ticket_ages: Family<AgeKey, Histogram>,
    /// Bytes.
    pub chain_bytes: Family<Common, u32>,
    /// The last hour; no metric.
    pub hours: Family<Common, Hour>,
}

/// All families of a set, borrowed as asked.
macro_rules! families {
    ($set:expr, $($borrow:tt)+) => {{
        let families: [$($borrow)+ dyn AnyFamily; 15] = [
            $($borrow)+ $set.handshakes,
            $($borrow)+ $set.durations,
            $($borrow)+ $set.first_bytes,
            $($borrow)+ $set.cpu,
            $($borrow)+ $set.saved,
            $($borrow)+ $set.lost,
            $($borrow)+ $set.crypto,
            $($borrow)+ $set.untimed,
            $($borrow)+ $set.early_data,
            $($borrow)+ $set.ech_offers,
            $($borrow)+ $set.alerts,
            $($borrow)+ $set.rejections,
            $($borrow)+ $set.ticket_ages,
            $($borrow)+ $set.chain_bytes,
            $($borrow)+ $set.hours,
        ];
        families
    }};
}

impl SeriesSet {
    pub(super) fn new(limits: Limits) -> Self {
        SeriesSet {
            limits,
            handshakes: Family::default(),
            durations: Family::default(),
            first_bytes: Family::default(),
            cpu: Family::default(),
            saved: Family::default(),
            lost: Family::default(),
            crypto: Family::default(),
            untimed: Family::default(),
            early_data: Family::default(),
            ech_offers: Family::default(),
            alerts: Family::default(),
            rejections: Family::default(),
            ticket_ages: Family::default(),
            chain_bytes: Family::default(),
            hours: Family::default(),
        }
    }

    pub(super) fn expire(&mut self, oldest_ns: u64) {
        families!(self, &mut)
            .into_iter()
            .for_each(|family| family.expire(oldest_ns));
    }

    /// Every record changes a handshake counter first, so without one there is nothing else.
    pub(super) fn is_empty(&self) -> bool {
        self.handshakes.0.is_empty()
    }

    pub(super) fn clear_histograms(&mut self) {
        self.durations = Family::default();
        self.first_bytes = Family::default();
        self.cpu = Family::default();
        self.ticket_ages = Family::default();
        self.hours = Family::default();
    }

    pub(super) fn mark_services(&self, used: &mut [bool]) {
        families!(self, &)
            .into_iter()
            .for_each(|family| family.mark_services(used));
    }
}

/// Where one record is counted.
pub(super) struct Target<'a> {
    /// The set of its name; `None` where the name has none.
    pub(super) own: Option<&'a mut SeriesSet>,
    /// Whether that set has histograms.
    pub(super) own_histograms: bool,
    pub(super) other: &'a mut SeriesSet,
    pub(super) now_ns: u64,
}

impl Target<'_> {
    /// The series of `key` under the own name, or under `_other` where that has no room.
    pub(super) fn series<K: Copy + Ord + 'static, V: Default + 'static>(
        &mut self,
        family: fn(&mut SeriesSet) -> &mut Family<K, V>,
        key: K,
    ) -> &mut V {
        let most = self.own.as_ref().map_or(0, |set| set.limits.counters);
        self.within(most, family, key)
    }

    /// What takes room, such as a histogram, of `key` under the own name, or under `_other` where that has
    /// none.
    pub(super) fn detailed<K: Copy + Ord + 'static, V: Default + 'static>(
        &mut self,
        family: fn(&mut SeriesSet) -> &mut Family<K, V>,
        key: K,
    ) -> &mut V {
        let own = self.own.as_ref().filter(|_| self.own_histograms);
        let most = own.map_or(0, |set| set.limits.histograms);
        self.within(most, family, key)
    }

    fn within<K: Copy + Ord + 'static, V: Default + 'static>(
        &mut self,
        most: usize,
        family: fn(&mut SeriesSet) -> &mut Family<K, V>,
        key: K,
    ) -> &mut V {
        match self.own.as_deref_mut().map(family) {
            Some(family) if most > 0 && family.has_room(&key, most) => {
                family.change(key, self.now_ns)
            }
            _ => family(self.other).change(key, self.now_ns),
        }
    }

    /// The last length seen. `_other` has none: a mixture of names has no certificate.
    pub(super) fn set_chain_bytes(&mut self, key: Common, bytes: u32) {
        if let Some(set) = self.own.as_deref_mut()
            && set.chain_bytes.has_room(&key, set.limits.counters)
        {
            *set.chain_bytes.change(key, self.now_ns) = bytes;
        }
    }
}
