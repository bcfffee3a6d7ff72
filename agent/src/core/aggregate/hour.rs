//! The last hour, minute by minute: what findings are drawn from and what the page shows.

use std::collections::VecDeque;

use super::native::NativeBuckets;
use crate::core::names;
use crate::core::record::{Handshake, Method, Outcome, RejectReason, Role};
use crate::core::tls::codes::{TLS12, TLS13};

/// Minutes that are kept, the one under way included.
pub const MINUTES: usize = 60;

/// Nanoseconds.
pub const MINUTE_NS: u64 = 60_000_000_000;

/// Cipher suites of one name and service that are told apart.
const MAX_CIPHERS: usize = 8;

/// A chain so long and the rest of the server's first flight exceed ten segments of 1,460 bytes, which is
/// what may be sent before the client answers (RFC 6928), bytes.
pub const LONG_CHAIN_BYTES: u32 = 14_000;

macro_rules! counts {
    ($($(#[$doc:meta])+ $count:ident = $name:literal;)+) => {
        /// What is counted of handshakes. All but `Failed` of completed ones.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count {
            $($(#[$doc])+ $count,)+
        }

        impl Count {
            pub const ALL: &'static [Self] = &[$(Self::$count,)+];

            /// In `/api/v1/observations`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$count => $name,)+
                }
            }
        }
    };
}

counts! {
    /// Full handshakes.
    Full = "full";
    /// Resumed ones.
    Resumed = "resumed";
    /// Handshakes that did not complete.
    Failed = "failed";
    /// The client offered to resume.
    Offered = "offered";
    /// It offered a ticket (or PSK).
    OfferedTicket = "offered_ticket";
    /// The server took the ticket.
    AcceptedTicket = "accepted_ticket";
    /// Why an offer was refused.
    KeyUnknown = "key_unknown";
    /// See [`RejectReason`].
    TicketCorrupt = "ticket_corrupt";
    /// See [`RejectReason`].
    Expired = "expired";
    /// See [`RejectReason`].
    ParametersChanged = "parameters_changed";
    /// See [`RejectReason`].
    CacheMiss = "cache_miss";
    /// See [`RejectReason`].
    NotSupported = "not_supported";
    /// See [`RejectReason`].
    Unknown = "unknown";
    /// Full ones up to TLS 1.2 in which the server gave something to resume by.
    Gave = "gave";
    /// Full ones up to TLS 1.2 in which it gave nothing to a client that takes tickets.
    GaveNothing = "gave_nothing";
    /// Those whose number of tickets is known.
    TicketsKnown = "tickets_known";
    /// Their tickets.
    Tickets = "tickets";
    /// The client would speak TLS 1.3, and the server did.
    Tls13 = "tls13";
    /// The client would speak TLS 1.3, and the server chose an older version.
    NotTls13 = "not_tls13";
    /// Of TLS 1.1 and older.
    TlsOld = "tls_old";
    /// With a cipher suite that lacks forward secrecy or authenticated encryption.
    CipherOld = "cipher_old";
    /// The client offered HTTP/2 and got it.
    Http2 = "http2";
    /// The client offered HTTP/2 and did not get it.
    NotHttp2 = "not_http2";
    /// Resumed ones in which the client offered early data: a ticket of this server allowed it.
    EarlyOffered = "early_offered";
    /// Early data was accepted, as far as that is known; it is not over QUIC.
    EarlyAccepted = "early_accepted";
    /// Early data was refused although the PSK was accepted.
    EarlyRefused = "early_refused";
    /// Full ones up to TLS 1.2 whose client asked for a stapled OCSP response, and got one.
    Stapled = "stapled";
    /// Such ones that got none.
    NotStapled = "not_stapled";
    /// Full ones up to TLS 1.2 with an RSA certificate.
    Rsa = "rsa";
    /// Such ones whose client could have done ECDSA.
    RsaNeedless = "rsa_needless";
    /// Full ones up to TLS 1.2 whose chain exceeds [`LONG_CHAIN_BYTES`].
    LongChain = "long_chain";
}

const COUNTS: usize = Count::ALL.len();

/// Figures by [`Count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted(pub [u32; COUNTS]);

impl Default for Counted {
    fn default() -> Self {
        Self([0; COUNTS])
    }
}

impl Counted {
    pub fn get(&self, count: Count) -> u64 {
        u64::from(self.0[count as usize])
    }

    pub fn completed(&self) -> u64 {
        self.get(Count::Full) + self.get(Count::Resumed)
    }

    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Counts what was noted of one handshake.
    fn observe(&mut self, notes: Notes) {
        let mut marks = notes.marks;
        while marks != 0 {
            let place = marks.trailing_zeros() as usize;
            self.0[place] = self.0[place].saturating_add(1);
            marks &= marks - 1;
        }
        let tickets = &mut self.0[Count::Tickets as usize];
        *tickets = tickets.saturating_add(notes.tickets);
    }
}

/// What of one handshake is counted, found out once for all who count it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    /// A bit for each [`Count`] that it adds one to.
    marks: u64,
    tickets: u32,
}

