//! The life of ticket keys, by service: issued, accepted and refused tickets, and when.
//!
//! Keys are known by their fingerprint. A key that a service issued or accepted has a place at
//! once; one that it only refused is somebody's claim until it came often enough, and counts under
//! `_other` before. Tickets that carry no key name count under `_none`.

use ahash::AHashMap;

use super::labels;
use super::services::ServiceId;
use crate::core::record::{Handshake, Method, RejectReason, Role};

/// Keys of a service that are told apart.
pub const MAX_KEYS: usize = 32;

/// Keys that a service only refused, and that wait for a place.
const MAX_CLAIMS: usize = 256;

/// Nanoseconds.
const HOUR_NS: u64 = 3_600_000_000_000;

/// Refusals in an hour after which a key that the service never issued or accepted gets a place.
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

impl Key {
    /// As `resumption.ticket.key` in records.
    pub fn label(self) -> String {
        match self {
            Self::Fingerprint(fingerprint) => format!("{fingerprint:08x}"),
            Self::Other => labels::OTHER.to_owned(),
            Self::None => labels::NO_KEY.to_owned(),
        }
    }
}

/// What is known of a key of a service. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLife {
    pub first_seen_ns: u64,
    pub last_seen_ns: u64,
    pub last_issued_ns: Option<u64>,
    pub last_accepted_ns: Option<u64>,
    /// When the oldest ticket that is known of was issued: also of one that came back, whose age tells.
    /// 0 where that was before the host started.
    pub first_ticket_ns: Option<u64>,
    /// When the newest one was.
    pub last_ticket_ns: Option<u64>,
    /// How long the newest of them is to be accepted, nanoseconds.
    pub lifetime_ns: Option<u64>,
    /// Until when the newest ticket that is known of is to be accepted.
    pub valid_until_ns: Option<u64>,
    /// Tickets that the service's library had no key for although this moment had not come: the
    /// key was retired too early.
    pub refused_early: u64,
    /// The same, since none had come for an hour.
    pub refused_early_lately: u64,
    /// When the last of them came.
    pub last_refused_early_ns: Option<u64>,
    /// Tickets that the service's library had no key for, valid or not.
    pub unknown: u64,
    /// When the last of them came.
    pub last_unknown_ns: Option<u64>,
    /// The key can be guessed; `None` where that was not tried.
    pub weak: Option<bool>,
    /// By [`TicketUse`], in the order of [`TicketUse::ALL`].
    pub counts: [u64; TicketUse::ALL.len()],
}

impl KeyLife {
    fn refuse_early(&mut self, now_ns: u64) {
        let before = self.last_refused_early_ns.replace(now_ns);
        if before.is_some_and(|before_ns| now_ns.saturating_sub(before_ns) > HOUR_NS) {
            self.refused_early_lately = 0;
        }
        self.refused_early += 1;
        self.refused_early_lately += 1;
    }

