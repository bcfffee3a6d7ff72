//! Who holds which ticket keys, how good they are, and the clock that tickets depend on.

use super::Text;
use super::common;

pub(super) const KEY_WEAK_WHY: &str = "The agent tried, for tickets of the last hour, keys that \
    anybody can guess, such as zeros (`--check-weak-keys`), and one fits. Whoever records the \
    traffic can decrypt the tickets, and can make tickets of his own.";

pub(super) const KEY_WEAK: &[Text] = &[
    Text::new(
        "any",
        "Replace the key at once, on all nodes and without keeping the old one: its tickets must \
         no longer be accepted. Regard as read by others what went over TLS 1.2 while it was in \
         use, and find out how it came about: a placeholder, an empty secret, a failed generator, \
         an example.",
    ),
    Text::new(
        "nginx",
        "Make each file anew with `openssl rand 80 > FILE`, readable by root only, then `nginx -s \
         reload`.",
    )
    .with(common::NGINX_KEYS),
    Text::new(
        "apache",
        "Make the file anew with `openssl rand 48 > FILE`, readable by root only, then restart \
         gracefully.",
    )
    .with(common::APACHE_KEYS),
    Text::new(
        "haproxy",
        "Make every line of the file anew with `openssl rand 80 | openssl base64 -A`, at least \
         three, then reload.",
    )
    .with(common::HAPROXY_KEYS),
    Text::new(
        "envoy",
        "Make each file anew with `openssl rand 80 > FILE`: Envoy wants exactly 80 bytes.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "Make the Secret anew from random files, and take care that no chart or repository holds \
         it. Values below `data` of a Secret are base64 of the bytes; encode them once, not \
         twice.",
    ),
];

pub(super) const KEY_SHARED_WHY: &str = "Tickets of different services were seen with the name of \
    one and the same key. Who takes over the weakest of them can read and resume sessions of all \
    others, past what those check.";

pub(super) const KEY_SHARED: &[Text] = &[
    Text::new(
        "any",
        "Sharing among the nodes of one service is right, among services it is not. Give each \
         service and tier keys of its own, and change first those that guard the most. Look for an \
         image with a key inside, or one distribution to all hosts.",
    ),
    Text::new(
        "nginx",
        "Name other files for each service. All server blocks of one address use the keys of its \
         default server, so services that must not share keys need addresses of their own.",
    )
    .with(
        "\
# of the default server of each address
ssl_session_ticket_key /etc/nginx/tickets/shop/current.key;
ssl_session_ticket_key /etc/nginx/tickets/shop/next.key;
ssl_session_ticket_key /etc/nginx/tickets/shop/previous.key;",
    ),
    Text::new(
        "apache",
        "Name another file for each service, on hosts or addresses of its own.",
    )
    .with("SSLSessionTicketKeyFile /etc/apache2/tickets/shop.key"),
    Text::new(
        "haproxy",
        "Name another file on the `bind` lines of each service.",
    )
    .with("bind :443 ssl crt /etc/haproxy/certs/shop/ tls-ticket-keys /etc/haproxy/shop.keys"),
    Text::new(
        "envoy",
        "Give each listener or filter chain of another service keys of its own, or another name \
         for SDS.",
    )
    .with(
        "\
session_ticket_keys_sds_secret_config:
  name: ticket_keys_shop
  sds_config:
    path_config_source:
      path: /etc/envoy/tickets-shop.yaml",
    ),
    Text::new(
        "kubernetes",
        "Make one Secret for each Deployment or DaemonSet, in its namespace, and let only that one \
         mount it.",
    ),
];

pub(super) const KEY_NOT_DISTRIBUTED_WHY: &str = "A host, or a process of the same service, \
    refused tickets for want of a key in the last hour, and another one used that key after \
    that. Clients that the load balancer sends there make full handshakes.";

pub(super) const KEY_NOT_DISTRIBUTED: &[Text] = &[
    Text::new(
        "any",
        "Distribute first, use later: a key must decrypt on every node before any node encrypts \
         with it. Compare the key files of the nodes (`sha256sum`), then see whether the node \
         missed the last distribution or only its reload.",
    ),
    Text::new(
        "nginx",
        "Put the new key second on all nodes and reload them all; only then put it first and \
         reload again. Files and order must be the same everywhere.",
    )
    .with(common::NGINX_KEYS),
    Text::new(
        "apache",
        "Use the same key file on all hosts. There is only one key, which cannot overlap: change \
         it on all hosts in one go, or let a proxy that can terminate TLS.",
    )
    .with(common::APACHE_KEYS),
    Text::new(
        "haproxy",
        "Append the new key on all hosts: as the last it only decrypts. The next one that you \
         append makes it the last but one, which encrypts. Where a reload is missing, `set ssl \
         tls-key` does without.",
    )
    .with(common::HAPROXY_KEYS),
    Text::new(
        "envoy",
        "Add the new key behind the first on all hosts, and move it to the front only when all \
         have it.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "Let all replicas, and all nodes of a DaemonSet, mount the same Secret. The kubelet brings \
         changes to the nodes within minutes, not at once: change the Secret twice, first with the \
         new key to decrypt, later with it to encrypt. In ingress-nginx set \
         `ssl-session-ticket-key`, or each pod refuses what others issued.",
    )
    .with(common::KUBERNETES_KEYS),
];

pub(super) const CLOCK_OFF_WHY: &str = "The kernel says that no time service keeps its clock \
    right. A ticket carries the time of its issue by the clock of the host that issued it: \
    elsewhere it expires too early or too late, and early data is refused when ages do not \
    fit. Some who keep it right do not tell the kernel: chrony without `rtcsync`, and the \
    tools of some hypervisors.";

pub(super) const CLOCK_OFF: &[Text] = &[
    Text::new(
        "any",
        "Start a time service, chronyd or systemd-timesyncd, and see whether it reaches its \
         servers: `timedatectl`, `chronyc tracking`. If the clock is far off, step it with \
         `chronyc makestep`.",
    ),
    Text::new(
        "kubernetes",
        "Containers use the clock of their node: run the time service on the node itself, not in a \
         pod that serves.",
    ),
];
