//! What client and server say to each other, message by message, and what follows from it. It
//! knows of neither TCP nor addresses.
//!
//! TLS ≤ 1.2: a handshake is resumed when the server's ChangeCipherSpec follows its ServerHello
//! with no flight between (RFC 5246, 7.3; RFC 5077, 3.1). It is done at the server when the server
//! sent its Finished, or, resumed, when the client's came.
//!
//! TLS 1.3: resumption is read off the ServerHello's pre_shared_key. What follows is encrypted
//! and judged by record sizes (RFC 8446, 5.2): the client's Finished has a known one, and so has
//! an alert.

mod offers;
mod quic;
mod reply;

use super::decisions::Decided;
use crate::core::answer::Answer;
use crate::core::record::{Failure, Source};
use crate::core::tls::client_hello::ClientHello;
use crate::core::tls::codes::{
    self, TLS12, TLS13, alert_record_length, content, end_of_early_data_record_length,
    finished_record_length, handshake,
};
use crate::core::tls::record::{Item, MAX_HELLO, Next};
use crate::core::tls::server_hello::{Issued, ServerHello, named_curve, new_session_ticket};

/// An end of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// A point of the conversation: when, and how much each end had sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub time_ns: u64,
    pub client_bytes: u64,
    pub server_bytes: u64,
}

/// An alert as seen on the wire; level and description are unknown where it was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertSeen {
    pub level: Option<u8>,
    pub description: Option<u8>,
    pub from: End,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Conversation {
    pub hello: Option<ClientHello>,
    pub server: Option<ServerHello>,
    /// Not TLS after all.
    pub is_not_tls: bool,
    pub hello_retry: bool,
    /// Group of a HelloRetryRequest or ServerKeyExchange.
    group: Option<u16>,
    /// TLS ≤ 1.2, `None` until decided; in TLS 1.3 decided by the ServerHello.
    pub resumed: Option<bool>,
    pub certificate_bytes: Option<u32>,
    saw_status: bool,
    tickets: u32,
    /// The ticket that the server issued last, in clear text (TLS ≤ 1.2).
    pub issued: Option<Issued>,
    pub alert: Option<AlertSeen>,
    /// It can only fail now.
    pub failure: Option<Failure>,
    /// Messages of a full handshake were seen (TLS ≤ 1.2).
    saw_full_flight: bool,
    client_protected: bool,
    server_protected: bool,
    /// Position behind the client's Finished (TLS ≤ 1.2).
    client_finished: Option<u64>,
    /// The client's Finished of TLS 1.3 had its exact size, or the handshake of TLS ≤ 1.2 is done.
    finished: Option<Moment>,
    /// End of a client flight in TLS 1.3 that held something else beside a bare Finished: a
    /// certificate, or padding. It ends with the Finished for all we know.
    flight: Option<Moment>,
    /// A client record of any size, but no bare Finished, followed the ServerHello (TLS 1.3): a
    /// certificate was asked for, even if the client has none.
    saw_client_flight: bool,
    saw_early_data: bool,
    saw_end_of_early_data: bool,
    /// Whether it was there when the client's Finished came.
    early_data_taken: Option<bool>,
    /// Of the latest protected record.
    client_record_length: u16,
    client_is_closing: bool,
    /// The server's first record after the client's flight has the size of an alert.
    suspects_alert: bool,
    /// The server spoke on after the client's flight, so it accepted it.
    is_confirmed: bool,
    library: Option<Moment>,
    /// What the server's library said of the offered ticket.
    pub decided: Option<Decided>,
    /// Whole tickets are to be kept.
    pub keeps_tickets: bool,
    /// What the server sent after the handshake.
    pub answer: Answer,
    /// What is known of the application protocol in TLS 1.3, see `reply`.
    pub speaks_http2: Option<bool>,
    /// TLS 1.3: the first protected record of the server was seen.
    saw_extensions: bool,
    /// TLS 1.3 with early data: the server's Finished was seen.
    server_finished: bool,
    /// Of a client whose early data was declined: what came since the server's Finished, its own or more
    /// of that data.
    late_flight: Option<Moment>,
    /// The server answered early data before the client's Finished came.
    half_rtt: Option<Moment>,
}

