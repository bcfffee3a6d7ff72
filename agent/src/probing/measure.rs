//! Many connections, and what follows from them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::session::Session;
use super::statistics::{Spread, sign_test};
use super::{Attempt, AttemptError, Certificate, Facts, TicketSeen};
use crate::core::record::Method;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub addresses: Vec<SocketAddr>,
    /// Full connections to each address, and as many that offer to resume.
    pub connections: usize,
    /// Between two connections.
    pub pause: Duration,
}

impl Plan {
    /// Connections that it takes at most.
    pub fn total(&self) -> usize {
        let addresses = self.addresses.len();
        // Where a server gives one ticket at a time, each offer takes a full connection more.
        let pairs = if addresses > 1 {
            addresses * addresses
        } else {
            0
        };
        2 * addresses * self.connections + 2 * pairs
    }
}

/// What an offer came to.
#[derive(Debug)]
pub enum Verdict {
    Accepted,
    Refused,
    /// The one server gives out nothing to resume by.
    NoTicket,
    /// There was no connection, though there were others before.
    Failed(AttemptError),
    /// One of the two was given up before.
    Unreachable,
}

impl Verdict {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NoTicket => "no_ticket",
            Self::Failed(_) => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Full and resumed connections to one address.
#[derive(Debug, Default)]
pub struct Measured {
    full: Vec<Attempt>,
    /// Those that offered to resume.
    again: Vec<Attempt>,
    /// Why one could not be made; the address is left alone then.
    pub error: Option<AttemptError>,
}

/// A figure of full and of resumed connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    pub full: Spread,
    pub resumed: Spread,
    /// Of the difference, that it is an accident.
    pub significance: f64,
}

impl Measured {
    pub fn offered(&self) -> usize {
        self.again.len()
    }

    pub fn resumed(&self) -> usize {
        self.again.iter().filter(|attempt| attempt.resumed).count()
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.full.iter().chain(&self.again)
    }

    pub(super) fn facts(&self) -> Option<&Facts> {
        self.full.first().map(|attempt| &attempt.facts)
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.attempts()
            .find_map(|attempt| attempt.certificate.as_ref())
    }

    pub(super) fn ticket(&self) -> Option<TicketSeen> {
        let seen = || self.attempts().filter_map(|attempt| attempt.ticket);
        // A server tells it with the ticket, a client's offer does not.
        let lifetime = seen().filter_map(|ticket| ticket.lifetime).last();
        let latest = seen().last()?;
        // Each connection offers another ticket: what several of them begin with names their key.
        let keys = self.again.iter().filter_map(|attempt| attempt.ticket?.key);
        let is_name = keys.filter(|key| Some(*key) == latest.key).count() > 1;
        Some(TicketSeen {
            lifetime,
            key: latest.key.filter(|_| is_name),
            ..latest
        })
    }

    /// What the server gives to resume by.
    pub(super) fn method(&self) -> Method {
        let version = self.facts().map(|facts| facts.version.as_str());
        match (self.given(), version, self.ticket()) {
            (0, ..) => Method::None,
            (_, Some("1.3"), _) => Method::Psk,
            (.., Some(_)) => Method::Ticket,
            (.., None) => Method::SessionId,
        }
    }

    pub(super) fn takes_early_data(&self) -> bool {
        self.attempts()
            .any(|attempt| attempt.given.takes_early_data)
    }

    /// Tickets of a full connection; of most of them.
    pub(super) fn tickets(&self) -> usize {
        match self.method() {
            Method::None | Method::SessionId => 0,
            Method::Ticket | Method::Psk => self.given(),
        }
    }

    fn given(&self) -> usize {
        let mut counts: Vec<_> = self
            .full
            .iter()
            .map(|attempt| attempt.given.count)
            .collect();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied().unwrap_or(0)
    }

