//! Settings of `findings`.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{Advice, Format};
use super::{ConfigError, DEFAULT_LISTEN};
use crate::cli::FindingsArgs;
use crate::remote::AgentUrl;

/// Whom to ask, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingsConfig {
    /// At least one, each once.
    pub urls: Vec<AgentUrl>,
    /// Whose certificates to trust; `None`: those that the host does.
    pub authorities: Option<PathBuf>,
    pub format: Format,
    /// For which servers advice is wanted; `None`: those that the findings are about.
    pub advice: Option<Advice>,
    /// A lifetime of tickets to foretell the quota of.
    pub lifetime: Option<Duration>,
}

impl FindingsConfig {
    pub(super) fn new(args: FindingsArgs) -> Result<Self, ConfigError> {
        let mut urls: Vec<AgentUrl> = Vec::new();
        for text in args.url {
            let url = text
                .parse()
                .map_err(|error| ConfigError::AgentUrl(without_password(&text), error))?;
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        if urls.is_empty() {
            let here = format!("http://{DEFAULT_LISTEN}");
            urls.push(
                here.parse()
                    .map_err(|error| ConfigError::AgentUrl(here.clone(), error))?,
            );
        }
        Ok(Self {
            urls,
            authorities: args.ca,
            format: args.format.unwrap_or_default(),
            advice: args.advice,
            lifetime: args.lifetime.map(|span| span.0),
        })
    }
}

/// What a message may show of a text that was meant as an address.
fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, place)) => format!("…@{place}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_wrong_address_is_not_shown() {
        assert_eq!(without_password("https://me:se/cret@node?x"), "…@node?x");
        assert_eq!(without_password("node:9650"), "node:9650");
    }
}
