//! What QUIC shows of a handshake beyond its hellos: nothing but packets, and whose they are.

use super::{AlertSeen, Conversation, End, Moment};
use crate::core::record::Failure;
use crate::core::tls::codes::{alert, finished_record_length};

/// What a Handshake packet takes beyond what a record of TLS does: a packet number, and the header of a
/// CRYPTO frame, less the inner content type (RFC 9000, 17.2.4 and 19.6).
const MORE_THAN_A_RECORD: u64 = 3;

impl Conversation {
    /// A Handshake packet of the client of this length, packet number included. It holds the Finished if
    /// it is long enough; a bare acknowledgment takes half of that.
    pub fn client_handshake_packet(&mut self, length: u64, at: Moment) {
        let Some(server) = &self.server else {
            return;
        };
        let shortest = u64::from(finished_record_length(server.cipher)) + MORE_THAN_A_RECORD;
        if length >= shortest {
            self.flight.get_or_insert(at);
        }
    }

    /// A 1-RTT packet of the client: its handshake is complete (RFC 9001, 4.1.1 and 5.7), and its
    /// Finished is on its way, or came.
    pub fn client_one_rtt_packet(&mut self, at: Moment) {
        if self.server.is_some() && self.failure.is_none() {
            self.finished = self.finished.or(self.flight).or(Some(at));
            self.is_confirmed = true;
        }
    }

    /// An end gave up before it had keys to say so in secret.
    pub fn quic_closed(&mut self, from: End, description: Option<u8>) {
        if self.established().is_some() {
            return;
        }
        if let Some(description) = description {
            self.alert = Some(AlertSeen {
                // In QUIC every alert ends the connection (RFC 9001, 4.8).
                level: Some(alert::FATAL),
                description: Some(description),
                from,
            });
            self.fail(Failure::Alert);
        } else {
            self.fail(Failure::Closed);
        }
    }
}
