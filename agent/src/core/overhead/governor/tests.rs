use agent_common::hits;

use super::super::model::Traps;
use super::*;

const SECOND_NS: u64 = 1_000_000_000;

/// With assumed costs of programs: a copied segment 0.8 µs; a ticket 1 µs, and 2 µs for its trap.
fn governor(limit: Option<f64>) -> Governor {
    let traps = Traps {
        entry_ns: 2_000.0,
        call_ns: 3_000.0,
    };
    Governor::new(CostModel::new(traps), limit)
}

/// Five seconds of `handshakes`, on servers that use this part of a CPU: each handshake costs 4 µs at
/// the wire tap (5 copied segments), 3 µs at its ticket and 6 µs at two calls, where these are watched.
fn seconds(governor: &Governor, handshakes: u64, cpu: f64) -> Sample {
    let mut hits = Hits::default();
    hits[hits::WIRE_COPIED as usize] = 5 * handshakes;
    if !governor.is_shed(Optional::Tickets) {
        hits[hits::TICKET as usize] = handshakes;
    }
    if !governor.is_shed(Optional::HandshakeCalls) {
        hits[hits::HANDSHAKE_ENTER as usize] = 2 * handshakes;
        hits[hits::HANDSHAKE_RETURN as usize] = handshakes;
    }
    Sample {
        elapsed_ns: 5 * SECOND_NS,
        hits,
        handshakes,
        servers_ns: (cpu * 5.0 * SECOND_NS as f64) as u64,
        everybody_ns: 0,
    }
}

/// Feeds `count` alike samples; what changed in them.
fn feed(governor: &mut Governor, count: usize, handshakes: u64, cpu: f64) -> Vec<Change> {
    (0..count)
        .flat_map(|_| {
            let sample = seconds(governor, handshakes, cpu);
            governor.judge(sample).changes
        })
        .collect()
}

const CALLS: Optional = Optional::HandshakeCalls;
const TICKETS: Optional = Optional::Tickets;

#[test]
fn the_estimate_is_cost_over_the_servers_cpu() {
    let mut governor = governor(None);
    let mut sample = Sample {
        elapsed_ns: SECOND_NS,
        servers_ns: SECOND_NS / 2,
        everybody_ns: SECOND_NS,
        ..Sample::default()
    };
    sample.hits[hits::TICKET as usize] = 1_000;
    sample.hits[hits::WIRE_PASSED as usize] = 10_000;
    let ratio = governor.judge(sample).ratio.expect("half a CPU was used");
    // 3 ms of 500 ms, and 1 ms of the second that everybody used.
    assert!((ratio - (0.006 + 0.001)).abs() < 1e-9, "{ratio}");
}

#[test]
fn sheds_nothing_at_the_start_nor_within_the_limit_nor_without_one() {
    // 2,000 handshakes of 4 + 3 + 6 µs a second: 2.6 % of a CPU.
    let mut within = governor(Some(0.03));
    assert_eq!(feed(&mut within, 10, 10_000, 1.0), []);
    let mut without = governor(None);
    assert_eq!(feed(&mut without, 10, 10_000, 1.0), []);
    let mut above = governor(Some(0.01));
    assert_eq!(feed(&mut above, 1, 10_000, 1.0), []);
}

#[test]
fn sheds_in_order_and_no_more_than_it_must() {
    let mut one = governor(Some(0.02));
    assert_eq!(feed(&mut one, 10, 10_000, 1.0), [Change::Shed(CALLS)]);
    let mut both = governor(Some(0.001));
    let changes = feed(&mut both, 10, 10_000, 1.0);
    assert_eq!(changes, [Change::Shed(CALLS), Change::Shed(TICKETS)]);
    assert!(both.is_shed(CALLS) && both.is_shed(TICKETS));
}

#[test]
fn does_not_shed_what_costs_nothing() {
    let mut governor = governor(Some(0.001));
    let mut sample = seconds(&governor, 10_000, 1.0);
    sample.hits[hits::HANDSHAKE_ENTER as usize] = 0;
    sample.hits[hits::HANDSHAKE_RETURN as usize] = 0;
    governor.judge(sample);
    assert_eq!(governor.judge(sample).changes, [Change::Shed(TICKETS)]);
}

#[test]
fn does_not_restore_what_would_be_shed_again() {
    let mut governor = governor(Some(0.02));
    feed(&mut governor, 2, 10_000, 1.0);
    assert_eq!(feed(&mut governor, 100, 10_000, 1.0), []);
    // What is left costs 1.4 % at this load, and with the calls 1.95 %: below the limit, with no room.
    assert_eq!(feed(&mut governor, 100, 7_500, 1.0), []);
}

#[test]
fn restores_one_by_one_when_the_servers_do_other_work_again() {
    let mut governor = governor(Some(0.005));
    feed(&mut governor, 2, 10_000, 1.0);
    assert!(governor.is_shed(CALLS) && governor.is_shed(TICKETS));
    let changes = feed(&mut governor, 20, 500, 1.0);
    assert_eq!(changes, [Change::Restore(TICKETS), Change::Restore(CALLS)]);
}

#[test]
fn a_single_calm_sample_restores_nothing() {
    let mut governor = governor(Some(0.005));
    feed(&mut governor, 2, 10_000, 1.0);
    for _ in 0..20 {
        assert_eq!(feed(&mut governor, 1, 100, 1.0), []);
        assert_eq!(feed(&mut governor, 2, 10_000, 1.0), []);
    }
}

#[test]
fn servers_at_rest_are_not_judged_and_get_everything_back() {
    let mut governor = governor(Some(0.005));
    // 13 µs a handshake are a third of what these servers use, and it is nothing.
    assert_eq!(feed(&mut governor, 20, 100, 0.03), []);
    feed(&mut governor, 2, 10_000, 1.0);
    assert!(governor.is_shed(CALLS) && governor.is_shed(TICKETS));
    let changes = feed(&mut governor, 20, 0, 0.0);
    assert_eq!(changes, [Change::Restore(TICKETS), Change::Restore(CALLS)]);
}

#[test]
fn says_no_ratio_where_servers_used_too_little_to_tell() {
    let mut governor = governor(Some(0.01));
    let sample = seconds(&governor, 100, 0.001);
    assert_eq!(governor.judge(sample).ratio, None);
}

#[test]
fn totals_only_grow() {
    let mut governor = governor(Some(0.005));
    let mut last = governor.totals_ns();
    for _ in 0..10 {
        feed(&mut governor, 1, 10_000, 1.0);
        let totals = governor.totals_ns();
        assert!(totals.iter().zip(last).all(|(new, old)| *new >= old));
        last = totals;
    }
    assert!(last.iter().sum::<f64>() > 0.0);
}
