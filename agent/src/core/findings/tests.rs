#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use super::*;
use crate::core::aggregate::hour::Counted;

/// A server name of one service, with these counts in its last hour and lately.
fn name(counts: &[(Count, u32)]) -> Name {
    let mut counted = Counted::default();
    for (count, value) in counts {
        counted.0[*count as usize] = *value;
    }
    Name {
        server_name: "a.example".to_owned(),
        service: "nginx".to_owned(),
        instance: "nginx".to_owned(),
        is_client: false,
        is_quic: false,
        hour: counted,
        recent: counted,
        five_minutes: 0,
        ciphers: Vec::new(),
    }
}

fn of(names: Vec<Name>) -> Observations {
    Observations {
        names,
        ..Observations::default()
    }
}

fn rules(observations: &Observations) -> Vec<Rule> {
    let drafts = evaluate(observations, &Limits::default());
    drafts.into_iter().map(|draft| draft.rule).collect()
}

fn rules_of(counts: &[(Count, u32)]) -> Vec<Rule> {
    rules(&of(vec![name(counts)]))
}

fn key(fingerprint: &str) -> TicketKey {
    TicketKey {
        service: "nginx".to_owned(),
        key: fingerprint.to_owned(),
        issued: 10,
        accepted: 10,
        first_ticket_age: Some(100.0),
        last_ticket_age: Some(1.0),
        lifetime: Some(300.0),
        last_used_age: Some(1.0),
        last_unknown_age: None,
        weak: Some(false),
        ..TicketKey::default()
    }
}

fn rules_of_keys(keys: Vec<TicketKey>) -> Vec<Rule> {
    rules(&Observations {
        keys,
        ..Observations::default()
    })
}

/// Nine of ten resume; half are of TLS 1.2.
const WELL: [(Count, u32); 9] = [
    (Count::Full, 80),
    (Count::Resumed, 920),
    (Count::Offered, 920),
    (Count::OfferedTicket, 920),
    (Count::AcceptedTicket, 920),
    (Count::Gave, 40),
    (Count::Tls13, 500),
    (Count::Http2, 900),
    (Count::Stapled, 40),
];

#[test]
fn nothing_is_found_on_a_host_that_is_well() {
    assert_eq!(rules_of(&WELL), []);
    assert_eq!(rules_of_keys(vec![key("00000001"), key("00000002")]), []);
    assert_eq!(rules(&Observations::default()), []);
}

#[test]
fn a_quota_is_low_where_chance_does_not_explain_it() {
    let low = |full, resumed| {
        rules_of(&[
            (Count::Full, full),
            (Count::Resumed, resumed),
            (Count::Offered, resumed),
        ])
    };
    assert_eq!(low(400, 600), [Rule::QuotaLow]);
    assert_eq!(low(40, 59), [], "too few");
    assert_eq!(low(12, 90), [], "chance");
    assert_eq!(low(100, 900), [], "just reached");
}

#[test]
fn a_quota_that_the_server_spoils_is_an_error() {
    let severity = |reason| {
        let counts = [
            (Count::Full, 500),
            (Count::Resumed, 100),
            (Count::Offered, 500),
            (reason, 400),
        ];
        let drafts = evaluate(&of(vec![name(&counts)]), &Limits::default());
        let low = drafts.iter().find(|draft| draft.rule == Rule::QuotaLow);
        low.unwrap().severity
    };
    assert_eq!(severity(Count::KeyUnknown), Severity::Error);
    for innocent in [Count::Expired, Count::CacheMiss, Count::Unknown] {
        assert_eq!(severity(innocent), Severity::Warning);
    }
}

#[test]
fn a_low_quota_says_what_it_costs() {
    let mut observations = of(vec![name(&[
        (Count::Full, 600),
        (Count::Resumed, 400),
        (Count::Offered, 400),
    ])]);
    observations.watched = 1_800.0;
    observations.costs = vec![Cost {
        service: "nginx".to_owned(),
        is_client: false,
        wait: Some(0.05),
        cpu: None,
    }];
    let draft = evaluate(&observations, &Limits::default()).remove(0);
    // 500 of 1,000 are missing to 90 %, in half an hour.
    let wait = draft.effect.wait_seconds_per_hour.unwrap();
    assert!((wait - 2.0 * 500.0 * 0.05).abs() < 1e-9, "{wait}");
    assert_eq!(draft.effect.cpu_seconds_per_hour, None);
    assert!(draft.evidence.contains("40.0 %") && draft.evidence.contains("600 never_offered"));
}

#[test]
fn tickets_that_come_too_late_are_not_those_that_are_never_accepted() {
    let offered = |reason| {
        rules_of(&[
            (Count::Full, 60),
            (Count::Offered, 60),
            (Count::OfferedTicket, 60),
            (reason, 60),
        ])
    };
    assert_eq!(offered(Count::KeyUnknown), [Rule::TicketsNeverAccepted]);
    assert_eq!(offered(Count::Unknown), [Rule::TicketsNeverAccepted]);
    assert_eq!(offered(Count::Expired), [Rule::LifetimeShort]);
}

