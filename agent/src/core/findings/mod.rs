//! The checklist of good ticket practice, held against what was seen in the last hour.
//!
//! Pure: from [`Observations`] to findings. Each rule is silent below a number of handshakes, since a wrong
//! finding costs more trust than a late one.

pub mod advice;
mod fleet;
mod handshake;
mod keys;
mod observed;
mod quota;
pub mod rule;
mod standing;

pub use fleet::compare;
pub use observed::{Cost, Name, Observations, Return, TicketKey};
pub use standing::{Standing, finding};

use std::time::Duration;

use super::aggregate::hour::Count;
use super::view::Effect;
use rule::{Rule, Severity};

/// Where the lines are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The quota that is aimed at.
    pub target: f64,
    /// How long a key may issue tickets, seconds.
    pub key_age_seconds: f64,
}

impl Limits {
    /// A target in per cent, and the longest use of a key.
    pub fn new(target_percent: u8, key_age: Duration) -> Self {
        Self {
            target: f64::from(target_percent) / 100.0,
            key_age_seconds: key_age.as_secs_f64(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target: 0.9,
            key_age_seconds: 86_400.0,
        }
    }
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub rule: Rule,
    pub severity: Severity,
    pub server_name: Option<String>,
    pub service: Option<String>,
    /// A sentence with the figures.
    pub evidence: String,
    pub figures: Vec<(&'static str, f64)>,
    pub effect: Effect,
}

impl Draft {
    fn new(rule: Rule, severity: Severity, evidence: String) -> Self {
        Self {
            rule,
            severity,
            server_name: None,
            service: None,
            evidence,
            figures: Vec::new(),
            effect: Effect::default(),
        }
    }

    fn of_service(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    fn of_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    fn with(mut self, figure: &'static str, value: f64) -> Self {
        self.figures.push((figure, value));
        self
    }
}

/// What stands on one host, worst first.
pub fn evaluate(observations: &Observations, limits: &Limits) -> Vec<Draft> {
    let mut drafts = Vec::new();
    quota::evaluate(observations, limits, &mut drafts);
    keys::evaluate(observations, limits, &mut drafts);
    handshake::evaluate(observations, &mut drafts);
    if observations.clock_synchronised == Some(false) {
        drafts.push(Draft::new(
            Rule::ClockOff,
            // Some who keep it right do not tell the kernel.
            Severity::Info,
            "The kernel says that its clock is not synchronised: ages of tickets are computed with it, \
             and nodes whose clocks differ refuse each other's tickets and early data."
                .to_owned(),
        ));
    }
    sort(&mut drafts);
    drafts
}

/// Worst first, and one of each kind about the same: metrics bear no more.
fn sort(drafts: &mut Vec<Draft>) {
    let subject = |draft: &Draft| {
        let Draft {
            severity,
            rule,
            server_name,
            service,
            ..
        } = draft;
        (*severity, *rule, server_name.clone(), service.clone())
    };
    drafts.sort_by_cached_key(subject);
    let mut kept: Vec<(Draft, usize)> = Vec::new();
    for draft in drafts.drain(..) {
        match kept.last_mut() {
            Some((first, more)) if subject(first) == subject(&draft) => *more += 1,
            _ => kept.push((draft, 0)),
        }
    }
    drafts.extend(kept.into_iter().map(|(mut draft, more)| {
        if more > 0 {
            draft.evidence += &format!(" And {more} more like it.");
        }
        draft
    }));
}

/// Share of `part` in `whole`; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// For people: cut, so that 100 % is all.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.1} %", (ratio * 1_000.0 + 1e-9).floor() / 10.0)
}

/// For people: `3 h`, `2 min`, `15 s`; days and hours with so many decimals.
pub(crate) fn duration(seconds: f64, decimals: usize) -> String {
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{:.decimals$} days", s / 86_400.0),
        s if s >= 2.0 * 3_600.0 => format!("{:.decimals$} h", s / 3_600.0),
        s if s >= 120.0 => format!("{:.0} min", s / 60.0),
        s => format!("{s:.0} s"),
    }
}

/// The reasons for which a server refuses what it should have been able to accept. A session that is not in
/// the cache may just have expired.
const AT_FAULT: [Count; 3] = [Count::KeyUnknown, Count::TicketCorrupt, Count::NotSupported];

#[cfg(test)]
mod tests;
