//! A conclusion for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::measure::{Comparison, Conclusion, Measured, Verdict};
use super::statistics::Spread;
use super::{Attempt, Facts, Profile, Target};
use crate::core::record::Method;

/// What a connection took of something.
type Timed = fn(&Attempt) -> Option<Duration>;

/// What should be the same everywhere.
type Shown = fn(&Measured) -> Option<String>;

#[derive(Serialize)]
struct Report {
    target: String,
    server_name: String,
    transport: &'static str,
    /// Every resumption that a ticket allowed took place.
    ok: bool,
    addresses: Vec<Address>,
    matrix: Vec<Pair>,
    findings: Vec<String>,
}

#[derive(Serialize)]
struct Address {
    address: SocketAddr,
    error: Option<String>,
    version: Option<String>,
    cipher: Option<String>,
    next_protocol: Option<String>,
    certificate: Option<String>,
    certificate_chain_bytes: Option<usize>,
    /// What the server gives to resume by.
    method: &'static str,
    /// A full connection's.
    tickets: usize,
    ticket: Ticket,
    offered: usize,
    resumed: usize,
    connect_seconds: Option<Figure>,
    handshake_seconds: Option<Figure>,
    time_to_first_byte_seconds: Option<Figure>,
}

#[derive(Serialize)]
struct Ticket {
    bytes: Option<u32>,
    key: Option<String>,
    lifetime_seconds: Option<f64>,
    early_data: bool,
}

/// Full against resumed.
#[derive(Serialize)]
struct Figure {
    full: Quartiles,
    resumed: Quartiles,
    /// Of the medians.
    difference: f64,
    /// That the difference is an accident (sign test).
    p: f64,
}

#[derive(Serialize)]
struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

#[derive(Serialize)]
struct Pair {
    from: SocketAddr,
    to: SocketAddr,
    verdict: &'static str,
}

impl From<Spread> for Quartiles {
    fn from(spread: Spread) -> Self {
        Self {
            low: spread.low.as_secs_f64(),
            median: spread.median.as_secs_f64(),
            high: spread.high.as_secs_f64(),
        }
    }
}

impl From<Comparison> for Figure {
    fn from(comparison: Comparison) -> Self {
        let [full, resumed] =
            [comparison.full, comparison.resumed].map(|spread| spread.median.as_secs_f64());
        Self {
            full: comparison.full.into(),
            resumed: comparison.resumed.into(),
            difference: full - resumed,
            p: comparison.significance,
        }
    }
}

impl Address {
    fn new(address: SocketAddr, measured: &Measured) -> Self {
        let facts = measured.facts();
        let ticket = measured.ticket();
        let compare = |figure: Timed| measured.compare(figure).map(Figure::from);
        Self {
            address,
            error: measured.error.as_ref().map(ToString::to_string),
            version: facts.map(|facts| facts.version.clone()),
            cipher: facts.and_then(|facts| facts.cipher.clone()),
            next_protocol: facts.and_then(|facts| facts.protocol.clone()),
            certificate: certificate(measured),
            certificate_chain_bytes: measured.certificate().map(|shown| shown.chain_bytes),
            method: measured.method().as_str(),
            tickets: measured.tickets(),
            ticket: Ticket {
                bytes: ticket.map(|ticket| ticket.bytes),
                key: ticket.and_then(|ticket| ticket.key).map(key),
                lifetime_seconds: ticket
                    .and_then(|ticket| ticket.lifetime)
                    .map(|lifetime| lifetime.as_secs_f64()),
                early_data: measured.takes_early_data(),
            },
            offered: measured.offered(),
            resumed: measured.resumed(),
            connect_seconds: compare(|attempt| attempt.connect),
            handshake_seconds: compare(|attempt| Some(attempt.handshake)),
            time_to_first_byte_seconds: compare(|attempt| attempt.first_byte),
        }
    }
}

fn key(fingerprint: u32) -> String {
    format!("{fingerprint:08x}")
}

fn certificate(measured: &Measured) -> Option<String> {
    let shown = measured.certificate()?;
    Some(
        shown
            .fingerprint
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
    )
}

