//! CPU by primitive, estimated from the handshakes that were timed.

use agent_common::primitive;

use super::*;

/// Seconds of signing in all.
fn signed(aggregator: &Aggregator) -> f64 {
    let samples = samples(aggregator, |set| &set.crypto);
    samples
        .iter()
        .filter(|sample| sample.key.primitive == primitive::SIGN)
        .map(|sample| sample.value as f64 / 1e9)
        .sum()
}

/// A full handshake that signed for so long, timed or not.
fn signing(name: &str, microseconds: u64, timed: bool) -> Handshake {
    let mut times = [0; primitive::COUNT];
    times[primitive::SIGN] = microseconds * 1_000;
    Handshake {
        cpu_ns: timed.then_some(900_000),
        primitives_ns: timed.then_some(times),
        ..full(name)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever share is timed, in windows or scattered, and however many kinds there are.
    #[test]
    fn estimate_of_primitives_is_right_on_average_and_never_falls(
        seed in any::<u64>(),
        share in 1u64..60,
        window in 1u64..200,
    ) {
        let mut aggregator = aggregator(10);
        let (mut truth, mut last, mut random) = (0.0, 0.0, seed | 1);
        let mut next = || {
            // xorshift (Marsaglia, 2003).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut timed = false;
        for number in 0..40_000 {
            if number % window == 0 {
                timed = next() % 100 < share;
            }
            // Two names, one of which signs for four times as long.
            let (name, microseconds) = if next() % 3 == 0 { ("a", 400) } else { ("b", 100) };
            let took = microseconds + next() % 50;
            truth += took as f64 / 1e6;
            aggregator.record(&signing(name, took, timed), None, number);
            if number % 997 == 0 {
                let estimate = signed(&aggregator);
                prop_assert!(estimate >= last);
                last = estimate;
            }
        }
        // What came after the last timed handshake is not counted yet: as many windows as it takes, which
        // is more than twelve times their mean once in 160,000 cases.
        let estimate = signed(&aggregator);
        let untimed = (window * 100 / share * 12) as f64 / 40_000.0;
        prop_assert!(
            (estimate / truth - 1.0).abs() < 0.03 + untimed,
            "{estimate} of {truth}, {share} % in windows of {window}"
        );
    }
}

#[test]
fn handshake_with_probes_on_its_primitives_does_not_count_as_cpu_time() {
    let mut aggregator = aggregator(10);
    aggregator.record(&signing("a", 100, true), None, 1);
    assert!(samples(&aggregator, |set| &set.cpu).is_empty());
    let plain = Handshake {
        cpu_ns: Some(900_000),
        ..full("a")
    };
    aggregator.record(&plain, None, 2);
    assert_eq!(samples(&aggregator, |set| &set.cpu)[0].value.count(), 1);
}