    /// A ticket of this age is known, which is accepted for `lifetime_ns` in all.
    fn note_ticket(&mut self, age_ns: u64, lifetime_ns: Option<u64>, began_ns: u64, now_ns: u64) {
        let mut issued_ns = now_ns.saturating_sub(age_ns);
        // A ticket that is renewed under a new key keeps the time of its session: where the agent has been
        // watching for longer than a ticket lives, the key cannot be older than its first sight.
        let watched_ns = self.first_seen_ns.saturating_sub(began_ns);
        if lifetime_ns.is_none_or(|lifetime_ns| watched_ns > lifetime_ns) {
            issued_ns = issued_ns.max(self.first_seen_ns);
        }
        self.first_ticket_ns = Some(self.first_ticket_ns.unwrap_or(issued_ns).min(issued_ns));
        if self
            .last_ticket_ns
            .is_none_or(|last_ns| last_ns <= issued_ns)
        {
            self.last_ticket_ns = Some(issued_ns);
            self.lifetime_ns = lifetime_ns.or(self.lifetime_ns);
        }
        let remaining_ns = lifetime_ns.map(|lifetime_ns| lifetime_ns.saturating_sub(age_ns));
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
    /// Refusals of keys without a place, since this time.
    claims: AHashMap<(ServiceId, u32), u32>,
    claims_since_ns: u64,
    /// When the first handshake was seen.
    began_ns: Option<u64>,
}

impl Keys {
    /// Enters what a finished handshake tells of its service's keys.
    pub(super) fn observe(&mut self, service: ServiceId, handshake: &Handshake, now_ns: u64) {
        // A client only carries the tickets of others.
        if handshake.role == Role::Client || !handshake.established {
            return;
        }
        let began_ns = *self.began_ns.get_or_insert(now_ns);
        if handshake.tickets_issued.is_some_and(|tickets| tickets > 0) {
            let life = self.enter(service, handshake.issued_key, TicketUse::Issued, now_ns);
            life.note_ticket(0, handshake.issued_lifetime_ns, began_ns, now_ns);
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
            if let Some(age_ns) = handshake.ticket_age_ns {
                life.note_ticket(age_ns, handshake.ticket_lifetime_ns, began_ns, now_ns);
            }
            life.weak = handshake.weak_key.or(life.weak);
        } else if offered {
            let life = self.enter(service, handshake.ticket_key, TicketUse::Rejected, now_ns);
            let key_is_gone = handshake.reject_reason == Some(RejectReason::KeyUnknown);
            if key_is_gone {
                life.unknown += 1;
                life.last_unknown_ns = Some(now_ns);
            }
            if key_is_gone && life.valid_until_ns.is_some_and(|until| now_ns < until) {
                life.refuse_early(now_ns);
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
            first_ticket_ns: None,
            last_ticket_ns: None,
            lifetime_ns: None,
            valid_until_ns: None,
            refused_early: 0,
            refused_early_lately: 0,
            last_refused_early_ns: None,
            unknown: 0,
            last_unknown_ns: None,
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

    pub(super) fn expire(&mut self, oldest_ns: u64, now_ns: u64) {
        self.lives.retain(|_, life| life.last_seen_ns > oldest_ns);
        self.reoffered
            .retain(|_, (_, changed_ns)| *changed_ns > oldest_ns);
        if now_ns.saturating_sub(self.claims_since_ns) > HOUR_NS {
            self.claims_since_ns = now_ns;
            self.claims.clear();
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]
    use super::super::services::Services;
    use super::*;
    use crate::core::sample;

    const SECOND: u64 = 1_000_000_000;
    const KEY: u32 = 0x00ab_cdef;

    fn service() -> ServiceId {
        Services::new(4).intern(Some("nginx"), None)
    }

    fn issued(key: u32, lifetime_ns: u64) -> Handshake {
        Handshake {
            established: true,
            tickets_issued: Some(1),
            issued_key: Some(key),
            issued_lifetime_ns: Some(lifetime_ns),
            ..sample::bare()
        }
    }

    fn offered(key: u32, reason: Option<RejectReason>) -> Handshake {
        Handshake {
            established: true,
            resumed: reason.is_none(),
            offered: Method::Ticket,
            method: if reason.is_none() {
                Method::Ticket
            } else {
                Method::None
            },
            reject_reason: reason,
            ticket_key: Some(key),
            ..sample::bare()
        }
    }

    fn life(keys: &Keys, key: Key) -> Option<KeyLife> {
        keys.lives.get(&(service(), key)).copied()
    }

    #[test]
    fn key_that_is_gone_while_its_tickets_are_valid_was_retired_too_early() {
        let mut keys = Keys::default();
        keys.observe(service(), &issued(KEY, 300 * SECOND), SECOND);
        let refused = offered(KEY, Some(RejectReason::KeyUnknown));
        keys.observe(service(), &refused, 300 * SECOND);
        keys.observe(service(), &refused, 302 * SECOND);
        let life = life(&keys, Key::Fingerprint(KEY)).unwrap();
        assert_eq!(life.refused_early, 1);
        assert_eq!(life.counts, [1, 0, 2]);
    }

    #[test]
    fn ticket_refused_for_another_reason_says_nothing_against_its_key() {
        let mut keys = Keys::default();
        keys.observe(service(), &issued(KEY, 300 * SECOND), SECOND);
        for reason in [
            RejectReason::Expired,
            RejectReason::TicketCorrupt,
            RejectReason::ParametersChanged,
            RejectReason::Unknown,
        ] {
            keys.observe(service(), &offered(KEY, Some(reason)), 2 * SECOND);
        }
        assert_eq!(life(&keys, Key::Fingerprint(KEY)).unwrap().refused_early, 0);
    }

    #[test]
    fn what_is_left_of_an_accepted_ticket_keeps_its_key_due() {
        let mut keys = Keys::default();
        let mut accepted = offered(KEY, None);
        accepted.ticket_age_ns = Some(100 * SECOND);
        accepted.ticket_lifetime_ns = Some(300 * SECOND);
        keys.observe(service(), &accepted, SECOND);
        let life = life(&keys, Key::Fingerprint(KEY)).unwrap();
        assert_eq!(life.valid_until_ns, Some(201 * SECOND));
    }

    #[test]
    fn verdict_on_a_weak_key_stays_while_other_tickets_are_not_tried() {
        let mut keys = Keys::default();
        let mut tried = offered(KEY, None);
        tried.weak_key = Some(true);
        keys.observe(service(), &tried, SECOND);
        keys.observe(service(), &offered(KEY, None), 2 * SECOND);
        assert_eq!(life(&keys, Key::Fingerprint(KEY)).unwrap().weak, Some(true));
    }

    #[test]
    fn keys_that_a_client_makes_up_take_no_place() {
        let mut keys = Keys::default();
        for key in 0..10_000 {
            let refused = offered(key, Some(RejectReason::KeyUnknown));
            keys.observe(service(), &refused, SECOND);
        }
        assert_eq!(keys.lives.len(), 1);
        assert_eq!(life(&keys, Key::Other).unwrap().counts, [0, 0, 10_000]);
        assert!(keys.claims.len() <= MAX_CLAIMS);
    }

    #[test]
    fn key_that_is_refused_often_is_named_and_gives_way_to_one_in_use() {
        let mut keys = Keys::default();
        for key in 0..MAX_KEYS as u32 {
            for _ in 0..CLAIMS_FOR_A_PLACE {
                let refused = offered(key, Some(RejectReason::KeyUnknown));
                keys.observe(service(), &refused, u64::from(key) * SECOND);
            }
        }
        assert!(life(&keys, Key::Fingerprint(0)).is_some());
        keys.observe(service(), &issued(KEY, 300 * SECOND), 100 * SECOND);
        assert!(life(&keys, Key::Fingerprint(KEY)).is_some());
        assert!(life(&keys, Key::Fingerprint(0)).is_none());
    }

    #[test]
    fn clients_and_failed_handshakes_tell_nothing_of_a_key() {
        let mut keys = Keys::default();
        let mut client = offered(KEY, None);
        client.role = Role::Client;
        keys.observe(service(), &client, SECOND);
        let mut failed = offered(KEY, Some(RejectReason::KeyUnknown));
        failed.established = false;
        keys.observe(service(), &failed, SECOND);
        assert!(keys.lives.is_empty());
    }

    #[test]
    fn idle_keys_expire() {
        let mut keys = Keys::default();
        keys.observe(service(), &issued(KEY, 300 * SECOND), SECOND);
        keys.expire(SECOND, 2 * SECOND);
        assert!(keys.lives.is_empty());
    }
}
