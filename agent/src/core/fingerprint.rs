//! Salted fingerprints of ticket-key names: equal on hosts that share the salt, and of no use to
//! whoever does not know it.

use sha2::{Digest, Sha256};

/// Hashes public key names with a salt.
#[derive(Clone)]
pub struct Fingerprinter {
    /// Hash state after the salt, so that a name costs one block only.
    salted: Sha256,
}

impl Fingerprinter {
    pub fn new(salt: &[u8]) -> Self {
        Self {
            salted: Sha256::new_with_prefix(salt),
        }
    }

    /// First four bytes of SHA-256(salt || name), big endian.
    pub fn ticket_key(&self, name: &[u8]) -> u32 {
        (self.head(name) >> 32) as u32
    }

    /// First eight bytes of SHA-256(salt || id), big endian: to know a session ID or a ticket again
    /// inside this process. It is never shown.
    pub fn identity(&self, id: &[u8]) -> u64 {
        self.head(id)
    }

    fn head(&self, bytes: &[u8]) -> u64 {
        let digest = self.salted.clone().chain_update(bytes).finalize();
        let head = digest.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_head_of_sha256_of_salt_and_name() {
        // SHA-256("abc") begins with ba7816bf (FIPS 180-2, B.1).
        assert_eq!(Fingerprinter::new(b"a").ticket_key(b"bc"), 0xba78_16bf);
        assert_eq!(Fingerprinter::new(b"").ticket_key(b"abc"), 0xba78_16bf);
    }

    #[test]
    fn differs_by_salt() {
        let name = [7; 16];
        assert_ne!(
            Fingerprinter::new(b"x").ticket_key(&name),
            Fingerprinter::new(b"y").ticket_key(&name)
        );
    }
}
