//! Tries whether a ticket was made with a key that anybody could guess.
//!
//! Tickets that end in an HMAC over all before it are told: a key is guessed if its HMAC is the one
//! in the ticket. These are the formats of OpenSSL and its kin, of Go (HMAC-SHA-256, the last 32
//! bytes), and of GnuTLS (HMAC-SHA-1, the last 20). Only the verdict leaves this file.

use ahash::AHashMap;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// Keys of which the verdict is remembered.
const MAX_VERDICTS: usize = 1024;

/// Tickets tried in a second. One costs about half a millisecond.
const MAX_TRIES: u32 = 10;

const SECOND_NS: u64 = 1_000_000_000;

/// HMAC key lengths that servers use with key files: nginx, Apache and HAProxy 16 or 32.
const KEY_BYTES: [usize; 2] = [16, 32];

/// Length of the name at the start of a key file, as of a ticket.
const NAME_BYTES: usize = 16;

/// Tries tickets, each key once.
pub struct WeakKeys {
    sha256: Vec<Hmac<Sha256>>,
    /// GnuTLS 3.6.4 to 3.6.13 began with a key of zeros (CVE-2020-13777).
    zero_sha1: Hmac<Sha1>,
    /// By fingerprint.
    verdicts: AHashMap<u32, bool>,
    second: u64,
    tries: u32,
}

impl Default for WeakKeys {
    fn default() -> Self {
        Self {
            sha256: guesses().iter().map(|key| keyed(key)).collect(),
            zero_sha1: keyed(&[]),
            verdicts: AHashMap::new(),
            second: 0,
            tries: 0,
        }
    }
}

impl WeakKeys {
    /// Whether the ticket's key, which has this fingerprint, can be guessed; `None` where that was
    /// not tried, since too many keys came at once.
    pub fn judge(&mut self, key: u32, ticket: &[u8], now_ns: u64) -> Option<bool> {
        if let Some(verdict) = self.verdicts.get(&key) {
            return Some(*verdict);
        }
        if now_ns / SECOND_NS != self.second {
            (self.second, self.tries) = (now_ns / SECOND_NS, 0);
        }
        if self.tries >= MAX_TRIES {
            return None;
        }
        self.tries += 1;
        if self.verdicts.len() >= MAX_VERDICTS {
            self.verdicts.clear();
        }
        let verdict = self.is_weak(ticket);
        self.verdicts.insert(key, verdict);
        Some(verdict)
    }

    fn is_weak(&self, ticket: &[u8]) -> bool {
        let continues_its_name = || {
            ticket.first_chunk().is_some_and(|name| {
                continuations(name).any(|key| opens(&keyed::<Hmac<Sha256>>(&key), ticket))
            })
        };
        self.sha256.iter().any(|guess| opens(guess, ticket))
            || opens(&self.zero_sha1, ticket)
            || continues_its_name()
    }
}

/// An HMAC pads its key with zeros to the length of a block, so that the empty key stands for zeros
/// of every length.
fn guesses() -> Vec<Vec<u8>> {
    let mut keys = vec![Vec::new()];
    for byte in 0..=u8::MAX {
        if byte != 0 {
            keys.extend(KEY_BYTES.map(|length| vec![byte; length]));
        }
        // Go makes name, AES and HMAC key of 32 bytes by SHA-512 (crypto/tls, ticketKeyFromBytes).
        let derived = Sha512::digest([byte; 32]);
        keys.push(derived[32..48].to_vec());
    }
    keys
}

/// HMAC keys of a key file that goes on as it begins: nginx and HAProxy read the HMAC key right
/// behind the name (80 bytes) or behind name and AES key (48 bytes), Apache right behind the name.
fn continuations(name: &[u8; NAME_BYTES]) -> impl Iterator<Item = Vec<u8>> {
    let step = name[1].wrapping_sub(name[0]);
    let counts = name
        .windows(2)
        .all(|pair| pair[1].wrapping_sub(pair[0]) == step);
    let periods = (1..=NAME_BYTES).filter(|period| name[*period..] == name[..NAME_BYTES - *period]);
    // The shortest period explains its multiples.
    let period = periods.min().unwrap_or(NAME_BYTES);
    let repeated = move |at: usize| name[at % period];
    let counted = move |at: usize| name[0].wrapping_add(step.wrapping_mul(at as u8));
    let take = |byte: &dyn Fn(usize) -> u8| {
        [(16, 16), (16, 32), (32, 16)]
            .map(|(from, length)| (from..from + length).map(byte).collect::<Vec<u8>>())
    };
    let counted = counts.then(|| take(&counted));
    take(&repeated)
        .into_iter()
        .chain(counted.into_iter().flatten())
}

