//! Rules about several hosts that should behave alike.

use std::collections::{BTreeMap, BTreeSet};

use super::handshake::differing;
use super::observed::{HOUR, TicketKey};
use super::rule::{Rule, Severity};
use super::{Draft, Observations, sort};

/// Tickets refused for want of a key below which they may be strays.
const MIN_UNKNOWN: u64 = 5;

/// The label (`--label`) that tells edge from origin.
const TIER: &str = "tier";

/// What stands between hosts, each with a name for it; worst first.
pub fn compare(hosts: &[(String, Observations)]) -> Vec<Draft> {
    let mut drafts = Vec::new();
    not_distributed(hosts, &mut drafts);
    shared_by_tiers(hosts, &mut drafts);
    let rows: Vec<_> = hosts
        .iter()
        .flat_map(|(host, observations)| {
            let servers = observations.names.iter().filter(|name| !name.is_client);
            servers.map(move |name| (host.clone(), name))
        })
        .collect();
    differing(&rows, &mut drafts);
    sort(&mut drafts);
    drafts
}

/// Keys that one host uses while another refuses tickets of them. A key that all have put away is refused
/// everywhere, and used nowhere after that.
fn not_distributed(hosts: &[(String, Observations)], drafts: &mut Vec<Draft>) {
    for (host, observations) in hosts {
        let named = observations.keys.iter().filter(|key| key.is_named());
        for key in named.filter(|key| key.unknown >= MIN_UNKNOWN) {
            let Some(refused) = key.last_unknown_age.filter(|age| *age < HOUR) else {
                continue;
            };
            let uses = |(name, observations): &(String, Observations)| {
                let same = |other: &TicketKey| other.key == key.key && other.is_used_after(refused);
                name != host && observations.keys.iter().any(same)
            };
            let others = hosts.iter().filter(|other| uses(other));
            let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
            if others.is_empty() {
                continue;
            }
            let (severity, when) = match key.is_used_after(refused) {
                false => (Severity::Error, "does not have it"),
                true => (Severity::Warning, "did not have it all the time"),
            };
            let evidence = format!(
                "Key {} is in use on {}, and {host} {when}: it refused {} tickets of it.",
                key.key,
                others.join(", "),
                key.unknown
            );
            let draft = Draft::new(Rule::KeyNotDistributed, severity, evidence);
            drafts.push(
                draft
                    .of_service(&key.service)
                    .with("refused", key.unknown as f64),
            );
        }
    }
}

/// The same key in hosts of different tiers.
fn shared_by_tiers(hosts: &[(String, Observations)], drafts: &mut Vec<Draft>) {
    let mut tiers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, observations) in hosts {
        let Some(tier) = observations.labels.get(TIER) else {
            continue;
        };
        let in_use = observations.keys.iter().filter(|key| key.is_in_use());
        for key in in_use.filter(|key| key.is_named()) {
            tiers.entry(&key.key).or_default().insert(tier);
        }
    }
    for (key, tiers) in tiers.into_iter().filter(|(_, tiers)| tiers.len() > 1) {
        let named: Vec<&str> = tiers.into_iter().collect();
        let evidence = format!(
            "Key {key} is in use in the tiers {}: whoever takes it from one reads the sessions of all.",
            named.join(" and ")
        );
        let draft = Draft::new(Rule::KeyShared, Severity::Warning, evidence);
        drafts.push(draft.with("tiers", named.len() as f64));
    }
}
