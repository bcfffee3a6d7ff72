//! What to do about a finding, in the words of each server's configuration.
//!
//! Paths in the configurations are examples. Lines of nginx, Apache httpd and HAProxy are such as
//! these servers load, those of Envoy and Kubernetes follow the reference of what reads them.

mod differences;
mod handshake;
mod keys;
mod resuming;
mod rotation;
mod upstream;

use super::rule::Rule;

/// Advice for one kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// `any`, `nginx`, `apache`, `haproxy`, `envoy` or `kubernetes`.
    pub server: &'static str,
    pub text: &'static str,
    /// Lines of that server's configuration.
    pub config: Option<&'static str>,
}

impl Text {
    const fn new(server: &'static str, text: &'static str) -> Self {
        Self {
            server,
            text,
            config: None,
        }
    }

    const fn with(self, config: &'static str) -> Self {
        Self {
            config: Some(config),
            ..self
        }
    }
}

/// What the rule is about and how the agent knows: for the documentation.
pub const fn why(rule: Rule) -> &'static str {
    match rule {
        Rule::QuotaLow => resuming::QUOTA_LOW_WHY,
        Rule::TicketsNeverAccepted => resuming::TICKETS_NEVER_ACCEPTED_WHY,
        Rule::NoResumptionOffered => resuming::NO_RESUMPTION_OFFERED_WHY,
        Rule::ClientsNeverOffer => resuming::CLIENTS_NEVER_OFFER_WHY,
        Rule::KeyNotRotated => rotation::KEY_NOT_ROTATED_WHY,
        Rule::KeyRotatedTooFast => rotation::KEY_ROTATED_TOO_FAST_WHY,
        Rule::KeyRetiredEarly => rotation::KEY_RETIRED_EARLY_WHY,
        Rule::KeyWeak => keys::KEY_WEAK_WHY,
        Rule::KeyShared => keys::KEY_SHARED_WHY,
        Rule::KeyNotDistributed => keys::KEY_NOT_DISTRIBUTED_WHY,
        Rule::LifetimeShort => resuming::LIFETIME_SHORT_WHY,
        Rule::TicketsWasted => resuming::TICKETS_WASTED_WHY,
        Rule::AlpnDiffers => differences::ALPN_DIFFERS_WHY,
        Rule::CipherDiffers => differences::CIPHER_DIFFERS_WHY,
        Rule::VersionDiffers => differences::VERSION_DIFFERS_WHY,
        Rule::EarlyDataDiffers => differences::EARLY_DATA_DIFFERS_WHY,
        Rule::EarlyDataAccepted => handshake::EARLY_DATA_ACCEPTED_WHY,
        Rule::ChainLarge => handshake::CHAIN_LARGE_WHY,
        Rule::OcspNotStapled => handshake::OCSP_NOT_STAPLED_WHY,
        Rule::RsaCertificate => handshake::RSA_CERTIFICATE_WHY,
        Rule::VersionOld => handshake::VERSION_OLD_WHY,
        Rule::CipherOld => handshake::CIPHER_OLD_WHY,
        Rule::ClockOff => keys::CLOCK_OFF_WHY,
        Rule::UpstreamNeverResumes => upstream::UPSTREAM_NEVER_RESUMES_WHY,
        Rule::UpstreamNoKeepalive => upstream::UPSTREAM_NO_KEEPALIVE_WHY,
    }
}

/// What to do, the general first.
pub const fn of(rule: Rule) -> &'static [Text] {
    match rule {
        Rule::QuotaLow => resuming::QUOTA_LOW,
        Rule::TicketsNeverAccepted => resuming::TICKETS_NEVER_ACCEPTED,
        Rule::NoResumptionOffered => resuming::NO_RESUMPTION_OFFERED,
        Rule::ClientsNeverOffer => resuming::CLIENTS_NEVER_OFFER,
        Rule::KeyNotRotated => rotation::KEY_NOT_ROTATED,
        Rule::KeyRotatedTooFast => rotation::KEY_ROTATED_TOO_FAST,
        Rule::KeyRetiredEarly => rotation::KEY_RETIRED_EARLY,
        Rule::KeyWeak => keys::KEY_WEAK,
        Rule::KeyShared => keys::KEY_SHARED,
        Rule::KeyNotDistributed => keys::KEY_NOT_DISTRIBUTED,
        Rule::LifetimeShort => resuming::LIFETIME_SHORT,
        Rule::TicketsWasted => resuming::TICKETS_WASTED,
        Rule::AlpnDiffers => differences::ALPN_DIFFERS,
        Rule::CipherDiffers => differences::CIPHER_DIFFERS,
        Rule::VersionDiffers => differences::VERSION_DIFFERS,
        Rule::EarlyDataDiffers => differences::EARLY_DATA_DIFFERS,
        Rule::EarlyDataAccepted => handshake::EARLY_DATA_ACCEPTED,
        Rule::ChainLarge => handshake::CHAIN_LARGE,
        Rule::OcspNotStapled => handshake::OCSP_NOT_STAPLED,
        Rule::RsaCertificate => handshake::RSA_CERTIFICATE,
        Rule::VersionOld => handshake::VERSION_OLD,
        Rule::CipherOld => handshake::CIPHER_OLD,
        Rule::ClockOff => keys::CLOCK_OFF,
        Rule::UpstreamNeverResumes => upstream::UPSTREAM_NEVER_RESUMES,
        Rule::UpstreamNoKeepalive => upstream::UPSTREAM_NO_KEEPALIVE,
    }
}