#[expect(clippy::expect_used, reason = "an HMAC takes keys of every length")]
fn keyed<M: Mac + hmac::digest::KeyInit>(key: &[u8]) -> M {
    <M as Mac>::new_from_slice(key).expect("keys of every length are valid")
}

/// Whether the ticket ends in this HMAC of what is before.
fn opens<M: Mac + Clone>(keyed: &M, ticket: &[u8]) -> bool {
    let Some(length) = ticket.len().checked_sub(M::output_size()) else {
        return false;
    };
    let (content, mac) = ticket.split_at(length);
    keyed
        .clone()
        .chain_update(content)
        .verify_slice(mac)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ticket of `name`, some content and the HMAC.
    fn ticket<M: Mac + Clone + hmac::digest::KeyInit>(name: &[u8], key: &[u8]) -> Vec<u8> {
        let mut ticket = name.to_vec();
        ticket.extend((0..150).map(|at| (at * 37 % 251) as u8));
        let mac = keyed::<M>(key).chain_update(&ticket).finalize();
        ticket.extend_from_slice(&mac.into_bytes());
        ticket
    }

    fn is_weak(ticket: &[u8]) -> bool {
        WeakKeys::default().is_weak(ticket)
    }

    const NAME: [u8; NAME_BYTES] = *b"\x8f\x11a name\x00\xfe of ky";

    #[test]
    fn keys_of_one_repeated_byte_are_guessed() {
        for byte in [0, 1, b'0', 0xff] {
            for length in KEY_BYTES {
                assert!(is_weak(&ticket::<Hmac<Sha256>>(&NAME, &vec![byte; length])));
            }
        }
    }

    #[test]
    fn key_files_that_go_on_as_they_begin_are_guessed() {
        let counting: Vec<u8> = (0..80).map(|at| 0xf0_u8.wrapping_add(at)).collect();
        let digits: Vec<u8> = b"0123456789".iter().copied().cycle().take(80).collect();
        for file in [counting, digits] {
            for (from, length) in [(16, 32), (32, 16), (16, 16)] {
                let (name, key) = (&file[..NAME_BYTES], &file[from..from + length]);
                assert!(is_weak(&ticket::<Hmac<Sha256>>(name, key)));
            }
        }
    }

    #[test]
    fn zero_keys_of_gnutls_and_go_are_guessed() {
        assert!(is_weak(&ticket::<Hmac<Sha1>>(&NAME, &[0; 16])));
        let derived = Sha512::digest([0; 32]);
        assert!(is_weak(&ticket::<Hmac<Sha256>>(
            &derived[..16],
            &derived[32..48]
        )));
    }

    #[test]
    fn random_keys_and_what_is_no_ticket_are_not() {
        let key = Sha256::digest(b"some entropy");
        for length in KEY_BYTES {
            assert!(!is_weak(&ticket::<Hmac<Sha256>>(&NAME, &key[..length])));
        }
        assert!(!is_weak(&ticket::<Hmac<Sha1>>(&NAME, &key[..16])));
        for length in [0, 1, 15, 16, 20, 31, 32, 33, 4_000] {
            assert!(!is_weak(&vec![0; length]));
        }
    }

    #[test]
    fn each_key_is_tried_once_and_few_in_a_second() {
        let mut keys = WeakKeys::default();
        let zero = ticket::<Hmac<Sha256>>(&NAME, &[]);
        assert_eq!(keys.judge(0, &zero, 0), Some(true));
        // Remembered: what is given now does not count.
        assert_eq!(keys.judge(0, &[], 0), Some(true));
        for key in 1..MAX_TRIES {
            assert_eq!(keys.judge(key, &[], 0), Some(false));
        }
        assert_eq!(keys.judge(MAX_TRIES, &[], SECOND_NS - 1), None);
        assert_eq!(keys.judge(MAX_TRIES, &[], SECOND_NS), Some(false));
        for key in 0..10 * MAX_VERDICTS as u32 {
            keys.judge(key, &[], u64::from(key) * SECOND_NS);
        }
        assert!(keys.verdicts.len() <= MAX_VERDICTS);
    }
}
