//! What libraries said of offered tickets, by thread, until the flow takes it whose server flight
//! the thread sends next; and what follows from it.
//!
//! The library decides while it handles the ClientHello, and the flight leaves in the same thread
//! right after. A server on memory buffers may decide on several connections before it sends any
//! flight; then nothing is said rather than the wrong thing.

use std::collections::HashMap;

use crate::core::decode::TicketDecision;
use crate::core::record::{Method, RejectReason};
use crate::core::tls::codes::TLS13;

/// Threads of which decisions are kept at once.
const MAX_THREADS: usize = 16 * 1024;

/// Decisions kept of one thread: more identities in one ClientHello are not offered in practice.
const MAX_PENDING: usize = 4;

/// A decision and when it fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Unix time, nanoseconds.
    pub unix_ns: i128,
    pub decision: TicketDecision,
}

/// Decisions that no flow has taken yet.
#[derive(Debug, Default)]
pub struct Decisions {
    pending: HashMap<u64, Pending, ahash::RandomState>,
}

/// Of one thread, oldest first.
#[derive(Debug, Default)]
struct Pending {
    decided: [Option<Decided>; MAX_PENDING],
    count: usize,
}

impl Decisions {
    /// Notes what was decided in a thread (`bpf_get_current_pid_tgid`).
    pub fn note(&mut self, thread: u64, decided: Decided) {
        if self.pending.len() >= MAX_THREADS && !self.pending.contains_key(&thread) {
            // Threads that decide and never send a flight.
            self.pending.clear();
        }
        let pending = self.pending.entry(thread).or_default();
        if let Some(free) = pending.decided.get_mut(pending.count) {
            *free = Some(decided);
        }
        pending.count += 1;
    }

    /// Hands over what the thread decided between the begin of a ClientHello and the flight that
    /// it sends now. The last of several counts, if they can all belong to this ClientHello, which
    /// offers `identities` tickets.
    pub fn take(
        &mut self,
        thread: u64,
        hello_ns: u64,
        flight_ns: u64,
        identities: usize,
    ) -> Option<Decided> {
        let pending = self.pending.remove(&thread)?;
        if pending.count > MAX_PENDING {
            return None;
        }
        let mut fitting = pending
            .decided
            .iter()
            .flatten()
            .filter(|decided| (hello_ns..=flight_ns).contains(&decided.time_ns));
        let last = fitting.next_back()?;
        (fitting.count() < identities).then_some(*last)
    }
}

/// Why a server refused an offer of which this is known, in a handshake of `version` (a wire code
/// point); `None` as the version means that it never selected one.
pub fn reason(decided: &Decided, offered: Method, version: Option<u16>) -> RejectReason {
    match decided.decision {
        // A session ID that the client made up, beside a session of a version that is not spoken.
        TicketDecision::NotCached if offered == Method::Psk && version != Some(TLS13) => {
            RejectReason::ParametersChanged
        }
        // It looked for the session ID beside a ticket, so it takes no tickets.
        TicketDecision::NotCached if offered == Method::Ticket => RejectReason::NotSupported,
        TicketDecision::NotCached => RejectReason::CacheMiss,
        TicketDecision::KeyUnknown => RejectReason::KeyUnknown,
        TicketDecision::Corrupt => RejectReason::TicketCorrupt,
        TicketDecision::Session(session) => {
            let differs = |version| session.version != 0 && version != session.version;
            if version.is_some_and(differs) {
                RejectReason::ParametersChanged
            } else if session.issued_unix_ns == 0 {
                RejectReason::Unknown
            } else if is_expired(decided, session.issued_unix_ns, session.timeout_ns) {
                RejectReason::Expired
            } else {
                RejectReason::ParametersChanged
            }
        }
    }
}

/// Like `ssl_get_prev_session` of OpenSSL, which compares whole seconds.
fn is_expired(decided: &Decided, issued_unix_ns: u64, timeout_ns: u64) -> bool {
    const SECOND: i128 = 1_000_000_000;
    let end = i128::from(issued_unix_ns) + i128::from(timeout_ns);
    decided.unix_ns.div_euclid(SECOND) > end.div_euclid(SECOND)
}