impl Conversation {
    /// Takes one item. `at` tells when it ended.
    pub fn item(&mut self, from: End, item: Item<'_>, at: Moment) -> Next {
        if self.is_not_tls || self.failure.is_some() {
            return Next::Stop;
        }
        match (from, item) {
            (End::Client, Item::MessageStart { kind, length }) => self.client_message(kind, length),
            (End::Server, Item::MessageStart { kind, length }) => self.server_flight(kind, length),
            (End::Client, Item::Message { kind, body, .. }) => self.client_hello(kind, body),
            (End::Client, _) if self.hello.is_none() => self.not_tls(),
            (End::Server, Item::Message { kind, body, .. }) => self.server_message(kind, body),
            (_, Item::ChangeCipherSpec) => self.change_cipher_spec(from),
            (_, Item::Alert { level, description }) => self.alert(from, level, description),
            (_, Item::ProtectedStart { kind, length }) => {
                match from {
                    End::Client => self.client_record_length = length,
                    End::Server => {
                        self.server_record(kind, length);
                        self.note_answer(kind, length, at);
                    }
                }
                Next::Continue
            }
            (End::Client, Item::Protected { kind, length }) => {
                self.note_request(kind, length, at);
                self.client_record(kind, length, at)
            }
            (End::Server, Item::Protected { kind, .. }) => self.server_record_end(kind, at),
        }
    }

    fn not_tls(&mut self) -> Next {
        self.is_not_tls = true;
        Next::Stop
    }

    /// Bytes that are no TLS came from `from`.
    pub fn garbage(&mut self) {
        if self.hello.is_none() {
            self.is_not_tls = true;
        } else if !self.is_certain() {
            // What comes behind a handshake does not undo it.
            self.fail(Failure::Malformed);
        }
    }

    fn fail(&mut self, failure: Failure) -> Next {
        self.failure.get_or_insert(failure);
        Next::Stop
    }

    fn client_message(&mut self, kind: u8, length: u32) -> Next {
        match self.hello {
            None if kind != handshake::CLIENT_HELLO || length > MAX_HELLO => self.not_tls(),
            _ => Next::Continue,
        }
    }

    fn client_hello(&mut self, kind: u8, body: &[u8]) -> Next {
        if kind != handshake::CLIENT_HELLO {
            // Certificate, ClientKeyExchange, … of TLS ≤ 1.2.
            return Next::Continue;
        }
        match (
            ClientHello::read_keeping(body, self.keeps_tickets),
            &mut self.hello,
        ) {
            (Ok(hello), None) => self.hello = Some(hello),
            (Err(_), None) => return self.not_tls(),
            // The second ClientHello after a HelloRetryRequest: it may drop identities that do
            // not fit the selected hash, and always drops early_data (RFC 8446, 4.1.2).
            (Ok(second), Some(first)) if self.server.is_none() => {
                if second.psk.is_some() {
                    first.psk = second.psk;
                    first.psk_identities = second.psk_identities;
                }
            }
            (Err(_), Some(_)) => return self.fail(Failure::Malformed),
            // A clear ClientHello after the ServerHello breaks the protocol; the server says so.
            (Ok(_), Some(_)) => {}
        }
        Next::Continue
    }

    /// Judges the server's flight by the headers of its messages: their bodies need not be copied.
    fn server_flight(&mut self, kind: u8, length: u32) -> Next {
        if self.is_certain() {
            // What comes behind a handshake is none of it.
            return Next::Continue;
        }
        match kind {
            handshake::CERTIFICATE => self.certificate_bytes = Some(length),
            handshake::CERTIFICATE_STATUS => self.saw_status = true,
            handshake::SERVER_KEY_EXCHANGE
            | handshake::CERTIFICATE_REQUEST
            | handshake::SERVER_HELLO_DONE => {}
            _ => return Next::Continue,
        }
        self.saw_full_flight = true;
        self.resumed = Some(false);
        Next::Continue
    }

