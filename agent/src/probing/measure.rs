//! Many connections, and what follows from them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::session::Session;
use super::statistics::{Spread, sign_test};
use super::{Attempt, AttemptError, Certificate, Facts, TicketSeen};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused,
    /// The one server gives out nothing to resume by.
    NoTicket,
    Unreachable,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NoTicket => "no_ticket",
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
        Some(TicketSeen { lifetime, ..latest })
    }

    pub(super) fn takes_early_data(&self) -> bool {
        self.attempts().any(|attempt| attempt.takes_early_data)
    }

    /// Tickets of a full connection; of most of them.
    pub(super) fn tickets(&self) -> usize {
        let mut counts: Vec<_> = self.full.iter().map(|attempt| attempt.given).collect();
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

/// Told before each connection: how many were made, and of how many at most.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

struct Run<'a> {
    client: &'a Client,
    plan: &'a Plan,
    made: usize,
    progress: Progress<'a>,
    /// Tickets left over, by the address that gave them.
    tickets: BTreeMap<SocketAddr, VecDeque<Session>>,
}

/// Carries a plan out: a full connection and one that offers its ticket, in turns, and where there are
/// several addresses, a ticket of each at each.
pub fn measure(client: &Client, plan: &Plan, progress: Progress<'_>) -> Conclusion {
    let mut run = Run {
        client,
        plan,
        made: 0,
        progress,
        tickets: BTreeMap::new(),
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
        (self.progress)(self.made, self.plan.total());
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
            let offer = full.sessions.pop();
            let left = full.sessions.drain(..);
            self.tickets.entry(address).or_default().extend(left);
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

    /// Offers a ticket of one address to another.
    fn offer(&mut self, from: SocketAddr, to: SocketAddr) -> Verdict {
        let kept = self.tickets.get_mut(&from).and_then(VecDeque::pop_back);
        let offer = match kept {
            Some(offer) => offer,
            None => match self.attempt(from, None) {
                Err(_) => return Verdict::Unreachable,
                Ok(mut full) => {
                    let Some(offer) = full.sessions.pop() else {
                        return Verdict::NoTicket;
                    };
                    self.tickets.entry(from).or_default().extend(full.sessions);
                    offer
                }
            },
        };
        match self.attempt(to, Some(offer)) {
            Err(_) => Verdict::Unreachable,
            Ok(attempt) if attempt.resumed => Verdict::Accepted,
            Ok(_) => Verdict::Refused,
        }
    }
}
