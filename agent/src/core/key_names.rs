//! Which beginnings of tickets are names of keys.
//!
//! The tickets of most libraries begin with the name of the key that opens them, those of others
//! with a nonce (docs/tickets.md). A nonce never comes again. So what begins several tickets that
//! are not the same is a name, whoever made them.

use ahash::AHashMap;

/// Different tickets that make a name of their beginning. Two could be chance among many, for only
/// 32 bits of the beginning's hash are compared.
const TICKETS: usize = 3;

/// Beginnings remembered; as many again of those before.
const MAX_BEGINNINGS: usize = 64 * 1024;

/// Remembers how tickets begin.
#[derive(Debug, Default)]
pub struct KeyNames {
    latest: AHashMap<u32, Seen>,
    before: AHashMap<u32, Seen>,
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Hashes of the tickets so far; the second may be missing.
    Tickets(u64, Option<u64>),
    Name,
}

impl KeyNames {
    /// A ticket was offered: the hash of its beginning, and of all of it.
    pub fn note(&mut self, beginning: u32, ticket: u64) {
        let seen = match self.seen(beginning) {
            None => Seen::Tickets(ticket, None),
            Some(Seen::Tickets(first, None)) if ticket != first => {
                Seen::Tickets(first, Some(ticket))
            }
            Some(Seen::Tickets(first, Some(second))) if ticket != first && ticket != second => {
                const { assert!(TICKETS == 3) }
                Seen::Name
            }
            Some(seen) => seen,
        };
        self.put(beginning, seen);
    }

    /// A server whose library names keys used a ticket that begins so.
    pub fn know(&mut self, beginning: u32) {
        self.put(beginning, Seen::Name);
    }

    pub fn is_name(&self, beginning: u32) -> bool {
        matches!(self.seen(beginning), Some(Seen::Name))
    }

    fn seen(&self, beginning: u32) -> Option<Seen> {
        let seen = self.latest.get(&beginning);
        seen.or_else(|| self.before.get(&beginning)).copied()
    }

    fn put(&mut self, beginning: u32, seen: Seen) {
        if self.latest.len() >= MAX_BEGINNINGS {
            std::mem::swap(&mut self.latest, &mut self.before);
            self.latest.clear();
        }
        self.latest.insert(beginning, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_of_three_different_tickets_is_a_name() {
        let mut names = KeyNames::default();
        for ticket in [1, 1, 2, 2, 1] {
            names.note(7, ticket);
            assert!(!names.is_name(7));
        }
        names.note(7, 3);
        assert!(names.is_name(7));
        assert!(!names.is_name(8));
    }

    #[test]
    fn nonces_are_no_names_and_their_memory_is_bounded() {
        let mut names = KeyNames::default();
        names.know(u32::MAX);
        for nonce in 0..5 * MAX_BEGINNINGS as u32 {
            names.note(nonce, nonce.into());
            assert!(!names.is_name(nonce));
            names.note(u32::MAX, nonce.into());
        }
        assert!(names.latest.len() + names.before.len() <= 2 * MAX_BEGINNINGS);
        assert!(names.is_name(u32::MAX), "a name that stays in use is kept");
    }
}