    fn server_message(&mut self, kind: u8, body: &[u8]) -> Next {
        if self.is_certain() {
            return Next::Continue;
        }
        match kind {
            handshake::SERVER_HELLO if self.server.is_none() => return self.server_hello(body),
            handshake::HELLO_RETRY_REQUEST_DRAFT if self.server.is_none() => {
                self.hello_retry = true;
            }
            // RFC 5077, 3.3: before the ChangeCipherSpec, in clear text.
            handshake::NEW_SESSION_TICKET => {
                self.tickets += 1;
                self.issued = new_session_ticket(body).ok();
            }
            handshake::SERVER_KEY_EXCHANGE => {
                let cipher = self.server.as_ref().map_or(0, |server| server.cipher);
                self.group = named_curve(cipher, body);
            }
            // HelloRequest and anything else tell nothing.
            _ => {}
        }
        Next::Continue
    }

    fn server_hello(&mut self, body: &[u8]) -> Next {
        let Ok(hello) = ServerHello::read(body) else {
            return self.fail(Failure::Malformed);
        };
        if hello.is_retry {
            self.hello_retry = true;
            self.group = hello.group;
            return Next::Continue;
        }
        if hello.version == TLS13 {
            self.resumed = Some(hello.psk_accepted);
        } else {
            self.group = None;
        }
        self.server = Some(hello);
        Next::Continue
    }

    fn change_cipher_spec(&mut self, from: End) -> Next {
        // In TLS 1.3, and before a version is selected, it is a fiction for middleboxes
        // (RFC 8446, D.4).
        if !self.is_tls12() {
            return Next::Continue;
        }
        match from {
            End::Client => self.client_protected = true,
            End::Server => {
                self.server_protected = true;
                self.resumed = Some(!self.saw_full_flight);
            }
        }
        Next::Protect
    }

    fn alert(&mut self, from: End, level: u8, description: u8) -> Next {
        if self.finished.is_some() {
            return Next::Continue;
        }
        self.alert = Some(AlertSeen {
            level: Some(level),
            description: Some(description),
            from,
        });
        // TLS 1.3 ignores the level (RFC 8446, 6), yet servers still warn with
        // unrecognized_name before they know the version.
        let ends = match description {
            codes::alert::CLOSE_NOTIFY | codes::alert::USER_CANCELED => false,
            _ => level != codes::alert::WARNING,
        };
        if ends {
            self.fail(Failure::Alert)
        } else {
            Next::Continue
        }
    }

    fn encrypted_alert(&mut self, from: End) {
        self.alert = Some(AlertSeen {
            level: None,
            description: None,
            from,
        });
        self.fail(Failure::Alert);
    }