/// What an operator should know, in sentences.
fn findings(conclusion: &Conclusion) -> Vec<String> {
    let mut findings = Vec::new();
    for (address, measured) in &conclusion.addresses {
        if let Some(error) = &measured.error {
            findings.push(error.to_string());
            continue;
        }
        let (offered, resumed) = (measured.offered(), measured.resumed());
        if offered == 0 {
            findings.push(format!(
                "{address} gives out nothing to resume by: neither tickets nor session IDs"
            ));
        } else if resumed < offered {
            findings.push(format!(
                "{address} refused {} of {offered} offers to resume by what it had given out itself",
                offered - resumed
            ));
        }
    }
    for ((from, to), verdict) in &conclusion.matrix {
        match verdict {
            Verdict::Refused => {}
            Verdict::Failed(error) => {
                findings.push(format!(
                    "no connection when {to} was to be offered a ticket of {from}: {error}"
                ));
                continue;
            }
            Verdict::Accepted | Verdict::NoTicket | Verdict::Unreachable => continue,
        }
        if from == to {
            findings.push(format!("{to} refused a ticket of its own"));
            continue;
        }
        let key_of = |address| {
            let ticket = conclusion.addresses.get(address)?.ticket()?;
            ticket.key
        };
        let keys = match (key_of(from), key_of(to)) {
            (Some(one), Some(other)) if one != other => format!(
                ": they use different ticket keys ({} and {})",
                key(one),
                key(other)
            ),
            _ => String::new(),
        };
        findings.push(format!("{to} refused a ticket of {from}{keys}"));
    }
    let differing: [(&str, Shown); 4] = [
        ("version", |measured| {
            fact(measured, |facts| Some(&facts.version))
        }),
        ("cipher suite", |measured| {
            fact(measured, |facts| facts.cipher.as_ref())
        }),
        ("ALPN protocol", |measured| {
            fact(measured, |facts| facts.protocol.as_ref())
        }),
        ("certificate", certificate),
    ];
    for (what, of) in differing {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (address, measured) in &conclusion.addresses {
            if measured.facts().is_some() {
                let value = of(measured).unwrap_or_else(|| "none".to_owned());
                values.entry(value).or_default().push(address.to_string());
            }
        }
        if values.len() > 1 {
            let each = values
                .iter()
                .map(|(value, at)| format!("{value} at {}", at.join(", ")));
            let each: Vec<_> = each.collect();
            findings.push(format!("the {what} differs: {}", each.join("; ")));
        }
    }
    findings
}

fn fact(measured: &Measured, of: fn(&Facts) -> Option<&String>) -> Option<String> {
    measured.facts().and_then(of).cloned()
}

/// One JSON object.
///
/// # Errors
/// Those of the serializer, which has none here.
pub fn json(
    target: &Target,
    profile: &Profile,
    conclusion: &Conclusion,
) -> serde_json::Result<String> {
    let addresses = conclusion.addresses.iter();
    let pairs = conclusion.matrix.iter();
    let report = Report {
        target: format!("{}:{}", target.host, target.port),
        server_name: target.host.clone(),
        transport: profile.transport.as_str(),
        ok: conclusion.is_right(),
        addresses: addresses
            .map(|(address, measured)| Address::new(*address, measured))
            .collect(),
        matrix: pairs
            .map(|((from, to), verdict)| Pair {
                from: *from,
                to: *to,
                verdict: verdict.as_str(),
            })
            .collect(),
        findings: findings(conclusion),
    };
    serde_json::to_string(&report)
}

/// A page of text.
pub fn text(target: &Target, profile: &Profile, conclusion: &Conclusion) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, target, profile, conclusion);
    text
}

