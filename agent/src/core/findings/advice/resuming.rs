//! Whether sessions are given out, offered and taken back at all.

use super::Text;
use super::common;

pub(super) const QUOTA_LOW_WHY: &str = "Of the recent connections to a server name that were \
    completed, the share that resumed is below the target (`--quota-target`), by more than \
    chance explains. Each of the others costs a signature on the server and the certificate's \
    bytes, with TLS 1.2 a round trip more as well.";

pub(super) const QUOTA_LOW: &[Text] = &[
    Text::new(
        "any",
        "Users wait, and CPU goes into signatures that could be spared. See first which side it \
         is: do clients not offer to resume, or does the server refuse what they offer? For \
         refusals look at their reasons and at the findings about keys, for missing offers at the \
         lifetime.",
    ),
    Text::new(
        "nginx",
        "Give all nodes the same ticket keys and let sessions live for a day. Set it in `http`: \
         all server blocks of an address use the keys and the lifetime of its default server. \
         Without key files nginx makes keys of its own, other ones on each node and at each \
         start.",
    )
    .with(
        "\
ssl_session_tickets on;
ssl_session_ticket_key /etc/nginx/tickets/current.key;
ssl_session_ticket_key /etc/nginx/tickets/next.key;
ssl_session_ticket_key /etc/nginx/tickets/previous.key;
ssl_session_timeout 1d;
ssl_session_cache shared:TLS:10m;",
    ),
    Text::new(
        "apache",
        "Use the same ticket key on all hosts; the session cache helps on one host only. The \
         timeout holds for tickets too.",
    )
    .with(
        "\
SSLSessionTickets on
SSLSessionTicketKeyFile /etc/apache2/tickets.key
SSLSessionCache shmcb:/run/apache2/ssl_scache(5120000)
SSLSessionCacheTimeout 86400",
    ),
    Text::new(
        "haproxy",
        "Use the same file of ticket keys on all hosts, and let sessions live longer than the five \
         minutes of the default. Remove `no-tls-tickets` from `bind` lines and from \
         `ssl-default-bind-options`.",
    )
    .with(
        "\
global
    tune.ssl.lifetime 86400
    tune.ssl.cachesize 100000
frontend https
    bind :443 ssl crt /etc/haproxy/certs/ tls-ticket-keys /etc/haproxy/tickets.keys",
    ),
    Text::new(
        "envoy",
        "Configure ticket keys in the `DownstreamTlsContext`: those that Envoy makes itself do not \
         outlive a hot restart and are unknown to other hosts.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "Replicas must share keys, or a client resumes only when it reaches the same pod again. \
         ingress-nginx has tickets switched off by default and a session cache in each pod: switch \
         them on in its ConfigMap and give a key of 80 random bytes in base64.",
    )
    .with(
        "\
data:
  ssl-session-tickets: \"true\"
  ssl-session-ticket-key: \"<output of: openssl rand 80 | openssl enc -A -base64>\"
  ssl-session-timeout: \"1d\"",
    ),
];

pub(super) const TICKETS_NEVER_ACCEPTED_WHY: &str = "Clients offered tickets in the last hour, and \
    the server took none of them. Such tickets cost bytes and gain nothing, and every one of these \
    connections made a full handshake.";

