//! What findings are drawn from, as one agent tells it: `/api/v1/observations`.

use std::collections::BTreeMap;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::core::aggregate::hour::{Count, Counted};

/// What one host saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// Given by `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub names: Vec<Name>,
    pub keys: Vec<TicketKey>,
    pub costs: Vec<Cost>,
    pub returns: Vec<Return>,
    /// For how long the agent has been watching, seconds.
    pub watched: f64,
    /// As the kernel says (adjtimex(2)); `None` where it does not.
    pub clock_synchronised: Option<bool>,
}

/// The last hour of one server name, in one process of a service, role and transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Name {
    pub server_name: String,
    pub service: String,
    /// Tells pods of one service apart.
    pub instance: String,
    pub is_client: bool,
    pub is_quic: bool,
    /// Counts of the last hour.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub hour: Counted,
    /// Those of the newest minutes, as many as it takes to judge the server name by.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub recent: Counted,
    /// Completed in the last five minutes.
    pub five_minutes: u64,
    /// Selected cipher suites (IANA code points), and how often.
    pub ciphers: Vec<(u16, u32)>,
}

/// A ticket key of a service. Ages are seconds before now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TicketKey {
    pub service: String,
    /// Fingerprint.
    pub key: String,
    /// Age of the oldest ticket of this key that is known of.
    pub first_ticket_age: Option<f64>,
    /// Age of the newest one.
    pub last_ticket_age: Option<f64>,
    /// How long its tickets are to be accepted, seconds.
    pub lifetime: Option<f64>,
    pub issued: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// Age of the last ticket's issue or acceptance.
    pub last_used_age: Option<f64>,
    /// Refused for want of the key.
    pub unknown: u64,
    /// Age of the last such refusal.
    pub last_unknown_age: Option<f64>,
    /// Refused lately for want of the key while newer tickets of it were still valid.
    pub refused_early: u64,
    /// Age of the last such refusal.
    pub last_refused_early_age: Option<f64>,
    pub weak: Option<bool>,
}

/// Seconds.
pub(super) const HOUR: f64 = 3_600.0;

impl TicketKey {
    /// A key of its own, not what stands for others.
    pub(super) fn is_named(&self) -> bool {
        !self.key.starts_with('_')
    }

    /// Its service used it in the last hour.
    pub(super) fn is_in_use(&self) -> bool {
        self.last_used_age.is_some_and(|age| age < HOUR)
    }

    /// Its service used it after something that happened this long ago, seconds.
    pub(super) fn is_used_after(&self, age: f64) -> bool {
        self.last_used_age.is_some_and(|used| used < age)
    }
}

/// What resuming spares in one service, seconds a handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub service: String,
    pub is_client: bool,
    pub wait: Option<f64>,
    pub cpu: Option<f64>,
}

/// What came back to one service too late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Return {
    pub service: String,
    /// Today's lifetime, seconds.
    pub lifetime: Option<f64>,
    /// The quota that twice that would give.
    pub quota_at_double: Option<f64>,
    /// The one that it gives.
    pub quota: Option<f64>,
}

/// By name, without zeros: agents of other versions count other things.
fn write<S: Serializer>(counted: &Counted, serializer: S) -> Result<S::Ok, S::Error> {
    let counts = Count::ALL
        .iter()
        .map(|&count| (count.as_str(), counted.get(count)));
    serializer.collect_map(counts.filter(|(_, count)| *count > 0))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Counted, D::Error> {
    let named = BTreeMap::<String, u32>::deserialize(deserializer)?;
    let of = |count: &Count| named.get(count.as_str()).copied().unwrap_or(0);
    let mut counted = Counted::default();
    for (place, count) in counted.0.iter_mut().zip(Count::ALL) {
        *place = of(count);
    }
    Ok(counted)
}

/// A name or service of its own, not what stands for several.
pub(super) fn is_one(name: &str) -> bool {
    !name.starts_with('_')
}

/// Sums of these by something they have in common.
pub(super) fn grouped<'a, K: Ord>(
    names: impl IntoIterator<Item = &'a Name>,
    key: impl Fn(&'a Name) -> K,
    counts: impl Fn(&Name) -> &Counted,
) -> BTreeMap<K, Counted> {
    let mut sums: BTreeMap<K, Counted> = BTreeMap::new();
    for name in names {
        sums.entry(key(name)).or_default().add(counts(name));
    }
    sums
}
