//! What counts as busy *recently*: exponential decay without touching every counter.

/// A handshake of so long ago counts half, nanoseconds.
const HALF_LIFE_NS: f64 = 600e9;
/// The weight of a handshake is worked out anew after so long, nanoseconds: 0.1 % of a half-life.
const STEP_NS: u64 = 1_000_000_000;
/// Weights are scaled down once a new handshake weighs 2^500, far below the 2^1023 of an `f64`.
const MAX_EXPONENT: f64 = 500.0;

/// Forward decay: instead of old handshakes losing weight, new ones gain it. Sums of weights then
/// compare as decayed sums would.
#[derive(Debug)]
pub(super) struct Decay {
    origin_ns: u64,
    computed_ns: u64,
    unit: f64,
}

impl Decay {
    pub(super) fn new() -> Self {
        Decay {
            origin_ns: 0,
            computed_ns: 0,
            unit: 1.0,
        }
    }

    /// Weight of a handshake now.
    pub(super) fn unit(&self) -> f64 {
        self.unit
    }

    /// Moves on to `now_ns`. The caller must multiply every sum it keeps by the factor returned.
    pub(super) fn advance(&mut self, now_ns: u64) -> Option<f64> {
        if now_ns < self.computed_ns.saturating_add(STEP_NS) {
            return None;
        }
        self.computed_ns = now_ns;
        let exponent = now_ns.saturating_sub(self.origin_ns) as f64 / HALF_LIFE_NS;
        if exponent <= MAX_EXPONENT {
            self.unit = exponent.exp2();
            return None;
        }
        self.origin_ns = now_ns;
        self.unit = 1.0;
        // After a very long silence this is 0, which is right: nothing was busy recently.
        Some((-exponent).exp2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_of_one_half_life_later_weighs_double() {
        let mut decay = Decay::new();
        decay.advance(1_000_000_000_000);
        let before = decay.unit();
        assert_eq!(decay.advance(1_600_000_000_000), None);
        assert!((decay.unit() / before - 2.0).abs() < 1e-9);
    }

    #[test]
    fn weights_stay_finite_over_a_decade_of_uptime() {
        let mut decay = Decay::new();
        let mut sum = 0.0;
        let mut rescaled = 0;
        for hour in 0..87_600u64 {
            if let Some(factor) = decay.advance(hour * 3_600_000_000_000) {
                sum *= factor;
                rescaled += 1;
            }
            sum += decay.unit();
            assert!(sum.is_finite() && decay.unit() > 0.0);
        }
        assert!(rescaled > 500);
        // One an hour at a half-life of ten minutes: the sum is that of the last, and little more.
        assert!(
            (sum / decay.unit() - 64.0 / 63.0).abs() < 1e-6,
            "{}",
            sum / decay.unit()
        );
        assert_eq!(decay.advance(u64::MAX).map(f64::is_normal), Some(false));
    }
}
