#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod crypto;

use proptest::prelude::*;
use std::collections::HashMap;

use super::*;
use crate::core::record::{Alert, Method, Outcome, alert_direction};
use crate::core::sample;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

fn aggregator(max_server_names: usize) -> Aggregator {
    Aggregator::new(AggregateConfig {
        max_server_names,
        ..AggregateConfig::default()
    })
}

fn host(name: &str) -> Option<ServerName> {
    Some(ServerName::Host(name.into()))
}

fn handshake(server_name: Option<ServerName>, result: Outcome) -> Handshake {
    Handshake {
        established: result != Outcome::Failed,
        resumed: result == Outcome::Resumed,
        version: (result != Outcome::Failed).then_some(0x0304),
        server_name,
        handshake_ns: (result != Outcome::Failed).then_some(1_000_000),
        ..sample::bare()
    }
}

fn full(name: &str) -> Handshake {
    handshake(host(name), Outcome::Full)
}

/// A family's series, in the order of their names.
fn samples<K: Labels + Copy + Ord, V: Clone + Default>(
    aggregator: &Aggregator,
    family: fn(&SeriesSet) -> &Family<K, V>,
) -> Vec<Sample<K, V>> {
    let mut names = aggregator.names();
    names.sort_unstable();
    let mut samples = Vec::new();
    aggregator.samples(&names, family, &mut samples);
    samples
}

/// Handshakes by server name.
fn totals(aggregator: &Aggregator) -> HashMap<String, u64> {
    let mut totals = HashMap::new();
    for sample in samples(aggregator, |set| &set.handshakes) {
        *totals.entry(sample.server_name.to_string()).or_default() += sample.value;
    }
    totals
}

/// Handshake durations by server name.
fn durations(aggregator: &Aggregator) -> HashMap<String, u64> {
    let mut totals = HashMap::new();
    for sample in samples(aggregator, |set| &set.durations) {
        *totals.entry(sample.server_name.to_string()).or_default() += sample.value.count();
    }
    totals
}

#[test]
fn flood_of_one_shot_names_displaces_nobody() {
    let mut aggregator = aggregator(10);
    for name in 0..10 {
        // The least busy of them has completed one handshake only.
        for _ in 0..=name {
            aggregator.record(&full(&format!("site{name}")), None, 0);
        }
    }
    for attempt in 0..50_000u64 {
        aggregator.record(
            &full(&format!("flood{attempt}")),
            None,
            attempt * SECOND / 10_000,
        );
    }
    let totals = totals(&aggregator);
    for name in 0..10 {
        assert_eq!(totals[&format!("site{name}")], name + 1);
    }
    assert_eq!(totals["_other"], 50_000);
    assert_eq!(totals.len(), 11);
}

#[test]
fn flood_displaces_nobody_even_after_hours_of_silence() {
    let mut aggregator = aggregator(2);
    aggregator.record(&full("a"), None, 0);
    aggregator.record(&full("b"), None, 0);
    for attempt in 0..5_000 {
        aggregator.record(&full(&format!("flood{attempt}")), None, HOUR / 2);
    }
    assert_eq!(totals(&aggregator)["a"], 1);
    assert_eq!(totals(&aggregator)["b"], 1);
}

#[test]
fn busy_newcomer_displaces_the_least_busy_name_only() {
    let mut aggregator = aggregator(3);
    for (name, handshakes) in [("busy", 500), ("middle", 100), ("idle", 2)] {
        for _ in 0..handshakes {
            aggregator.record(&full(name), None, 0);
        }
    }
    for _ in 0..50 {
        aggregator.record(&full("newcomer"), None, 0);
    }
    let before = totals(&aggregator);
    assert!(!before.contains_key("idle"));
    assert_eq!((before["busy"], before["middle"]), (500, 100));
    assert_eq!(
        before["newcomer"] + before["_other"],
        50,
        "its past stays in _other"
    );

    aggregator.record(&full("idle"), None, 0);
    let after = totals(&aggregator);
    assert!(!after.contains_key("idle"), "its future goes to _other");
    assert_eq!(after["_other"], before["_other"] + 1);
}

