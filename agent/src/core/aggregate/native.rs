//! The sparse, exponential buckets of Prometheus' native histograms, for positive values.

/// Each power of two in eight steps, 9 % apart (schema 3 of the native histograms).
pub const SCHEMA: i32 = 3;

const STEPS_PER_DOUBLING: f64 = 8.0;

/// Counts of buckets that lie side by side. Bucket `i` holds what is above `2^((i-1)/8)` seconds and
/// not above `2^(i/8)`. Nanoseconds of 64 bits fall into 512 of them, those of handshakes into some
/// fifty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeBuckets {
    /// Observations of nothing.
    pub zeros: u64,
    /// Number of the first of `counts`.
    pub first: i32,
    pub counts: Vec<u64>,
}

impl NativeBuckets {
    pub(super) fn observe(&mut self, nanoseconds: u64) {
        if nanoseconds == 0 {
            self.zeros += 1;
            return;
        }
        *self.bucket(number_of(nanoseconds)) += 1;
    }

    fn bucket(&mut self, number: i32) -> &mut u64 {
        if self.counts.is_empty() {
            self.first = number;
        }
        if number < self.first {
            let missing = self.first.abs_diff(number) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = number;
        }
        let place = self.first.abs_diff(number) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        &mut self.counts[place]
    }

    /// Observations in all.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// How many are not above this many seconds; within a bucket as if they lay evenly on its scale.
    pub fn not_above(&self, seconds: f64) -> f64 {
        if seconds <= 0.0 {
            return self.zeros as f64;
        }
        let place = seconds.log2() * STEPS_PER_DOUBLING;
        let buckets = (self.first..).zip(&self.counts);
        let below = buckets.map(|(number, &count)| {
            let share = (place - f64::from(number - 1)).clamp(0.0, 1.0);
            share * count as f64
        });
        self.zeros as f64 + below.sum::<f64>()
    }

    /// The middle one, seconds; within 5 %. `None` without observations.
    pub fn median(&self) -> Option<f64> {
        let mut left = self.count().checked_sub(1)? / 2;
        if left < self.zeros {
            return Some(0.0);
        }
        left -= self.zeros;
        for (number, &count) in (self.first..).zip(&self.counts) {
            if left < count {
                return Some(((f64::from(number) - 0.5) / STEPS_PER_DOUBLING).exp2());
            }
            left -= count;
        }
        None
    }

    /// The greatest bound below which all lie, seconds.
    pub fn greatest(&self) -> Option<f64> {
        let last = self.counts.len().checked_sub(1)?;
        let number = self.first.checked_add(i32::try_from(last).ok()?)?;
        Some((f64::from(number) / STEPS_PER_DOUBLING).exp2())
    }

    /// Forgets half of it.
    pub(super) fn halve(&mut self) {
        self.zeros /= 2;
        self.counts.iter_mut().for_each(|count| *count /= 2);
    }

    /// Enters what another one holds.
    pub fn add(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (number, &count) in (other.first..).zip(&other.counts) {
            if count > 0 {
                *self.bucket(number) += count;
            }
        }
    }

    /// Each count less the one before, as they go over the wire.
    pub fn deltas(&self) -> impl Iterator<Item = i64> {
        let mut before = 0;
        self.counts.iter().map(move |&count| {
            let delta = count.cast_signed().wrapping_sub(before);
            before = count.cast_signed();
            delta
        })
    }
}

/// The bucket of a positive value.
fn number_of(nanoseconds: u64) -> i32 {
    let seconds = nanoseconds as f64 / 1e9;
    // From -240 to 273.
    (seconds.log2() * STEPS_PER_DOUBLING).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> NativeBuckets {
        let mut buckets = NativeBuckets::default();
        values.iter().for_each(|&value| buckets.observe(value));
        buckets
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let second = 1_000_000_000;
        assert_eq!(of(&[second]).first, 0);
        assert_eq!(of(&[second + 1]).first, 1);
        assert_eq!(of(&[2 * second]).first, 8);
        assert_eq!(of(&[second / 2]).first, -8);
    }

    #[test]
    fn grows_on_both_sides_and_loses_nothing() {
        let buckets = of(&[1_000_000_000, 500_000_000, 2_000_000_000, 1_000_000_000, 0]);
        assert_eq!((buckets.first, buckets.counts.len()), (-8, 17));
        assert_eq!(buckets.counts.iter().sum::<u64>(), 4);
        assert_eq!((buckets.counts[8], buckets.zeros), (2, 1));
    }

    #[test]
    fn the_middle_one_is_within_a_bucket() {
        assert_eq!(of(&[]).median(), None);
        assert_eq!(of(&[0, 0, 5]).median(), Some(0.0));
        let seconds = |count: u64| count * 1_000_000_000;
        let median = of(&[seconds(1), seconds(20), seconds(400)]).median();
        assert!(median.is_some_and(|median| (median / 20.0 - 1.0).abs() < 0.05));
    }

    #[test]
    fn what_lies_below_is_counted_within_a_bucket() {
        let values: Vec<u64> = (1..=1_000).map(|value| value * 1_000_000_000).collect();
        let mut buckets = of(&values[..500]);
        buckets.add(&of(&values[500..]));
        assert_eq!(buckets.count(), 1_000);
        for seconds in [10.0, 333.0, 999.0] {
            let below = buckets.not_above(seconds);
            assert!((below / seconds - 1.0).abs() < 0.06, "{seconds}: {below}");
        }
        assert!(buckets.greatest().is_some_and(|bound| bound >= 1_000.0));
    }

    #[test]
    fn deltas_add_up_to_the_counts() {
        let buckets = of(&[1, u64::MAX, 7_000, 7_000, 7_001, 123_456_789]);
        assert!(buckets.counts.len() <= 514);
        let sums: Vec<i64> = buckets
            .deltas()
            .scan(0, |sum, delta| {
                *sum += delta;
                Some(*sum)
            })
            .collect();
        let counts: Vec<i64> = buckets
            .counts
            .iter()
            .map(|count| count.cast_signed())
            .collect();
        assert_eq!(sums, counts);
    }
}