#[test]
fn a_server_that_gives_nothing_differs_from_clients_that_do_not_ask() {
    let nothing = rules_of(&[(Count::Full, 60), (Count::GaveNothing, 60)]);
    assert_eq!(nothing, [Rule::NoResumptionOffered]);
    let silent = [
        (Count::Full, 250),
        (Count::Gave, 250),
        (Count::Resumed, 5),
        (Count::Offered, 5),
    ];
    assert!(rules_of(&silent).contains(&Rule::ClientsNeverOffer));
    // One of TLS 1.3 gives in secret.
    assert!(
        !rules_of(&[(Count::Full, 60), (Count::Tls13, 60)]).contains(&Rule::NoResumptionOffered)
    );
}

#[test]
fn one_name_that_gives_nothing_is_found_in_a_service_that_is_well() {
    let mut deaf = name(&[(Count::Full, 60), (Count::GaveNothing, 60)]);
    deaf.server_name = "deaf.example".to_owned();
    let drafts = evaluate(&of(vec![name(&WELL), deaf]), &Limits::default());
    let [draft] = &drafts[..] else {
        panic!("{drafts:#?}");
    };
    assert_eq!(draft.rule, Rule::NoResumptionOffered);
    assert_eq!(draft.server_name.as_deref(), Some("deaf.example"));
}

#[test]
fn what_is_in_the_clear_up_to_tls12_is_judged() {
    for (count, enough, rule) in [
        (Count::TlsOld, 20, Rule::VersionOld),
        (Count::CipherOld, 20, Rule::CipherOld),
        (Count::LongChain, 5, Rule::ChainLarge),
        (Count::NotStapled, 30, Rule::OcspNotStapled),
        (Count::EarlyAccepted, 1, Rule::EarlyDataAccepted),
    ] {
        let with = |extra| {
            let mut counts = WELL.to_vec();
            counts.retain(|(count, _)| *count != Count::Stapled);
            counts.push((count, extra));
            rules_of(&counts)
        };
        assert_eq!(with(enough), [rule]);
        assert_eq!(with(enough.div_ceil(2) - 1), [], "{rule:?}");
    }
}

#[test]
fn more_tickets_than_openssl_sends_by_itself_are_wasted() {
    let with = |tickets| {
        let mut counts = WELL.to_vec();
        counts.extend([(Count::TicketsKnown, 40), (Count::Tickets, tickets)]);
        rules_of(&counts)
    };
    assert_eq!(with(160), [Rule::TicketsWasted]);
    assert_eq!(with(80), []);
}

#[test]
fn rsa_matters_where_most_clients_could_do_ecdsa() {
    let with = |needless| {
        let mut counts = WELL.to_vec();
        counts.extend([(Count::Rsa, 40), (Count::RsaNeedless, needless)]);
        rules_of(&counts)
    };
    assert_eq!(with(40), [Rule::RsaCertificate]);
    assert_eq!(with(20), []);
}

#[test]
fn early_data_that_tickets_allow_over_quic_and_tcp_refuses_is_found() {
    let with = |tcp: &[(Count, u32)], quic: (Count, u32)| {
        let mut over_quic = name(&[quic]);
        over_quic.is_quic = true;
        let found = rules(&of(vec![name(tcp), over_quic]));
        found.contains(&Rule::EarlyDataDiffers)
    };
    assert!(with(
        &[(Count::EarlyRefused, 20)],
        (Count::EarlyOffered, 20)
    ));
    let accepted = [(Count::EarlyRefused, 20), (Count::EarlyAccepted, 1)];
    assert!(!with(&accepted, (Count::EarlyOffered, 20)));
    // Over QUIC acceptance is not known, and clients need not offer it.
    assert!(!with(&[(Count::EarlyAccepted, 20)], (Count::Full, 20)));
    assert!(!with(
        &[(Count::EarlyRefused, 20)],
        (Count::EarlyOffered, 3)
    ));
}