#[test]
fn steady_newcomer_of_less_traffic_displaces_nobody() {
    let mut aggregator = aggregator(2);
    for _ in 0..500 {
        aggregator.record(&full("a"), None, 0);
        aggregator.record(&full("b"), None, 0);
    }
    for _ in 0..500 {
        aggregator.record(&full("newcomer"), None, 0);
    }
    assert_eq!(
        totals(&aggregator)["_other"],
        500,
        "as busy as they are is not busier"
    );
    for _ in 0..400 {
        aggregator.record(&full("newcomer"), None, 0);
    }
    assert!(totals(&aggregator).contains_key("newcomer"));
}

#[test]
fn name_that_was_busy_yesterday_gives_way_to_one_busy_now() {
    let mut aggregator = aggregator(1);
    for _ in 0..10_000 {
        aggregator.record(&full("yesterday"), None, 0);
    }
    for _ in 0..100 {
        aggregator.record(&full("today"), None, 24 * HOUR);
    }
    let totals = totals(&aggregator);
    assert!(totals.contains_key("today") && !totals.contains_key("yesterday"));
}

#[test]
fn failed_handshakes_with_unknown_names_make_no_series() {
    let mut aggregator = aggregator(1_000);
    aggregator.record(&full("known"), None, 0);
    let before = samples(&aggregator, |set| &set.handshakes);
    for attempt in 0..10_000 {
        let name = host(&format!("scan{attempt}"));
        aggregator.record(&handshake(name, Outcome::Failed), None, 0);
    }
    aggregator.record(&handshake(host("known"), Outcome::Failed), None, 0);

    let after = samples(&aggregator, |set| &set.handshakes);
    assert_eq!(aggregator.server_names(), 1);
    // One of the known name, one of _other.
    assert_eq!(after.len(), before.len() + 2);
    assert_eq!(totals(&aggregator)["_other"], 10_000);
    assert_eq!(totals(&aggregator)["known"], 2);
}

#[test]
fn absent_and_invalid_names_take_no_place() {
    let mut aggregator = aggregator(1);
    aggregator.record(&handshake(None, Outcome::Full), None, 0);
    aggregator.record(
        &handshake(Some(ServerName::Invalid), Outcome::Failed),
        None,
        0,
    );
    aggregator.record(&full("a"), None, 0);
    let totals = totals(&aggregator);
    assert_eq!(
        (totals["_none"], totals["_invalid"], totals["a"]),
        (1, 1, 1)
    );
}

#[test]
fn one_name_cannot_have_more_series_than_its_ceiling() {
    let mut aggregator = aggregator(10);
    let services: Vec<String> = (0..200)
        .map(|service| format!("service{service}"))
        .collect();
    let mut records = 0;
    for service in &services {
        for offered in [Method::None, Method::SessionId, Method::Ticket, Method::Psk] {
            let record = Handshake {
                offered,
                ..full("shared")
            };
            aggregator.record(&record, Some(service), 0);
            records += 1;
        }
    }
    let handshakes = samples(&aggregator, |set| &set.handshakes);
    let own = handshakes
        .iter()
        .filter(|sample| &*sample.server_name == "shared");
    assert_eq!(own.count(), 256);
    assert_eq!(totals(&aggregator).values().sum::<u64>(), records);
    assert_eq!(durations(&aggregator)["shared"], 64 * 4);
    assert_eq!(durations(&aggregator).values().sum::<u64>(), records);
}

#[test]
fn histograms_follow_the_busiest_names() {
    let config = AggregateConfig {
        histogram_server_names: 2,
        ..AggregateConfig::default()
    };
    let mut aggregator = Aggregator::new(config);
    for name in ["a", "b", "c"] {
        for _ in 0..10 {
            let record = Handshake {
                time_to_first_byte_ns: Some(2_000_000),
                ..full(name)
            };
            aggregator.record(&record, None, 0);
        }
    }
    let before = durations(&aggregator);
    assert_eq!((before["a"], before["b"], before["_other"]), (10, 10, 10));

    for _ in 0..200 {
        aggregator.record(&full("c"), None, 0);
    }
    for _ in 0..5 {
        aggregator.record(&full("b"), None, 0);
    }
    let after = durations(&aggregator);
    assert!(after["c"] > 100, "{after:?}");
    assert!(after["_other"] >= before["_other"]);
    assert_eq!(
        after.len(),
        3,
        "the one displaced has no histogram any more: {after:?}"
    );
    let first_bytes = samples(&aggregator, |set| &set.first_bytes);
    assert!(
        first_bytes.iter().all(|sample| &*sample.server_name != "a"),
        "of no kind: {first_bytes:?}"
    );
    assert_eq!(totals(&aggregator)["a"], 10, "but keeps its counter");
}