    /// A protected record of the client ended.
    fn client_record(&mut self, kind: u8, length: u16, at: Moment) -> Next {
        let Some(server) = &self.server else {
            self.saw_early_data |= kind == content::APPLICATION_DATA;
            return Next::Continue;
        };
        if server.version != TLS13 {
            if self.client_protected && self.finished.is_none() {
                match kind {
                    content::HANDSHAKE if self.client_finished.is_none() => {
                        self.client_finished = Some(at.client_bytes);
                        if self.resumed == Some(true) {
                            self.finished = Some(at);
                        }
                    }
                    content::ALERT => self.encrypted_alert(End::Client),
                    _ => {}
                }
            }
            return Next::Continue;
        }
        if kind != content::APPLICATION_DATA {
            return Next::Continue;
        }
        let cipher = server.cipher;
        if self.finished.is_some() {
            self.client_is_closing |= length == alert_record_length(cipher);
            return Next::Continue;
        }
        if length == finished_record_length(cipher) {
            self.finished = Some(at);
            // A client says where its early data ends if the server took it, right before its
            // Finished, and only then (RFC 8446, 4.5).
            self.early_data_taken = Some(self.saw_end_of_early_data);
            return Next::Continue;
        }
        if length == alert_record_length(cipher) && !self.saw_client_flight {
            self.encrypted_alert(End::Client);
            return Next::Stop;
        }
        // Early data may still be under way when the ServerHello is (RFC 8446, 4.2.10), with or
        // without the server wanting it.
        if self.offers_early_data() && !self.saw_end_of_early_data {
            self.saw_end_of_early_data = length == end_of_early_data_record_length(cipher);
            // Beside it, a client whose PSK was taken has nothing else to send before its Finished.
            self.saw_early_data |= self.resumed == Some(true) && !self.saw_end_of_early_data;
            // Where its PSK was declined, a certificate may share the record of its Finished.
            if self.resumed == Some(false)
                && self.server_finished
                && length > finished_record_length(cipher)
            {
                self.late_flight.get_or_insert(at);
            }
            return Next::Continue;
        }
        self.saw_client_flight = true;
        // An empty Certificate is shorter than a Finished and cannot end a flight.
        if length > finished_record_length(cipher) || self.flight.is_some() {
            self.flight = Some(at);
        }
        Next::Continue
    }

    /// The header of a protected record of the server came.
    fn server_record(&mut self, kind: u8, length: u16) {
        let Some(server) = self
            .server
            .as_ref()
            .filter(|server| server.version == TLS13)
        else {
            return;
        };
        if kind != content::APPLICATION_DATA {
            return;
        }
        let looks_like_alert = length == alert_record_length(server.cipher);
        if self.flight.is_none() && !looks_like_alert {
            self.flight = self.late_flight;
        }
        if self.established().is_none() || self.is_confirmed {
            return;
        }
        // After the client's own close_notify the like of it is the answer. Where no certificate was
        // asked for, as in a resumed handshake, there is none that could be refused: the server closes.
        if looks_like_alert
            && !self.suspects_alert
            && !self.client_is_closing
            && self.saw_client_flight
            && self.resumed != Some(true)
        {
            self.suspects_alert = true;
        } else {
            self.suspects_alert = false;
            self.is_confirmed = true;
        }
        // The server answered, so the client's flight is over.
        self.finished = self.finished.or(self.flight);
    }

    fn server_record_end(&mut self, kind: u8, at: Moment) -> Next {
        if self.is_tls12() && self.server_protected && self.finished.is_none() {
            match kind {
                content::HANDSHAKE if self.resumed == Some(false) => {
                    self.finished = Some(Moment {
                        client_bytes: self.client_finished.unwrap_or(at.client_bytes),
                        ..at
                    });
                }
                content::ALERT => self.encrypted_alert(End::Server),
                _ => {}
            }
        }
        Next::Continue
    }

    /// Nothing more of the client can be read: its bytes were not copied. A certificate that was
    /// cut off still shows that a flight came.
    pub fn lost_client(&mut self, at: Moment) {
        let Some(server) = self.server.as_ref() else {
            return;
        };
        if server.version == TLS13
            && self.finished.is_none()
            && self.client_record_length > finished_record_length(server.cipher)
            && !self.offers_early_data()
        {
            self.flight = Some(at);
        }
    }

    /// The client closed its direction.
    pub fn client_closed(&mut self) {
        self.client_is_closing = true;
    }

    /// The library said that the handshake is done. Says whether that could be used.
    pub fn library_finished(&mut self, at: Moment) -> bool {
        let usable = self.server.is_some() && self.failure.is_none();
        if usable && (self.library.is_none() || !self.is_tls12()) {
            self.library = Some(match self.finished {
                Some(wire) => Moment {
                    time_ns: at.time_ns,
                    ..wire
                },
                None => at,
            });
        }
        usable
    }

