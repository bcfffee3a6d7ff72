//! Made-up figures for the tests of what is drawn.

use std::collections::BTreeMap;

use super::model::Snapshot;
use crate::core::view::{
    Advice, Counts, Effect, Finding, FindingCounts, Health, History, Name, NameRow, Names,
    Overview, Pair, Part, Point, Reason, Spared,
};

/// Counts with their quota; half of the full ones had offered.
pub fn counts(full: u64, resumed: u64) -> Counts {
    let completed = full + resumed;
    Counts {
        full,
        resumed,
        failed: 0,
        offered: resumed + full / 2,
        quota: (completed > 0).then(|| resumed as f64 / completed as f64),
    }
}

/// A row without times.
pub fn row(server_name: &str, role: &'static str, full: u64, resumed: u64) -> NameRow {
    NameRow {
        server_name: server_name.to_owned(),
        role,
        hour: Some(counts(full, resumed)),
        total: counts(full, resumed),
        first_byte_seconds: Pair::default(),
        cpu_seconds: Pair::default(),
    }
}

/// Four rows, of which one is a client's.
pub fn names() -> Vec<NameRow> {
    let mut shop = row("shop.example", "server", 137, 250);
    shop.first_byte_seconds = Pair {
        full: Some(0.0065),
        resumed: Some(0.0034),
    };
    shop.cpu_seconds = Pair {
        full: Some(0.000_355),
        resumed: Some(0.000_141),
    };
    let mut api = row("api.example", "server", 1, 9_999);
    api.hour.iter_mut().for_each(|hour| hour.failed = 3);
    let mut client = row("collector.metrics.example", "client", 4, 2);
    client.hour = None;
    vec![api, shop, row("legacy.example", "server", 385, 0), client]
}

/// A history whose quota rises.
pub fn history() -> History {
    let points = (0..24_u64).map(|minute| Point {
        timestamp_seconds: 1_795_824_000.0 + (minute * 60) as f64,
        counts: match minute {
            0..4 => counts(0, 0),
            _ => counts(24 - minute, minute - 4),
        },
        first_byte_seconds: Pair::default(),
        cpu_seconds: Pair::default(),
    });
    History {
        step_seconds: 60,
        points: points.collect(),
    }
}

/// A host with these rows.
pub fn snapshot(names: Vec<NameRow>, seconds: f64) -> Snapshot {
    let timestamp_seconds = 1_795_829_400.0 + seconds;
    Snapshot {
        overview: Overview {
            timestamp_seconds,
            started_timestamp_seconds: 1_795_824_000.0,
            version: "1.2.3",
            labels: BTreeMap::from([("pop".to_owned(), "fra1".to_owned())]),
            target: 0.9,
            server: Counts {
                failed: 3,
                ..counts(523, 10_249)
            },
            client: counts(4, 2),
            history: history(),
            reasons: Vec::new(),
            gaps: Vec::new(),
            saved: Spared::default(),
            lost: Spared::default(),
            findings: FindingCounts {
                error: 1,
                warning: 2,
                info: 0,
            },
            health: Health {
                ready: true,
                coverage: Some(0.9999),
                overhead_ratio: Some(0.004),
                ..Health::default()
            },
        },
        names: Names {
            timestamp_seconds,
            names,
        },
    }
}

/// What is known of the second of [`names`].
pub fn shop() -> Name {
    let part = |service: &str, version, offered, full, resumed| Part {
        service: service.to_owned(),
        transport: "tcp",
        version,
        offered,
        full,
        resumed,
        failed: 0,
    };
    Name {
        timestamp_seconds: 1_795_829_400.0,
        row: names().remove(1),
        history: history(),
        reasons: vec![
            Reason {
                reason: "never_offered",
                count: 120,
            },
            Reason {
                reason: "key_unknown",
                count: 17,
            },
        ],
        parts: vec![
            part("nginx", "1.3", "psk", 10, 200),
            part("nginx", "1.3", "none", 100, 0),
            part("nginx", "1.2", "session_id", 27, 50),
        ],
        findings: vec![Finding {
            id: "keys_differ".to_owned(),
            severity: "error".to_owned(),
            title: "Tickets of other servers are refused".to_owned(),
            server_name: Some("shop.example".to_owned()),
            service: Some("nginx".to_owned()),
            since_timestamp_seconds: 1_795_824_000.0,
            evidence: "17 of 267 offers bore a key that this server does not hold, and all of \
                       them one that it never issued tickets with."
                .to_owned(),
            figures: BTreeMap::new(),
            effect: Effect::default(),
            advice: vec![Advice {
                server: "any".to_owned(),
                text: "Give all servers of a name the same ticket keys.".to_owned(),
                config: None,
            }],
        }],
    }
}
