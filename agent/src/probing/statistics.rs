//! What a handful of measurements comes to.

use std::time::Duration;

/// Median, and the middle half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    pub low: Duration,
    pub median: Duration,
    pub high: Duration,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut values: Vec<Duration> = values.into_iter().collect();
        values.sort_unstable();
        let at = |quarters: usize| {
            // Between two values, the mean of both where it falls in the middle.
            let place = (values.len().checked_sub(1)?) * quarters;
            let (below, rest) = (place / 4, place % 4);
            let (low, high) = (
                *values.get(below)?,
                *values.get(below + usize::from(rest > 0))?,
            );
            Some(low + (high - low) * rest as u32 / 4)
        };
        Some(Self {
            low: at(1)?,
            median: at(2)?,
            high: at(3)?,
        })
    }
}

/// How likely it is that as many of so many differences have one sign, or more, where both are equally
/// likely (sign test, two-sided).
pub fn sign_test(positive: usize, negative: usize) -> f64 {
    let all = positive + negative;
    let fewer = positive.min(negative);
    // C(all, k) / 2^all, one after the other.
    let mut term = 0.5_f64.powi(all as i32);
    let mut sum = 0.0;
    for k in 0..=fewer {
        sum += term;
        term *= (all - k) as f64 / (k + 1) as f64;
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn quartiles_lie_between_values() {
        let spread = |values: &[u64]| {
            let spread = Spread::of(values.iter().map(|v| Duration::from_nanos(*v))).unwrap();
            [spread.low, spread.median, spread.high].map(|value| value.as_nanos())
        };
        assert_eq!(spread(&[7]), [7, 7, 7]);
        assert_eq!(spread(&[10, 20]), [12, 15, 17]);
        assert_eq!(spread(&[50, 10, 30, 20, 40]), [20, 30, 40]);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ten_of_ten_are_no_accident_and_six_of_ten_may_be() {
        // 2 / 2^10, and 2 · (1 + 10 + 45 + 120 + 210) / 2^10.
        assert!((sign_test(10, 0) - 2.0 / 1024.0).abs() < 1e-12);
        assert!((sign_test(6, 4) - 772.0 / 1024.0).abs() < 1e-12);
        assert_eq!(sign_test(5, 5), 1.0);
        assert_eq!(sign_test(0, 0), 1.0);
    }
}
