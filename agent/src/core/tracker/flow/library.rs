//! What the library tap says of a flow's handshake: its end, and the CPU time of its calls.

use super::Flow;
use crate::core::record::Role;
use crate::core::tls::codes::TLS13;
use crate::core::tracker::calls::{self, Call, Calls, Primitive, PrimitiveTimes};

/// What a library's return of 1 meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryEnd {
    Finished,
    /// It waits for early data; the client's Finished is to come.
    Paused,
    /// It tells nothing of the server's end.
    Ignored,
}

impl Flow {
    /// A call of this handshake returned.
    pub fn add_call(&mut self, call: &Call) {
        self.cpu = calls::add(self.cpu, call);
        self.primitives = self.primitives.filter(|_| call.has_primitives);
    }

    /// A primitive of this handshake was done.
    pub fn add_primitive(&mut self, primitive: &Primitive) {
        self.primitives = calls::add_primitive(self.primitives, primitive);
    }

    /// A call of this handshake returned 1. `pauses`: in this process that need not be the end.
    pub fn library_finished(&mut self, call: &Call, pauses: bool) -> LibraryEnd {
        // The library of a client is done before the server is, in TLS 1.3 (RFC 8446, 2).
        let version = self.talk.server.as_ref().map(|server| server.version);
        if self.role == Role::Client && version == Some(TLS13) {
            return LibraryEnd::Ignored;
        }
        if !call.is_exact && self.talk.is_pause(call.entry_ns, pauses) {
            return LibraryEnd::Paused;
        }
        let at = self.moment(call.return_ns);
        match self.hello_ns {
            Some(hello) if hello <= call.return_ns && self.talk.library_finished(at) => {
                LibraryEnd::Finished
            }
            _ => LibraryEnd::Ignored,
        }
    }

    /// On-CPU time of the handshake, where all of its calls are known; `lost_ns` is when one was
    /// lost.
    pub(super) fn cpu_ns(&self, lost_ns: u64) -> Option<u64> {
        let is_whole = self.role == Role::Server
            && self.library.is_some()
            && self.talk.heard_library()
            && self.began_ns() > lost_ns;
        self.cpu.filter(|cpu_ns| is_whole && *cpu_ns > 0)
    }

    /// The library tap follows this flow and will tell its end.
    pub fn awaits_library(&self) -> bool {
        let version = self.talk.server.as_ref().map(|server| server.version);
        self.library.is_some()
            && !self.talk.heard_library()
            && !(self.role == Role::Client && version == Some(TLS13))
    }

    /// The same by cryptographic primitive, where all of them were timed.
    pub(super) fn primitives_ns(&self, calls: &Calls) -> PrimitiveTimes {
        let is_whole =
            self.cpu_ns(calls.lost_ns()).is_some() && calls.times_primitives(self.began_ns());
        self.primitives.filter(|_| is_whole)
    }
}
