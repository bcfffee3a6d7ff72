//! Candidates for a place among the tracked names: Space-Saving (Metwally, Agrawal, El Abbadi,
//! "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005).
//!
//! Names are known by a 64-bit keyed hash only, so that a flood of names costs no allocation.

use ahash::AHashMap;

/// Candidates at a time. A name that has more than one in so many of all handshakes of untracked
/// names is never pushed out by the others.
const CAPACITY: usize = 1024;

#[derive(Debug)]
struct Candidate {
    hash: u64,
    /// Upper bound of the weight of this name: what it inherited from the candidate it pushed
    /// out, and its own. It decides who is pushed out next.
    bound: f64,
    /// Lower bound: the weight of its own handshakes since it became a candidate.
    proven: f64,
    /// Where it stands in `Sketch::heap`.
    position: usize,
}

/// A bounded table of names with upper and lower bounds of their weight.
#[derive(Debug)]
pub(super) struct Sketch {
    by_hash: AHashMap<u64, usize>,
    candidates: Vec<Candidate>,
    /// Indices into `candidates`, a binary min-heap by `bound`.
    heap: Vec<usize>,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Sketch {
            by_hash: AHashMap::with_capacity(CAPACITY),
            candidates: Vec::with_capacity(CAPACITY),
            heap: Vec::with_capacity(CAPACITY),
        }
    }

    /// Adds `weight` to the name behind `hash`; returns what it has proven so far.
    pub(super) fn add(&mut self, hash: u64, weight: f64) -> f64 {
        let index = match self.by_hash.get(&hash) {
            Some(&index) => index,
            None => self.enter(hash),
        };
        let candidate = &mut self.candidates[index];
        candidate.bound += weight;
        candidate.proven += weight;
        let (proven, position) = (candidate.proven, candidate.position);
        self.sink(position);
        proven
    }

    /// Takes all weight from a name, so that it is the next to be pushed out.
    pub(super) fn forget(&mut self, hash: u64) {
        if let Some(&index) = self.by_hash.get(&hash) {
            let candidate = &mut self.candidates[index];
            candidate.bound = 0.0;
            candidate.proven = 0.0;
            let position = candidate.position;
            self.rise(position);
        }
    }

    /// Multiplies all weights; their order stays.
    pub(super) fn scale(&mut self, factor: f64) {
        for candidate in &mut self.candidates {
            candidate.bound *= factor;
            candidate.proven *= factor;
        }
    }

    /// Makes `hash` a candidate, in place of the one with the least bound when there is no room.
    fn enter(&mut self, hash: u64) -> usize {
        if self.candidates.len() < CAPACITY {
            let index = self.candidates.len();
            let position = self.heap.len();
            self.candidates.push(Candidate {
                hash,
                bound: 0.0,
                proven: 0.0,
                position,
            });
            self.heap.push(index);
            self.by_hash.insert(hash, index);
            self.rise(position);
            return index;
        }
        let index = self.heap[0];
        let candidate = &mut self.candidates[index];
        self.by_hash.remove(&candidate.hash);
        candidate.hash = hash;
        candidate.proven = 0.0;
        self.by_hash.insert(hash, index);
        index
    }

    /// Moves the candidate at `position` up to where its bound belongs.
    fn rise(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.bound(parent) <= self.bound(position) {
                break;
            }
            self.swap(parent, position);
            position = parent;
        }
    }

    /// Moves the candidate at `position` down to where its bound belongs.
    fn sink(&mut self, mut position: usize) {
        loop {
            let left = 2 * position + 1;
            let right = left + 1;
            if left >= self.heap.len() {
                break;
            }
            let child = if right < self.heap.len() && self.bound(right) < self.bound(left) {
                right
            } else {
                left
            };
            if self.bound(position) <= self.bound(child) {
                break;
            }
            self.swap(position, child);
            position = child;
        }
    }

    fn bound(&self, position: usize) -> f64 {
        self.candidates[self.heap[position]].bound
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.candidates[self.heap[a]].position = a;
        self.candidates[self.heap[b]].position = b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn one_shot_names_prove_one_handshake_each() {
        let mut sketch = Sketch::new();
        for hash in 0..100_000 {
            assert_eq!(sketch.add(hash, 1.0), 1.0);
        }
        assert_eq!(sketch.candidates.len(), CAPACITY);
        assert_eq!(sketch.by_hash.len(), CAPACITY);
    }

    #[test]
    fn steady_name_survives_a_flood() {
        let mut sketch = Sketch::new();
        let mut proven = 0.0;
        for hash in 1..100_000 {
            sketch.add(hash, 1.0);
            // One in 500 is more than one in CAPACITY.
            if hash % 500 == 0 {
                proven = sketch.add(0, 1.0);
            }
        }
        assert_eq!(proven, 199.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn proves_no_more_than_was_added(adds in prop::collection::vec((0u64..3_000, 1u8..4), 0..6_000)) {
            let mut sketch = Sketch::new();
            let mut truth: HashMap<u64, f64> = HashMap::new();
            for (step, (hash, weight)) in adds.into_iter().enumerate() {
                let weight = f64::from(weight);
                *truth.entry(hash).or_default() += weight;
                prop_assert!(sketch.add(hash, weight) <= truth[&hash]);
                if step % 97 == 0 {
                    sketch.forget(hash);
                }
            }
            for position in 1..sketch.heap.len() {
                prop_assert!(sketch.bound((position - 1) / 2) <= sketch.bound(position));
                prop_assert_eq!(sketch.candidates[sketch.heap[position]].position, position);
            }
        }
    }
}
