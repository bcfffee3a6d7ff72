//! Which `SSL*` of which process a flow belongs to, and what the library's calls then say of it.

use agent_common::event::SEGMENT_AFTER_CALL;
use agent_common::flow::FlowKey;

use super::calls::{Call, Name, Primitive};
use super::flow::LibraryEnd;
use super::randoms::Random;
use super::table::Slot;
use super::{Sink, Tracker};
use crate::core::decode::{LibraryCall, PrimitiveCall, Segment};

impl Tracker {
    /// Ties a flow to its process and, where the library tap names one, its `SSL*`. The first
    /// segment decides: later data may leave in the context of the peer, on its acknowledgment.
    pub(super) fn join(&mut self, slot: Slot, segment: &Segment<'_>) {
        let pid = process_id(segment.pid_tgid);
        let flow = self.table.flow(slot);
        if flow.is_done || flow.library.is_some() || flow.pid.is_some_and(|known| known != pid) {
            return;
        }
        flow.pid = Some(pid);
        let name = (pid, segment.ssl);
        if segment.ssl == 0 || !self.is_its_call(slot, segment, name) {
            return;
        }
        // On loopback the other end may have sent this for us; the name is then its own.
        if let Some(&other) = self.by_library.get(&name)
            && self.table.flow(other).key == mirror(&segment.key)
        {
            self.table.flow(slot).pid = None;
            return;
        }
        self.tie(slot, name);
    }

    /// Ties a flow to its `SSL*`, and takes what was kept of that.
    fn tie(&mut self, slot: Slot, name: Name) {
        self.by_library.insert(name, slot);
        let flow = self.table.flow(slot);
        flow.library = Some(name);
        for call in self.calls.take(name, flow.began_ns()) {
            flow.add_call(&call);
        }
        for primitive in self.calls.take_primitives(name, flow.began_ns()) {
            flow.add_primitive(&primitive);
        }
    }

    /// Ties a flow whose thread did not tell its `SSL*` to the one that has its random.
    pub(super) fn join_by_random(&mut self, slot: Slot) {
        if !self.randoms.are_told() {
            return;
        }
        let flow = self.table.flow(slot);
        if let Some(random) = flow.newly_known_random()
            && let Some(name) = self.randoms.flow(random, slot)
            && !self.by_library.contains_key(&name)
        {
            self.tie(slot, name);
        }
    }

    /// The thread sends within a call, or what its last call wrote to memory: then that one must
    /// have begun after the ClientHello came, and be of no other flow.
    fn is_its_call(&mut self, slot: Slot, segment: &Segment<'_>, name: (u32, u64)) -> bool {
        if segment.flags & SEGMENT_AFTER_CALL == 0 {
            return true;
        }
        let hello_ns = self.table.flow(slot).hello_ns();
        !self.by_library.contains_key(&name)
            && hello_ns.is_some_and(|hello_ns| self.calls.are_pending(name, hello_ns))
    }

    pub(super) fn primitive(&mut self, call: &PrimitiveCall) {
        let name = (process_id(call.pid_tgid), call.ssl);
        let primitive = Primitive {
            entry_ns: call.entry_ns,
            cpu_ns: call.cpu_ns,
            kind: call.primitive,
        };
        match self.by_library.get(&name) {
            Some(&slot) => self.table.flow(slot).add_primitive(&primitive),
            None => self.calls.keep_primitive(name, primitive),
        }
    }

    pub(super) fn library(&mut self, call: &LibraryCall, sink: Sink<'_>) {
        let name = (process_id(call.pid_tgid), call.ssl);
        self.calls.count(call.pid_tgid, call.number, call.time_ns);
        let returned = Call {
            entry_ns: call.entry_ns,
            return_ns: call.time_ns,
            cpu_ns: call.cpu_ns,
            begins: call.begins,
            is_end: call.result == 1,
            is_exact: call.is_exact,
            has_primitives: call.has_primitives,
            tells_random: call.random.is_some(),
        };
        // It was freed and made again, or cleared, while the flow it had before still waits for a response.
        if returned.begins
            && let Some(&slot) = self.by_library.get(&name)
            && self.table.flow(slot).talk.heard_library()
        {
            self.by_library.remove(&name);
        }
        let slot = match self.by_library.get(&name) {
            Some(&slot) => {
                self.table.flow(slot).add_call(&returned);
                slot
            }
            None => {
                self.calls.keep(name, returned);
                // Before there is a hello, nothing is there.
                let told = call.random.filter(|random| random.server != 0);
                let random = told.map(|random| Random {
                    process: name.0,
                    is_server: random.is_server,
                    server: random.server,
                });
                let Some(slot) = random.and_then(|random| self.randoms.call(random, name)) else {
                    return;
                };
                self.tie(slot, name);
                slot
            }
        };
        let flow = self.table.flow(slot);
        if !returned.is_end {
            return;
        }
        match flow.library_finished(&returned, self.calls.pauses(name.0)) {
            LibraryEnd::Finished => self.settle(slot, sink),
            LibraryEnd::Paused => self.calls.note_pause(name.0),
            LibraryEnd::Ignored => {}
        }
    }

    /// Lets go of what other events would tie to a flow.
    pub(super) fn release_name(&mut self, slot: Slot) {
        if let Some(random) = self.table.flow(slot).random.take() {
            self.randoms.forget(random, slot);
        }
        if let Some(name) = self.table.flow(slot).library.take()
            && self.by_library.get(&name) == Some(&slot)
        {
            self.by_library.remove(&name);
        }
    }
}

/// The process (tgid) of `bpf_get_current_pid_tgid()`.
fn process_id(pid_tgid: u64) -> u32 {
    (pid_tgid >> 32) as u32
}

/// The same connection as its other end names it.
fn mirror(key: &FlowKey) -> FlowKey {
    FlowKey {
        local_address: key.remote_address,
        remote_address: key.local_address,
        local_port: key.remote_port,
        remote_port: key.local_port,
        ..*key
    }
}
