//! Calls that drive handshakes inside TLS libraries, until the flow is known that they belong to;
//! what of them is missing; and the cryptographic primitives in them.

use std::collections::{HashMap, HashSet};

use agent_common::primitive;

/// Threads, processes and connections of which something is remembered at once; beyond that all of
/// the kind is forgotten, which costs figures and makes none wrong.
const MAX_REMEMBERED: usize = 16 * 1024;

/// Calls kept of one connection before its flow is known: it is known at the server's first flight.
const MAX_PENDING: usize = 16;

/// Process and `SSL*`.
pub type Name = (u32, u64);

/// A call that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub entry_ns: u64,
    pub return_ns: u64,
    /// Time on a CPU, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// It is the first of its handshake.
    pub begins: bool,
    /// It returned 1: the handshake is done, or, unless `is_exact`, pauses for early data.
    pub is_end: bool,
    pub is_exact: bool,
    /// It is known where the library has primitives done.
    pub has_primitives: bool,
    /// It is known what the library has of its connection's hellos.
    pub tells_random: bool,
}

/// On-CPU time of a handshake so far, nanoseconds; `None` where its beginning was not seen, or another
/// part of it is not known.
pub type CpuTime = Option<u64>;

/// A cryptographic primitive inside a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primitive {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub entry_ns: u64,
    pub cpu_ns: Option<u64>,
    /// Below `primitive::COUNT`.
    pub kind: usize,
}

/// On-CPU time by primitive, nanoseconds; `None` once one is not known.
pub type PrimitiveTimes = Option<[u64; primitive::COUNT]>;

/// Adds a primitive to sums.
pub fn add_primitive(sums: PrimitiveTimes, primitive: &Primitive) -> PrimitiveTimes {
    let mut sums = sums?;
    let sum = sums.get_mut(primitive.kind)?;
    *sum = sum.checked_add(primitive.cpu_ns?)?;
    Some(sums)
}

/// Adds a call to a sum. An `SSL*` may have begun another handshake before, and left it.
pub fn add(sum: CpuTime, call: &Call) -> CpuTime {
    if call.begins {
        return call.cpu_ns;
    }
    sum?.checked_add(call.cpu_ns?)
}

#[derive(Debug, Default)]
pub struct Calls {
    pending: HashMap<Name, Vec<Call>, ahash::RandomState>,
    primitives: HashMap<Name, Vec<Primitive>, ahash::RandomState>,
    /// Since when primitives are timed in every library, CLOCK_MONOTONIC nanoseconds; 0: they are
    /// not.
    primitives_since_ns: u64,
    /// The number of the last call of each thread.
    numbers: HashMap<u64, u32, ahash::RandomState>,
    /// Processes whose library was seen to pause for early data.
    pausing: HashSet<u32, ahash::RandomState>,
    lost_ns: u64,
}

impl Calls {
    /// Counts a call of a thread: numbers go up by one, or start again from 1.
    pub fn count(&mut self, thread: u64, number: u32, time_ns: u64) {
        if self.numbers.len() >= MAX_REMEMBERED && !self.numbers.contains_key(&thread) {
            self.numbers.clear();
        }
        let last = self.numbers.insert(thread, number);
        if number != 1 && last.is_some_and(|last| last.wrapping_add(1) != number) {
            self.lost_ns = self.lost_ns.max(time_ns);
        }
    }

    /// When the last call was found missing; 0 for never. What was under way then may lack it.
    pub fn lost_ns(&self) -> u64 {
        self.lost_ns
    }

    /// Keeps a call of a connection whose flow is not known yet.
    pub fn keep(&mut self, name: Name, call: Call) {
        if self.pending.len() >= MAX_REMEMBERED && !self.pending.contains_key(&name) {
            self.pending.clear();
            self.lost_ns = self.lost_ns.max(call.return_ns);
        }
        let calls = self.pending.entry(name).or_default();
        if calls.len() == MAX_PENDING {
            calls.remove(0);
        }
        calls.push(call);
    }

    /// True where the last call kept of a connection began after `since_ns`, and the library tells no
    /// better which connection that is.
    pub fn are_pending(&self, name: Name, since_ns: u64) -> bool {
        self.pending
            .get(&name)
            .and_then(|calls| calls.last())
            .is_some_and(|last| last.entry_ns >= since_ns && !last.tells_random)
    }