#[test]
fn pods_that_serve_one_name_unlike_each_other_are_found() {
    let pair = |one: &[(Count, u32)], other: &[(Count, u32)], ciphers: [u16; 2]| {
        let mut rows = vec![name(one), name(other)];
        for (row, cipher) in rows.iter_mut().zip(ciphers) {
            row.instance = format!("pod-{cipher:x}");
            row.ciphers = vec![(cipher, 100)];
        }
        rows[1].instance += "b";
        rules(&of(rows))
    };
    let http2 = [
        (Count::Full, 5),
        (Count::Resumed, 95),
        (Count::Offered, 95),
        (Count::Http2, 100),
        (Count::Tls13, 100),
    ];
    let http1 = [
        (Count::Full, 5),
        (Count::Resumed, 95),
        (Count::Offered, 95),
        (Count::NotHttp2, 100),
        (Count::Tls13, 100),
    ];
    let tls12 = [
        (Count::Full, 5),
        (Count::Resumed, 95),
        (Count::Offered, 95),
        (Count::Http2, 100),
        (Count::NotTls13, 100),
    ];
    assert_eq!(pair(&http2, &http2, [0x1301, 0x1301]), []);
    assert_eq!(pair(&http2, &http1, [0x1301, 0x1301]), [Rule::AlpnDiffers]);
    assert_eq!(
        pair(&http2, &http2, [0x1301, 0x1302]),
        [Rule::CipherDiffers]
    );
    // Suites of TLS 1.2 are not held against those of TLS 1.3.
    assert_eq!(
        pair(&http2, &tls12, [0x1301, 0xc02f]),
        [Rule::VersionDiffers]
    );
}

#[test]
fn upstream_connections_that_never_resume_are_found() {
    let client = |counts: &[(Count, u32)], five_minutes| {
        let mut row = name(counts);
        row.is_client = true;
        row.five_minutes = five_minutes;
        rules(&of(vec![row]))
    };
    assert_eq!(
        client(&[(Count::Full, 100)], 0),
        [Rule::UpstreamNeverResumes]
    );
    assert_eq!(client(&[(Count::Full, 99)], 0), []);
    assert_eq!(client(&[(Count::Full, 100), (Count::Resumed, 1)], 0), []);
    let many = client(&[(Count::Full, 10), (Count::Resumed, 400)], 300);
    assert_eq!(many, [Rule::UpstreamNoKeepalive]);
}

#[test]
fn key_in_use_for_longer_than_the_limit_is_found_while_it_issues() {
    let aged = |first, last| {
        rules_of_keys(vec![TicketKey {
            first_ticket_age: Some(first),
            last_ticket_age: Some(last),
            ..key("00000001")
        }])
    };
    assert_eq!(aged(100_000.0, 10.0), [Rule::KeyNotRotated]);
    assert_eq!(aged(80_000.0, 10.0), []);
    // A rotation by the day that is somewhat late.
    assert_eq!(aged(88_000.0, 10.0), []);
    // It only decrypts by now.
    assert_eq!(aged(200_000.0, 20_000.0), []);
}

/// Rules about keys, as an agent finds them that has been watching for this long.
fn rules_after(watched: f64, keys: Vec<TicketKey>) -> Vec<Rule> {
    rules(&Observations {
        keys,
        watched,
        ..Observations::default()
    })
}

#[test]
fn keys_that_go_too_early_were_rotated_too_fast_or_retired() {
    let gone = TicketKey {
        refused_early: 6,
        last_refused_early_age: Some(10.0),
        last_used_age: Some(60.0),
        first_ticket_age: Some(250.0),
        ..key("00000001")
    };
    let retired = vec![gone.clone(), key("00000002")];
    assert_eq!(rules_after(1_000.0, retired), [Rule::KeyRetiredEarly]);
    let fast = vec![gone.clone(), key("00000002"), key("00000003")];
    assert_eq!(
        rules_after(1_000.0, fast.clone()),
        [Rule::KeyRotatedTooFast]
    );
    // An agent that just started does not know how old keys are.
    assert_eq!(rules_after(100.0, fast), [Rule::KeyRetiredEarly]);
    let long_ago = TicketKey {
        last_refused_early_age: Some(4_000.0),
        ..gone.clone()
    };
    assert_eq!(rules_after(1_000.0, vec![long_ago]), []);
    let stray = TicketKey {
        refused_early: 4,
        ..gone.clone()
    };
    assert_eq!(rules_after(1_000.0, vec![stray]), []);
    // Another process of the service took tickets of it after that.
    let elsewhere = TicketKey {
        last_used_age: Some(2.0),
        ..gone
    };
    let found = rules_after(1_000.0, vec![elsewhere]);
    assert_eq!(found, [Rule::KeyNotDistributed]);
}

#[test]
fn weak_and_shared_keys_are_found() {
    let weak = TicketKey {
        weak: Some(true),
        ..key("00000001")
    };
    assert_eq!(rules_of_keys(vec![weak]), [Rule::KeyWeak]);
    let other = TicketKey {
        service: "haproxy".to_owned(),
        ..key("00000001")
    };
    assert_eq!(
        rules_of_keys(vec![key("00000001"), other.clone()]),
        [Rule::KeyShared]
    );
    let unused = TicketKey {
        last_used_age: Some(4_000.0),
        ..other.clone()
    };
    assert_eq!(rules_of_keys(vec![key("00000001"), unused.clone()]), []);
    let weak_before = TicketKey {
        weak: Some(true),
        ..unused
    };
    assert_eq!(rules_of_keys(vec![weak_before]), []);
    // What stands for other keys, or for none, is no key.
    let nameless = |service: &str| TicketKey {
        service: service.to_owned(),
        ..key("_none")
    };
    assert_eq!(rules_of_keys(vec![nameless("a"), nameless("b")]), []);
}