// A bit for each of them.
const _: () = assert!(COUNTS <= 64);

impl Notes {
    pub(super) fn of(handshake: &Handshake) -> Self {
        let mut notes = Self::default();
        notes.observe(handshake);
        notes
    }

    fn count(&mut self, count: Count, applies: bool) {
        self.marks |= u64::from(applies) << count as u32;
    }

    fn observe(&mut self, handshake: &Handshake) {
        let outcome = handshake.outcome();
        self.count(Count::Full, outcome == Outcome::Full);
        self.count(Count::Resumed, outcome == Outcome::Resumed);
        self.count(Count::Failed, outcome == Outcome::Failed);
        if outcome == Outcome::Failed {
            return;
        }
        let offers_ticket = matches!(handshake.offered, Method::Ticket | Method::Psk);
        self.count(Count::Offered, handshake.offered != Method::None);
        self.count(Count::OfferedTicket, offers_ticket);
        self.count(
            Count::AcceptedTicket,
            offers_ticket && handshake.method == handshake.offered,
        );
        if let Some(reason) = handshake.reject_reason {
            self.count(of_reason(reason), true);
        }
        if let Some(tickets) = handshake.tickets_sent {
            self.count(Count::TicketsKnown, true);
            self.tickets = tickets;
        }
        let version = handshake.version.unwrap_or(0);
        self.count(Count::Tls13, version == TLS13);
        self.count(Count::NotTls13, handshake.offers_tls13 && version != TLS13);
        self.count(Count::TlsOld, version != 0 && version < TLS12);
        if let Some(cipher) = handshake.cipher {
            self.count(Count::CipherOld, is_old(cipher));
        }
        if handshake
            .supported_protocols
            .iter()
            .any(|name| name == "h2")
        {
            let chosen = handshake.next_protocol.as_deref().map(|name| name == "h2");
            let speaks_http2 = chosen.or(handshake.http2);
            self.count(Count::Http2, speaks_http2 == Some(true));
            self.count(Count::NotHttp2, speaks_http2 == Some(false));
        }
        let accepted = handshake.early_data_accepted;
        let is_early = handshake.early_data_offered && handshake.resumed;
        self.count(Count::EarlyOffered, is_early);
        self.count(Count::EarlyAccepted, accepted == Some(true));
        self.count(Count::EarlyRefused, is_early && accepted == Some(false));
        if outcome == Outcome::Full && version != 0 && version <= TLS12 {
            self.observe_certificate(handshake);
        }
    }

    /// Counts what is in the clear in a full handshake up to TLS 1.2.
    fn observe_certificate(&mut self, handshake: &Handshake) {
        self.count(Count::Gave, handshake.offers_resumption);
        let is_given_nothing = handshake.takes_tickets && !handshake.offers_resumption;
        self.count(Count::GaveNothing, is_given_nothing);
        if handshake.asks_for_status {
            self.count(Count::Stapled, handshake.ocsp_stapled == Some(true));
            self.count(Count::NotStapled, handshake.ocsp_stapled == Some(false));
        }
        let cipher = handshake.cipher.map(names::cipher_suite);
        let is_rsa = cipher.is_some_and(|name| name.contains("_RSA_WITH_"));
        self.count(Count::Rsa, is_rsa);
        self.count(Count::RsaNeedless, is_rsa && handshake.offers_ecdsa);
        let chain = handshake.certificate_chain_bytes.unwrap_or(0);
        self.count(Count::LongChain, chain > LONG_CHAIN_BYTES);
    }
}

