//! What full and resumed handshakes of one kind cost on this host, and the difference: what
//! resumption saves.
//!
//! Clients that resume are not those that do not: they come back, often from nearer. So waits are
//! compared between connections of like round-trip time (classes of a factor of 1.25, and within a
//! class by proportion), and the time that the server thought about the request is taken out: what
//! is left is due to the handshake. The plain difference of means is kept beside it, to show what
//! it would mislead to.

use super::record::Handshake;

/// Estimates are of the last one to two of these, nanoseconds.
const PERIOD_NS: u64 = 300_000_000_000;

/// Measured handshakes of each kind, full and resumed, below which nothing is said.
const MIN_SEEN: u64 = 10;

/// The same within one class of round-trip times.
const MIN_SEEN_IN_CLASS: u64 = 3;

/// Round trips below this are one class, nanoseconds: their differences are noise.
const NEAR_NS: u64 = 1_000_000;
/// Ratio between the bounds of a class.
const RATIO: f64 = 1.25;
/// Classes: the last begins above 30 s.
const CLASSES: usize = 48;

/// Sums over some handshakes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: u64,
    /// Nanoseconds.
    wait: f64,
    round_trip: f64,
}

impl Sums {
    fn add(&mut self, wait_ns: u64, round_trip_ns: u64) {
        self.count += 1;
        self.wait += wait_ns as f64;
        self.round_trip += round_trip_ns as f64;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            wait: self.wait + other.wait,
            round_trip: self.round_trip + other.round_trip,
        }
    }

    fn mean_wait(self) -> f64 {
        self.wait / self.count as f64
    }

    fn mean_round_trip(self) -> f64 {
        self.round_trip / self.count as f64
    }
}

/// Full and resumed handshakes, in this order.
type Pair = [Sums; 2];

/// What was measured in one period.
#[derive(Clone, Debug)]
struct Period {
    /// Time to first byte as it was.
    plain: Pair,
    /// Time to first byte without the server's thinking, by class of round-trip time.
    classes: Box<[Pair; CLASSES]>,
    /// On-CPU time in the handshake.
    cpu: Pair,
}

impl Default for Period {
    fn default() -> Self {
        Self {
            plain: Pair::default(),
            classes: Box::new([Pair::default(); CLASSES]),
            cpu: Pair::default(),
        }
    }
}

/// A difference, full less resumed, nanoseconds.
pub type Difference = Option<i64>;

/// The costs of the handshakes of one service, role, transport and TLS version.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    current: Period,
    previous: Period,
    started_ns: u64,
    /// When it last learned something.
    pub changed_ns: u64,
}

impl Costs {
    /// Learns from a handshake that came to its end.
    pub fn learn(&mut self, handshake: &Handshake, now_ns: u64) {
        let Some(kind) = handshake.outcome().place() else {
            return;
        };
        self.advance(now_ns);
        if let Some(cpu_ns) = handshake.plain_cpu_ns() {
            self.changed_ns = now_ns;
            self.current.cpu[kind].add(cpu_ns, 0);
        }
        if let (Some(first_byte_ns), Some(thought_ns), Some(rtt_ns)) = (
            handshake.time_to_first_byte_ns,
            handshake.response_wait_ns,
            handshake.rtt_ns,
        ) {
            self.changed_ns = now_ns;
            self.current.plain[kind].add(first_byte_ns, rtt_ns);
            self.current.classes[class(rtt_ns)][kind]
                .add(first_byte_ns.saturating_sub(thought_ns), rtt_ns);
        }
    }

    /// A period that saw enough makes way for the next.
    fn advance(&mut self, now_ns: u64) {
        if self.started_ns == 0 {
            self.started_ns = now_ns;
        }
        let is_over = now_ns.saturating_sub(self.started_ns) >= PERIOD_NS;
        let saw_enough = |pair: &Pair| pair.iter().all(|sums| sums.count >= MIN_SEEN);
        if is_over && (saw_enough(&self.current.plain) || saw_enough(&self.current.cpu)) {
            self.previous = std::mem::take(&mut self.current);
            self.started_ns = now_ns;
        }
    }

    /// Difference of the mean times to first byte, whoever the clients are.
    pub fn plain_gap(&self) -> Difference {
        let [full, resumed] = merged(&self.current.plain, &self.previous.plain);
        (full.count >= MIN_SEEN && resumed.count >= MIN_SEEN)
            .then(|| (full.mean_wait() - resumed.mean_wait()) as i64)
    }

    /// Difference of the times to first byte between connections of like distance, without the
    /// server's thinking; for the distances of those that resume.
    pub fn matched_gap(&self) -> Difference {
        let (mut weighted, mut resumptions, mut full_seen) = (0.0, 0, 0);
        for class in 0..CLASSES {
            let [full, resumed] = self.class(class);
            if let Some(gap) = gap_in_class(full, resumed, class) {
                weighted += gap * resumed.count as f64;
                resumptions += resumed.count;
                full_seen += full.count;
            }
        }
        (resumptions >= MIN_SEEN && full_seen >= MIN_SEEN)
            .then(|| (weighted / resumptions as f64) as i64)
    }

    /// What resuming spares a client at this distance; nothing is below zero.
    pub fn saved_wait_ns(&self, rtt_ns: Option<u64>) -> Option<u64> {
        let at_distance = rtt_ns.and_then(|rtt_ns| {
            let class = class(rtt_ns);
            let [full, resumed] = self.class(class);
            let is_enough = full.count >= MIN_SEEN && resumed.count >= MIN_SEEN;
            gap_in_class(full, resumed, class).filter(|_| is_enough)
        });
        let gap = at_distance.map(|gap| gap as i64).or(self.matched_gap())?;
        Some(u64::try_from(gap).unwrap_or(0))
    }