#[test]
fn a_clock_that_runs_free_is_found() {
    let clock = |synchronised| {
        rules(&Observations {
            clock_synchronised: synchronised,
            ..Observations::default()
        })
    };
    assert_eq!(clock(Some(false)), [Rule::ClockOff]);
    assert_eq!(clock(Some(true)), []);
    assert_eq!(clock(None), []);
}

#[test]
fn a_key_that_another_host_lacks_was_not_distributed() {
    let host = |name: &str, key: TicketKey| {
        let observations = Observations {
            keys: vec![key],
            ..Observations::default()
        };
        (name.to_owned(), observations)
    };
    let lacking = |last_used_age| TicketKey {
        last_used_age,
        unknown: 7,
        last_unknown_age: Some(30.0),
        ..key("00000001")
    };
    let drafts = compare(&[host("a", key("00000001")), host("b", lacking(None))]);
    assert_eq!(drafts.len(), 1);
    assert_eq!(
        (drafts[0].rule, drafts[0].severity),
        (Rule::KeyNotDistributed, Severity::Error)
    );
    assert!(
        drafts[0]
            .evidence
            .contains("in use on a, and b does not have it")
    );
    let late = compare(&[host("a", key("00000001")), host("b", lacking(Some(5.0)))]);
    assert_eq!(late[0].severity, Severity::Warning);
    // Put away everywhere some minutes ago; who comes late is refused everywhere.
    let put_away = || lacking(Some(600.0));
    assert_eq!(compare(&[host("a", put_away()), host("b", put_away())]), []);
    // Nobody else uses it.
    assert_eq!(
        compare(&[host("a", lacking(None)), host("b", key("00000002"))]),
        []
    );
}

#[test]
fn tiers_must_not_share_a_key() {
    let host = |tier: &str| {
        let observations = Observations {
            keys: vec![key("00000001")],
            labels: [("tier".to_owned(), tier.to_owned())].into(),
            ..Observations::default()
        };
        (tier.to_owned(), observations)
    };
    assert_eq!(
        compare(&[host("edge"), host("origin")])[0].rule,
        Rule::KeyShared
    );
    assert_eq!(compare(&[host("edge"), host("edge")]), []);
}

#[test]
fn a_finding_keeps_its_beginning_while_it_stands() {
    let mut standing = Standing::default();
    let drafts = || evaluate(&of(vec![name(&[(Count::Full, 400)])]), &Limits::default());
    assert_eq!(
        standing.update(drafts(), 10.0)[0].since_timestamp_seconds,
        10.0
    );
    assert_eq!(
        standing.update(drafts(), 20.0)[0].since_timestamp_seconds,
        10.0
    );
    assert!(standing.update(Vec::new(), 30.0).is_empty());
    let again = standing.update(drafts(), 40.0);
    assert_eq!(again[0].since_timestamp_seconds, 40.0);
    assert!(!again[0].advice.is_empty());
}

#[test]
fn what_is_alike_is_one_finding() {
    let old = |fingerprint| TicketKey {
        first_ticket_age: Some(100_000.0),
        ..key(fingerprint)
    };
    let observations = Observations {
        keys: vec![old("00000001"), old("00000002"), old("00000003")],
        ..Observations::default()
    };
    let drafts = evaluate(&observations, &Limits::default());
    assert_eq!(drafts.len(), 1);
    assert!(drafts[0].evidence.ends_with("And 2 more like it."));
}

#[test]
fn names_that_stand_for_several_have_no_quota_to_aim_at() {
    for mixture in ["_none", "_other", "_invalid"] {
        let mut row = name(&[(Count::Full, 400), (Count::Offered, 100)]);
        row.server_name = mixture.to_owned();
        assert_eq!(rules(&of(vec![row])), []);
    }
}

#[test]
fn observations_survive_the_way_through_json() {
    let observations = Observations {
        keys: vec![key("00000001")],
        clock_synchronised: Some(true),
        ..of(vec![name(&WELL)])
    };
    let text = serde_json::to_string(&observations).unwrap();
    assert!(text.contains(r#""resumed":920"#) && !text.contains("failed"));
    assert_eq!(
        serde_json::from_str::<Observations>(&text).unwrap(),
        observations
    );
    // An agent of another version counts something else.
    let other = text.replace("\"resumed\"", "\"something_else\"");
    let read: Observations = serde_json::from_str(&other).unwrap();
    assert_eq!(read.names[0].hour.get(Count::Resumed), 0);
}