/// The count of a reason.
pub const fn of_reason(reason: RejectReason) -> Count {
    match reason {
        RejectReason::KeyUnknown => Count::KeyUnknown,
        RejectReason::TicketCorrupt => Count::TicketCorrupt,
        RejectReason::Expired => Count::Expired,
        RejectReason::ParametersChanged => Count::ParametersChanged,
        RejectReason::CacheMiss => Count::CacheMiss,
        RejectReason::NotSupported => Count::NotSupported,
        RejectReason::Unknown => Count::Unknown,
    }
}

/// No forward secrecy, or encryption without authentication (RFC 9325, 4.1 and 4.2).
fn is_old(cipher: u16) -> bool {
    /// Nearly all that is selected: not worth a look at their names.
    const USUAL: [u16; 9] = [
        0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9,
    ];
    const SIGNS: [&str; 5] = ["_CBC_", "_RC4_", "_3DES_", "_NULL_", "_DES40_"];
    if USUAL.contains(&cipher) {
        return false;
    }
    let cipher = names::cipher_suite(cipher);
    cipher.starts_with("TLS_RSA_WITH_") || SIGNS.iter().any(|sign| cipher.contains(sign))
}

/// One minute of something; `number` counts minutes of CLOCK_MONOTONIC.
#[derive(Clone, Debug, Default)]
struct Minute<T> {
    number: u64,
    value: T,
}

/// Minutes in which something happened, oldest first.
#[derive(Clone, Debug)]
struct Minutes<T>(VecDeque<Minute<T>>);

impl<T> Default for Minutes<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Default> Minutes<T> {
    fn at(&mut self, now_ns: u64) -> &mut T {
        let number = now_ns / MINUTE_NS;
        if self.0.back().is_none_or(|last| last.number < number) {
            while self
                .0
                .front()
                .is_some_and(|first| is_past(first.number, number))
            {
                self.0.pop_front();
            }
            self.0.push_back(Minute {
                number,
                value: T::default(),
            });
        }
        let last = self.0.len() - 1;
        &mut self.0[last].value
    }

    /// Those of the last hour, oldest first, with their numbers.
    fn last(&self, now_ns: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let now = now_ns / MINUTE_NS;
        let kept = self
            .0
            .iter()
            .filter(move |minute| !is_past(minute.number, now));
        kept.map(|minute| (minute.number, &minute.value))
    }
}

fn is_past(number: u64, now: u64) -> bool {
    number + MINUTES as u64 <= now
}

/// The last hour of one server name, service, role and transport.
#[derive(Clone, Debug, Default)]
pub struct Hour {
    minutes: Minutes<Counted>,
    /// Suites and how often each was selected; halved every [`MINUTES`] minutes.
    ciphers: Vec<(u16, u32)>,
    halved: u64,
}

impl Hour {
    pub(super) fn observe(&mut self, handshake: &Handshake, notes: Notes, now_ns: u64) {
        self.minutes.at(now_ns).observe(notes);
        if let Some(cipher) = handshake.cipher.filter(|_| handshake.established) {
            self.select(cipher, now_ns / MINUTE_NS);
        }
    }

    fn select(&mut self, cipher: u16, minute: u64) {
        if self.halved == 0 {
            self.halved = minute;
        }
        if minute >= self.halved + MINUTES as u64 {
            self.halved = minute;
            self.ciphers.iter_mut().for_each(|(_, count)| *count /= 2);
            self.ciphers.retain(|(_, count)| *count > 0);
        }
        let known = self.ciphers.iter_mut().find(|(known, _)| *known == cipher);
        if let Some((_, count)) = known {
            *count = count.saturating_add(1);
        } else if self.ciphers.len() < MAX_CIPHERS {
            self.ciphers.push((cipher, 1));
        }
    }

    /// All of the hour.
    pub fn sum(&self, now_ns: u64) -> Counted {
        self.newest(now_ns, MINUTES as u64)
    }

    /// The newest minutes, so many of them.
    pub fn newest(&self, now_ns: u64, minutes: u64) -> Counted {
        let now = now_ns / MINUTE_NS;
        let mut sum = Counted::default();
        let newest = self.minutes.last(now_ns);
        newest
            .filter(|(number, _)| number + minutes > now)
            .for_each(|(_, counted)| sum.add(counted));
        sum
    }

    /// Minutes in which something happened, oldest first, by their number.
    pub fn minutes(&self, now_ns: u64) -> impl Iterator<Item = (u64, &Counted)> {
        self.minutes.last(now_ns)
    }

    /// Selected cipher suites and how often, lately.
    pub fn ciphers(&self) -> &[(u16, u32)] {
        &self.ciphers
    }
}