#[test]
fn idle_series_expire_and_free_their_place() {
    let mut aggregator = aggregator(1);
    aggregator.record(&full("a"), Some("nginx"), 0);
    aggregator.expire(HOUR - 1);
    assert_eq!(totals(&aggregator)["a"], 1);

    aggregator.record(
        &handshake(host("a"), Outcome::Resumed),
        Some("nginx"),
        HOUR - 1,
    );
    aggregator.expire(HOUR);
    assert_eq!(
        totals(&aggregator)["a"],
        1,
        "the full one is gone, the resumed one is not"
    );

    aggregator.expire(2 * HOUR);
    assert!(totals(&aggregator).is_empty());
    assert_eq!(aggregator.server_names(), 0);
    aggregator.record(&full("b"), Some("haproxy"), 2 * HOUR);
    assert_eq!(totals(&aggregator)["b"], 1);
}

#[test]
fn services_beyond_the_limit_share_one_label_until_one_expires() {
    let config = AggregateConfig {
        max_services: 1,
        ..AggregateConfig::default()
    };
    let mut aggregator = Aggregator::new(config);
    let services = |aggregator: &Aggregator| {
        samples(aggregator, |set| &set.handshakes)
            .iter()
            .map(|sample| sample.service.name.clone())
            .collect::<Vec<_>>()
    };
    aggregator.record(&full("a"), Some("nginx"), 0);
    aggregator.record(&full("b"), Some("haproxy"), 0);
    aggregator.record(&full("c"), None, 0);
    assert_eq!(services(&aggregator), ["nginx", "_other", "_unknown"]);

    aggregator.expire(HOUR);
    aggregator.record(&full("b"), Some("haproxy"), HOUR);
    assert_eq!(services(&aggregator), ["haproxy"]);
}

#[test]
fn early_data_ech_alerts_and_chain_reach_their_families() {
    let mut aggregator = aggregator(10);
    let accepted = Handshake {
        early_data_offered: true,
        early_data_accepted: Some(true),
        ech_offered: true,
        certificate_chain_bytes: Some(2_801),
        ..full("a")
    };
    let refused = Handshake {
        early_data_accepted: Some(false),
        ech_offered: false,
        ..accepted.clone()
    };
    aggregator.record(&accepted, None, 0);
    aggregator.record(&refused, None, 0);
    for (description, sent) in [
        (Some(40), true),
        (Some(40), true),
        (Some(201), false),
        (Some(202), false),
        (None, false),
    ] {
        let alert = Some(Alert {
            level: None,
            description,
            sent,
        });
        aggregator.record(
            &Handshake {
                alert,
                ..handshake(host("a"), Outcome::Failed)
            },
            None,
            0,
        );
    }

    let early_data: Vec<_> = samples(&aggregator, |set| &set.early_data)
        .iter()
        .map(|sample| (sample.key.status.as_str(), sample.value))
        .collect();
    assert_eq!(
        early_data,
        [("offered", 2), ("accepted", 1), ("rejected", 1)]
    );
    let ech_offers: Vec<_> = samples(&aggregator, |set| &set.ech_offers)
        .iter()
        .map(|sample| sample.value)
        .collect();
    assert_eq!(ech_offers, [1]);
    let alerts: Vec<_> = samples(&aggregator, |set| &set.alerts)
        .iter()
        .map(|sample| {
            (
                labels::alert(sample.key.description),
                alert_direction(sample.key.sent),
                sample.value,
            )
        })
        .collect();
    assert_eq!(
        alerts,
        [
            ("encrypted", "received", 1),
            ("handshake_failure", "sent", 2),
            ("unknown", "received", 2)
        ]
    );
    let chain_bytes = samples(&aggregator, |set| &set.chain_bytes);
    assert_eq!(chain_bytes.len(), 1);
    assert_eq!(chain_bytes[0].value, 2_801);
}

#[test]
fn bucket_bounds_are_inclusive() {
    let mut histogram = Histogram::default();
    for nanoseconds in [250_000, 250_001, 10_000_000_000, 10_000_000_001] {
        histogram.observe(&DURATION_BOUNDS_NS, nanoseconds);
    }
    assert_eq!(histogram.buckets[..2], [1, 1]);
    assert_eq!(histogram.buckets[14..], [1, 1]);
    assert_eq!(histogram.sum_ns, 20_000_500_002);
}