/// Age of the session in a ticket and how long the server keeps it, nanoseconds; where known.
pub fn age_and_lifetime(decided: &Decided) -> (Option<u64>, Option<u64>) {
    match decided.decision {
        TicketDecision::Session(session) if session.issued_unix_ns != 0 => {
            let age = decided.unix_ns - i128::from(session.issued_unix_ns);
            // Issued within this second, as the library counts, or by a clock ahead of ours.
            let age = u64::try_from(age.max(0)).ok();
            (
                age,
                Some(session.timeout_ns).filter(|timeout| *timeout != 0),
            )
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decode::TicketSession;

    const THREAD: u64 = 7 << 32 | 7;

    fn decided(time_ns: u64, decision: TicketDecision) -> Decided {
        Decided {
            time_ns,
            unix_ns: 1_000_000_000_000 + i128::from(time_ns),
            decision,
        }
    }

    fn session(version: u16, issued_s: u64, timeout_s: u64) -> TicketDecision {
        TicketDecision::Session(TicketSession {
            version,
            issued_unix_ns: issued_s * 1_000_000_000,
            timeout_ns: timeout_s * 1_000_000_000,
        })
    }

    #[test]
    fn decision_between_hello_and_flight_is_taken_once() {
        let mut decisions = Decisions::default();
        let corrupt = decided(20, TicketDecision::Corrupt);
        decisions.note(THREAD, corrupt);
        assert_eq!(decisions.take(THREAD + 1, 10, 30, 1), None);
        assert_eq!(decisions.take(THREAD, 10, 30, 1), Some(corrupt));
        assert_eq!(decisions.take(THREAD, 10, 30, 1), None);
    }

    #[test]
    fn decision_from_before_the_hello_belongs_to_another_connection() {
        let mut decisions = Decisions::default();
        decisions.note(THREAD, decided(5, TicketDecision::Corrupt));
        assert_eq!(decisions.take(THREAD, 10, 30, 1), None);
        decisions.note(THREAD, decided(5, TicketDecision::Corrupt));
        let unknown = decided(20, TicketDecision::KeyUnknown);
        decisions.note(THREAD, unknown);
        assert_eq!(decisions.take(THREAD, 10, 30, 1), Some(unknown));
    }

    #[test]
    fn several_decisions_count_only_as_far_as_identities_were_offered() {
        let mut decisions = Decisions::default();
        let note_both = |decisions: &mut Decisions| {
            decisions.note(THREAD, decided(20, TicketDecision::KeyUnknown));
            decisions.note(THREAD, decided(21, TicketDecision::Corrupt));
        };
        note_both(&mut decisions);
        assert_eq!(
            decisions.take(THREAD, 10, 30, 2),
            Some(decided(21, TicketDecision::Corrupt))
        );
        note_both(&mut decisions);
        assert_eq!(decisions.take(THREAD, 10, 30, 1), None);
    }

    #[test]
    fn more_decisions_than_are_kept_say_nothing() {
        let mut decisions = Decisions::default();
        for _ in 0..=MAX_PENDING {
            decisions.note(THREAD, decided(20, TicketDecision::Corrupt));
        }
        assert_eq!(decisions.take(THREAD, 10, 30, 9), None);
    }

    #[test]
    fn threads_that_never_send_are_bounded() {
        let mut decisions = Decisions::default();
        for thread in 0..3 * MAX_THREADS as u64 {
            decisions.note(thread, decided(20, TicketDecision::Corrupt));
        }
        assert!(decisions.pending.len() <= MAX_THREADS);
    }

    #[test]
    fn session_expires_with_the_second_after_its_timeout() {
        // `decided` is at 1,000 s.
        let reason_of = |timeout| {
            reason(
                &decided(0, session(0x304, 900, timeout)),
                Method::Psk,
                Some(0x304),
            )
        };
        assert_eq!(reason_of(99), RejectReason::Expired);
        assert_eq!(reason_of(100), RejectReason::ParametersChanged);
    }

    #[test]
    fn session_of_another_version_is_changed_parameters_whatever_its_age() {
        let expired = decided(0, session(0x303, 100, 1));
        assert_eq!(
            reason(&expired, Method::Psk, Some(0x304)),
            RejectReason::ParametersChanged
        );
        assert_eq!(
            reason(&expired, Method::Psk, Some(0x303)),
            RejectReason::Expired
        );
    }

    #[test]
    fn session_of_unknown_age_gives_no_reason() {
        let unknown = decided(0, session(0x304, 0, 0));
        assert_eq!(
            reason(&unknown, Method::Psk, Some(0x304)),
            RejectReason::Unknown
        );
        assert_eq!(age_and_lifetime(&unknown), (None, None));
    }

    #[test]
    fn age_is_never_negative() {
        let ahead = decided(0, session(0x304, 1_001, 300));
        assert_eq!(age_and_lifetime(&ahead), (Some(0), Some(300_000_000_000)));
    }

    #[test]
    fn made_up_session_id_beside_a_psk_is_no_miss() {
        let absent = decided(0, TicketDecision::NotCached);
        let reason_of = |version| reason(&absent, Method::Psk, Some(version));
        assert_eq!(reason_of(0x303), RejectReason::ParametersChanged);
        assert_eq!(reason_of(0x304), RejectReason::CacheMiss);
    }

    #[test]
    fn server_that_looks_for_the_session_id_beside_a_ticket_takes_no_tickets() {
        let absent = decided(0, TicketDecision::NotCached);
        let reason_of = |offered| reason(&absent, offered, Some(0x303));
        assert_eq!(reason_of(Method::SessionId), RejectReason::CacheMiss);
        assert_eq!(reason_of(Method::Ticket), RejectReason::NotSupported);
    }
}