/// One minute of the whole host, in one role.
#[derive(Clone, Debug, Default)]
pub struct HostMinute {
    pub counted: Counted,
    /// Time to first byte of full and of resumed handshakes.
    pub first_byte: [NativeBuckets; 2],
    /// CPU time of full and of resumed handshakes.
    pub cpu: [NativeBuckets; 2],
}

/// The last hour of the whole host, in one role.
#[derive(Clone, Debug, Default)]
pub struct HostHour(Minutes<HostMinute>);

impl HostHour {
    fn observe(&mut self, handshake: &Handshake, notes: Notes, now_ns: u64) {
        let minute = self.0.at(now_ns);
        minute.counted.observe(notes);
        let Some(kind) = handshake.outcome().place() else {
            return;
        };
        if let Some(first_byte_ns) = handshake.time_to_first_byte_ns {
            minute.first_byte[kind].observe(first_byte_ns);
        }
        if let Some(cpu_ns) = handshake.plain_cpu_ns() {
            minute.cpu[kind].observe(cpu_ns);
        }
    }

    /// Minutes in which something happened, oldest first, by their number.
    pub fn minutes(&self, now_ns: u64) -> impl Iterator<Item = (u64, &HostMinute)> {
        self.0.last(now_ns)
    }
}

/// The last hour of the whole host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub server: HostHour,
    pub client: HostHour,
}

impl Host {
    pub(super) fn observe(&mut self, handshake: &Handshake, notes: Notes, now_ns: u64) {
        match handshake.role {
            Role::Server => self.server.observe(handshake, notes, now_ns),
            Role::Client => self.client.observe(handshake, notes, now_ns),
            Role::Observer => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample;

    fn full() -> Handshake {
        Handshake {
            resumed: false,
            method: Method::None,
            ..sample::resumed()
        }
    }

    fn observe(hour: &mut Hour, handshake: &Handshake, now_ns: u64) {
        hour.observe(handshake, Notes::of(handshake), now_ns);
    }

    #[test]
    fn forgets_what_is_older_than_an_hour() {
        let mut hour = Hour::default();
        for minute in 0..200 {
            observe(&mut hour, &full(), minute * MINUTE_NS);
        }
        let now = 199 * MINUTE_NS;
        assert_eq!(hour.sum(now).completed(), 60);
        assert_eq!(hour.sum(now + 10 * MINUTE_NS).completed(), 50);
        assert_eq!(hour.sum(now + 60 * MINUTE_NS).completed(), 0);
        assert!(hour.minutes.0.len() <= MINUTES);
    }

    #[test]
    fn newest_minutes_are_as_many_as_asked_for() {
        let mut hour = Hour::default();
        for minute in 100..110 {
            for _ in 0..minute {
                observe(&mut hour, &full(), minute * MINUTE_NS);
            }
        }
        let now = 109 * MINUTE_NS;
        assert_eq!(hour.newest(now, 1).completed(), 109);
        assert_eq!(hour.newest(now, 3).completed(), 109 + 108 + 107);
        assert_eq!(hour.newest(now, 60).completed(), (100..110).sum::<u64>());
    }

    #[test]
    fn a_record_that_comes_late_counts_in_the_minute_under_way() {
        let mut hour = Hour::default();
        observe(&mut hour, &full(), 5 * MINUTE_NS);
        observe(&mut hour, &full(), 3 * MINUTE_NS);
        assert_eq!(hour.minutes(5 * MINUTE_NS).count(), 1);
        assert_eq!(hour.sum(5 * MINUTE_NS).completed(), 2);
    }

    #[test]
    fn suites_without_forward_secrecy_or_authentication_are_old() {
        for old in [0x002f, 0x009c, 0x0005, 0xc013, 0x000a] {
            assert!(is_old(old), "{old:#x}");
        }
        for new in [0x1301, 0xc02f, 0xcca8, 0x009e, 0x1305] {
            assert!(!is_old(new), "{new:#x}");
        }
    }

    #[test]
    fn a_client_that_varies_its_suites_takes_no_more_room() {
        let mut hour = Hour::default();
        for cipher in 0..1_000 {
            let varied = Handshake {
                cipher: Some(cipher),
                ..full()
            };
            observe(&mut hour, &varied, MINUTE_NS);
        }
        assert_eq!(hour.ciphers().len(), MAX_CIPHERS);
    }
}