fn write_text(
    out: &mut String,
    target: &Target,
    profile: &Profile,
    conclusion: &Conclusion,
) -> fmt::Result {
    let transport = profile.transport.as_str().to_uppercase();
    writeln!(out, "{} port {} over {transport}", target.host, target.port)?;
    for (address, measured) in &conclusion.addresses {
        writeln!(out)?;
        address_text(out, *address, measured)?;
    }
    if !conclusion.matrix.is_empty() {
        writeln!(out)?;
        matrix_text(out, conclusion)?;
    }
    let findings = findings(conclusion);
    writeln!(out)?;
    for finding in &findings {
        writeln!(out, "- {finding}")?;
    }
    match (conclusion.is_right(), findings.is_empty()) {
        (true, true) => writeln!(out, "Every ticket was accepted."),
        (true, false) => writeln!(out, "No ticket was refused."),
        (false, _) => Ok(()),
    }
}

fn address_text(out: &mut String, address: SocketAddr, measured: &Measured) -> fmt::Result {
    let Some(facts) = measured.facts() else {
        return writeln!(out, "{address}  not tested");
    };
    write!(out, "{address}  TLS {}", facts.version)?;
    for fact in [&facts.cipher, &facts.protocol].into_iter().flatten() {
        write!(out, ", {fact}")?;
    }
    writeln!(out)?;
    let tickets = match measured.method() {
        Method::None => "none".to_owned(),
        Method::SessionId => "none, but session IDs".to_owned(),
        Method::Ticket | Method::Psk => format!("{} a connection", measured.tickets()),
    };
    write!(out, "  {:<12}{tickets}", "tickets")?;
    if let Some(ticket) = measured.ticket() {
        write!(out, ", {} bytes", ticket.bytes)?;
        if let Some(fingerprint) = ticket.key {
            write!(out, ", key {}", key(fingerprint))?;
        }
        if let Some(lifetime) = ticket.lifetime {
            write!(out, ", good for {} s", lifetime.as_secs())?;
        }
    }
    let early = if measured.takes_early_data() {
        "offered"
    } else {
        "not offered"
    };
    writeln!(out, "; 0-RTT {early}")?;
    let (resumed, offered) = (measured.resumed(), measured.offered());
    writeln!(
        out,
        "  {:<12}{resumed} of {offered} that offered to",
        "resumed"
    )?;
    let figures: [(&str, Timed); 3] = [
        ("connect", |attempt| attempt.connect),
        ("handshake", |attempt| Some(attempt.handshake)),
        ("first byte", |attempt| attempt.first_byte),
    ];
    let mut has_head = false;
    for (name, figure) in figures {
        let Some(compared) = measured.compare(figure) else {
            continue;
        };
        if !has_head {
            has_head = true;
            writeln!(out, "  {:<12}{:<26}{:<26}faster by", "", "full", "resumed")?;
        }
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let spread = |spread: Spread| {
            format!(
                "{:.2} ms ({:.2} … {:.2})",
                milliseconds(spread.median),
                milliseconds(spread.low),
                milliseconds(spread.high)
            )
        };
        writeln!(
            out,
            "  {name:<12}{:<26}{:<26}{:.2} ms (p = {:.3})",
            spread(compared.full),
            spread(compared.resumed),
            milliseconds(compared.full.median) - milliseconds(compared.resumed.median),
            compared.significance
        )?;
    }
    Ok(())
}

fn matrix_text(out: &mut String, conclusion: &Conclusion) -> fmt::Result {
    let addresses: Vec<_> = conclusion.addresses.keys().collect();
    let heads = addresses.iter().map(|to| format!("at {to}"));
    let mut rows: Vec<Vec<String>> = vec![
        std::iter::once("ticket of".to_owned())
            .chain(heads)
            .collect(),
    ];
    for from in &addresses {
        let mut row = vec![from.to_string()];
        row.extend(addresses.iter().map(|to| {
            let verdict = conclusion.matrix.get(&(**from, **to));
            verdict.map_or_else(String::new, |verdict| verdict.as_str().replace('_', " "))
        }));
        rows.push(row);
    }
    let cells = rows.iter().flatten();
    let width = cells.map(String::len).max().unwrap_or(0) + 2;
    for row in &rows {
        let line = row.iter().fold(String::new(), |line, cell| {
            line + &format!("{cell:<width$}")
        });
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
