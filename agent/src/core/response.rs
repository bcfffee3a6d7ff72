//! Which of the server's records is the first byte of its response, and how long the client waited
//! for it: time to first byte.
//!
//! On the wire the records behind a handshake look alike. Before the response come, in TLS 1.3, the
//! session tickets (RFC 8446, 4.6.1), and in HTTP/2 the server's SETTINGS and acknowledgments (RFC
//! 9113, 3.4). They are told apart so:
//!
//! | records | are |
//! |---|---|
//! | of TLS 1.3, sent before the library returned from the handshake | tickets, for certain |
//! | of TLS 1.3, sent before the client asked for anything | tickets, or SETTINGS |
//! | of TLS 1.3, the first ones after a request that came with the Finished | as many tickets as this service sends in nine of ten handshakes, if they are as long as its tickets were; else nothing is said |
//! | of TLS 1.3, after early data | the response, where all of the service's tickets come behind it |
//! | of HTTP/2, of the length of control frames | no response |
//! | the first other one after a request | the response |
//!
//! The figure counts from TCP established to that byte *as the client sees it*: what a server's end
//! sees is shorter by one round trip (half of one for the client's last ACK of TCP's handshake, half
//! for the response), which is added from the kernel's own measurement.

use std::collections::HashMap;

use super::answer::{Answer, AnswerRecord};
use super::record::{Handshake, Process, Role, Source};
use super::tls::codes::{TLS13, content_length};

/// Services whose habits are remembered; beyond that all are forgotten and learned anew.
const MAX_SERVICES: usize = 1024;

/// Tickets a server may send in one handshake for its habit to be learned.
const MAX_TICKETS: usize = 4;

/// Handshakes seen before a habit counts as one.
const MIN_SEEN: u32 = 3;

/// A habit is forgotten by half after so many handshakes, so that a changed configuration shows.
const MAX_SEEN: u32 = 64;

/// Lengths of tickets that are remembered: they differ by server name and client certificate.
const MAX_LENGTHS: usize = 8;

/// How many tickets a service sends behind a handshake, and how long they were lately.
#[derive(Debug, Default)]
struct Habit {
    seen: [u32; MAX_TICKETS + 1],
    lengths: [u16; MAX_LENGTHS],
    next: usize,
}

impl Habit {
    fn learn(&mut self, tickets: usize, length: Option<u16>) {
        if let Some(seen) = self.seen.get_mut(tickets) {
            *seen += 1;
        }
        if let Some(length) = length
            && tickets > 0
            && !self.lengths.contains(&length)
        {
            self.lengths[self.next % MAX_LENGTHS] = length;
            self.next += 1;
        }
        if self.seen.iter().sum::<u32>() >= MAX_SEEN {
            self.seen.iter_mut().for_each(|seen| *seen /= 2);
        }
    }

    /// A record of this length was a ticket before.
    fn knows(&self, record: &AnswerRecord) -> bool {
        self.lengths.contains(&record.length)
    }

    /// What nine of ten handshakes had, if three were seen.
    fn tickets(&self) -> Option<usize> {
        let sum: u32 = self.seen.iter().sum();
        let most = (0..=MAX_TICKETS).max_by_key(|&tickets| self.seen[tickets])?;
        (sum >= MIN_SEEN && self.seen[most] * 10 >= sum * 9).then_some(most)
    }
}

/// What the habit of a service may depend on: full handshakes often get more tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Habitat {
    service: u64,
    role: Role,
    resumed: bool,
}

/// Finds the first response of each handshake.
#[derive(Debug, Default)]
pub struct Responses {
    habits: HashMap<Habitat, Habit, ahash::RandomState>,
}

/// OpenSSL pauses for early data, and what then looks like its end may be that.
fn takes_early_data(handshake: &Handshake) -> bool {
    handshake.early_data_offered && handshake.resumed
}

/// Tickets of TLS 1.3, which a server's library sends before it returns from the handshake; `None` where that
/// moment is not known for certain.
fn sent_with_the_end(handshake: &Handshake, records: &[AnswerRecord]) -> Option<usize> {
    let is_exact = handshake.version == Some(TLS13)
        && handshake.handshake_source == Some(Source::Library)
        && handshake.role == Role::Server
        && !takes_early_data(handshake);
    let end_ns = handshake.client_hello_ns + handshake.handshake_ns.filter(|_| is_exact)?;
    let late = records.iter().skip_while(|record| record.is_early);
    Some(late.take_while(|record| record.time_ns <= end_ns).count())
}

impl Responses {
    /// Completes a record by what followed its handshake, and learns from it.
    pub fn complete(&mut self, handshake: &mut Handshake, process: Option<&Process>) {
        let Some(answer) = handshake.answer.take() else {
            return;
        };
        handshake.tickets_sent = sent_with_the_end(handshake, answer.records())
            .and_then(|tickets| u32::try_from(tickets).ok());
        let response = self.response(handshake, &answer, process);
        let established_ns = handshake
            .established_to_client_hello_ns
            .and_then(|wait| handshake.client_hello_ns.checked_sub(wait));
        let (Some(response), Some(established_ns)) = (response, established_ns) else {
            return;
        };
        handshake.response_wait_ns = response.time_ns.checked_sub(response.asked_ns);
        let way = match handshake.role {
            Role::Server => handshake.rtt_ns,
            Role::Client | Role::Observer => Some(0),
        };
        handshake.time_to_first_byte_ns = way.and_then(|way| {
            let seen = response.time_ns.checked_sub(established_ns)?;
            Some(seen.saturating_add(way))
        });
        let source = handshake.handshake_source;
        handshake.time_to_first_byte_source = handshake.time_to_first_byte_ns.and(source);
    }

