//! Rules about who offers to resume, and who is let.

use std::collections::BTreeSet;

use super::observed::{Name, grouped, is_one};
use super::rule::{Rule, Severity};
use super::{AT_FAULT, Draft, Limits, Observations, duration, percent, share};
use crate::core::aggregate::hour::{Count, Counted, of_reason};
use crate::core::record::RejectReason;
use crate::core::view::Effect;

/// Completed handshakes below which a quota says nothing.
pub(super) const MIN_COMPLETED: u64 = 100;

/// Offers, and the like, below which nothing is said of a server's answers to them.
const MIN_OFFERS: u64 = 30;

/// Of completed handshakes, offers below which clients hardly ever offer.
const FEW_OFFERS: f64 = 0.1;

/// Completed handshakes below which that says nothing.
const MIN_FOR_FEW: u64 = 200;

/// Of offered tickets, expired ones from which on a lifetime is short.
const MANY_EXPIRED: f64 = 0.1;

/// Tickets a handshake above which most are wasted: OpenSSL sends two by itself, and a response may now and then
/// pass for one.
const MANY_TICKETS: f64 = 2.2;

/// Connections in five minutes from which on a client does not keep them: one a second.
const MANY_CONNECTIONS: u64 = 300;

pub(super) fn evaluate(observations: &Observations, limits: &Limits, drafts: &mut Vec<Draft>) {
    let servers = || observations.names.iter().filter(|name| !name.is_client);
    let recent = grouped(
        servers(),
        |name| name.server_name.as_str(),
        |name| &name.recent,
    );
    // What stands for several names, or for clients without one, has no quota that anybody aims at.
    for (name, counted) in recent.into_iter().filter(|(name, _)| is_one(name)) {
        drafts.extend(low_quota(observations, name, &counted, limits));
    }
    let hours = grouped(servers(), |name| name.service.as_str(), |name| &name.hour);
    let mut broken = BTreeSet::new();
    for (service, counted) in &hours {
        let rules = [
            never_accepted(counted),
            nothing_given(counted),
            few_offers(counted),
            many_tickets(counted),
            short_lifetime(observations, service, counted),
        ];
        let found = rules.into_iter().flatten();
        for draft in found.map(|draft| draft.of_service(service)) {
            broken.insert((draft.rule, *service));
            drafts.push(draft);
        }
    }
    // One name of a service that is well otherwise: a setting in one block.
    for ((service, name), counted) in grouped(servers(), ends, |name| &name.hour) {
        let rules = [never_accepted(&counted), nothing_given(&counted)];
        let found = rules.into_iter().flatten();
        let found = found.filter(|draft| is_one(name) && !broken.contains(&(draft.rule, service)));
        drafts.extend(found.map(|draft| draft.of_service(service).of_name(name)));
    }
    upstream(observations, drafts);
}

/// Whether a share this low is more than chance, in 39 of 40 cases (Wilson's interval).
fn is_below(part: u64, whole: u64, target: f64) -> bool {
    let (n, z) = (whole as f64, 1.96_f64);
    let p = share(part, whole);
    let middle = p + z * z / (2.0 * n);
    let margin = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    (middle + margin) / (1.0 + z * z / n) < target
}

fn low_quota(
    observations: &Observations,
    name: &str,
    counted: &Counted,
    limits: &Limits,
) -> Option<Draft> {
    let completed = counted.completed();
    let resumed = counted.get(Count::Resumed);
    if completed < MIN_COMPLETED || !is_below(resumed, completed, limits.target) {
        return None;
    }
    let offered = counted.get(Count::Offered);
    let refused = at_fault(counted);
    let quota = share(resumed, completed);
    // Where the server refuses most of what does not resume, it is broken.
    let severity = match refused * 2 >= completed - resumed {
        true => Severity::Error,
        false => Severity::Warning,
    };
    let never = (completed.saturating_sub(offered), "never_offered");
    let mut causes: Vec<(u64, &str)> = refusals(counted)
        .chain((never.0 > 0).then_some(never))
        .collect();
    causes.sort_unstable_by(|a, b| b.cmp(a));
    let causes: Vec<String> = causes
        .iter()
        .take(3)
        .map(|(count, reason)| format!("{count} {reason}"))
        .collect();
    let evidence = format!(
        "{} of {completed} recent handshakes resumed, {} are aimed at. Of the others: {}.",
        percent(quota),
        percent(limits.target),
        causes.join(", ")
    );
    let rows = observations.names.iter();
    let rows: Vec<&Name> = rows
        .filter(|row| !row.is_client && row.server_name == name)
        .collect();
    let mut hour = Counted::default();
    rows.iter().for_each(|row| hour.add(&row.hour));
    // By services as the full ones are.
    let missing = missing(&hour, limits.target);
    let each = missing / hour.get(Count::Full).max(1) as f64;
    let hour = rows
        .into_iter()
        .map(|row| (row, row.hour.get(Count::Full) as f64 * each));
    let draft = Draft::new(Rule::QuotaLow, severity, evidence)
        .of_name(name)
        .with("quota", quota)
        .with("target", limits.target)
        .with("completed", completed as f64)
        .with("offered", offered as f64);
    Some(Draft {
        effect: effect(observations, hour),
        ..draft
    })
}

