//! The life of ticket keys, by service: issued, accepted and refused tickets, and when.
//!
//! Keys are known by their fingerprint. A key that a service issued or accepted has a place at
//! once; one that it only refused is somebody's claim until it came often enough, and counts under
//! `_other` before. Tickets that carry no key name count under `_none`.

use ahash::AHashMap;

use super::services::ServiceId;
use crate::core::record::{Handshake, Method, RejectReason, Role};

/// Keys of a service that are told apart.
pub const MAX_KEYS: usize = 32;

/// Keys that a service only refused, and that wait for a place.
const MAX_CLAIMS: usize = 256;

/// Refusals after which a key that the service never issued or accepted gets a place.
const CLAIMS_FOR_A_PLACE: u32 = 10;

/// `event` of `tls_tickets_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TicketUse {
    /// The service sent a ticket of this key; visible in TLS 1.2 only.
    Issued,
    /// The service resumed from a ticket of this key.
    Accepted,
    /// The service was offered a ticket of this key and made a full handshake.
    Rejected,
}

impl TicketUse {
    pub const ALL: [Self; 3] = [Self::Issued, Self::Accepted, Self::Rejected];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// Label `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Fingerprint(u32),
    /// Keys that found no place.
    Other,
    /// The ticket names no key.
    None,
}

/// What is known of a key of a service. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLife {
    pub first_seen_ns: u64,
    pub last_seen_ns: u64,
    pub last_issued_ns: Option<u64>,
    pub last_accepted_ns: Option<u64>,
    /// Until when the newest ticket that is known of is to be accepted.
    pub valid_until_ns: Option<u64>,
    /// Tickets that the service's library had no key for although this moment had not come: the
    /// key was retired too early.
    pub refused_early: u64,
    /// The key can be guessed; `None` where that was not tried.
    pub weak: Option<bool>,
    /// By [`TicketUse`], in the order of [`TicketUse::ALL`].
    pub counts: [u64; TicketUse::ALL.len()],
}

impl KeyLife {
    fn is_valid_for(&mut self, remaining_ns: Option<u64>, now_ns: u64) {
        let until = remaining_ns.map(|remaining| now_ns.saturating_add(remaining));
        self.valid_until_ns = self.valid_until_ns.max(until);
    }
}

/// Every key, by service.
#[derive(Debug, Default)]
pub(super) struct Keys {
    lives: AHashMap<(ServiceId, Key), KeyLife>,
    /// Tickets that had been offered before.
    reoffered: AHashMap<(ServiceId, Method), (u64, u64)>,
    /// Refusals of keys without a place.
    claims: AHashMap<(ServiceId, u32), u32>,
}

impl Keys {
    /// Enters what a finished handshake tells of its service's keys.
    pub(super) fn observe(&mut self, service: ServiceId, handshake: &Handshake, now_ns: u64) {
        // A client only carries the tickets of others.
        if handshake.role == Role::Client || !handshake.established {
            return;
        }
        if handshake.tickets_issued.is_some_and(|tickets| tickets > 0) {
            let life = self.enter(service, handshake.issued_key, TicketUse::Issued, now_ns);
            life.is_valid_for(handshake.issued_lifetime_ns, now_ns);
        }
        if handshake.ticket_reoffered {
            let (count, changed_ns) = self
                .reoffered
                .entry((service, handshake.offered))
                .or_default();
            *count += 1;
            *changed_ns = now_ns;
        }
        let offered = matches!(handshake.offered, Method::Ticket | Method::Psk);
        if offered && handshake.method == handshake.offered {
            let life = self.enter(service, handshake.ticket_key, TicketUse::Accepted, now_ns);
            let remaining = handshake
                .ticket_lifetime_ns
                .zip(handshake.ticket_age_ns)
                .map(|(lifetime, age)| lifetime.saturating_sub(age));
            life.is_valid_for(remaining, now_ns);
            life.weak = handshake.weak_key.or(life.weak);
        } else if offered {
            let life = self.enter(service, handshake.ticket_key, TicketUse::Rejected, now_ns);
            let key_is_gone = handshake.reject_reason == Some(RejectReason::KeyUnknown);
            if key_is_gone && life.valid_until_ns.is_some_and(|until| now_ns < until) {
                life.refused_early += 1;
            }
        }
    }

