//! The flows being tracked: a slab with an index by key, and queues by deadline. Its size is
//! bounded by its users; slots, and the buffers in them, are reused.

use std::collections::HashMap;

use agent_common::flow::FlowKey;

use super::flow::Flow;

/// Number of a slot.
pub type Slot = u32;

/// End of a chain.
const NONE: Slot = Slot::MAX;

/// What a flow waits for. Within each queue all flows wait equally long, so that the front is
/// always the next one due and insertion needs no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The end of the handshake.
    Handshaking,
    /// Something more to learn, or stray segments to ignore.
    Lingering,
    /// The next tick, which tells whether events were lost.
    Ending,
    /// The response to the first request.
    Answering,
}

const QUEUES: usize = 4;

#[derive(Debug)]
struct Entry {
    flow: Flow,
    queue: Queue,
    deadline_ns: u64,
    previous: Slot,
    next: Slot,
}

#[derive(Clone, Copy, Debug)]
struct Chain {
    front: Slot,
    back: Slot,
}

/// All flows.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    /// Hashed with random keys: the keys come from the network.
    index: HashMap<FlowKey, Slot, ahash::RandomState>,
    chains: [Chain; QUEUES],
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            chains: [Chain {
                front: NONE,
                back: NONE,
            }; QUEUES],
        }
    }
}

impl Table {
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        self.index.get(key).copied()
    }

    /// The flow in a slot that [`Self::find`], [`Self::insert`] or [`Self::front`] returned.
    pub fn flow(&mut self, slot: Slot) -> &mut Flow {
        &mut self.entries[slot as usize].flow
    }

    /// A slot for a new flow with this key, which must not be in the table.
    pub fn insert(&mut self, key: FlowKey, queue: Queue, deadline_ns: u64) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.entries.push(Entry {
                    flow: Flow::unused(key),
                    queue,
                    deadline_ns,
                    previous: NONE,
                    next: NONE,
                });
                (self.entries.len() - 1) as Slot
            }
        };
        self.entries[slot as usize].flow.key = key;
        self.index.insert(key, slot);
        self.append(slot, queue, deadline_ns);
        slot
    }

    pub fn remove(&mut self, slot: Slot) {
        self.unlink(slot);
        let flow = self.flow(slot);
        flow.close();
        let key = flow.key;
        self.index.remove(&key);
        self.free.push(slot);
    }

    /// Lets a flow wait for something else.
    pub fn requeue(&mut self, slot: Slot, queue: Queue, deadline_ns: u64) {
        self.unlink(slot);
        self.append(slot, queue, deadline_ns);
    }

    pub fn queue(&self, slot: Slot) -> Queue {
        self.entries[slot as usize].queue
    }

    /// The flow of a queue that is due first, and when.
    pub fn front(&self, queue: Queue) -> Option<(Slot, u64)> {
        let slot = self.chains[queue as usize].front;
        let entry = self.entries.get(slot as usize)?;
        Some((slot, entry.deadline_ns))
    }

    fn append(&mut self, slot: Slot, queue: Queue, deadline_ns: u64) {
        let chain = &mut self.chains[queue as usize];
        let previous = std::mem::replace(&mut chain.back, slot);
        match self.entries.get_mut(previous as usize) {
            Some(entry) => entry.next = slot,
            None => chain.front = slot,
        }
        let entry = &mut self.entries[slot as usize];
        entry.queue = queue;
        entry.deadline_ns = deadline_ns;
        entry.previous = previous;
        entry.next = NONE;
    }

    fn unlink(&mut self, slot: Slot) {
        let Entry {
            queue,
            previous,
            next,
            ..
        } = self.entries[slot as usize];
        let chain = &mut self.chains[queue as usize];
        match self.entries.get_mut(previous as usize) {
            Some(entry) => entry.next = next,
            None => chain.front = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(entry) => entry.previous = previous,
            None => chain.back = previous,
        }
    }
}