pub(super) const TICKETS_NEVER_ACCEPTED: &[Text] = &[
    Text::new(
        "any",
        "Resumption is broken here, and nothing else would tell you. Look at the reason of the \
         refusals: `key_unknown` is a key that this node does not have, `not_supported` are \
         tickets switched off, `expired` the lifetime or the clock. `resumetry probe` shows which \
         addresses refuse each other's tickets.",
    ),
    Text::new(
        "nginx",
        "Leave `ssl_session_tickets` on and give key files, the same on all nodes and in the same \
         order. Without key files before 1.23.2, or without a shared cache, each reload makes a \
         new key and loses the old one.",
    )
    .with(
        "\
ssl_session_tickets on;
ssl_session_ticket_key /etc/nginx/tickets/current.key;
ssl_session_ticket_key /etc/nginx/tickets/next.key;
ssl_session_ticket_key /etc/nginx/tickets/previous.key;
ssl_session_cache shared:TLS:10m;",
    ),
    Text::new(
        "apache",
        "Use a key file, the same on all hosts; without one, each restart, graceful ones too, \
         makes another key.",
    )
    .with("SSLSessionTickets on\nSSLSessionTicketKeyFile /etc/apache2/tickets.key"),
    Text::new(
        "haproxy",
        "Use the same key file on all hosts and `bind` lines of the service, and remove \
         `no-tls-tickets`. `show tls-keys` on the stats socket tells which files are loaded.",
    )
    .with(common::HAPROXY_KEYS),
    Text::new(
        "envoy",
        "Give all hosts the same keys, and remove `disable_stateless_session_resumption`, which \
         stands in the place of the keys.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "Let all replicas mount the same Secret with the ticket keys. If only the connections \
         through a Service fail, its pods do not share keys. Envoy Gateway does not synchronise \
         the keys of its replicas.",
    )
    .with(common::KUBERNETES_KEYS),
];

pub(super) const NO_RESUMPTION_OFFERED_WHY: &str = "On none of its full handshakes up to TLS \
    1.2 in the last hour did the server give out a ticket or a session ID to resume by. Each \
    returning client therefore pays for a full handshake. Tickets of TLS 1.3 are encrypted: a \
    server that sends none shows as clients that never offer.";

pub(super) const NO_RESUMPTION_OFFERED: &[Text] = &[
    Text::new(
        "any",
        "Nobody can resume here, whatever clients do. Find out whether somebody switched it off on \
         purpose; with keys that are rotated daily there is rarely a reason to.",
    ),
    Text::new(
        "nginx",
        "Switch tickets on, and keep a shared cache for clients without tickets. With tickets off \
         and the default `ssl_session_cache none` nothing is left to resume by. Set it in `http`, \
         so that all server blocks agree.",
    )
    .with("ssl_session_tickets on;\nssl_session_cache shared:TLS:10m;"),
    Text::new(
        "apache",
        "Switch tickets on, and configure a session cache; it needs `mod_socache_shmcb`.",
    )
    .with("SSLSessionTickets on\nSSLSessionCache shmcb:/run/apache2/ssl_scache(5120000)"),
    Text::new(
        "haproxy",
        "Remove `no-tls-tickets` from the `bind` lines and from `ssl-default-bind-options`, and do \
         not set the size of the cache to 0.",
    )
    .with("global\n    tune.ssl.cachesize 100000"),
    Text::new(
        "envoy",
        "Remove `disable_stateless_session_resumption` and `disable_stateful_session_resumption` \
         from the `DownstreamTlsContext`; for QUIC do not set `enable_resumption` to false. Then \
         give keys.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "In ingress-nginx switch tickets on in the ConfigMap. Envoy Gateway resumes nothing by \
         default: a ClientTrafficPolicy enables it, with keys that each replica makes itself.",
    )
    .with(
        "\
# ingress-nginx, ConfigMap
data:
  ssl-session-tickets: \"true\"
  ssl-session-cache: \"true\"
# Envoy Gateway, ClientTrafficPolicy
spec:
  tls:
    session:
      resumption:
        stateless: {}",
    ),
];

pub(super) const CLIENTS_NEVER_OFFER_WHY: &str = "The server gave out tickets in the last hour, \
    and hardly any client came back with one. Then it is not the server that refuses: clients do \
    not keep sessions, do not return, or return too late.";

