//! What the client offered to resume by, and what the server made of it.

use super::{Conversation, End};
use crate::core::decode::TicketDecision;
use crate::core::record::{Method, RejectReason};
use crate::core::tls::client_hello::{ClientHello, SessionId, Ticket};
use crate::core::tls::codes::alert;
use crate::core::tracker::decisions;

impl Conversation {
    /// What the client offered that could count for the selected version, and its ticket.
    pub fn offered(&self) -> (Method, Option<Ticket>) {
        let Some(hello) = &self.hello else {
            return (Method::None, None);
        };
        let ticket = hello.offered_ticket().copied();
        // A client of TLS 1.3 makes a session ID up (RFC 8446, D.4). Only a server that resumes
        // by it proves that it was meant.
        let session_id_counts = !hello.session_id.is_empty()
            && (!hello.offers_tls13 || self.is_resumed_by_session_id());
        let old = match ticket {
            Some(ticket) => Some((Method::Ticket, Some(ticket))),
            None if session_id_counts => Some((Method::SessionId, None)),
            None => None,
        };
        let new = hello.psk.map(|psk| (Method::Psk, Some(psk)));
        let best = if self.is_tls12() {
            old.or(new)
        } else {
            new.or(old)
        };
        best.unwrap_or((Method::None, None))
    }

    fn is_resumed_by_session_id(&self) -> bool {
        match (&self.hello, &self.server) {
            (Some(hello), Some(server)) => {
                self.is_tls12()
                    && self.resumed == Some(true)
                    && !server.session_id.is_empty()
                    && server.session_id == hello.session_id
            }
            _ => false,
        }
    }

    /// Tickets and session IDs on offer that a server could try.
    pub fn sessions_on_offer(&self) -> usize {
        let hello = match &self.hello {
            Some(hello) if self.server.is_none() => hello,
            _ => return 0,
        };
        // Of both kinds only one is tried: that of the version that the server selects.
        hello.psk_identities.max(usize::from(
            hello.offered_ticket().is_some() || !hello.session_id.is_empty(),
        ))
    }

    /// The server gave something to resume by. TLS 1.3 hides that.
    pub fn offers_resumption(&self) -> bool {
        match &self.server {
            Some(server) if self.is_tls12() => {
                server.issues_ticket || !server.session_id.is_empty()
            }
            _ => true,
        }
    }

    /// The session ID that the client offered, and the one that the server assigned to a new
    /// session; TLS ≤ 1.2.
    pub fn session_ids(&self) -> (Option<SessionId>, Option<SessionId>) {
        let (Some(hello), Some(server), true) = (&self.hello, &self.server, self.is_tls12()) else {
            return (None, None);
        };
        let kept = |id: &SessionId| (!id.is_empty()).then_some(*id);
        let assigned = kept(&server.session_id).filter(|_| self.resumed == Some(false));
        (kept(&hello.session_id), assigned)
    }

    /// The ticket by which the server resumed, where whole tickets are kept.
    pub fn accepted_ticket(&self) -> Option<&[u8]> {
        let whole = self.hello.as_ref()?.whole.as_ref()?;
        let ticket = match self.method() {
            Method::Ticket => &whole.ticket,
            Method::Psk => &whole.psk,
            Method::SessionId | Method::None => return None,
        };
        Some(ticket)
    }

    /// Why the offer was refused, as the server's library has it; `None` where it did not say, or
    /// where nothing was refused.
    pub fn refusal(&self) -> Option<RejectReason> {
        let decided = self.decided?;
        let version = self.server.as_ref().map(|server| server.version);
        let (offered, _) = self.offered();
        if offered == Method::None {
            return None;
        }
        // Without anything to resume by, a lookup is a formality.
        if decided.decision == TicketDecision::NotCached && !self.offers_resumption() {
            return Some(RejectReason::NotSupported);
        }
        if self.established().is_some() {
            return (self.resumed == Some(false))
                .then(|| decisions::reason(&decided, offered, version));
        }
        // The server gave up on the ClientHello. OpenSSL does so when the cipher of a TLS 1.2
        // session is not on offer; with a PSK it may also be the binder.
        let gave_up = self.server.is_none()
            && self.alert.is_some_and(|alert| {
                alert.from == End::Server && alert.level == Some(alert::FATAL)
            });
        let is_old = self.hello.as_ref().is_some_and(|hello| hello.psk.is_none());
        match decided.decision {
            TicketDecision::Session(_) if gave_up && is_old => {
                Some(decisions::reason(&decided, offered, None))
            }
            _ => None,
        }
    }

    /// What the server accepted.
    pub fn method(&self) -> Method {
        match (self.resumed, self.is_tls12()) {
            (Some(true), false) => Method::Psk,
            (Some(true), true) => match self.hello.as_ref().and_then(ClientHello::offered_ticket) {
                Some(_) => Method::Ticket,
                None => Method::SessionId,
            },
            _ => Method::None,
        }
    }
}
