//! Rules about versions, suites, certificates, protocols and early data.

use std::collections::BTreeMap;

use super::observed::{Name, grouped, is_one};
use super::rule::{Rule, Severity};
use super::{Draft, Observations, percent, share};
use crate::core::aggregate::hour::{Count, Counted, LONG_CHAIN_BYTES};
use crate::core::names::cipher_suite;

/// Handshakes below which nothing is said of what they had.
const MIN_SEEN: u64 = 30;

/// Of completed handshakes, from which on old versions and suites are in use.
const SOME: f64 = 0.01;

/// Of handshakes with an RSA certificate, those of clients that could do ECDSA, from which on it matters.
const MOST: f64 = 0.8;

/// Of handshakes, from which on a suite or version is what a node speaks.
const NEARLY_ALL: f64 = 0.95;

/// Early data that was judged, by transport, below which nothing is said.
const MIN_EARLY: u64 = 10;

pub(super) fn evaluate(observations: &Observations, drafts: &mut Vec<Draft>) {
    let servers: Vec<&Name> = observations
        .names
        .iter()
        .filter(|name| !name.is_client)
        .collect();
    let hours = grouped(
        servers.iter().copied(),
        |name| name.service.as_str(),
        |name| &name.hour,
    );
    for (service, counted) in hours {
        let rules = [
            old_version(&counted),
            old_cipher(&counted),
            early_data(&counted),
        ];
        drafts.extend(
            rules
                .into_iter()
                .flatten()
                .map(|draft| draft.of_service(service)),
        );
    }
    let names = grouped(
        servers.iter().copied(),
        |name| name.server_name.as_str(),
        |name| &name.hour,
    );
    for (name, counted) in names {
        let rules = [
            long_chain(&counted),
            staple(&counted),
            rsa(&counted),
            early_data_differs(&servers, name),
        ];
        drafts.extend(rules.into_iter().flatten().map(|draft| draft.of_name(name)));
    }
    let instances = servers.iter().map(|name| (name.instance.clone(), *name));
    differing(&instances.collect::<Vec<_>>(), drafts);
}

fn old_version(counted: &Counted) -> Option<Draft> {
    some_of(
        counted,
        Count::TlsOld,
        Rule::VersionOld,
        "handshakes of the last hour were of TLS 1.1 or older, which RFC 8996 forbids",
    )
}

fn old_cipher(counted: &Counted) -> Option<Draft> {
    some_of(
        counted,
        Count::CipherOld,
        Rule::CipherOld,
        "handshakes of the last hour selected a suite without forward secrecy or authenticated \
         encryption (RFC 9325)",
    )
}

fn some_of(counted: &Counted, count: Count, rule: Rule, what: &str) -> Option<Draft> {
    let (some, completed) = (counted.get(count), counted.completed());
    let ratio = share(some, completed);
    if some < 5 || completed < MIN_SEEN || ratio < SOME {
        return None;
    }
    let evidence = format!("{some} of {completed} ({}) {what}.", percent(ratio));
    let draft = Draft::new(rule, Severity::Warning, evidence);
    Some(
        draft
            .with("handshakes", some as f64)
            .with("completed", completed as f64),
    )
}

fn early_data(counted: &Counted) -> Option<Draft> {
    let accepted = counted.get(Count::EarlyAccepted);
    let evidence = format!(
        "Early data was accepted in {accepted} handshakes of the last hour. It can be replayed; whether the \
         requests in it are GET or HEAD is encrypted and cannot be seen from here."
    );
    (accepted > 0).then(|| {
        Draft::new(Rule::EarlyDataAccepted, Severity::Info, evidence)
            .with("accepted", accepted as f64)
    })
}

fn long_chain(counted: &Counted) -> Option<Draft> {
    let long = counted.get(Count::LongChain);
    let evidence = format!(
        "In {long} full handshakes of the last hour the certificate chain was longer than \
         {LONG_CHAIN_BYTES} bytes: the server must wait for the client before it can send the rest."
    );
    (long >= 5).then(|| {
        Draft::new(Rule::ChainLarge, Severity::Warning, evidence).with("handshakes", long as f64)
    })
}

fn staple(counted: &Counted) -> Option<Draft> {
    let (none, some) = (counted.get(Count::NotStapled), counted.get(Count::Stapled));
    if none < MIN_SEEN || some > 0 {
        return None;
    }
    let evidence = format!(
        "In {none} full handshakes up to TLS 1.2 the client asked for a stapled OCSP response and got none."
    );
    let draft = Draft::new(Rule::OcspNotStapled, Severity::Info, evidence);
    Some(draft.with("handshakes", none as f64))
}

fn rsa(counted: &Counted) -> Option<Draft> {
    let (rsa, needless) = (counted.get(Count::Rsa), counted.get(Count::RsaNeedless));
    let ratio = share(needless, rsa);
    if rsa < MIN_SEEN || ratio < MOST {
        return None;
    }
    let evidence = format!(
        "{needless} of {rsa} full handshakes up to TLS 1.2 with an RSA certificate ({}) were of clients \
         that could do ECDSA, whose signatures cost a server a tenth.",
        percent(ratio)
    );
    let draft = Draft::new(Rule::RsaCertificate, Severity::Info, evidence);
    Some(
        draft
            .with("handshakes", rsa as f64)
            .with("needless", needless as f64),
    )
}