    /// What resuming spares a server; nothing is below zero.
    pub fn saved_cpu_ns(&self) -> Option<u64> {
        let [full, resumed] = merged(&self.current.cpu, &self.previous.cpu);
        (full.count >= MIN_SEEN && resumed.count >= MIN_SEEN)
            .then(|| (full.mean_wait() - resumed.mean_wait()).max(0.0) as u64)
    }

    fn class(&self, class: usize) -> Pair {
        merged(&self.current.classes[class], &self.previous.classes[class])
    }
}

fn merged([a, b]: &Pair, [c, d]: &Pair) -> Pair {
    [a.plus(*c), b.plus(*d)]
}

/// Time to first byte without thinking grows with the round-trip time, nearly in proportion: the
/// resumed ones are scaled to the mean distance of the full ones, except where all are near.
fn gap_in_class(full: Sums, resumed: Sums, class: usize) -> Option<f64> {
    if full.count < MIN_SEEN_IN_CLASS || resumed.count < MIN_SEEN_IN_CLASS {
        return None;
    }
    let scale = if class == 0 {
        1.0
    } else {
        full.mean_round_trip() / resumed.mean_round_trip()
    };
    Some(full.mean_wait() - resumed.mean_wait() * scale)
}

fn class(rtt_ns: u64) -> usize {
    if rtt_ns <= NEAR_NS {
        return 0;
    }
    let steps = (rtt_ns as f64 / NEAR_NS as f64).ln() / RATIO.ln();
    (1 + steps as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample;

    const MILLISECOND: u64 = 1_000_000;

    /// A handshake of TLS 1.2 at this distance: three round trips to the first byte, two resumed.
    fn measured(resumed: bool, rtt_ms: u64, thought_ms: u64) -> Handshake {
        let trips = if resumed { 2 } else { 3 };
        Handshake {
            resumed,
            rtt_ns: Some(rtt_ms * MILLISECOND),
            time_to_first_byte_ns: Some((trips * rtt_ms + thought_ms) * MILLISECOND),
            response_wait_ns: Some(thought_ms * MILLISECOND),
            ..sample::resumed()
        }
    }

    fn learned(handshakes: impl IntoIterator<Item = Handshake>) -> Costs {
        let mut costs = Costs::default();
        for handshake in handshakes {
            costs.learn(&handshake, 1);
        }
        costs
    }

    fn milliseconds(difference: Difference) -> Option<f64> {
        difference.map(|ns| (ns as f64 / 1e5).round() / 10.0)
    }

    #[test]
    fn gap_is_one_round_trip_where_resuming_saves_one() {
        for rtt in [20, 80, 300] {
            let costs = learned((0..40).map(|n| measured(n % 2 == 0, rtt, n % 7)));
            assert_eq!(milliseconds(costs.matched_gap()), Some(rtt as f64), "{rtt}");
        }
    }

    #[test]
    fn nearer_resumers_mislead_the_plain_gap_and_not_the_matched_one() {
        // Half of the far clients are new, and nine of ten of the near ones resume.
        let far = (0..40).map(|n| measured(n % 2 == 0, 80, 0));
        let near = (0..100).map(|n| measured(n % 10 != 0, 5, 0));
        let costs = learned(far.chain(near));
        let (plain, matched) = (costs.plain_gap(), costs.matched_gap());
        // Of 110 that resumed, 20 were far.
        let saved: f64 = (20.0 * 80.0 + 90.0 * 5.0) / 110.0;
        assert_eq!(milliseconds(matched), Some((saved * 10.0).round() / 10.0));
        assert!(plain > matched.map(|gap| 4 * gap));
    }

    #[test]
    fn thinking_of_the_server_is_no_gap() {
        let costs =
            learned((0..40).map(|n| measured(n % 2 == 0, 20, if n % 2 == 0 { 0 } else { 500 })));
        assert_eq!(milliseconds(costs.matched_gap()), Some(20.0));
        assert_eq!(milliseconds(costs.plain_gap()), Some(520.0));
    }

    #[test]
    fn nothing_is_said_without_full_handshakes() {
        let costs = learned((0..1_000).map(|_| measured(true, 20, 0)));
        assert_eq!(costs.matched_gap(), None);
        assert_eq!(costs.plain_gap(), None);
        assert_eq!(costs.saved_wait_ns(Some(20 * MILLISECOND)), None);
        assert_eq!(costs.saved_cpu_ns(), None);
    }

    #[test]
    fn client_at_an_unknown_distance_saves_what_others_do() {
        let costs = learned((0..40).map(|n| measured(n % 2 == 0, 20, 0)));
        for rtt in [None, Some(20 * MILLISECOND), Some(900 * MILLISECOND)] {
            assert_eq!(costs.saved_wait_ns(rtt), Some(20 * MILLISECOND));
        }
    }

    #[test]
    fn old_measurements_make_way() {
        let mut costs = Costs::default();
        for period in 0..3 {
            for n in 0..40 {
                let rtt = if period == 0 { 200 } else { 20 };
                costs.learn(&measured(n % 2 == 0, rtt, 0), 1 + period * PERIOD_NS);
            }
        }
        assert_eq!(milliseconds(costs.matched_gap()), Some(20.0));
    }

    #[test]
    fn classes_cover_every_distance() {
        assert_eq!(class(0), 0);
        assert_eq!(class(u64::MAX), CLASSES - 1);
        assert_eq!(class(80 * MILLISECOND), class(81 * MILLISECOND));
        assert!(class(80 * MILLISECOND) < class(120 * MILLISECOND));
    }
}
