//! Connections that this host opens itself.

use super::Text;

pub(super) const UPSTREAM_NEVER_RESUMES_WHY: &str = "Connections that programs of this host opened \
    in the last hour to a server made full handshakes, all of them. Both ends pay for that, and \
    each request over a new connection waits for it.";

pub(super) const UPSTREAM_NEVER_RESUMES: &[Text] = &[
    Text::new(
        "any",
        "See whether the client offers and is refused, or never offers. If it never offers, let it \
         keep its sessions, or its TLS context, from one connection to the next; if it is refused, \
         look at the findings of the server. Connections that are kept need no resumption.",
    ),
    Text::new(
        "nginx",
        "Leave `proxy_ssl_session_reuse` on, the default, and send the server's name. Several \
         servers behind one address that do not share ticket keys refuse each other's tickets: \
         name them one by one in `upstream`.",
    )
    .with(
        "\
proxy_ssl_session_reuse on;
proxy_ssl_server_name on;
proxy_ssl_protocols TLSv1.2 TLSv1.3;",
    ),
    Text::new(
        "apache",
        "As a client `mod_ssl` resumes nothing and has no directive for it. Keep the connections \
         instead.",
    )
    .with("ProxyPass \"/\" \"https://app.example/\" enablereuse=on ttl=60 max=20"),
    Text::new(
        "haproxy",
        "Remove `no-ssl-reuse` from `server` and `default-server` lines.",
    )
    .with(
        "\
default-server ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt
server app1 192.0.2.10:443 sni str(app.example)",
    ),
    Text::new(
        "envoy",
        "Raise `max_session_keys` of the `UpstreamTlsContext`: it keeps one session by default, \
         too few for a cluster of several hosts, and none if it is 0.",
    )
    .with("max_session_keys: 64"),
    Text::new(
        "kubernetes",
        "A Service sends each connection to another pod, and pods that do not share ticket keys \
         refuse each other's tickets. Mount the same Secret into all of them, or keep \
         connections.",
    ),
];

pub(super) const UPSTREAM_NO_KEEPALIVE_WHY: &str = "Programs of this host opened a connection \
    a second or more to one server name in the last five minutes, so that each request seems \
    to have one of its own. A connection that is kept costs no handshake at all.";

pub(super) const UPSTREAM_NO_KEEPALIVE: &[Text] = &[
    Text::new(
        "any",
        "Keep connections open and use them again, with a pool or with HTTP/2. See first which end \
         closes them: `Connection: close` in requests or answers, or an idle timeout at the server \
         that is shorter than the client's.",
    ),
    Text::new(
        "nginx",
        "Name an `upstream` with `keepalive`, the number of idle connections kept by each worker, \
         and speak HTTP/1.1 without `Connection: close`.",
    )
    .with(
        "\
upstream app {
    server 192.0.2.10:443;
    keepalive 32;
}
# in the location
proxy_pass https://app;
proxy_http_version 1.1;
proxy_set_header Connection \"\";",
    ),
    Text::new(
        "apache",
        "Do not set `disablereuse=on`, `SetEnv proxy-nokeepalive` or `SetEnv \
         force-proxy-request-1.0`. Let `ttl` be shorter than the server's keep-alive.",
    )
    .with("ProxyPass \"/\" \"https://app.example/\" enablereuse=on ttl=60 max=20"),
    Text::new(
        "haproxy",
        "Remove `option httpclose` and `option http-server-close`, and let requests of all clients \
         share idle connections if the server closes none while they are idle.",
    )
    .with(
        "\
backend app
    http-reuse always
    default-server pool-purge-delay 30s",
    ),
    Text::new(
        "envoy",
        "Connections are kept by default. Remove `max_requests_per_connection: 1` from the \
         cluster's `HttpProtocolOptions`, and let the idle timeout be shorter than the server's.",
    )
    .with(
        "\
common_http_protocol_options:
  idle_timeout: 60s",
    ),
    Text::new(
        "kubernetes",
        "ingress-nginx keeps connections by default; see whether its ConfigMap switches that off, \
         and whether the application closes them first.",
    )
    .with(
        "\
data:
  upstream-keepalive-connections: \"320\"
  upstream-keepalive-requests: \"10000\"
  upstream-keepalive-timeout: \"60\"",
    ),
];