    fn response<'a>(
        &mut self,
        handshake: &Handshake,
        answer: &'a Answer,
        process: Option<&Process>,
    ) -> Option<&'a AnswerRecord> {
        let records = answer.records();
        let early = records.iter().take_while(|record| record.is_early).count();
        // Early records of servers other than OpenSSL may be tickets.
        let knows_early = early == 0 || is_openssl(handshake);
        let tickets = if handshake.version == Some(TLS13) {
            self.tickets(handshake, &records[early..], process)
        } else {
            Some(0)
        };
        let (first, later) = records.split_at(early);
        if let Some(response) = first_response(handshake, first)? {
            return knows_early.then_some(response);
        }
        first_response(handshake, later.get(tickets?..)?)?
    }

    /// How many of these records, which followed the client's Finished, are tickets or came unasked.
    fn tickets(
        &mut self,
        handshake: &Handshake,
        records: &[AnswerRecord],
        process: Option<&Process>,
    ) -> Option<usize> {
        let habitat = Habitat {
            service: self.hash(process),
            role: handshake.role,
            resumed: handshake.resumed,
        };
        let length = records
            .iter()
            .find(|record| !may_be_control(handshake, record))
            .map(|record| record.length);
        if let Some(tickets) = sent_with_the_end(handshake, records) {
            self.learn(habitat, tickets, length);
            return Some(tickets);
        }
        let takes_early_data = takes_early_data(handshake);
        let habit = self.habits.get(&habitat);
        let usual = habit.and_then(Habit::tickets);
        let unasked = records.iter().take_while(|record| record.asked_ns == 0);
        let (before, tickets) = unasked.fold((0, 0), |(before, tickets), record| {
            let is_ticket = !may_be_control(handshake, record);
            (before + 1, tickets + usize::from(is_ticket))
        });
        if before > 0 {
            // One that left when the request was just coming is a ticket like those before it.
            let missing = usual.map_or(0, |usual| usual.saturating_sub(tickets));
            let late = records[before..]
                .iter()
                .take(missing)
                .take_while(|record| record.length == records[0].length)
                .count();
            self.learn(habitat, tickets + late, length);
            return Some(before + late);
        }
        let (habit, usual) = (habit?, usual?);
        let tickets = records
            .iter()
            .take(usual)
            .take_while(|record| habit.knows(record))
            .count();
        // The answer to early data may come before the tickets, which are then all behind it. Else what
        // comes first may be a ticket of a length that was not seen yet.
        let known = records.iter().filter(|record| habit.knows(record)).count();
        (tickets == usual || takes_early_data && known == usual).then_some(tickets)
    }

    fn learn(&mut self, habitat: Habitat, tickets: usize, length: Option<u16>) {
        if self.habits.len() >= MAX_SERVICES && !self.habits.contains_key(&habitat) {
            self.habits.clear();
        }
        self.habits
            .entry(habitat)
            .or_default()
            .learn(tickets, length);
    }

    fn hash(&self, process: Option<&Process>) -> u64 {
        self.habits
            .hasher()
            .hash_one(process.map(|process| (&process.service, &process.container_id)))
    }
}

/// OpenSSL was seen at work in this handshake: it read the ticket, or told the handshake's end.
fn is_openssl(handshake: &Handshake) -> bool {
    handshake.handshake_source == Some(Source::Library) || handshake.ticket_age_ns.is_some()
}

/// The first record after a request that is no control frame: `Some(None)` where there is none, and
/// `None` where one may be either.
fn first_response<'a>(
    handshake: &Handshake,
    records: &'a [AnswerRecord],
) -> Option<Option<&'a AnswerRecord>> {
    for record in records {
        let may_be_control = may_be_control(handshake, record);
        if record.asked_ns != 0 && !may_be_control {
            return Some(Some(record));
        }
        if record.asked_ns != 0 && may_be_control && handshake.http2.is_none() {
            return None;
        }
    }
    Some(None)
}

/// The record has the length of what a server of HTTP/2 sends beside responses, and HTTP/2 may be
/// spoken.
fn may_be_control(handshake: &Handshake, record: &AnswerRecord) -> bool {
    let (Some(version), Some(cipher)) = (handshake.version, handshake.cipher) else {
        return false;
    };
    handshake.http2 != Some(false)
        && content_length(version, cipher, record.length).is_some_and(is_control)
}

/// A length of control frames (RFC 9113, 6): SETTINGS of up to six parameters, with WINDOW_UPDATE,
/// the acknowledgment of the client's, or both; or these and PING on their own. A header block of a
/// response with a date is longer than nearly all of them.
pub fn is_control(length: u16) -> bool {
    const HEADER: u16 = 9;
    const SETTING: u16 = 6;
    const WINDOW_UPDATE: u16 = 13;
    const PING: u16 = 17;
    let settings = |rest: u16| rest.is_multiple_of(SETTING) && rest <= 6 * SETTING;
    [0, WINDOW_UPDATE, HEADER, WINDOW_UPDATE + HEADER]
        .into_iter()
        .filter_map(|others| length.checked_sub(HEADER + others))
        .any(settings)
        || [WINDOW_UPDATE, PING, PING + HEADER].contains(&length)
}

#[cfg(test)]
mod tests;
