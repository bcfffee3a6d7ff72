//! What follows from comparing handshakes: why an offer was refused, inferred from clear-text bytes,
//! for servers whose library says nothing; whether a ticket was offered before; whether its
//! beginning names a key; when the response
//! began, and what resuming spared.
//!
//! | seen | reason |
//! |---|---|
//! | a PSK was offered, TLS 1.2 or older selected | `parameters_changed`: a PSK is of TLS 1.3 |
//! | only a ticket of TLS 1.2 was offered, TLS 1.3 selected | `parameters_changed` |
//! | TLS ≤ 1.2; the ServerHello has no session ID and no session_ticket extension | `not_supported`: the server gives nothing to resume by |
//! | TLS ≤ 1.2, a session ID alone was offered; the server assigned another one, and nobody on this host was seen to issue the offered one | `cache_miss` |
//! | anything else | `unknown` |
//!
//! An expired ticket, a damaged one, one with changed parameters and one of an unknown key look
//! alike from outside. That a key is only ever refused does not show that it is unknown: a retired
//! key that is still read, of which only expired tickets come back, looks the same. And a session ID
//! that was issued here and is refused may have been evicted, have expired, or belong to another
//! virtual host. All these stay `unknown`.

use std::collections::HashSet;

use super::key_names::KeyNames;
use super::record::{Handshake, Method, Process, RejectReason, Role, Source};
use super::response::Responses;
use super::savings::Savings;
use super::tls::codes::TLS13;

/// Session IDs, and tickets, remembered; as many again of those before.
const MAX_REMEMBERED: usize = 64 * 1024;

/// Remembers which session IDs were issued, and which tickets were offered.
#[derive(Debug, Default)]
pub struct Inference {
    session_ids: Memory,
    tickets: Memory,
    key_names: KeyNames,
    responses: Responses,
    savings: Savings,
    /// Hashes of services whose tickets name their key.
    naming_services: Memory,
    hasher: ahash::RandomState,
}

/// Hashes that were seen lately, and those before.
#[derive(Debug, Default)]
struct Memory([HashSet<u64, ahash::RandomState>; 2]);

impl Memory {
    fn knows(&self, hash: u64) -> bool {
        self.0.iter().any(|hashes| hashes.contains(&hash))
    }

    fn add(&mut self, hash: u64) {
        if self.0[0].len() >= MAX_REMEMBERED {
            self.0.swap(0, 1);
            self.0[0].clear();
        }
        self.0[0].insert(hash);
    }
}

impl Inference {
    /// Learns from a finished handshake of this process and completes its record.
    pub fn complete(&mut self, handshake: &mut Handshake, process: Option<&Process>) {
        self.settle_keys(handshake, process);
        self.responses.complete(handshake, process);
        self.judge_offer(handshake);
        self.savings.complete(handshake, process);
    }

    /// Why an offer was refused, and whether it came before.
    fn judge_offer(&mut self, handshake: &mut Handshake) {
        if handshake.role != Role::Server || !handshake.established {
            return;
        }
        if handshake.offered != Method::None && !handshake.resumed {
            let reason = self.reason(handshake);
            handshake.wire_reason = Some(reason);
            if handshake.reject_source != Some(Source::Library) {
                handshake.reject_reason = Some(reason);
                handshake.reject_source = Some(Source::Wire);
            }
        }
        if let Some(id) = handshake.issued_session_id {
            self.session_ids.add(id);
        }
        if let Some(ticket) = handshake.offered_ticket {
            handshake.ticket_reoffered = self.tickets.knows(ticket);
            self.tickets.add(ticket);
        }
    }

