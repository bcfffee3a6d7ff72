//! What follows the handshake: the client's request and the server's records, up to the first
//! response. Only what cannot be the response is left out here; the judgment is `core/response`'s.

use super::{Conversation, Moment};
use crate::core::tls::codes::{
    self, TLS13, alert_record_length, content, content_length, finished_record_length,
};

/// The ALPN identifier of HTTP/2 over TLS (RFC 9113, 3.2).
const HTTP2: &str = "h2";

/// Content of the longest record of control frames that a client of HTTP/2 sends between its
/// connection preface and its request: SETTINGS acknowledgment 9, WINDOW_UPDATE 13 (RFC 9113, 6).
const MAX_CLIENT_CONTROL: u16 = 22;

/// No record of session tickets is longer: a ticket with a client's certificate in it takes 2 KiB.
const MAX_TICKET_RECORD: u16 = 4096;

/// Content of a record that holds just EncryptedExtensions (RFC 8446, 4.3.1): message header 4,
/// length 2, and of the extensions that servers send: empty server_name 4, empty early_data 4, and
/// ALPN (RFC 7301, 3.1) with `h2` 9.
const EXTENSIONS_WITH_HTTP2: [u16; 3] = [15, 19, 23];
/// The same without ALPN, and with `http/1.1`, which takes 15.
const EXTENSIONS_WITHOUT_HTTP2: [u16; 6] = [6, 10, 14, 21, 25, 29];

impl Conversation {
    /// The library returned, and yet the handshake is not over: where a server is ready for early
    /// data, OpenSSL pauses after its flight (`SSL_read_early_data`), whether there is any or not, and
    /// the client's Finished comes later. Where it `pauses` for all connections, the call that
    /// handles that Finished begins after it came.
    pub(in crate::core::tracker) fn is_pause(&self, entry_ns: u64, pauses: bool) -> bool {
        let is_tls13 = self
            .server
            .as_ref()
            .is_some_and(|server| server.version == TLS13);
        let finished = self.finished.or(self.flight);
        is_tls13 && finished.is_none_or(|at| pauses && entry_ns < at.time_ns)
    }

    /// Early data is on offer and its PSK was accepted, so that the server may take it.
    fn takes_early_data(&self) -> bool {
        self.resumed == Some(true) && self.offers_early_data()
    }

    pub(super) fn offers_early_data(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.early_data)
    }

    /// A protected record of the client ended: a request, perhaps.
    pub(super) fn note_request(&mut self, kind: u8, length: u16, at: Moment) {
        if kind != content::APPLICATION_DATA {
            return;
        }
        let Some(server) = &self.server else {
            // Early data.
            self.answer.ask(at.time_ns);
            return;
        };
        let (version, cipher) = (server.version, server.cipher);
        if version == TLS13 {
            let is_early = self.offers_early_data() && self.finished.is_none();
            let belongs_to_handshake = self.finished.is_none()
                && (!is_early
                    || length == finished_record_length(cipher)
                    || length == codes::end_of_early_data_record_length(cipher));
            if belongs_to_handshake || length == alert_record_length(cipher) {
                return;
            }
        }
        let is_control = content_length(version, cipher, length)
            .is_some_and(|length| length <= MAX_CLIENT_CONTROL);
        if !(is_control && self.may_speak_http2()) {
            self.answer.ask(at.time_ns);
        }
    }

    /// The header of a protected record of the server came.
    pub(super) fn note_answer(&mut self, kind: u8, length: u16, at: Moment) {
        let Some(server) = &self.server else {
            return;
        };
        let (version, cipher) = (server.version, server.cipher);
        if kind != content::APPLICATION_DATA {
            return;
        }
        if version != TLS13 {
            if self.server_protected {
                self.answer.add(at.time_ns, length, false);
                self.close_answer(length, self.answer.is_asked());
            }
            return;
        }
        if !self.saw_extensions {
            self.saw_extensions = true;
            self.note_extensions(cipher, length);
        }
        if self.finished.or(self.flight).is_some() {
            // Where the library's end is known, what differs from a record before it is no ticket.
            let is_unlike = self
                .answer
                .records()
                .last()
                .is_some_and(|last| last.length != length);
            let is_ticket = length <= MAX_TICKET_RECORD && !(self.library.is_some() && is_unlike);
            self.answer.add(at.time_ns, length, false);
            self.close_answer(length, self.answer.is_asked() && !is_ticket);
        } else if self.offers_early_data() {
            if self.takes_early_data() && self.server_finished {
                self.answer.add(at.time_ns, length, true);
                self.half_rtt.get_or_insert(at);
            }
            self.server_finished |= length == finished_record_length(cipher);
        }
    }

    /// Nothing more need be noted once the response is.
    fn close_answer(&mut self, length: u16, may_be_response: bool) {
        // Longer than any record of HTTP/2's control frames (`response::is_control`).
        if may_be_response && (!self.may_speak_http2() || length > 128) {
            self.answer.close();
        }
    }

    fn note_extensions(&mut self, cipher: u16, length: u16) {
        self.speaks_http2 = if !self.offers_http2() {
            Some(false)
        } else {
            content_length(TLS13, cipher, length).and_then(|length| {
                if EXTENSIONS_WITH_HTTP2.contains(&length) {
                    Some(true)
                } else if EXTENSIONS_WITHOUT_HTTP2.contains(&length) {
                    Some(false)
                } else {
                    None
                }
            })
        };
    }

    fn offers_http2(&self) -> bool {
        self.hello
            .as_ref()
            .is_some_and(|hello| hello.protocols.iter().any(|name| name == HTTP2))
    }

    /// HTTP/2 is what is spoken, or may be. In TLS ≤ 1.2 the ServerHello tells.
    pub fn http2(&self) -> Option<bool> {
        match &self.server {
            Some(server) if server.version == TLS13 => self.speaks_http2,
            Some(server) => Some(server.protocol.as_deref() == Some(HTTP2)),
            None => None,
        }
    }

    fn may_speak_http2(&self) -> bool {
        self.http2() != Some(false)
    }
}
