//! What the quota would be if tickets lived longer, or shorter.
//!
//! The age of a ticket at its return is in the ticket, so it is known of returns that were accepted and of
//! those that came too late, however long the agent has been running. For a lifetime up to today's that is
//! all it takes: what came back later would have been full. For a longer one, tickets that were refused as
//! expired would have been accepted; but clients that obey the lifetime they are told (RFC 8446, 4.6.1) do not
//! offer an expired ticket, and are seen as new. So beyond today's lifetime the interval reaches up to what it
//! would be if all of them had come back; where nobody offers expired tickets nothing is predicted at all.
//!
//! TLS 1.3 brings a new ticket on each connection, so that an age is the time since the last visit. A ticket of
//! TLS 1.2 may serve several visits, until it expires; with a shorter lifetime there are more beginnings, each
//! followed by as many visits as today come within that time of one.

use super::aggregate::returns::{Kind, Returns};
use super::view::Lifetime;

/// Returns of known age below which nothing is predicted.
const MIN_RETURNS: u64 = 20;

/// Of all handshakes, a version of which nothing is known that does not matter.
const SMALL: f64 = 0.1;

/// 95 % of a normal distribution lie within so many standard deviations.
const DEVIATIONS: f64 = 1.96;

/// Lifetimes that somebody may choose, seconds.
const USUAL: [f64; 11] = [
    300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0, 172_800.0,
    604_800.0,
];

/// Today's lifetime times these is told of as well.
const FACTORS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// Lifetimes to tell of, shortest first.
pub fn to_tell(today_ns: Option<u64>) -> Vec<f64> {
    let today = today_ns.map(|ns| ns as f64 / 1e9);
    let near = today
        .into_iter()
        .flat_map(|today| FACTORS.map(|factor| factor * today));
    let mut lifetimes: Vec<f64> = USUAL.into_iter().chain(near).collect();
    // RFC 8446 allows no more than the last one.
    lifetimes.retain(|lifetime| (1.0..=604_800.0).contains(lifetime));
    lifetimes.sort_unstable_by(f64::total_cmp);
    lifetimes.dedup();
    lifetimes
}

/// Resumed handshakes among `completed` at some lifetime.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    completed: f64,
    resumed: f64,
    /// Standard deviation of `resumed`.
    deviation: f64,
    /// Such that would be resumed besides if everybody who offered nothing had come back.
    unseen: f64,
    /// Nothing can be seen of the part that is asked for.
    is_blind: bool,
}

/// What the quota of a service would be with tickets that live `seconds`.
pub fn predict(returns: &Returns, seconds: f64) -> Lifetime {
    let today = returns.lifetime_ns.map(|ns| ns as f64 / 1e9);
    let completed = returns.tls12.completed() + returns.tls13.completed();
    let small = completed as f64 * SMALL;
    let parts = [
        expected(
            &returns.tls12,
            renews(&returns.tls12),
            today,
            seconds,
            small,
        ),
        expected(&returns.tls13, true, today, seconds, small),
    ];
    let nothing = Lifetime {
        lifetime_seconds: seconds,
        quota: None,
        low: None,
        high: None,
    };
    // One kind of which nothing is known makes the sum unknown.
    let [Some(tls12), Some(tls13)] = parts else {
        return nothing;
    };
    let completed = tls12.completed + tls13.completed;
    if completed == 0.0 {
        return nothing;
    }
    let resumed = tls12.resumed + tls13.resumed;
    let margin = DEVIATIONS * tls12.deviation.hypot(tls13.deviation);
    let unseen = tls12.unseen + tls13.unseen;
    let is_blind = tls12.is_blind || tls13.is_blind;
    let ratio = |count: f64| Some((count / completed).clamp(0.0, 1.0));
    Lifetime {
        lifetime_seconds: seconds,
        quota: ratio(resumed).filter(|_| !is_blind),
        low: ratio(resumed - margin),
        high: ratio(resumed + margin + unseen),
    }
}

/// Returns with a ticket of known age.
pub fn known_returns(returns: &Returns) -> u64 {
    let of = |kind: &Kind| kind.accepted.count() + kind.expired.count();
    of(&returns.tls12) + of(&returns.tls13)
}

/// Whether the server sends another ticket when it accepts one.
fn renews(kind: &Kind) -> bool {
    kind.renewed * 2 > kind.resumed
}

