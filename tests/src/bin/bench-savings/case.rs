//! The kinds of handshakes that are compared.

use resumetry_tests::certs::Key;
use resumetry_tests::client::Versions;

/// How much a client brings to a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Full,
    Resumed,
    /// Resumed, with the request as early data.
    Early,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Early => "0-RTT",
        }
    }
}

/// One row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub versions: Versions,
    pub key: Key,
    pub mode: Mode,
}

/// Certificates by their key, the commonest first.
pub const KEYS: [Key; 3] = [Key::Rsa2048, Key::Ecdsa, Key::Rsa4096];

impl Case {
    /// By version and certificate: full, resumed, and 0-RTT where there is such a thing.
    pub fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for versions in [Versions::Tls12, Versions::Tls13] {
            for key in KEYS {
                for mode in [Mode::Full, Mode::Resumed, Mode::Early] {
                    if mode != Mode::Early || versions == Versions::Tls13 {
                        cases.push(Self {
                            versions,
                            key,
                            mode,
                        });
                    }
                }
            }
        }
        cases
    }

    /// The full handshake that it is compared with.
    pub fn full(self) -> Self {
        Self {
            mode: Mode::Full,
            ..self
        }
    }

    pub fn version(self) -> &'static str {
        match self.versions {
            Versions::Tls12 => "1.2",
            _ => "1.3",
        }
    }

    pub fn key_name(self) -> &'static str {
        key_name(self.key)
    }
}

pub fn key_name(key: Key) -> &'static str {
    match key {
        Key::Ecdsa => "ECDSA P-256",
        Key::Rsa2048 => "RSA-2048",
        Key::Rsa4096 => "RSA-4096",
    }
}