    /// No more will come: an alert that was only suspected counts, and so does an answer to early data
    /// whose client never sent its Finished.
    pub fn conclude(&mut self) {
        if self.suspects_alert && self.library.is_none() && self.failure.is_none() {
            self.encrypted_alert(End::Server);
        }
        if self.finished.is_none() && self.flight.is_none() {
            self.finished = self.half_rtt;
        }
    }

    fn is_tls12(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|server| server.version <= TLS12)
    }

    /// Nothing more will ever come, though neither end is to blame: says whether it is known what the
    /// server selected, and keeps that as the verdict.
    pub fn end_unfinished(&mut self) -> bool {
        let (Some(hello), Some(server)) = (&self.hello, &self.server) else {
            return false;
        };
        // A server that resumes echoes the session ID, also that of a client with a ticket, and else
        // does not (RFC 5246, 7.4.1.3; RFC 5077, 3.4).
        let echo = match (hello.session_id.is_empty(), hello.offered_ticket()) {
            (false, _) => Some(server.session_id == hello.session_id),
            (true, None) => Some(false),
            (true, Some(_)) => None,
        };
        self.resumed = self.resumed.or(echo);
        if self.resumed.is_some() {
            self.failure = Some(Failure::Unfinished);
        }
        self.resumed.is_some()
    }

    /// The end of the handshake as known so far, and from where. In TLS 1.3 it is tentative until
    /// [`Self::is_certain`]: the server may still refuse the client's certificate.
    pub fn established(&self) -> Option<(Moment, Source)> {
        if self.failure.is_some() {
            return None;
        }
        let wire = self.finished.or(self.flight);
        self.library
            .map(|at| (at, Source::Library))
            .or(wire.map(|at| (at, Source::Wire)))
            // Without the ClientHello, or before the verdict, nothing can be told.
            .filter(|_| self.resumed.is_some() && self.hello.is_some())
    }

    /// The handshake is done beyond doubt.
    pub fn is_certain(&self) -> bool {
        self.established().is_some()
            && (self.library.is_some() || self.is_tls12() || self.is_confirmed)
    }

    /// The server asked for another ClientHello, and has not answered it.
    pub fn awaits_second_hello(&self) -> bool {
        self.hello_retry && self.server.is_none() && self.failure.is_none()
    }

    pub fn heard_library(&self) -> bool {
        self.library.is_some()
    }

    /// Selected or retried group.
    pub fn group(&self) -> Option<u16> {
        self.server
            .as_ref()
            .and_then(|server| server.group)
            .or(self.group)
    }

    /// Tickets of TLS ≤ 1.2; those of TLS 1.3 are encrypted.
    pub fn tickets_issued(&self) -> Option<u32> {
        self.is_tls12().then_some(self.tickets)
    }

    pub fn ocsp_stapled(&self) -> Option<bool> {
        (self.is_tls12() && self.resumed == Some(false)).then_some(self.saw_status)
    }

    /// A 0-RTT packet of the client came (RFC 9001, 4.6).
    pub fn zero_rtt_packet(&mut self) {
        self.saw_early_data = true;
    }

    /// Whether early data that was offered was seen on the wire. That none was sent is known over TCP only:
    /// datagrams may come late, or never.
    pub fn early_data_sent(&self) -> Option<bool> {
        if !self.offers_early_data() {
            return None;
        }
        // Where its PSK was declined, more of it may look like the client's own flight.
        let is_over = self.early_data_taken.is_some() && self.resumed == Some(true);
        (self.saw_early_data || is_over).then_some(self.saw_early_data)
    }

    /// What became of early data that was offered: a retry or a declined PSK refuses it (RFC 8446,
    /// 4.2.10). Otherwise the client's EndOfEarlyData tells, which TCP shows by its length.
    pub fn early_data_accepted(&self) -> Option<bool> {
        let refused = self.hello_retry || self.resumed == Some(false);
        match self.offers_early_data() {
            true if refused => Some(false),
            true => self.early_data_taken,
            false => None,
        }
    }
}
