//! Puts into each record what resuming spared, or what a refused offer lost, by what full and
//! resumed handshakes of the same service cost on this host.
//!
//! Nothing is said of a service before enough of both kinds were measured.

use std::collections::HashMap;

use super::costs::Costs;
use super::record::{Handshake, Outcome, Process, Role, Spared, Transport, Version};

/// Kinds whose costs are remembered; beyond that all are forgotten and measured anew.
const MAX_KINDS: usize = 4096;

/// Handshakes that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    service: u64,
    role: Role,
    transport: Transport,
    version: Option<Version>,
}

/// The costs of each kind of handshake.
#[derive(Debug, Default)]
pub struct Savings {
    costs: HashMap<Kind, Costs, ahash::RandomState>,
}

impl Savings {
    /// Learns from a finished handshake and completes its record.
    pub fn complete(&mut self, handshake: &mut Handshake, process: Option<&Process>) {
        if !handshake.established {
            return;
        }
        let kind = Kind {
            service: self
                .costs
                .hasher()
                .hash_one(process.map(|process| (&process.service, &process.container_id))),
            role: handshake.role,
            transport: handshake.transport,
            version: handshake.version,
        };
        if self.costs.len() >= MAX_KINDS && !self.costs.contains_key(&kind) {
            self.costs.clear();
        }
        let costs = self.costs.entry(kind).or_default();
        costs.learn(handshake, handshake.client_hello_ns);
        let is_lost = handshake.reject_reason.is_some();
        if is_lost || handshake.outcome() == Outcome::Resumed {
            let (wait_ns, cpu_ns) = (costs.saved_wait_ns(handshake.rtt_ns), costs.saved_cpu_ns());
            if wait_ns.is_some() || cpu_ns.is_some() {
                handshake.spared = Some(Spared { wait_ns, cpu_ns });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::RejectReason;
    use crate::core::sample;

    const MILLISECOND: u64 = 1_000_000;

    fn completed(savings: &mut Savings, mut handshake: Handshake) -> Option<Spared> {
        savings.complete(&mut handshake, Some(&sample::process()));
        handshake.spared
    }

    /// Three round trips of 20 ms to the first byte, two resumed.
    fn measured(resumed: bool) -> Handshake {
        Handshake {
            resumed,
            rtt_ns: Some(20 * MILLISECOND),
            time_to_first_byte_ns: Some(if resumed { 40 } else { 60 } * MILLISECOND),
            response_wait_ns: Some(0),
            cpu_ns: Some(if resumed { 400_000 } else { 900_000 }),
            ..sample::resumed()
        }
    }

    #[test]
    fn resumed_handshake_saves_and_refused_one_loses_the_same() {
        let mut savings = Savings::default();
        for n in 0..40 {
            completed(&mut savings, measured(n % 2 == 0));
        }
        let spared = Some(Spared {
            wait_ns: Some(20 * MILLISECOND),
            cpu_ns: Some(500_000),
        });
        assert_eq!(completed(&mut savings, measured(true)), spared);
        let refused = Handshake {
            reject_reason: Some(RejectReason::KeyUnknown),
            ..measured(false)
        };
        assert_eq!(completed(&mut savings, refused), spared);
        assert_eq!(completed(&mut savings, measured(false)), None);
    }

    #[test]
    fn nothing_is_said_without_full_handshakes() {
        let mut savings = Savings::default();
        for _ in 0..100 {
            assert_eq!(completed(&mut savings, measured(true)), None);
        }
    }

    #[test]
    fn services_are_not_compared_with_each_other() {
        let mut savings = Savings::default();
        for _ in 0..40 {
            completed(&mut savings, measured(false));
        }
        for _ in 0..40 {
            let mut other = measured(true);
            savings.complete(&mut other, None);
            assert_eq!(other.spared, None);
        }
    }
}