    /// Keeps as key names what is known to be one.
    fn settle_keys(&mut self, handshake: &mut Handshake, process: Option<&Process>) {
        let names_keys = self.names_keys(handshake, process);
        if !handshake.established {
            // Nothing is learned from who failed.
        } else if names_keys {
            let accepted = handshake.ticket_key.filter(|_| handshake.resumed);
            for key in accepted.into_iter().chain(handshake.issued_key) {
                self.key_names.know(key);
            }
        } else {
            // Of an issued ticket only the beginning was read; but each is issued once. That both
            // ends may be on this host must not make it two.
            let is_issuer = handshake.role == Role::Server;
            for (key, ticket) in [
                (handshake.ticket_key, handshake.offered_ticket),
                (
                    handshake.issued_key.filter(|_| is_issuer),
                    Some(handshake.client_hello_ns),
                ),
            ] {
                if let (Some(key), Some(ticket)) = (key, ticket) {
                    self.key_names.note(key, ticket);
                }
            }
        }
        for key in [&mut handshake.ticket_key, &mut handshake.issued_key] {
            *key = key.filter(|key| names_keys || self.key_names.is_name(*key));
        }
    }

    /// The server's library is OpenSSL or of its kin, which begin every ticket with the name of its
    /// key: here, or in an earlier handshake of the service, it was seen at work.
    fn names_keys(&mut self, handshake: &Handshake, process: Option<&Process>) -> bool {
        if handshake.role != Role::Server {
            return false;
        }
        let service = process.map(|process| {
            self.hasher
                .hash_one((&process.service, &process.container_id))
        });
        let library = Some(Source::Library);
        let is_seen = handshake.reject_source == library
            || handshake.handshake_source == library
            || handshake.ticket_age_ns.is_some();
        match service {
            Some(service) if is_seen => self.naming_services.add(service),
            Some(service) => return self.naming_services.knows(service),
            None => {}
        }
        is_seen
    }

    fn reason(&self, handshake: &Handshake) -> RejectReason {
        let is_tls13 = handshake.version == Some(TLS13);
        match handshake.offered {
            Method::Psk if !is_tls13 => RejectReason::ParametersChanged,
            Method::Ticket if is_tls13 => RejectReason::ParametersChanged,
            Method::Ticket | Method::SessionId if !is_tls13 && !handshake.offers_resumption => {
                RejectReason::NotSupported
            }
            Method::SessionId if !is_tls13 && self.is_foreign(handshake.offered_session_id) => {
                RejectReason::CacheMiss
            }
            _ => RejectReason::Unknown,
        }
    }