/// Configurations that answer more than one finding.
mod common {
    pub(super) const NGINX_KEYS: &str = "\
ssl_session_ticket_key /etc/nginx/tickets/current.key;
ssl_session_ticket_key /etc/nginx/tickets/next.key;
ssl_session_ticket_key /etc/nginx/tickets/previous.key;";

    pub(super) const APACHE_KEYS: &str = "SSLSessionTicketKeyFile /etc/apache2/tickets.key";

    pub(super) const HAPROXY_KEYS: &str =
        "bind :443 ssl crt /etc/haproxy/certs/ tls-ticket-keys /etc/haproxy/tickets.keys";

    pub(super) const ENVOY_KEYS: &str = "\
session_ticket_keys:
  keys:
    - filename: /etc/envoy/tickets/current.key
    - filename: /etc/envoy/tickets/next.key
    - filename: /etc/envoy/tickets/previous.key";

    /// A directory, not a `subPath`: only a directory follows the Secret.
    pub(super) const KUBERNETES_KEYS: &str = "\
containers:
  - name: proxy
    volumeMounts:
      - name: tickets
        mountPath: /etc/nginx/tickets
        readOnly: true
volumes:
  - name: tickets
    secret:
      secretName: ticket-keys";
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [&str; 6] = ["any", "nginx", "apache", "haproxy", "envoy", "kubernetes"];

    fn texts() -> impl Iterator<Item = (Rule, &'static Text)> {
        Rule::ALL
            .iter()
            .flat_map(|&rule| of(rule).iter().map(move |text| (rule, text)))
    }

    #[test]
    fn every_rule_begins_with_what_holds_for_any_server() {
        for &rule in Rule::ALL {
            assert_eq!(
                of(rule).first().map(|text| text.server),
                Some("any"),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn knows_every_server_and_keeps_their_order() {
        for &rule in Rule::ALL {
            let places: Vec<_> = of(rule)
                .iter()
                .map(|text| SERVERS.iter().position(|server| *server == text.server))
                .collect();
            assert!(places.iter().all(Option::is_some), "{rule:?}");
            assert!(places.is_sorted(), "{rule:?}");
        }
    }

    #[test]
    fn no_rule_has_a_server_twice() {
        for &rule in Rule::ALL {
            for server in SERVERS {
                let count = of(rule).iter().filter(|text| text.server == server).count();
                assert!(count <= 1, "{rule:?}: {server}");
            }
        }
    }

    #[test]
    fn texts_are_whole_sentences() {
        let whole = |text: &str| {
            text.ends_with('.')
                && text == text.trim()
                && !text.contains('\n')
                && !text.contains("  ")
        };
        for &rule in Rule::ALL {
            assert!(whole(why(rule)), "{rule:?}: why");
        }
        for (rule, text) in texts() {
            assert!(whole(text.text), "{rule:?}: {}", text.server);
        }
    }

    #[test]
    fn lines_of_configuration_are_short_and_have_no_loose_ends() {
        for (rule, text) in texts() {
            for line in text
                .config
                .into_iter()
                .flat_map(|config| config.split('\n'))
            {
                assert!(
                    line.chars().count() <= 100,
                    "{rule:?}: {}: {line}",
                    text.server
                );
                assert!(
                    !line.is_empty() && line == line.trim_end(),
                    "{rule:?}: {line:?}"
                );
            }
        }
    }

    #[test]
    fn what_holds_for_any_server_has_no_configuration() {
        for (rule, text) in texts().filter(|(_, text)| text.server == "any") {
            assert_eq!(text.config, None, "{rule:?}");
        }
    }
}
