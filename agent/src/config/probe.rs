//! Settings of `probe`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::ProbeArgs;
use crate::core::record::Transport;
use crate::probing::{Plan, Profile, Target};

use super::values::Format;
use super::{ConfigError, DEFAULT_SALT};

/// Full connections to each address, and as many that resume: enough for a sign test to tell.
const DEFAULT_CONNECTIONS: u16 = 10;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Fifty connections a second at most.
const DEFAULT_PAUSE: Duration = Duration::from_millis(20);
/// Connections of one run: servers are tested, not loaded.
pub(super) const MOST_CONNECTIONS: usize = 1_000;

/// What to probe, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    pub target: Target,
    /// Empty: those of the name.
    pub addresses: Vec<SocketAddr>,
    pub connections: usize,
    pub pause: Duration,
    pub profile: Profile,
    pub format: Format,
    pub fingerprint_salt: String,
}

impl ProbeConfig {
    pub(super) fn new(args: ProbeArgs) -> Result<Self, ConfigError> {
        let target = args.target.parse::<Target>()?;
        let transport = match args.quic.unwrap_or(false) {
            true => Transport::Quic,
            false => Transport::Tcp,
        };
        let default_protocol = match transport {
            Transport::Tcp => "http/1.1",
            Transport::Quic => "h3",
        };
        let protocols = match args.alpn {
            None => vec![default_protocol.to_owned()],
            Some(list) => list
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        let connections = usize::from(args.connections.unwrap_or(DEFAULT_CONNECTIONS));
        let config = Self {
            target,
            addresses: args.address,
            connections,
            pause: args.pause.map_or(DEFAULT_PAUSE, |pause| pause.0),
            profile: Profile {
                transport,
                protocols,
                version: args.tls,
                insecure: args.insecure.unwrap_or(false),
                timeout: args.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
            },
            format: args.format.unwrap_or(Format::Text),
            fingerprint_salt: args
                .fingerprint_salt
                .unwrap_or_else(|| DEFAULT_SALT.to_owned()),
        };
        config.plan_of(&config.addresses)?;
        Ok(config)
    }

    /// Of these addresses, each once.
    fn plan_of(&self, addresses: &[SocketAddr]) -> Result<Plan, ConfigError> {
        let mut distinct = Vec::new();
        for address in addresses {
            if !distinct.contains(address) {
                distinct.push(*address);
            }
        }
        let plan = Plan {
            addresses: distinct,
            connections: self.connections,
            pause: self.pause,
        };
        let total = plan.total();
        match total > MOST_CONNECTIONS {
            true => Err(ConfigError::TooManyConnections { total }),
            false => Ok(plan),
        }
    }

    /// What to do; looks the name up where no address was given.
    ///
    /// # Errors
    /// When the name stands for no address, or for too many.
    pub fn plan(&self) -> Result<Plan, ConfigError> {
        match self.addresses.is_empty() {
            true => self.plan_of(&self.target.resolve()?),
            false => self.plan_of(&self.addresses),
        }
    }
}