    /// Hands over the calls of a connection that began since `since_ns`; an `SSL*` may have had
    /// another connection before.
    pub fn take(&mut self, name: Name, since_ns: u64) -> impl Iterator<Item = Call> + use<> {
        let calls = self.pending.remove(&name).unwrap_or_default();
        calls
            .into_iter()
            .filter(move |call| call.entry_ns >= since_ns)
    }

    /// Keeps a primitive of a connection whose flow is not known yet.
    pub fn keep_primitive(&mut self, name: Name, primitive: Primitive) {
        if self.primitives.len() >= MAX_REMEMBERED && !self.primitives.contains_key(&name) {
            self.primitives.clear();
            self.lost_ns = self.lost_ns.max(primitive.entry_ns);
        }
        let kept = self.primitives.entry(name).or_default();
        if kept.len() == MAX_PENDING {
            kept.remove(0);
        }
        kept.push(primitive);
    }

    /// Hands over the primitives of a connection that began since `since_ns`.
    pub fn take_primitives(
        &mut self,
        name: Name,
        since_ns: u64,
    ) -> impl Iterator<Item = Primitive> + use<> {
        let kept = self.primitives.remove(&name).unwrap_or_default();
        kept.into_iter()
            .filter(move |primitive| primitive.entry_ns >= since_ns)
    }

    /// Tells since when primitives are timed in every library; 0: they are not.
    pub fn set_primitives_since(&mut self, since_ns: u64) {
        self.primitives_since_ns = since_ns;
    }

    /// Whether the primitives of a connection were all timed that began then.
    pub fn times_primitives(&self, began_ns: u64) -> bool {
        self.primitives_since_ns != 0 && began_ns >= self.primitives_since_ns
    }

    pub fn note_pause(&mut self, process: u32) {
        if self.pausing.len() >= MAX_REMEMBERED {
            self.pausing.clear();
        }
        self.pausing.insert(process);
    }

    pub fn pauses(&self, process: u32) -> bool {
        self.pausing.contains(&process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(entry_ns: u64) -> Call {
        Call {
            entry_ns,
            return_ns: entry_ns + 5,
            cpu_ns: Some(3),
            begins: false,
            is_end: false,
            is_exact: true,
            has_primitives: true,
            tells_random: false,
        }
    }

    #[test]
    fn missing_number_is_a_lost_call_and_a_fresh_start_is_none() {
        let mut calls = Calls::default();
        for (number, time_ns) in [(7, 1), (8, 2), (1, 3), (2, 4)] {
            calls.count(1, number, time_ns);
        }
        assert_eq!(calls.lost_ns(), 0);
        calls.count(1, 4, 5);
        assert_eq!(calls.lost_ns(), 5);
    }

    #[test]
    fn calls_of_an_earlier_connection_are_left_out() {
        let mut calls = Calls::default();
        for entry_ns in [10, 20, 30] {
            calls.keep((1, 2), call(entry_ns));
        }
        assert!(calls.are_pending((1, 2), 30) && !calls.are_pending((1, 2), 31));
        assert_eq!(calls.take((1, 2), 15).count(), 2);
        assert_eq!(calls.take((1, 2), 0).count(), 0);
    }

    #[test]
    fn sum_of_which_a_part_is_unknown_is_unknown() {
        assert_eq!(add(Some(4), &call(1)), Some(7));
        let unknown = Call {
            cpu_ns: None,
            ..call(1)
        };
        assert_eq!(add(Some(4), &unknown), None);
        assert_eq!(add(None, &call(1)), None);
    }

    #[test]
    fn sum_begins_with_the_handshake() {
        let first = Call {
            begins: true,
            ..call(1)
        };
        assert_eq!(add(None, &first), Some(3));
        assert_eq!(add(Some(4), &first), Some(3));
    }

    #[test]
    fn memory_is_bounded() {
        let mut calls = Calls::default();
        for n in 0..3 * MAX_REMEMBERED as u64 {
            calls.keep((1, n), call(n));
            calls.count(n, 5, n);
            calls.note_pause(n as u32);
        }
        assert!(calls.pending.len() <= MAX_REMEMBERED);
        assert!(calls.numbers.len() <= MAX_REMEMBERED);
        assert!(calls.pausing.len() <= MAX_REMEMBERED);
    }
}