#[test]
fn quota_leaves_failed_handshakes_out_of_the_ratio() {
    let mut aggregator = aggregator(10);
    for result in [
        Outcome::Full,
        Outcome::Resumed,
        Outcome::Resumed,
        Outcome::Resumed,
        Outcome::Failed,
    ] {
        let offered = if result == Outcome::Full {
            Method::None
        } else {
            Method::Psk
        };
        aggregator.record(
            &Handshake {
                offered,
                ..handshake(host("a"), result)
            },
            None,
            0,
        );
    }
    aggregator.record(&handshake(host("b"), Outcome::Failed), None, 0);
    let quotas = Quota::of(&samples(&aggregator, |set| &set.handshakes));
    assert_eq!(&*quotas[0].server_name, "a");
    assert_eq!(
        (
            quotas[0].full,
            quotas[0].resumed,
            quotas[0].failed,
            quotas[0].offered
        ),
        (1, 3, 1, 3)
    );
    assert_eq!(quotas[0].ratio(), Some(0.75));
    assert_eq!(quotas[1].ratio(), None);
}

/// A record of random traffic: few busy names, many rare ones, every kind of end.
fn traffic() -> impl Strategy<Value = Vec<(u32, u8, u64)>> {
    let name = prop_oneof![3 => 0u32..4, 2 => 0u32..20, 1 => 0u32..5_000];
    prop::collection::vec((name, 0u8..8, 0u64..2 * SECOND), 0..1_500)
}

fn random_record(name: u32, kind: u8) -> Handshake {
    let result = match kind % 4 {
        0 => Outcome::Failed,
        1 => Outcome::Resumed,
        _ => Outcome::Full,
    };
    let server_name = match name {
        19 => None,
        18 => Some(ServerName::Invalid),
        name => host(&format!("name{name}")),
    };
    handshake(server_name, result)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn other_never_decreases_and_names_stay_bounded(records in traffic()) {
        let config = AggregateConfig { max_server_names: 8, histogram_server_names: 3, ..AggregateConfig::default() };
        let mut aggregator = Aggregator::new(config);
        let mut now_ns = 0;
        let mut previous = HashMap::new();
        for (step, (name, kind, pause)) in records.into_iter().enumerate() {
            now_ns += pause;
            aggregator.record(&random_record(name, kind), Some("nginx"), now_ns);
            if step % 16 != 0 {
                continue;
            }
            prop_assert!(aggregator.server_names() <= 8);
            let names = |samples: Vec<&str>| {
                samples.into_iter().filter(|name| !name.starts_with('_')).collect::<std::collections::HashSet<_>>().len()
            };
            prop_assert!(names(samples(&aggregator, |set| &set.durations).iter().map(|sample| &*sample.server_name).collect()) <= 3);
            let other: HashMap<_, _> = samples(&aggregator, |set| &set.handshakes)
                .iter()
                .filter(|sample| &*sample.server_name == "_other")
                .map(|sample| (sample.key, sample.value))
                .collect();
            for (key, value) in &previous {
                prop_assert!(other[key] >= *value);
            }
            previous = other;
        }
    }

    #[test]
    fn totals_equal_the_number_of_records_while_nothing_is_displaced(records in traffic()) {
        let config = AggregateConfig { max_server_names: 5_000, histogram_server_names: 5_000, ..AggregateConfig::default() };
        let mut aggregator = Aggregator::new(config);
        let count = records.len() as u64;
        let timed = records.iter().filter(|(_, kind, _)| kind % 4 != 0).count() as u64;
        for (name, kind, _) in records {
            aggregator.record(&random_record(name, kind), None, 0);
        }
        prop_assert_eq!(totals(&aggregator).values().sum::<u64>(), count);
        prop_assert_eq!(durations(&aggregator).values().sum::<u64>(), timed);
    }

    #[test]
    fn totals_never_exceed_the_number_of_records(records in traffic()) {
        let mut aggregator = aggregator(4);
        let mut now_ns = 0;
        let mut count = 0;
        for (name, kind, pause) in records {
            now_ns += pause * 100;
            count += 1;
            aggregator.record(&random_record(name, kind), None, now_ns);
            if kind == 7 {
                aggregator.expire(now_ns);
            }
        }
        prop_assert!(totals(&aggregator).values().sum::<u64>() <= count);
    }
}
