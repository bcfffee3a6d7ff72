//! How old tickets are when clients come back with them, by service: what `core::lifetimes` predicts from.

use super::native::NativeBuckets;
use crate::core::record::{Handshake, Method, Outcome, RejectReason, Role};
use crate::core::tls::codes::TLS13;

/// Completed handshakes of one kind, and the ages of the tickets among them.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    pub full: u64,
    pub resumed: u64,
    /// Full ones in which the client offered nothing.
    pub never_offered: u64,
    /// Resumed ones in which the server sent another ticket.
    pub renewed: u64,
    /// Ages of tickets that were accepted, where known.
    pub accepted: NativeBuckets,
    /// Ages of tickets that were refused as expired, where known.
    pub expired: NativeBuckets,
}

/// What came back to one service.
#[derive(Clone, Debug, Default)]
pub struct Returns {
    /// TLS 1.2 and older: a ticket serves until it expires, unless the server renews it.
    pub tls12: Kind,
    /// TLS 1.3: each connection brings a new ticket.
    pub tls13: Kind,
    /// How long the newest ticket known of is to be accepted, nanoseconds.
    pub lifetime_ns: Option<u64>,
    pub(super) changed_ns: u64,
    halved_ns: u64,
}

/// After this all counts are halved, so that a changed configuration shows, nanoseconds.
const HALF_LIFE_NS: u64 = 86_400_000_000_000;

impl Kind {
    pub fn completed(&self) -> u64 {
        self.full + self.resumed
    }

    fn halve(&mut self) {
        for count in [
            &mut self.full,
            &mut self.resumed,
            &mut self.never_offered,
            &mut self.renewed,
        ] {
            *count /= 2;
        }
        self.accepted.halve();
        self.expired.halve();
    }
}

impl Returns {
    pub(in crate::core) fn observe(&mut self, handshake: &Handshake, now_ns: u64) {
        if handshake.role != Role::Server {
            return;
        }
        if self.halved_ns == 0 {
            self.halved_ns = now_ns;
        }
        if now_ns.saturating_sub(self.halved_ns) > HALF_LIFE_NS {
            self.halved_ns = now_ns;
            self.tls12.halve();
            self.tls13.halve();
        }
        let kind = match handshake.version {
            Some(TLS13) => &mut self.tls13,
            _ => &mut self.tls12,
        };
        match handshake.outcome() {
            Outcome::Failed => return,
            Outcome::Full => kind.full += 1,
            Outcome::Resumed => kind.resumed += 1,
        }
        self.changed_ns = now_ns;
        if handshake.offered == Method::None {
            kind.never_offered += 1;
        }
        if handshake.resumed && handshake.tickets_issued.is_some_and(|tickets| tickets > 0) {
            kind.renewed += 1;
        }
        if let Some(age_ns) = handshake.ticket_age_ns {
            if handshake.resumed {
                kind.accepted.observe(age_ns);
            } else if handshake.reject_reason == Some(RejectReason::Expired) {
                kind.expired.observe(age_ns);
            }
        }
        let lifetime_ns = handshake
            .ticket_lifetime_ns
            .or(handshake.issued_lifetime_ns);
        self.lifetime_ns = lifetime_ns.or(self.lifetime_ns);
    }
}
