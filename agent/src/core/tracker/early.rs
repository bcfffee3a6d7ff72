//! Segments that arrived before the one that starts their stream, held for a short time.

use std::collections::{HashMap, VecDeque};

use agent_common::flow::FlowKey;

use crate::core::decode::Segment;

/// How long they are held, nanoseconds. A retransmission of the missing start comes within a few
/// round trips.
const HOLD_NS: u64 = 5_000_000_000;
/// Bytes held of one flow.
const FLOW_BYTES: usize = 1 << 16;
/// Segments held of one flow; one-byte segments meet it.
const FLOW_SEGMENTS: usize = 256;

#[derive(Debug)]
struct Held {
    fixed: Segment<'static>,
    data: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct EarlySegments {
    flows: HashMap<FlowKey, Vec<Held>, ahash::RandomState>,
    /// Keys in order of arrival, with the time of it.
    order: VecDeque<(u64, FlowKey)>,
    limit: usize,
}

/// The segments of one flow.
pub struct Released(Vec<Held>);

impl EarlySegments {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub fn hold(&mut self, segment: &Segment<'_>) {
        if self.limit == 0 {
            return;
        }
        if !self.flows.contains_key(&segment.key) {
            // A key that was released and came back stands twice in the order; the first of the
            // two then drops the newer segments early, which only costs that one flow.
            while self.order.len() >= self.limit {
                self.drop_oldest();
            }
            self.order.push_back((segment.time_ns, segment.key));
        }
        let held = self.flows.entry(segment.key).or_default();
        let bytes: usize = held.iter().map(|held| held.data.len()).sum();
        if held.len() < FLOW_SEGMENTS && bytes + segment.data.len() <= FLOW_BYTES {
            held.push(Held {
                fixed: Segment {
                    data: &[],
                    ..*segment
                },
                data: segment.data.to_vec(),
            });
        }
    }

    /// Gives back what was held of a flow whose start has come.
    pub fn release(&mut self, key: &FlowKey) -> Option<Released> {
        if self.flows.is_empty() {
            return None;
        }
        self.flows.remove(key).map(Released)
    }

    pub fn expire(&mut self, now_ns: u64) {
        while let Some((held_ns, _)) = self.order.front() {
            if held_ns.saturating_add(HOLD_NS) > now_ns {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.flows.remove(&key);
        }
    }
}

impl Released {
    /// The segments, in order of arrival.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.0.iter().map(|held| Segment {
            data: &held.data,
            ..held.fixed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(port: u16, time_ns: u64, data: &'static [u8]) -> Segment<'static> {
        Segment {
            time_ns,
            key: FlowKey {
                netns: 0,
                local_address: [0; 16],
                remote_address: [0; 16],
                local_port: 443,
                remote_port: port,
                padding: 0,
            },
            established_ns: 0,
            pid_tgid: 0,
            ssl: 0,
            sequence: 0,
            acknowledgment: 0,
            payload: data.len() as u32,
            srtt_us: 0,
            direction: 0,
            flags: 0,
            data,
        }
    }

    #[test]
    fn holds_no_more_flows_than_its_limit() {
        let mut early = EarlySegments::new(4);
        for port in 0..100 {
            early.hold(&segment(port, 0, b"x"));
        }
        assert_eq!((early.flows.len(), early.order.len()), (4, 4));
        assert!(early.release(&segment(99, 0, b"").key).is_some());
    }

    #[test]
    fn holds_no_more_of_a_flow_than_its_limit() {
        let mut early = EarlySegments::new(4);
        for _ in 0..100 {
            early.hold(&segment(1, 0, &[0; 4096]));
        }
        let held = early.release(&segment(1, 0, b"").key).expect("it was held");
        assert_eq!(held.segments().count(), FLOW_BYTES / 4096);
    }

    #[test]
    fn drops_what_waited_too_long() {
        let mut early = EarlySegments::new(4);
        early.hold(&segment(1, 10, b"x"));
        early.expire(10 + HOLD_NS - 1);
        assert_eq!(early.flows.len(), 1);
        early.expire(10 + HOLD_NS);
        assert!(early.flows.is_empty() && early.order.is_empty());
    }
}