    fn enter(
        &mut self,
        service: ServiceId,
        key: Option<u32>,
        usage: TicketUse,
        now_ns: u64,
    ) -> &mut KeyLife {
        let key = key.map_or(Key::None, |key| self.place(service, key, usage));
        let life = self.lives.entry((service, key)).or_insert(KeyLife {
            first_seen_ns: now_ns,
            last_seen_ns: now_ns,
            last_issued_ns: None,
            last_accepted_ns: None,
            valid_until_ns: None,
            refused_early: 0,
            weak: None,
            counts: [0; TicketUse::ALL.len()],
        });
        life.last_seen_ns = now_ns;
        life.counts[usage as usize] += 1;
        match usage {
            TicketUse::Issued => life.last_issued_ns = Some(now_ns),
            TicketUse::Accepted => life.last_accepted_ns = Some(now_ns),
            TicketUse::Rejected => {}
        }
        life
    }

    /// Under which label a key counts.
    fn place(&mut self, service: ServiceId, key: u32, usage: TicketUse) -> Key {
        let own = Key::Fingerprint(key);
        if self.lives.contains_key(&(service, own)) {
            return own;
        }
        if usage == TicketUse::Rejected {
            if self.claims.len() >= MAX_CLAIMS && !self.claims.contains_key(&(service, key)) {
                self.claims.clear();
            }
            let claims = self.claims.entry((service, key)).or_default();
            *claims += 1;
            if *claims < CLAIMS_FOR_A_PLACE {
                return Key::Other;
            }
        }
        let places = self
            .lives
            .keys()
            .filter(|(owner, key)| *owner == service && matches!(key, Key::Fingerprint(_)))
            .count();
        if places >= MAX_KEYS && !self.make_room(service, usage) {
            return Key::Other;
        }
        self.claims.remove(&(service, key));
        own
    }

    /// Takes the place of a key that was only ever refused for one that the service uses.
    fn make_room(&mut self, service: ServiceId, usage: TicketUse) -> bool {
        if usage == TicketUse::Rejected {
            return false;
        }
        let is_claim = |life: &KeyLife| {
            life.counts[TicketUse::Issued as usize] + life.counts[TicketUse::Accepted as usize] == 0
        };
        let claim = self
            .lives
            .iter()
            .filter(|((owner, key), life)| {
                *owner == service && matches!(key, Key::Fingerprint(_)) && is_claim(life)
            })
            .min_by_key(|(_, life)| life.last_seen_ns)
            .map(|(id, _)| *id);
        claim.is_some_and(|id| self.lives.remove(&id).is_some())
    }

    pub(super) fn expire(&mut self, oldest_ns: u64) {
        self.lives.retain(|_, life| life.last_seen_ns > oldest_ns);
        self.reoffered
            .retain(|_, (_, changed_ns)| *changed_ns > oldest_ns);
        self.claims.clear();
    }

    pub(super) fn mark_services(&self, used: &mut [bool]) {
        for (service, _) in self.lives.keys() {
            service.mark(used);
        }
        for (service, _) in self.reoffered.keys() {
            service.mark(used);
        }
    }

    /// Tickets that had been offered before, by service and kind.
    pub(super) fn reoffered(&self) -> impl Iterator<Item = (ServiceId, Method, u64)> {
        self.reoffered
            .iter()
            .map(|((service, offered), (count, _))| (*service, *offered, *count))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ServiceId, Key, KeyLife)> {
        self.lives
            .iter()
            .map(|((service, key), life)| (*service, *key, *life))
    }
}
