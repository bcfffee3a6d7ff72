//! One server name, served differently here and there.

use super::Text;

pub(super) const ALPN_DIFFERS_WHY: &str = "On some hosts or pods of one service clients that \
    offered HTTP/2 for a name got it in the last hour, and on others none did. HTTP/1.1 takes \
    more connections and so more handshakes, and early data is refused where the protocol is \
    not that of the ticket.";

pub(super) const ALPN_DIFFERS: &[Text] = &[
    Text::new(
        "any",
        "Usually one node, port or server block was forgotten. See which of them answers with \
         HTTP/1.1, and let all offer the same.",
    ),
    Text::new(
        "nginx",
        "Switch HTTP/2 on for all server blocks of the name. From 1.25.1 on it is a directive of \
         its own; before, it is `listen 443 ssl http2`.",
    )
    .with("http2 on;"),
    Text::new(
        "apache",
        "Load `mod_http2` and name the protocols for the whole server, not for single virtual \
         hosts.",
    )
    .with("Protocols h2 http/1.1"),
    Text::new(
        "haproxy",
        "Put the same protocols on each `bind` line of the name.",
    )
    .with("bind :443 ssl crt /etc/haproxy/certs/ alpn h2,http/1.1"),
    Text::new(
        "envoy",
        "Name the same protocols in each filter chain of the name.",
    )
    .with(
        "\
common_tls_context:
  alpn_protocols:
    - h2
    - http/1.1",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx HTTP/2 is on by default; see whether a ConfigMap of one of the \
         controllers switches it off.",
    )
    .with("data:\n  use-http2: \"true\""),
];

pub(super) const CIPHER_DIFFERS_WHY: &str = "Nearly all connections to a name at some hosts or \
    pods of one service had one cipher suite in the last hour, and nearly all at others \
    another. A ticket of TLS 1.2 resumes only with its own suite, one of TLS 1.3 only with a \
    suite of the same hash.";

pub(super) const CIPHER_DIFFERS: &[Text] = &[
    Text::new(
        "any",
        "Give all nodes the same list in the same order, and the same TLS library. See first \
         whether the nodes run different releases or configurations.",
    ),
    Text::new(
        "nginx",
        "Set both lists in `http`, on all nodes: `ssl_ciphers` is for TLS 1.2, `Ciphersuites` for \
         TLS 1.3.",
    )
    .with(
        "\
ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;",
    ),
    Text::new(
        "apache",
        "Set both lists for the whole server, on all hosts.",
    )
    .with(
        "\
SSLCipherSuite ECDHE+AESGCM:ECDHE+CHACHA20
SSLCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384",
    ),
    Text::new(
        "haproxy",
        "Set both lists in `global`, and remove `ciphers` from single lines.",
    )
    .with(
        "\
global
    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384",
    ),
    Text::new(
        "envoy",
        "Name the suites of TLS 1.2 rather than rely on defaults, which change between releases. \
         Those of TLS 1.3 cannot be set.",
    )
    .with(
        "\
common_tls_context:
  tls_params:
    cipher_suites:
      - ECDHE-ECDSA-AES128-GCM-SHA256
      - ECDHE-RSA-AES128-GCM-SHA256",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx set the list in the ConfigMap of all controllers.",
    )
    .with("data:\n  ssl-ciphers: \"ECDHE+AESGCM:ECDHE+CHACHA20\""),
];

pub(super) const VERSION_DIFFERS_WHY: &str = "At some hosts or pods of one service clients \
    that would speak TLS 1.3 did so in the last hour, and at others none could. Sessions do \
    not resume across versions, and TLS 1.2 costs a round trip more.";

pub(super) const VERSION_DIFFERS: &[Text] = &[
    Text::new(
        "any",
        "Enable TLS 1.2 and 1.3 alike on all nodes. See first which node stays behind: an older \
         release, an older library, or a setting in one block.",
    ),
    Text::new(
        "nginx",
        "Set the versions in `http`: what counts for an address may be its default server. Before \
         1.23.4 TLS 1.3 is not among the defaults.",
    )
    .with("ssl_protocols TLSv1.2 TLSv1.3;"),
    Text::new(
        "apache",
        "Set the versions for the whole server, not for single virtual hosts.",
    )
    .with("SSLProtocol -all +TLSv1.2 +TLSv1.3"),
    Text::new(
        "haproxy",
        "Set the least version in `global`, and remove `ssl-max-ver`, `no-tlsv13` and \
         `force-tlsv12` from single lines.",
    )
    .with("global\n    ssl-default-bind-options ssl-min-ver TLSv1.2"),
    Text::new(
        "envoy",
        "Set the same versions in each filter chain of the name.",
    )
    .with(
        "\
common_tls_context:
  tls_params:
    tls_minimum_protocol_version: TLSv1_2
    tls_maximum_protocol_version: TLSv1_3",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx set the versions in the ConfigMap; in Envoy Gateway in a \
         ClientTrafficPolicy.",
    )
    .with(
        "\
# ingress-nginx, ConfigMap
data:
  ssl-protocols: \"TLSv1.2 TLSv1.3\"
# Envoy Gateway, ClientTrafficPolicy
spec:
  tls:
    minVersion: \"1.2\"",
    ),
];

pub(super) const EARLY_DATA_DIFFERS_WHY: &str = "Of one name, early data was refused in the \
    last hour over TCP in connections that resumed, while clients over QUIC offered it, as \
    only tickets that allow it let them. What becomes of it over QUIC is encrypted, so the \
    other way round cannot be told.";

pub(super) const EARLY_DATA_DIFFERS: &[Text] = &[
    Text::new(
        "any",
        "Decide once for the name. Early data can be replayed: accept it only where requests may \
         be repeated, and let the application answer the rest with 425 (RFC 8470). See first \
         whether another server terminates QUIC.",
    ),
    Text::new(
        "nginx",
        "Set it in `http`, for the listeners of both. Over QUIC and with OpenSSL it takes nginx \
         1.29.1 and OpenSSL 3.5.1; older ones accept it over TCP only, so switch it off there if \
         both must be alike.",
    )
    .with("ssl_early_data off;"),
    Text::new(
        "haproxy",
        "Put `allow-0rtt` on each `bind` line of the name or on none, and let what must not be \
         repeated wait for the handshake.",
    )
    .with(
        "\
bind :443 ssl crt /etc/haproxy/certs/ alpn h2,http/1.1 allow-0rtt
bind quic4@:443 ssl crt /etc/haproxy/certs/ alpn h3 allow-0rtt
http-request wait-for-handshake if !METH_GET",
    ),
    Text::new(
        "envoy",
        "Listeners for QUIC accept early data by default, and for TCP there is no such setting. \
         Switch it off in the `QuicDownstreamTransport` if both must be alike.",
    )
    .with("enable_early_data: false"),
    Text::new(
        "kubernetes",
        "In ingress-nginx early data is off by default; leave it so.",
    )
    .with("data:\n  ssl-early-data: \"false\""),
];
