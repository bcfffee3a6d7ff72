//! Joins a flow and an `SSL` by what both know: the random of the server's hello.
//!
//! That is for TLS on buffers in memory, where the thread that sends need not be the one that called the
//! library, or may have called it for another connection since.

use std::collections::HashMap;

use super::calls::Name;
use super::table::Slot;

/// Remembered of each kind at once; beyond that all of it is forgotten, which costs figures and makes
/// none wrong.
const MAX_REMEMBERED: usize = 16 * 1024;

/// One end of a connection: on loopback both know the same random, and may be of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Random {
    pub process: u32,
    pub is_server: bool,
    /// The start of the random of the server's hello.
    pub server: u64,
}

#[derive(Debug, Default)]
pub struct Randoms {
    /// A library told one: from then on flows are kept.
    are_told: bool,
    calls: HashMap<Random, Name, ahash::RandomState>,
    flows: HashMap<Random, Slot, ahash::RandomState>,
}

impl Randoms {
    /// A call of a connection whose flow is not known left it with a random, which may be that of an
    /// earlier one. Hands over the flow that has it.
    pub fn call(&mut self, random: Random, name: Name) -> Option<Slot> {
        self.are_told = true;
        let flow = self.flows.remove(&random);
        if flow.is_none() {
            if self.calls.len() >= MAX_REMEMBERED {
                self.calls.clear();
            }
            self.calls.insert(random, name);
        }
        flow
    }

    /// Whether flows without a library are to be told.
    pub fn are_told(&self) -> bool {
        self.are_told
    }

    /// A flow without a library has a random. Hands over the `SSL` that has it.
    pub fn flow(&mut self, random: Random, slot: Slot) -> Option<Name> {
        let name = self.calls.remove(&random);
        if name.is_none() {
            if self.flows.len() >= MAX_REMEMBERED {
                self.flows.clear();
            }
            self.flows.insert(random, slot);
        }
        name
    }

    /// The flow is over.
    pub fn forget(&mut self, random: Random, slot: Slot) {
        if self.flows.get(&random) == Some(&slot) {
            self.flows.remove(&random);
        }
    }
}