/// Refusals by their reasons, where there are any.
fn refusals(counted: &Counted) -> impl Iterator<Item = (u64, &'static str)> {
    RejectReason::ALL
        .into_iter()
        .map(|reason| (counted.get(of_reason(reason)), reason.as_str()))
        .filter(|(count, _)| *count > 0)
}

/// Handshakes that would have resumed at this quota, and did not.
fn missing(counted: &Counted, quota: f64) -> f64 {
    let aimed = counted.completed() as f64 * quota;
    (aimed - counted.get(Count::Resumed) as f64).max(0.0)
}

/// Refusals of what the server should have been able to accept.
fn at_fault(counted: &Counted) -> u64 {
    AT_FAULT.iter().map(|&reason| counted.get(reason)).sum()
}

/// What so many handshakes cost an hour for not having resumed, where the services' costs are known.
fn effect<'a>(
    observations: &Observations,
    handshakes: impl Iterator<Item = (&'a Name, f64)>,
) -> Effect {
    let (mut wait, mut cpu) = (None, None);
    for (name, count) in handshakes {
        let costs = &observations.costs;
        let cost = costs
            .iter()
            .find(|cost| cost.service == name.service && cost.is_client == name.is_client);
        let Some(cost) = cost else { continue };
        let add = |sum: Option<f64>, each: Option<f64>| match each {
            Some(each) => Some(sum.unwrap_or(0.0) + each * count),
            None => sum,
        };
        wait = add(wait, cost.wait);
        cpu = add(cpu, cost.cpu);
    }
    // Of an agent that has not watched for an hour these are all that it saw.
    let hours = (observations.watched / 3_600.0).clamp(1.0 / 60.0, 1.0);
    Effect {
        wait_seconds_per_hour: wait.map(|wait| wait / hours),
        cpu_seconds_per_hour: cpu.map(|cpu| cpu / hours),
    }
}

fn never_accepted(counted: &Counted) -> Option<Draft> {
    let offered = counted.get(Count::OfferedTicket);
    // Tickets that came too late, or for something else, are other findings, or none.
    let excused = counted.get(Count::Expired) + counted.get(Count::ParametersChanged);
    if counted.get(Count::AcceptedTicket) > 0 || offered.saturating_sub(excused) < MIN_OFFERS {
        return None;
    }
    let evidence = format!(
        "Clients offered {offered} tickets in the last hour, and the server took none: {}.",
        reasons(counted)
    );
    // Where the reasons are not known, all of them may have expired.
    let severity = match at_fault(counted) * 2 >= offered {
        true => Severity::Error,
        false => Severity::Warning,
    };
    let draft = Draft::new(Rule::TicketsNeverAccepted, severity, evidence);
    Some(draft.with("offered", offered as f64))
}

/// `12 key_unknown, 3 unknown`.
fn reasons(counted: &Counted) -> String {
    let given = refusals(counted).map(|(count, reason)| format!("{count} {reason}"));
    let given: Vec<String> = given.collect();
    match given.is_empty() {
        true => "the reasons are not known".to_owned(),
        false => given.join(", "),
    }
}

fn nothing_given(counted: &Counted) -> Option<Draft> {
    let nothing = counted.get(Count::GaveNothing);
    if nothing < MIN_OFFERS || counted.get(Count::Gave) > 0 || counted.get(Count::Resumed) > 0 {
        return None;
    }
    let evidence = format!(
        "In {nothing} full handshakes up to TLS 1.2 with clients that take tickets the server gave neither a \
         session ID nor a ticket."
    );
    let draft = Draft::new(Rule::NoResumptionOffered, Severity::Error, evidence);
    Some(draft.with("handshakes", nothing as f64))
}

