//! Which server names have series of their own: the busiest by completed handshakes.
//!
//! While there is room, one completed handshake is enough. After that a newcomer must prove
//! itself in the candidate [`Sketch`] until it is clearly busier than the least busy tracked
//! name, whose series then go away. A flood of names that come once displaces nobody.

use ahash::{AHashMap, RandomState};
use std::sync::Arc;

use super::decay::Decay;
use super::series::{NAMED_LIMITS, SeriesSet};
use super::sketch::Sketch;

/// A newcomer must have completed more than so many handshakes recently.
const PROOF: f64 = 3.0;
/// A newcomer must be so many times as busy as the one it displaces, so that two names of about
/// the same traffic do not take turns.
const MARGIN: f64 = 1.25;
/// The least busy name is looked for (a walk over all) once in so many handshakes at most, so
/// that nobody can make every handshake pay for it.
const SEARCH_INTERVAL: u32 = 64;

/// A name that has series of its own.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) series: SeriesSet,
    /// Whether it has histograms of its own.
    pub(super) histograms: bool,
    weight: f64,
}

#[derive(Debug)]
pub(super) struct Names {
    /// Boxed: a table has more places than names.
    tracked: AHashMap<Arc<str>, Box<Tracked>>,
    sketch: Sketch,
    sketch_hash: RandomState,
    decay: Decay,
    max_names: usize,
    max_histograms: usize,
    /// Tracked names with histograms.
    histograms: usize,
    least: Least,
    least_histogram: Least,
}

/// A lower bound of the least weight of a group, so that most handshakes need not look for it:
/// weights only grow until they are scaled.
#[derive(Debug, Default)]
struct Least {
    bound: f64,
    handshakes_since_search: u32,
}

impl Names {
    pub(super) fn new(max_names: usize, max_histograms: usize) -> Self {
        Names {
            tracked: AHashMap::new(),
            sketch: Sketch::new(),
            sketch_hash: RandomState::new(),
            decay: Decay::new(),
            max_names,
            max_histograms,
            histograms: 0,
            least: Least::default(),
            least_histogram: Least::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tracked.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tracked.keys()
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &SeriesSet> {
        self.tracked.values().map(|tracked| &tracked.series)
    }

    pub(super) fn set(&self, name: &str) -> Option<&SeriesSet> {
        self.tracked.get(name).map(|tracked| &tracked.series)
    }

    /// The name, where it is tracked.
    pub(super) fn tracked(&mut self, name: &str) -> Option<&mut Tracked> {
        self.tracked.get_mut(name).map(Box::as_mut)
    }

    /// Counts a completed handshake for `name`; returns the name where it is, or now is, tracked.
    pub(super) fn completed(&mut self, name: &str, now_ns: u64) -> Option<&mut Tracked> {
        if let Some(factor) = self.decay.advance(now_ns) {
            self.scale(factor);
        }
        for least in [&mut self.least, &mut self.least_histogram] {
            least.handshakes_since_search = least.handshakes_since_search.saturating_add(1);
        }

        let unit = self.decay.unit();
        match self.tracked.get_mut(name) {
            Some(tracked) => tracked.weight += unit,
            None => {
                let weight = self.place_for(name, unit)?;
                let series = SeriesSet::new(NAMED_LIMITS);
                let tracked = Tracked {
                    series,
                    histograms: false,
                    weight,
                };
                self.tracked.insert(name.into(), Box::new(tracked));
                self.least.bound = self.least.bound.min(weight);
            }
        }

        let tracked = self.tracked.get(name)?;
        if !tracked.histograms && self.histogram_place_for(tracked.weight) {
            let tracked = self.tracked.get_mut(name)?;
            tracked.histograms = true;
            self.histograms += 1;
            self.least_histogram.bound = self.least_histogram.bound.min(tracked.weight);
        }
        self.tracked(name)
    }

    /// Removes idle series, and names that have none left.
    pub(super) fn expire(&mut self, oldest_ns: u64) {
        self.tracked.retain(|_, tracked| {
            tracked.series.expire(oldest_ns);
            !tracked.series.is_empty()
        });
        self.histograms = self
            .tracked
            .values()
            .filter(|tracked| tracked.histograms)
            .count();
    }

    /// Makes a place for an untracked name, if it is busy enough; returns the weight it starts
    /// with.
    fn place_for(&mut self, name: &str, unit: f64) -> Option<f64> {
        if self.tracked.len() < self.max_names {
            return Some(unit);
        }
        let hash = self.sketch_hash.hash_one(name);
        let weight = self.sketch.add(hash, unit);
        if weight <= PROOF * unit || !self.least.worth_a_search(weight) {
            return None;
        }
        let least = self
            .tracked
            .iter()
            .min_by(|(_, a), (_, b)| a.weight.total_cmp(&b.weight))
            .map(|(name, tracked)| (Arc::clone(name), tracked.weight));
        // There is none where no name may be tracked at all.
        let (displaced, least) = least?;
        self.least.found(least);
        if weight <= least * MARGIN {
            return None;
        }
        if let Some(tracked) = self.tracked.remove(&displaced)
            && tracked.histograms
        {
            self.histograms -= 1;
        }
        self.sketch.forget(hash);
        Some(weight)
    }

    /// Whether a name of this weight may have histograms; takes them from the least busy name
    /// that has some, where need be.
    fn histogram_place_for(&mut self, weight: f64) -> bool {
        if self.histograms < self.max_histograms {
            return true;
        }
        if weight <= PROOF * self.decay.unit() || !self.least_histogram.worth_a_search(weight) {
            return false;
        }
        let least = self
            .tracked
            .values_mut()
            .filter(|tracked| tracked.histograms)
            .min_by(|a, b| a.weight.total_cmp(&b.weight));
        let Some(least) = least else { return false };
        self.least_histogram.found(least.weight);
        if weight <= least.weight * MARGIN {
            return false;
        }
        least.histograms = false;
        least.series.clear_histograms();
        self.histograms -= 1;
        true
    }

    fn scale(&mut self, factor: f64) {
        for tracked in self.tracked.values_mut() {
            tracked.weight *= factor;
        }
        self.sketch.scale(factor);
        self.least.bound *= factor;
        self.least_histogram.bound *= factor;
    }
}

impl Least {
    fn worth_a_search(&self, weight: f64) -> bool {
        weight > self.bound * MARGIN && self.handshakes_since_search >= SEARCH_INTERVAL
    }

    fn found(&mut self, least: f64) {
        self.bound = least;
        self.handshakes_since_search = 0;
    }
}