pub(super) const CLIENTS_NEVER_OFFER: &[Text] = &[
    Text::new(
        "any",
        "See who connects: programs often make a new TLS context for each connection and so forget \
         their sessions; let them keep one context, or better, the connection. Monitors and health \
         checks never resume; leave these out of the picture. If it is browsers, the lifetime is \
         too short, or clients come once.",
    ),
    Text::new(
        "nginx",
        "Let sessions live longer than five minutes, the default, if clients come back later. As a \
         client itself (`proxy_pass https://…`) nginx resumes unless it is told not to.",
    )
    .with("ssl_session_timeout 1d;"),
    Text::new(
        "apache",
        "Let sessions live longer than five minutes, the default, if clients come back later. If \
         the clients are Apache proxies: `mod_ssl` never resumes connections that it opens; keep \
         those open instead.",
    )
    .with("SSLSessionCacheTimeout 86400"),
    Text::new(
        "haproxy",
        "Let sessions live longer than five minutes, the default, if clients come back later. If \
         the clients are HAProxy, remove `no-ssl-reuse` from their `server` lines.",
    )
    .with("global\n    tune.ssl.lifetime 86400"),
    Text::new(
        "envoy",
        "If the clients are Envoy, raise `max_session_keys` of their `UpstreamTlsContext`; 0 \
         switches resumption off.",
    )
    .with("max_session_keys: 64"),
    Text::new(
        "kubernetes",
        "Health checks of load balancers and probes of the kubelet over HTTPS never resume. Leave \
         them out of the picture, or let them use a port without TLS.",
    ),
];

pub(super) const LIFETIME_SHORT_WHY: &str = "Clients came back in the last hour with tickets \
    that had expired: a longer lifetime would have let them resume. RFC 8446 allows seven days.";

pub(super) const LIFETIME_SHORT: &[Text] = &[
    Text::new(
        "any",
        "Let tickets live for as long as clients stay away, commonly a day, never more than seven. \
         Keep each key for that long after it issued its last ticket; otherwise the longer \
         lifetime gains nothing.",
    ),
    Text::new(
        "nginx",
        "Raise `ssl_session_timeout`, which holds for tickets too; the default is five minutes. \
         Set it in `http`: what counts is the default server of the address.",
    )
    .with("ssl_session_timeout 1d;"),
    Text::new(
        "apache",
        "Raise the timeout of the session cache, which holds for tickets too; the default is five \
         minutes.",
    )
    .with("SSLSessionCacheTimeout 86400"),
    Text::new(
        "haproxy",
        "Raise the lifetime, which holds for tickets too; the default is five minutes.",
    )
    .with("global\n    tune.ssl.lifetime 86400"),
    Text::new(
        "envoy",
        "Raise `session_timeout` of the `DownstreamTlsContext`.",
    )
    .with("session_timeout: 86400s"),
    Text::new(
        "kubernetes",
        "In ingress-nginx raise the timeout in the ConfigMap; the default is ten minutes.",
    )
    .with("data:\n  ssl-session-timeout: \"1d\""),
];

pub(super) const TICKETS_WASTED_WHY: &str = "Where the library tells when a handshake of TLS \
    1.3 ended, the tickets before it can be counted: this server sends more than two each \
    time. Each costs it an encryption and some 250 bytes; OpenSSL sends two by default.";

pub(super) const TICKETS_WASTED: &[Text] = &[
    Text::new(
        "any",
        "It costs little. One ticket does for clients that open one connection at a time, such as \
         HTTP/2; leave two where browsers open several at once, since each ticket should be used \
         only once.",
    ),
    Text::new(
        "nginx",
        "Hand the number to OpenSSL, 1.1.1 or newer; nginx has no directive of its own for it, and \
         `ssl_conf_command` from 1.19.4 on.",
    )
    .with("ssl_conf_command NumTickets 1;"),
    Text::new("apache", "Hand the number to OpenSSL, 1.1.1 or newer.")
        .with("SSLOpenSSLConfCmd NumTickets 1"),
    Text::new(
        "haproxy",
        "There is no keyword for it. OpenSSL takes it from a configuration file, named in the \
         environment of the process by `OPENSSL_CONF`, for all `bind` lines alike.",
    )
    .with(
        "\
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
NumTickets = 1",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx put the line of nginx into the ConfigMap.",
    )
    .with("data:\n  http-snippet: \"ssl_conf_command NumTickets 1;\""),
];
