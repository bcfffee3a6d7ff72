//! What a person looks at: the answers of `/api/v1`, which the page and `top` show.
//!
//! Plain data; `agent/assets/openapi.yaml` says what each field means, and a test holds both against
//! each other. Times are Unix time in seconds, durations seconds; `None` is "not known".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Medians of full and of resumed handshakes, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    pub full: Option<f64>,
    pub resumed: Option<f64>,
}

/// Handshakes by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub full: u64,
    pub resumed: u64,
    pub failed: u64,
    /// Completed ones in which the client offered to resume.
    pub offered: u64,
    /// Resumed over completed.
    pub quota: Option<f64>,
}

/// One minute.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    pub timestamp_seconds: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub first_byte_seconds: Pair,
    pub cpu_seconds: Pair,
}

/// Minutes, oldest first, without gaps; the last one is under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct History {
    pub step_seconds: u64,
    pub points: Vec<Point>,
}

/// Why handshakes did not resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// `never_offered`, or a `resumption.reject_reason`.
    pub reason: &'static str,
    pub count: u64,
}

/// What the time to first byte of full handshakes is more than that of resumed ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    pub service: String,
    pub transport: &'static str,
    pub version: &'static str,
    pub plain_gap_seconds: Option<f64>,
    pub matched_gap_seconds: Option<f64>,
}

/// What was saved, or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spared {
    pub cpu_seconds: Option<f64>,
    pub wait_seconds: Option<f64>,
}

/// Attached files of one library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    pub library: String,
    pub version: String,
    pub files: u64,
}

/// How the agent itself is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Health {
    pub ready: bool,
    /// Why it is not ready.
    pub trouble: Option<String>,
    pub coverage: Option<f64>,
    pub events: u64,
    pub events_lost: u64,
    pub handshakes_lost: u64,
    pub overhead_ratio: Option<f64>,
    pub libraries: Vec<Library>,
    pub resident_bytes: Option<u64>,
}

/// Findings that stand, by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FindingCounts {
    pub error: u64,
    pub warning: u64,
    pub info: u64,
}

/// `/api/v1/overview`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    pub timestamp_seconds: f64,
    pub started_timestamp_seconds: f64,
    pub version: &'static str,
    pub labels: BTreeMap<String, String>,
    pub target: f64,
    pub server: Counts,
    pub client: Counts,
    pub history: History,
    pub reasons: Vec<Reason>,
    pub gaps: Vec<Gap>,
    pub saved: Spared,
    pub lost: Spared,
    pub findings: FindingCounts,
    pub health: Health,
}

/// A row of `/api/v1/names`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NameRow {
    pub server_name: String,
    pub role: &'static str,
    pub hour: Option<Counts>,
    pub total: Counts,
    pub first_byte_seconds: Pair,
    pub cpu_seconds: Pair,
}

/// `/api/v1/names`: busiest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Names {
    pub timestamp_seconds: f64,
    pub names: Vec<NameRow>,
}

/// Handshakes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub service: String,
    pub transport: &'static str,
    pub version: &'static str,
    pub offered: &'static str,
    pub full: u64,
    pub resumed: u64,
    pub failed: u64,
}

/// `/api/v1/name`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Name {
    pub timestamp_seconds: f64,
    #[serde(flatten)]
    pub row: NameRow,
    pub history: History,
    pub reasons: Vec<Reason>,
    pub parts: Vec<Part>,
    pub findings: Vec<Finding>,
}

/// A ticket key of a service, by its fingerprint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Key {
    pub key: String,
    pub first_seen_timestamp_seconds: f64,
    pub last_seen_timestamp_seconds: f64,
    pub last_issued_timestamp_seconds: Option<f64>,
    pub last_accepted_timestamp_seconds: Option<f64>,
    pub valid_until_timestamp_seconds: Option<f64>,
    pub issued: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub refused_early: u64,
    pub weak: Option<bool>,
}

/// The ticket keys of one service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeysOfService {
    pub service: String,
    pub keys: Vec<Key>,
}

/// `/api/v1/keys`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Keys {
    pub timestamp_seconds: f64,
    pub services: Vec<KeysOfService>,
}

/// What a finding costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Of all users together.
    pub wait_seconds_per_hour: Option<f64>,
    pub cpu_seconds_per_hour: Option<f64>,
}

/// What to do, for one kind of server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// `any`, `nginx`, `apache`, `haproxy`, `envoy` or `kubernetes`.
    pub server: String,
    pub text: String,
    /// Lines of that server's configuration.
    pub config: Option<String>,
}

/// Something of good ticket practice that does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub id: String,
    /// `error`, `warning` or `info`.
    pub severity: String,
    pub title: String,
    pub server_name: Option<String>,
    pub service: Option<String>,
    pub since_timestamp_seconds: f64,
    /// A sentence with the figures.
    pub evidence: String,
    pub figures: BTreeMap<String, f64>,
    pub effect: Effect,
    pub advice: Vec<Advice>,
}

/// `/api/v1/findings`: worst first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub timestamp_seconds: f64,
    /// Completed handshakes of the last hour that were judged.
    pub completed: u64,
    pub findings: Vec<Finding>,
}

/// The quota at one lifetime of tickets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifetime {
    pub lifetime_seconds: f64,
    /// `None` where returns so late cannot be seen today.
    pub quota: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// What other lifetimes would do for one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifetimesOfService {
    pub service: String,
    /// Of its tickets today.
    pub lifetime_seconds: Option<f64>,
    pub returns: u64,
    pub completed: u64,
    pub points: Vec<Lifetime>,
    pub asked: Option<Lifetime>,
}

/// `/api/v1/lifetimes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifetimes {
    pub timestamp_seconds: f64,
    pub services: Vec<LifetimesOfService>,
}
