//! What a server says of its own connections: the truth that records are held against.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::compare::{Key, Truth};

/// One request in nginx' or HAProxy's log.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub peer: IpAddr,
    pub peer_port: String,
    pub server_port: String,
    /// Empty without PROXY protocol.
    #[serde(default)]
    pub announced: String,
    #[serde(default)]
    pub announced_port: String,
    /// nginx: `r` or `.`; HAProxy: `1` or `0`.
    pub reused: String,
    /// Empty where no handshake took place.
    pub protocol: String,
    /// OpenSSL's name.
    pub cipher: String,
    /// Empty or `-` without SNI.
    pub server_name: String,
    /// Tells connections with the same ports apart.
    #[serde(default)]
    pub connection: String,
    #[serde(default)]
    pub status: String,
}

impl Line {
    fn key(&self) -> Result<Key> {
        Ok(Key {
            peer: SocketAddr::new(self.peer, self.peer_port.parse()?),
            server_port: self.server_port.parse()?,
        })
    }

    /// What the log says of the handshake; `None` where there was none.
    fn truth(&self) -> Result<Option<Truth>> {
        if matches!(self.protocol.as_str(), "" | "-") {
            return Ok(None);
        }
        Ok(Some(Truth {
            resumed: matches!(self.reused.as_str(), "r" | "1"),
            version: version(&self.protocol)?,
            cipher: iana_cipher(&self.cipher)?,
            server_name: match self.server_name.as_str() {
                "" | "-" => None,
                name => Some(name.to_ascii_lowercase()),
            },
            announced: match self.announced.as_str() {
                "" => None,
                address => Some(SocketAddr::new(
                    address.parse()?,
                    self.announced_port.parse()?,
                )),
            },
        }))
    }
}

/// Reads the complete lines of a log.
pub fn read_lines(path: &Path) -> Result<Vec<Line>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_lines(text.rfind('\n').map_or("", |end| &text[..end]))
}

/// Parses JSON lines; one that does not start with `{` is another kind of message.
pub fn parse_lines(text: &str) -> Result<Vec<Line>> {
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| format!("bad log line: {line}")))
        .collect()
}

/// The handshakes of a log: requests of one connection count once. In order of their first request.
pub fn handshakes(lines: &[Line]) -> Result<BTreeMap<Key, Vec<Truth>>> {
    let mut seen = std::collections::HashSet::new();
    let mut all: BTreeMap<Key, Vec<Truth>> = BTreeMap::new();
    for line in lines {
        let key = line.key()?;
        if let Some(truth) = line.truth()?
            && seen.insert((key, &line.connection))
        {
            all.entry(key).or_default().push(truth);
        }
    }
    Ok(all)
}

fn version(name: &str) -> Result<&'static str> {
    Ok(match name {
        "TLSv1.3" => "1.3",
        "TLSv1.2" => "1.2",
        "TLSv1.1" => "1.1",
        "TLSv1" => "1.0",
        other => anyhow::bail!("unknown protocol {other:?} in a server's log"),
    })
}

/// IANA's name of the cipher suite that OpenSSL calls `name`: only what default lists negotiate.
fn iana_cipher(name: &str) -> Result<&'static str> {
    const NAMES: [(&str, &str); 12] = [
        ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
        (
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ),
        (
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        (
            "ECDHE-RSA-AES128-GCM-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            "ECDHE-RSA-AES256-GCM-SHA384",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        ),
        (
            "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        ("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"),
        ("AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384"),
        (
            "ECDHE-RSA-AES128-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        ),
    ];
    NAMES
        .iter()
        .find_map(|(openssl, iana)| (*openssl == name).then_some(*iana))
        .with_context(|| format!("cipher {name:?} is missing from the table of names"))
}
