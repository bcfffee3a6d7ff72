//! Handshakes a second, from what the totals of two moments differ by.

use std::collections::{HashMap, VecDeque};

use super::model::RowKey;
use crate::core::view::Names;

/// Rates are of this long: shorter would jump, longer would lag.
const WINDOW_SECONDS: f64 = 10.0;

/// Most moments that are kept: as many as fit the window at two a second, and some more.
const MOMENTS: usize = 32;

/// Counted since the first moment.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    seconds: f64,
    server: u64,
    client: u64,
}

/// Handshakes a second by role.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    totals: HashMap<RowKey, u64>,
    moments: VecDeque<Moment>,
}

impl Rates {
    /// Takes the totals of a newer moment.
    pub fn update(&mut self, names: &Names) {
        let last = self.moments.back().copied();
        let mut moment = Moment {
            seconds: names.timestamp_seconds,
            ..last.unwrap_or_default()
        };
        let mut totals = HashMap::with_capacity(names.names.len());
        for row in &names.names {
            let key = RowKey::of(row);
            let total = row.total.full + row.total.resumed + row.total.failed;
            // A name that is new began since then; at the first moment nothing is known.
            let before = self.totals.get(&key).copied().unwrap_or(0);
            if last.is_some() {
                let more = total.saturating_sub(before);
                match key.role {
                    "client" => moment.client += more,
                    _ => moment.server += more,
                }
            }
            totals.insert(key, total);
        }
        self.totals = totals;
        // A clock that was set back would give negative times.
        if last.is_some_and(|last| last.seconds > moment.seconds) {
            self.moments.clear();
        }
        self.moments.push_back(moment);
        while self.moments.len() > 2
            && (self.moments.len() > MOMENTS
                || moment.seconds - self.moments[0].seconds > WINDOW_SECONDS)
        {
            self.moments.pop_front();
        }
    }

    /// Of connections that this host accepted.
    pub fn server(&self) -> Option<f64> {
        self.of(|moment| moment.server)
    }

    /// Of connections that this host opened.
    pub fn client(&self) -> Option<f64> {
        self.of(|moment| moment.client)
    }

    fn of(&self, count: fn(&Moment) -> u64) -> Option<f64> {
        let (first, last) = (self.moments.front()?, self.moments.back()?);
        let seconds = last.seconds - first.seconds;
        (seconds > 0.0).then(|| (count(last) - count(first)) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture::row;

    fn names(seconds: f64, totals: &[(&str, &'static str, u64)]) -> Names {
        Names {
            timestamp_seconds: seconds,
            names: totals
                .iter()
                .map(|&(name, role, full)| row(name, role, full, 0))
                .collect(),
        }
    }

    #[test]
    fn a_rate_is_known_from_the_second_moment_on() {
        let mut rates = Rates::default();
        rates.update(&names(100.0, &[("a", "server", 50)]));
        assert_eq!(rates.server(), None);
        rates.update(&names(
            102.0,
            &[("a", "server", 60), ("b", "server", 2), ("a", "client", 8)],
        ));
        assert_eq!((rates.server(), rates.client()), (Some(6.0), Some(4.0)));
    }

    #[test]
    fn names_that_go_and_clocks_that_are_set_back_make_no_negative_rate() {
        let mut rates = Rates::default();
        rates.update(&names(100.0, &[("a", "server", 50)]));
        rates.update(&names(101.0, &[]));
        assert_eq!(rates.server(), Some(0.0));
        rates.update(&names(90.0, &[("a", "server", 1)]));
        assert_eq!(rates.server(), None);
    }

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let mut rates = Rates::default();
        for second in 0..60_u32 {
            let total = u64::from(second.min(30)) * 10;
            rates.update(&names(f64::from(second), &[("a", "server", total)]));
        }
        assert_eq!(rates.server(), Some(0.0));
    }
}