/// `None` where too little is known of more than `most` handshakes.
fn expected(
    kind: &Kind,
    renews: bool,
    today: Option<f64>,
    seconds: f64,
    most: f64,
) -> Option<Expected> {
    if kind.completed() == 0 {
        return Some(Expected::default());
    }
    let completed = kind.completed() as f64;
    let known = kind.accepted.count();
    let is_longer = today.is_none_or(|today| seconds > today);
    if known < MIN_RETURNS {
        // A small part stays as it is today.
        return (completed <= most).then(|| Expected {
            completed,
            resumed: kind.resumed as f64,
            unseen: if is_longer { kind.full as f64 } else { 0.0 },
            ..Expected::default()
        });
    }
    // Ages are known of some of those that resumed; they stand for all.
    let resumed = kind.resumed as f64;
    let share = (kind.accepted.not_above(seconds) / known as f64).min(1.0);
    let within = resumed * share;
    let late = if is_longer {
        kind.expired.not_above(seconds)
    } else {
        0.0
    };
    let expected = if renews || is_longer {
        within + late
    } else {
        let visits = within / kind.full.max(1) as f64;
        completed * visits / (1.0 + visits)
    };
    let quota = expected / completed;
    let of_share = resumed * (share * (1.0 - share) / known as f64).sqrt();
    let of_quota = (completed * quota * (1.0 - quota)).sqrt();
    // What expired tickets tell ends with the oldest of them.
    let seen_until = kind
        .expired
        .greatest()
        .filter(|_| kind.expired.count() >= MIN_RETURNS);
    let is_blind = is_longer && seen_until.is_none_or(|until| seconds > until);
    Some(Expected {
        completed,
        resumed: expected,
        deviation: of_share.hypot(of_quota),
        unseen: if is_longer {
            kind.never_offered as f64
        } else {
            0.0
        },
        is_blind,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;
    use crate::core::record::{Handshake, Method, RejectReason};
    use crate::core::sample;
    use proptest::prelude::Rng as _;
    use proptest::test_runner::{RngAlgorithm, TestRng};

    /// Chance.
    struct Random(TestRng);

    impl Random {
        /// From 0 to 1.
        fn unit(&mut self) -> f64 {
            (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn chance(&mut self, probability: f64) -> bool {
            self.unit() < probability
        }
    }

    const SECOND: f64 = 1e9;

    /// How a population of clients behaves.
    #[derive(Clone, Copy)]
    struct Law {
        /// Median and shape of the log-normal time between visits, seconds.
        median: f64,
        shape: f64,
        /// A client comes once more.
        returns: f64,
        /// A client offers tickets that have expired.
        disobeys: f64,
        tls13: bool,
        today: f64,
    }

    impl Law {
        fn gap(self, random: &mut Random) -> f64 {
            let (a, b) = (random.unit().max(1e-12), random.unit());
            let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
            self.median * (self.shape * normal).exp()
        }

        /// Makes so many visits at this lifetime, each seen with the age of the ticket that it offers
        /// and whether that is valid; the share that resumes.
        fn live(
            self,
            lifetime: f64,
            visits: usize,
            seed: u8,
            mut see: impl FnMut(Option<f64>, bool),
        ) -> f64 {
            let mut random = Random(TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
            let (mut made, mut resumed) = (0, 0);
            while made < visits {
                let disobeys = random.chance(self.disobeys);
                let mut age = None;
                loop {
                    made += 1;
                    let is_valid = age.is_some_and(|age: f64| age <= lifetime);
                    resumed += usize::from(is_valid);
                    see(age.filter(|_| is_valid || disobeys), is_valid);
                    if !random.chance(self.returns) {
                        break;
                    }
                    let gap = self.gap(&mut random);
                    // A ticket of TLS 1.2 is not renewed.
                    age = Some(match age.filter(|_| is_valid && !self.tls13) {
                        Some(age) => age + gap,
                        None => gap,
                    });
                }
            }
            resumed as f64 / made as f64
        }

        fn truth(self, lifetime: f64) -> f64 {
            self.live(lifetime, 100_000, 200, |_, _| ())
        }

        fn handshake(self, age: Option<f64>, is_valid: bool, lifetime: f64) -> Handshake {
            let method = if self.tls13 {
                Method::Psk
            } else {
                Method::Ticket
            };
            let offered = age.map_or(Method::None, |_| method);
            Handshake {
                established: true,
                version: Some(if self.tls13 { 0x0304 } else { 0x0303 }),
                resumed: is_valid,
                offered,
                method: if is_valid { offered } else { Method::None },
                reject_reason: (age.is_some() && !is_valid).then_some(RejectReason::Expired),
                ticket_age_ns: age.map(|age| (age * SECOND) as u64),
                ticket_lifetime_ns: age.map(|_| (lifetime * SECOND) as u64),
                tickets_issued: (!self.tls13).then_some(u32::from(!is_valid)),
                ..sample::bare()
            }
        }

        fn observed(self, visits: usize, seed: u8) -> Returns {
            let mut returns = Returns::default();
            self.live(self.today, visits, seed, |age, is_valid| {
                returns.observe(&self.handshake(age, is_valid, self.today), 1);
            });
            returns
        }
    }

    const LAW: Law = Law {
        median: 900.0,
        shape: 1.2,
        returns: 0.9,
        disobeys: 1.0,
        tls13: true,
        today: 3_600.0,
    };

    fn assert_predicts(law: Law, lifetimes: &[f64], points: f64) {
        let mut outside = 0;
        let seen: Vec<Returns> = (1..=5).map(|seed| law.observed(10_000, seed)).collect();
        for &lifetime in lifetimes {
            let truth = law.truth(lifetime);
            for returns in &seen {
                let told = predict(returns, lifetime);
                let (quota, low, high) =
                    (told.quota.unwrap(), told.low.unwrap(), told.high.unwrap());
                let error = (quota - truth).abs() * 100.0;
                assert!(error < points, "{lifetime} s: {quota} for {truth}");
                assert!(low <= quota && quota <= high);
                outside += usize::from(truth < low || truth > high);
            }
        }
        // One in twenty may lie outside; within 5 % a bucket's width adds to that.
        assert!(outside * 10 <= lifetimes.len() * 5, "{outside} outside");
    }

    #[test]
    fn quota_at_untried_lifetimes_is_within_three_points_with_tls13() {
        let lifetimes = [60.0, 300.0, 900.0, 1_800.0, 3_000.0, 7_200.0, 14_400.0];
        assert_predicts(LAW, &lifetimes, 3.0);
        let slow = Law {
            median: 6_000.0,
            shape: 0.5,
            returns: 0.7,
            ..LAW
        };
        assert_predicts(slow, &lifetimes, 3.0);
    }

    #[test]
    fn quota_at_shorter_lifetimes_is_within_three_points_with_tls12() {
        let law = Law {
            tls13: false,
            returns: 0.97,
            today: 14_400.0,
            ..LAW
        };
        assert_predicts(law, &[900.0, 1_800.0, 3_600.0, 7_200.0], 3.0);
    }

    #[test]
    fn what_nobody_offers_any_more_is_not_predicted_but_bounded() {
        let law = Law {
            disobeys: 0.0,
            ..LAW
        };
        let returns = law.observed(10_000, 7);
        let told = predict(&returns, 14_400.0);
        assert_eq!(told.quota, None);
        let truth = law.truth(14_400.0);
        assert!(told.low.unwrap() < truth && truth < told.high.unwrap());
        assert!(predict(&returns, 1_800.0).quota.is_some());
    }

    #[test]
    fn where_some_obey_the_truth_is_within_the_interval() {
        let law = Law {
            disobeys: 0.3,
            ..LAW
        };
        let returns = law.observed(10_000, 9);
        let truth = law.truth(7_200.0);
        let told = predict(&returns, 7_200.0);
        assert!(told.low.unwrap() < truth && truth < told.high.unwrap());
    }

    #[test]
    fn nothing_is_said_of_few_returns_or_of_unknown_ages() {
        let told = predict(&LAW.observed(10, 3), 60.0);
        assert_eq!((told.quota, told.low, told.high), (None, None, None));
        let mut returns = LAW.observed(1_000, 3);
        returns.tls12.resumed = 1_000;
        assert_eq!(predict(&returns, 60.0).quota, None);
        assert_eq!(predict(&Returns::default(), 60.0).quota, None);
    }

    #[test]
    fn todays_lifetime_gives_todays_quota() {
        let returns = LAW.observed(10_000, 4);
        let kind = &returns.tls13;
        let today = kind.resumed as f64 / (kind.full + kind.resumed) as f64;
        let told = predict(&returns, LAW.today).quota.unwrap();
        assert!((told - today).abs() < 0.005, "{told} for {today}");
    }

    #[test]
    fn lifetimes_to_tell_of_are_in_order_and_within_a_week() {
        let lifetimes = to_tell(Some(2_000_000_000));
        assert!(lifetimes.is_sorted() && lifetimes.contains(&2.0) && lifetimes.contains(&1.0));
        assert!(to_tell(Some(u64::MAX)).len() >= USUAL.len());
    }
}