    fn is_foreign(&self, id: Option<u64>) -> bool {
        id.is_some_and(|id| !self.session_ids.knows(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample;

    const TLS12: u16 = 0x0303;

    fn refused(offered: Method, version: u16) -> Handshake {
        Handshake {
            offered,
            version: Some(version),
            reject_reason: None,
            reject_source: None,
            wire_reason: None,
            ..sample::refused()
        }
    }

    fn judged(mut handshake: Handshake) -> Option<RejectReason> {
        Inference::default().complete(&mut handshake, None);
        handshake.reject_reason
    }

    #[test]
    fn offer_of_another_version_is_changed_parameters() {
        for handshake in [refused(Method::Psk, TLS12), refused(Method::Ticket, TLS13)] {
            assert_eq!(judged(handshake), Some(RejectReason::ParametersChanged));
        }
    }

    #[test]
    fn refused_ticket_alone_tells_no_reason() {
        for handshake in [refused(Method::Ticket, TLS12), refused(Method::Psk, TLS13)] {
            assert_eq!(judged(handshake), Some(RejectReason::Unknown));
        }
    }

    #[test]
    fn server_that_gives_nothing_to_resume_by_does_not_resume() {
        for offered in [Method::Ticket, Method::SessionId] {
            let handshake = Handshake {
                offers_resumption: false,
                ..refused(offered, TLS12)
            };
            assert_eq!(judged(handshake), Some(RejectReason::NotSupported));
        }
    }

    #[test]
    fn session_id_that_was_issued_here_is_no_proven_miss() {
        let mut inference = Inference::default();
        let mut judge = |offered, issued| {
            let mut handshake = Handshake {
                offered_session_id: Some(offered),
                issued_session_id: Some(issued),
                ..refused(Method::SessionId, TLS12)
            };
            inference.complete(&mut handshake, None);
            handshake.reject_reason
        };
        assert_eq!(judge(1, 2), Some(RejectReason::CacheMiss));
        assert_eq!(judge(2, 3), Some(RejectReason::Unknown));
    }

    #[test]
    fn library_is_believed_and_the_wire_kept_beside_it() {
        let mut handshake = Handshake {
            reject_reason: Some(RejectReason::Expired),
            reject_source: Some(Source::Library),
            ..refused(Method::Psk, TLS13)
        };
        Inference::default().complete(&mut handshake, None);
        assert_eq!(handshake.reject_reason, Some(RejectReason::Expired));
        assert_eq!(handshake.reject_source, Some(Source::Library));
        assert_eq!(handshake.wire_reason, Some(RejectReason::Unknown));
    }

    #[test]
    fn memory_of_session_ids_is_bounded() {
        let mut inference = Inference::default();
        for id in 0..5 * MAX_REMEMBERED as u64 {
            inference.complete(
                &mut Handshake {
                    issued_session_id: Some(id),
                    ..refused(Method::None, TLS12)
                },
                None,
            );
        }
        let kept: usize = inference.session_ids.0.iter().map(HashSet::len).sum();
        assert!(kept <= 2 * MAX_REMEMBERED);
    }

    #[test]
    fn ticket_that_comes_again_is_noticed() {
        let mut inference = Inference::default();
        let mut is_again = |ticket| {
            let mut handshake = Handshake {
                offered_ticket: Some(ticket),
                ..sample::resumed()
            };
            inference.complete(&mut handshake, None);
            handshake.ticket_reoffered
        };
        assert!(!is_again(1));
        assert!(!is_again(2));
        assert!(is_again(1));
    }

    #[test]
    fn resumed_failed_and_client_handshakes_have_no_reason() {
        for handshake in [
            sample::resumed(),
            sample::failed(),
            Handshake {
                role: Role::Client,
                ..refused(Method::Psk, TLS13)
            },
        ] {
            assert_eq!(judged(handshake), None);
        }
    }

    /// An accepted ticket of key 7, as seen by the wire.
    fn accepted(ticket: u64) -> Handshake {
        Handshake {
            ticket_key: Some(7),
            offered_ticket: Some(ticket),
            ticket_age_ns: None,
            handshake_source: Some(Source::Wire),
            ..sample::resumed()
        }
    }

    fn key_of(inference: &mut Inference, mut handshake: Handshake) -> Option<u32> {
        inference.complete(&mut handshake, Some(&sample::process()));
        handshake.ticket_key
    }

    #[test]
    fn key_is_shown_once_its_name_is_seen_to_be_one() {
        let mut inference = Inference::default();
        for (ticket, key) in [(1, None), (2, None), (3, Some(7)), (1, Some(7))] {
            assert_eq!(key_of(&mut inference, accepted(ticket)), key);
        }
    }

    #[test]
    fn key_is_shown_at_once_where_openssl_was_seen_at_work() {
        let mut inference = Inference::default();
        let by_library = Handshake {
            ticket_age_ns: Some(1),
            ..accepted(1)
        };
        assert_eq!(key_of(&mut inference, by_library), Some(7));
        let other_key = Handshake {
            ticket_key: Some(8),
            ..accepted(2)
        };
        assert_eq!(key_of(&mut inference, other_key), Some(8));
    }

    /// A ticket that is issued and comes back is one ticket.
    #[test]
    fn nonce_of_an_issued_ticket_is_no_key() {
        let mut inference = Inference::default();
        let issuing = Handshake {
            ticket_key: None,
            offered_ticket: None,
            issued_key: Some(7),
            tickets_issued: Some(1),
            ..accepted(0)
        };
        let received = Handshake {
            role: Role::Client,
            client_hello_ns: issuing.client_hello_ns + 1,
            ..issuing.clone()
        };
        for end in [issuing, received] {
            assert_eq!(key_of(&mut inference, end), None);
        }
        for _ in 0..4 {
            assert_eq!(key_of(&mut inference, accepted(1)), None);
        }
    }
}
