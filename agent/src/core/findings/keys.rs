//! Rules about ticket keys.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::{HOUR, TicketKey, is_one};
use super::rule::{Rule, Severity};
use super::{Draft, Limits, Observations, duration};

/// Early refusals below which they may be strays.
const MIN_REFUSED: u64 = 5;

/// Of the limit, from which on a key is too old.
const TOLERANCE: f64 = 1.1;

pub(super) fn evaluate(observations: &Observations, limits: &Limits, drafts: &mut Vec<Draft>) {
    let mut by_service: BTreeMap<&str, Vec<&TicketKey>> = BTreeMap::new();
    let named = || observations.keys.iter().filter(|key| key.is_named());
    for key in named() {
        by_service.entry(&key.service).or_default().push(key);
    }
    for (service, keys) in &by_service {
        let rules = keys
            .iter()
            .flat_map(|key| [weak(key), not_rotated(key, limits)])
            .chain([refused_early(keys, observations.watched)]);
        drafts.extend(rules.flatten().map(|draft| draft.of_service(service)));
    }
    shared(named(), drafts);
}

fn weak(key: &TicketKey) -> Option<Draft> {
    let evidence = format!(
        "A ticket of key {} decrypts with a key that anybody can guess: whoever recorded the connections \
         can read them.",
        key.key
    );
    (key.weak == Some(true) && key.is_in_use())
        .then(|| Draft::new(Rule::KeyWeak, Severity::Error, evidence))
}

fn not_rotated(key: &TicketKey, limits: &Limits) -> Option<Draft> {
    let (first, last) = key.first_ticket_age.zip(key.last_ticket_age)?;
    let age = first - last;
    // Who rotates daily may be a little late.
    if age <= limits.key_age_seconds * TOLERANCE || last > HOUR {
        return None;
    }
    let evidence = format!(
        "Key {} has been issuing tickets for at least {}; {} is the limit. Whoever gets it can read all \
         of these sessions.",
        key.key,
        duration(age, 0),
        duration(limits.key_age_seconds, 0)
    );
    let draft = Draft::new(Rule::KeyNotRotated, Severity::Warning, evidence);
    Some(draft.with("age_seconds", age))
}

/// Keys that are gone while their tickets are valid: not shared by all processes of the service, rotated too
/// fast, or retired too early.
fn refused_early(keys: &[&TicketKey], watched: f64) -> Option<Draft> {
    let is_missed = |key: &&&TicketKey| key.last_refused_early_age.is_some_and(|age| age < HOUR);
    let missed: Vec<&TicketKey> = keys.iter().filter(is_missed).copied().collect();
    let early: u64 = missed.iter().map(|key| key.refused_early).sum();
    if early < MIN_REFUSED {
        return None;
    }
    let gone: BTreeSet<&str> = missed.iter().map(|key| key.key.as_str()).collect();
    let gone: Vec<&str> = gone.into_iter().collect();
    let tickets = format!(
        "{early} tickets were refused for want of key {} while newer tickets of it were still valid",
        gone.join(", ")
    );
    // What was refused here was accepted later there: the key is not gone.
    let is_elsewhere = |key: &&TicketKey| {
        let refused = key.last_refused_early_age;
        keys.iter().any(|other| {
            other.key == key.key && refused.is_some_and(|age| other.is_used_after(age))
        })
    };
    let lifetime = keys.iter().filter_map(|key| key.lifetime).reduce(f64::max);
    let ages = missed.iter().filter_map(|key| key.last_refused_early_age);
    let refused = ages.reduce(f64::min)?;
    // Within the life of a ticket before that.
    let began_lately = |key: &&&TicketKey| {
        let began = key.first_ticket_age.zip(lifetime);
        began.is_some_and(|(age, lifetime)| age - refused < lifetime)
    };
    let begun: BTreeSet<&str> = keys
        .iter()
        .filter(began_lately)
        .map(|key| key.key.as_str())
        .collect();
    let (rule, evidence) = match lifetime {
        _ if missed.iter().all(is_elsewhere) => (
            Rule::KeyNotDistributed,
            format!(
                "{tickets}, and others were accepted after that: its processes do not share their keys."
            ),
        ),
        // One new key is a rotation (or a restart); several within the life of a ticket are too many. An agent
        // that just started has not seen how old they are.
        Some(lifetime) if begun.len() >= 3 && watched - refused > lifetime => (
            Rule::KeyRotatedTooFast,
            format!(
                "{} keys began to issue within the {} that a ticket lives; {tickets}.",
                begun.len(),
                duration(lifetime, 0)
            ),
        ),
        _ => (Rule::KeyRetiredEarly, format!("{tickets}.")),
    };
    let draft = Draft::new(rule, Severity::Warning, evidence);
    Some(draft.with("refused_early", early as f64))
}

/// The same key in services of different names.
fn shared<'a>(keys: impl Iterator<Item = &'a TicketKey>, drafts: &mut Vec<Draft>) {
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for key in keys.filter(|key| key.is_in_use() && is_one(&key.service)) {
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