fn few_offers(counted: &Counted) -> Option<Draft> {
    let (completed, offered) = (counted.completed(), counted.get(Count::Offered));
    let ratio = share(offered, completed);
    if completed < MIN_FOR_FEW
        || ratio >= FEW_OFFERS
        || counted.get(Count::GaveNothing) * 2 > completed
    {
        return None;
    }
    let evidence = format!(
        "Clients offered to resume in {offered} of {completed} handshakes of the last hour ({}).",
        percent(ratio)
    );
    let draft = Draft::new(Rule::ClientsNeverOffer, Severity::Info, evidence);
    Some(
        draft
            .with("offered", offered as f64)
            .with("completed", completed as f64),
    )
}

fn many_tickets(counted: &Counted) -> Option<Draft> {
    let (known, tickets) = (
        counted.get(Count::TicketsKnown),
        counted.get(Count::Tickets),
    );
    let each = share(tickets, known);
    if known < MIN_OFFERS || each <= MANY_TICKETS {
        return None;
    }
    let evidence = format!(
        "In {known} handshakes of TLS 1.3 the server sent {tickets} tickets, {each:.1} each; a client needs \
         one for each connection that it will open at the same time."
    );
    let draft = Draft::new(Rule::TicketsWasted, Severity::Info, evidence);
    Some(draft.with("each", each).with("handshakes", known as f64))
}

fn short_lifetime(observations: &Observations, service: &str, counted: &Counted) -> Option<Draft> {
    let (expired, offered) = (counted.get(Count::Expired), counted.get(Count::Offered));
    let ratio = share(expired, offered);
    if expired < MIN_OFFERS || ratio < MANY_EXPIRED {
        return None;
    }
    let returns = observations
        .returns
        .iter()
        .find(|known| known.service == service);
    let lifetime = returns.and_then(|returns| returns.lifetime);
    let mut evidence = format!(
        "{expired} of {offered} offers of the last hour ({}) came too late",
        percent(ratio)
    );
    if let Some(lifetime) = lifetime {
        evidence += &format!(": tickets live {}", duration(lifetime, 0));
    }
    let gain = returns.and_then(|returns| Some((returns.quota?, returns.quota_at_double?)));
    if let Some((today, double)) = gain {
        evidence += &format!(
            "; twice that would raise the quota from {} to at least {}",
            percent(today),
            percent(double)
        );
    }
    let draft = Draft::new(Rule::LifetimeShort, Severity::Warning, evidence + ".");
    let rows = observations.names.iter();
    let of_service = rows.filter(|row| !row.is_client && row.service == service);
    let late = of_service.map(|row| (row, row.hour.get(Count::Expired) as f64));
    Some(Draft {
        effect: effect(observations, late),
        ..draft
            .with("expired", expired as f64)
            .with("offered", offered as f64)
    })
}

/// Connections that this host opens, by who opens them and to whom.
fn upstream(observations: &Observations, drafts: &mut Vec<Draft>) {
    let is_whole = |row: &&Name| row.is_client && is_one(&row.service) && is_one(&row.server_name);
    let rows = || observations.names.iter().filter(is_whole);
    for ((service, name), counted) in grouped(rows(), ends, |row| &row.hour) {
        let completed = counted.completed();
        if completed >= MIN_COMPLETED && counted.get(Count::Resumed) == 0 {
            let offered = counted.get(Count::Offered);
            let evidence = format!(
                "{service} opened {completed} TLS connections to {name} in the last hour and resumed none; it \
                 offered to in {offered}."
            );
            let same = rows().filter(|row| ends(row) == (service, name));
            let costs = same.map(|row| (row, row.hour.completed() as f64));
            let draft = Draft::new(Rule::UpstreamNeverResumes, Severity::Warning, evidence);
            let draft = Draft {
                effect: effect(observations, costs),
                ..draft
            };
            let draft = draft.of_service(service).of_name(name);
            drafts.push(
                draft
                    .with("completed", completed as f64)
                    .with("offered", offered as f64),
            );
        }
        let same = rows().filter(|row| ends(row) == (service, name));
        let lately: u64 = same.map(|row| row.five_minutes).sum();
        if lately >= MANY_CONNECTIONS {
            let evidence = format!(
                "{service} opened {lately} TLS connections to {name} in the last five minutes; kept \
                 connections need no handshake at all."
            );
            let draft = Draft::new(Rule::UpstreamNoKeepalive, Severity::Info, evidence);
            let draft = draft.of_service(service).of_name(name);
            drafts.push(draft.with("connections", lately as f64));
        }
    }
}

/// Service and server name.
fn ends(row: &Name) -> (&str, &str) {
    (&row.service, &row.server_name)
}