    /// Compares what of each pair of connections is known on both sides.
    pub(super) fn compare(
        &self,
        figure: impl Fn(&Attempt) -> Option<Duration>,
    ) -> Option<Comparison> {
        let pairs: Vec<_> = self
            .full
            .iter()
            .zip(&self.again)
            .filter(|(_, again)| again.resumed)
            .filter_map(|(full, again)| Some((figure(full)?, figure(again)?)))
            .collect();
        let faster = pairs.iter().filter(|(full, again)| again < full).count();
        let slower = pairs.iter().filter(|(full, again)| again > full).count();
        Some(Comparison {
            full: Spread::of(pairs.iter().map(|pair| pair.0))?,
            resumed: Spread::of(pairs.iter().map(|pair| pair.1))?,
            significance: sign_test(faster, slower),
        })
    }
}

/// All that was found out.
#[derive(Debug)]
pub struct Conclusion {
    pub addresses: BTreeMap<SocketAddr, Measured>,
    /// A ticket of the first, offered to the second.
    pub matrix: BTreeMap<(SocketAddr, SocketAddr), Verdict>,
}

impl Conclusion {
    /// Every resumption that a ticket allowed took place, and every address was tested.
    pub fn is_right(&self) -> bool {
        let addresses = self
            .addresses
            .values()
            .all(|measured| measured.error.is_none() && measured.resumed() == measured.offered());
        let pairs = self
            .matrix
            .values()
            .all(|verdict| matches!(verdict, Verdict::Accepted | Verdict::NoTicket));
        addresses && pairs
    }
}

/// Told before each connection: how many were made, and of how many at most. Says whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

struct Run<'a> {
    client: &'a Client,
    plan: &'a Plan,
    made: usize,
    progress: Progress<'a>,
}

/// Carries a plan out: a full connection and one that offers its ticket, in turns, and where there are
/// several addresses, a ticket of each at each.
pub fn measure(client: &Client, plan: &Plan, progress: Progress<'_>) -> Conclusion {
    let mut run = Run {
        client,
        plan,
        made: 0,
        progress,
    };
    let mut addresses = BTreeMap::new();
    for address in &plan.addresses {
        addresses.insert(*address, run.compare(*address));
    }
    let mut matrix = BTreeMap::new();
    if plan.addresses.len() > 1 {
        for from in &plan.addresses {
            for to in &plan.addresses {
                let is_gone = |address| addresses[address].error.is_some();
                let verdict = match is_gone(from) || is_gone(to) {
                    true => Verdict::Unreachable,
                    false => run.offer(*from, *to),
                };
                matrix.insert((*from, *to), verdict);
            }
        }
    }
    Conclusion { addresses, matrix }
}

impl Run<'_> {
    fn attempt(
        &mut self,
        address: SocketAddr,
        offer: Option<Session>,
    ) -> Result<Attempt, AttemptError> {
        if !(self.progress)(self.made, self.plan.total()) {
            return Err(AttemptError::Stopped(address));
        }
        if self.made > 0 {
            thread::sleep(self.plan.pause);
        }
        self.made += 1;
        self.client.attempt(address, offer)
    }

    fn compare(&mut self, address: SocketAddr) -> Measured {
        let mut measured = Measured::default();
        for _ in 0..self.plan.connections {
            let mut full = match self.attempt(address, None) {
                Ok(full) => full,
                Err(error) => {
                    measured.error = Some(error);
                    break;
                }
            };
            let offer = full.given.latest.take();
            measured.full.push(full);
            // Without a ticket there is nothing to offer.
            let Some(offer) = offer else {
                continue;
            };
            match self.attempt(address, Some(offer)) {
                Ok(again) => measured.again.push(again),
                Err(error) => {
                    measured.error = Some(error);
                    break;
                }
            }
        }
        measured
    }

    /// Offers a fresh ticket of one address to another: one that has expired would not be offered at all.
    fn offer(&mut self, from: SocketAddr, to: SocketAddr) -> Verdict {
        let offer = match self.attempt(from, None) {
            Ok(full) => full.given.latest,
            Err(error) => return Verdict::Failed(error),
        };
        let Some(offer) = offer else {
            return Verdict::NoTicket;
        };
        match self.attempt(to, Some(offer)) {
            Ok(attempt) if attempt.resumed => Verdict::Accepted,
            Ok(_) => Verdict::Refused,
            Err(error) => Verdict::Failed(error),
        }
    }
}
