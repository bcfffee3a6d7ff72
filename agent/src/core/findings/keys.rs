//! Rules about ticket keys.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::TicketKey;
use super::rule::{Rule, Severity};
use super::{Draft, Limits, duration};

/// Early refusals below which they may be strays.
const MIN_REFUSED: u64 = 5;

/// A key whose newest known ticket is older does not issue any more, seconds.
const STILL_ISSUES: f64 = 3_600.0;

pub(super) fn evaluate(keys: &[TicketKey], limits: &Limits, drafts: &mut Vec<Draft>) {
    let mut by_service: BTreeMap<&str, Vec<&TicketKey>> = BTreeMap::new();
    for key in keys.iter().filter(|key| is_named(key)) {
        by_service.entry(&key.service).or_default().push(key);
    }
    for (service, keys) in &by_service {
        let rules = keys
            .iter()
            .flat_map(|key| [weak(key), not_rotated(key, limits)])
            .chain([refused_early(keys)]);
        drafts.extend(rules.flatten().map(|draft| draft.of_service(service)));
    }
    shared(keys, drafts);
}

/// A key of its own, not what stands for others.
pub(super) fn is_named(key: &TicketKey) -> bool {
    !key.key.starts_with('_')
}

fn weak(key: &TicketKey) -> Option<Draft> {
    let evidence = format!(
        "A ticket of key {} decrypts with a key that anybody can guess: whoever recorded the connections \
         can read them.",
        key.key
    );
    (key.weak == Some(true)).then(|| Draft::new(Rule::KeyWeak, Severity::Error, evidence))
}

fn not_rotated(key: &TicketKey, limits: &Limits) -> Option<Draft> {
    let (first, last) = key.first_ticket_age.zip(key.last_ticket_age)?;
    let age = first - last;
    if age <= limits.key_age_seconds || last > STILL_ISSUES {
        return None;
    }
    let evidence = format!(
        "Key {} has been issuing tickets for at least {}; {} is the limit. Whoever gets it can read all \
         of these sessions.",
        key.key,
        duration(age),
        duration(limits.key_age_seconds)
    );
    let draft = Draft::new(Rule::KeyNotRotated, Severity::Warning, evidence);
    Some(draft.with("age_seconds", age))
}

/// Keys that are gone while their tickets are valid: rotated too fast, or retired too early.
fn refused_early(keys: &[&TicketKey]) -> Option<Draft> {
    let missed = || keys.iter().filter(|key| key.is_missed());
    let early: u64 = missed().map(|key| key.refused_early).sum();
    if early < MIN_REFUSED {
        return None;
    }
    let gone = missed().filter(|key| key.refused_early > 0);
    let gone: Vec<&str> = gone.map(|key| key.key.as_str()).collect();
    let lifetime = keys.iter().filter_map(|key| key.lifetime).reduce(f64::max);
    let began = keys.iter().filter_map(|key| key.first_ticket_age);
    let within = |age: &f64| lifetime.is_some_and(|lifetime| *age < lifetime);
    let begun_lately = began.filter(within).count();
    let tickets = format!(
        "{early} tickets were refused although they were still valid, for want of key {}",
        gone.join(", ")
    );
    // One new key is a rotation (or a restart); several within the life of a ticket are too many.
    let (rule, evidence) = match lifetime {
        Some(lifetime) if begun_lately >= 3 => (
            Rule::KeyRotatedTooFast,
            format!(
                "{begun_lately} keys began to issue within the {} that a ticket lives; {tickets}.",
                duration(lifetime)
            ),
        ),
        _ => (Rule::KeyRetiredEarly, format!("{tickets}.")),
    };
    let draft = Draft::new(rule, Severity::Warning, evidence);
    Some(draft.with("refused_early", early as f64))
}

/// The same key in services of different names.
fn shared(keys: &[TicketKey], drafts: &mut Vec<Draft>) {
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let in_use = |key: &&TicketKey| is_named(key) && key.issued + key.accepted > 0;
    for key in keys.iter().filter(in_use) {
        users.entry(&key.key).or_default().insert(&key.service);
    }
    for (key, services) in users.into_iter().filter(|(_, services)| services.len() > 1) {
        let services: Vec<&str> = services.into_iter().collect();
        let evidence = format!(
            "Key {key} is in use by {}: whoever takes it from one reads the sessions of all.",
            services.join(", ")
        );
        let draft = Draft::new(Rule::KeyShared, Severity::Warning, evidence);
        drafts.push(
            draft
                .of_service(&services.join(","))
                .with("services", services.len() as f64),
        );
    }
}