/// Refused over TCP although the session was resumed, and allowed by tickets over QUIC, where clients offer
/// it: what became of it there is encrypted. The other way round cannot be told from clients that do not offer.
fn early_data_differs(servers: &[&Name], name: &str) -> Option<Draft> {
    let by_transport = grouped(
        servers
            .iter()
            .copied()
            .filter(|row| row.server_name == name && is_one(name)),
        |row| row.is_quic,
        |row| &row.hour,
    );
    let (tcp, quic) = (by_transport.get(&false)?, by_transport.get(&true)?);
    let (refused, offered) = (tcp.get(Count::EarlyRefused), quic.get(Count::EarlyOffered));
    let accepted = tcp.get(Count::EarlyAccepted);
    if refused < MIN_EARLY || offered < MIN_EARLY || accepted > 0 {
        return None;
    }
    let evidence = format!(
        "Early data was refused in all {refused} resumed connections over TCP that offered it, while tickets \
         over QUIC allow it: {offered} connections offered it there."
    );
    let draft = Draft::new(Rule::EarlyDataDiffers, Severity::Warning, evidence);
    Some(
        draft
            .with("refused_tcp", refused as f64)
            .with("offered_quic", offered as f64),
    )
}

/// What one name speaks with one instance.
#[derive(Default)]
struct Speaks {
    counted: Counted,
    ciphers: BTreeMap<u16, u64>,
}

impl Speaks {
    /// The suite that nearly all TLS 1.3, or nearly all else, is spoken with.
    fn cipher(&self, tls13: bool) -> Option<u16> {
        let of_version = self
            .ciphers
            .iter()
            .filter(|(code, _)| (**code >> 8 == 0x13) == tls13);
        let all: u64 = of_version.clone().map(|(_, count)| count).sum();
        let (cipher, count) = of_version.max_by_key(|(_, count)| **count)?;
        (all >= MIN_SEEN && share(*count, all) >= NEARLY_ALL).then_some(*cipher)
    }
}

/// Rules about instances of one service that serve the same name unlike each other. Services of different
/// names may be one behind the other, and differ.
pub(super) fn differing(rows: &[(String, &Name)], drafts: &mut Vec<Draft>) {
    type Instances<'a> = BTreeMap<&'a str, Speaks>;
    let mut names: BTreeMap<(&str, &str), Instances<'_>> = BTreeMap::new();
    // A mixture of names, or of servers without one, may differ as it likes.
    let is_whole = |row: &Name| !row.is_quic && is_one(&row.server_name) && is_one(&row.service);
    for (instance, row) in rows.iter().filter(|(_, row)| is_whole(row)) {
        let instances = names.entry((&row.server_name, &row.service)).or_default();
        let speaks = instances.entry(instance).or_default();
        speaks.counted.add(&row.hour);
        for (cipher, count) in &row.ciphers {
            *speaks.ciphers.entry(*cipher).or_default() += u64::from(*count);
        }
    }
    for ((name, service), instances) in names {
        let suite = |tls13| {
            differs(
                &instances,
                Rule::CipherDiffers,
                Severity::Info,
                |speaks: &Speaks| {
                    let cipher = speaks.cipher(tls13);
                    cipher.map(|cipher| cipher_suite(cipher).into_owned())
                },
            )
        };
        let rules = [
            differs(&instances, Rule::AlpnDiffers, Severity::Warning, protocol),
            differs(&instances, Rule::VersionDiffers, Severity::Warning, version),
            suite(true).or_else(|| suite(false)),
        ];
        let found = rules.into_iter().flatten();
        drafts.extend(found.map(|draft| draft.of_name(name).of_service(service)));
    }
}

fn protocol(speaks: &Speaks) -> Option<String> {
    let (yes, no) = (
        speaks.counted.get(Count::Http2),
        speaks.counted.get(Count::NotHttp2),
    );
    if yes + no < MIN_SEEN {
        return None;
    }
    match share(yes, yes + no) {
        ratio if ratio >= NEARLY_ALL => Some("HTTP/2".to_owned()),
        0.0 => Some("only HTTP/1.1".to_owned()),
        _ => None,
    }
}

/// Of those whose clients would speak TLS 1.3.
fn version(speaks: &Speaks) -> Option<String> {
    let yes = speaks.counted.get(Count::Tls13);
    let all = yes + speaks.counted.get(Count::NotTls13);
    if all < MIN_SEEN {
        return None;
    }
    match share(yes, all) {
        0.0 => Some("never TLS 1.3".to_owned()),
        ratio if ratio >= NEARLY_ALL => Some("TLS 1.3".to_owned()),
        _ => None,
    }
}

/// A finding where some instances have one thing and some another.
fn differs(
    instances: &BTreeMap<&str, Speaks>,
    rule: Rule,
    severity: Severity,
    of: impl Fn(&Speaks) -> Option<String>,
) -> Option<Draft> {
    let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (instance, speaks) in instances {
        if let Some(value) = of(speaks) {
            by_value.entry(value).or_default().push(instance);
        }
    }
    if by_value.len() < 2 {
        return None;
    }
    let values = by_value
        .iter()
        .map(|(value, instances)| format!("{value} at {}", instances.join(", ")));
    let evidence = format!(
        "Clients of the same name get {}.",
        values.collect::<Vec<_>>().join("; ")
    );
    Some(Draft::new(rule, severity, evidence).with("kinds", by_value.len() as f64))
}
