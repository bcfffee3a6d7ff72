//! How long ticket keys are used and kept.

use super::Text;
use super::common;

pub(super) const KEY_NOT_ROTATED_WHY: &str = "A key issued tickets in the last hour, and \
    others before that for longer than the limit (`--key-max-age`), as the ages of tickets \
    that come back tell. Who gets hold of the key can decrypt what was recorded of TLS 1.2, \
    and early data of TLS 1.3, of all that time.";

pub(super) const KEY_NOT_ROTATED: &[Text] = &[
    Text::new(
        "any",
        "Replace the key at least daily, by a job that fails loudly. Look first whether there is \
         such a job, whether it still runs, and whether it reloads the server.",
    ),
    Text::new(
        "nginx",
        "Move three files along each day: current becomes previous, next becomes current, a new \
         random one becomes next; then `nginx -s reload`. The first encrypts, all decrypt. On a \
         single node, from 1.23.2 on, a shared cache and no key files make nginx rotate by \
         itself.",
    )
    .with(common::NGINX_KEYS),
    Text::new(
        "apache",
        "Replace the file of 48 random bytes each day and restart gracefully. There is only one \
         key, so each change costs every client one full handshake. Without a file the key is made \
         at the start and changes with each restart only.",
    )
    .with(common::APACHE_KEYS),
    Text::new(
        "haproxy",
        "Append a new key to the file each day and reload: the last three are used, and the last \
         but one encrypts. Or `set ssl tls-key FILE KEY` on the stats socket, which needs no \
         reload; then write the file too, for the next start.",
    )
    .with(common::HAPROXY_KEYS),
    Text::new(
        "envoy",
        "Fetch the keys by SDS, so that they can change without a restart: a new first key, and \
         the former ones after it. The first encrypts, all decrypt.",
    )
    .with(
        "\
session_ticket_keys_sds_secret_config:
  name: ticket_keys
  sds_config:
    path_config_source:
      path: /etc/envoy/tickets.yaml",
    ),
    Text::new(
        "kubernetes",
        "Let a CronJob rewrite the Secret daily, and reload the server when the mounted files have \
         changed: by itself nginx does not. Mount it as a directory, since a `subPath` never \
         follows the Secret.",
    )
    .with(common::KUBERNETES_KEYS),
];

pub(super) const KEY_ROTATED_TOO_FAST_WHY: &str = "New keys came in the last hour faster than \
    tickets expire, and old ones are not kept for long enough: the lifetime given to clients is a \
    promise that is not kept.";

pub(super) const KEY_ROTATED_TOO_FAST: &[Text] = &[
    Text::new(
        "any",
        "Rotate more slowly, keep more old keys, or let tickets live less long: keys kept, times \
         the interval, must be at least the lifetime. Daily is often enough. If nobody rotates at \
         all, the server restarts or reloads and makes a new key each time; then configure keys.",
    ),
    Text::new(
        "nginx",
        "Keep as many old key files as fit into `ssl_session_timeout`. Without key files before \
         1.23.2, or without a shared cache, each reload makes a new key.",
    )
    .with(common::NGINX_KEYS),
    Text::new(
        "apache",
        "There is only one key: rotate daily, not more often, and do not let restarts change it.",
    )
    .with(common::APACHE_KEYS),
    Text::new(
        "haproxy",
        "Three keys are used, of which one is old: the interval must be no shorter than \
         `tune.ssl.lifetime`. Without `tls-ticket-keys` each reload makes a new key.",
    )
    .with("global\n    tune.ssl.lifetime 43200"),
    Text::new(
        "envoy",
        "Keep former keys behind the first for as long as `session_timeout`; their number is not \
         limited to three.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "Pods that come and go and make their own keys look like this. Mount one Secret with the \
         keys into all of them.",
    )
    .with(common::KUBERNETES_KEYS),
];

pub(super) const KEY_RETIRED_EARLY_WHY: &str = "In the last hour the server refused tickets \
    for want of a key that it had held before, while newer tickets of that key were still \
    valid. Each made a full handshake that the client had been promised to be spared.";

pub(super) const KEY_RETIRED_EARLY: &[Text] = &[
    Text::new(
        "any",
        "Keep a key as one that decrypts until its last ticket has expired. Look first whether the \
         server was restarted or deployed: a key that only memory held is gone then. If you still \
         have the old key, bring it back.",
    ),
    Text::new(
        "nginx",
        "Name the old key last, and drop it only one `ssl_session_timeout` after it ceased to be \
         the first. Without key files the keys of the process are lost at a restart.",
    )
    .with(common::NGINX_KEYS),
    Text::new(
        "apache",
        "Configure a key file, so that a restart does not make another key. There is only one, so \
         tickets of the former are always refused when it changes: change it when few clients are \
         there.",
    )
    .with(common::APACHE_KEYS),
    Text::new(
        "haproxy",
        "Only append to the key file, and rotate no faster than `tune.ssl.lifetime`; the last \
         three keys are used. Configure a file at all: without one each reload makes a new key.",
    )
    .with(common::HAPROXY_KEYS),
    Text::new(
        "envoy",
        "Leave the former key behind the first one for as long as `session_timeout`. Keys that \
         Envoy makes itself are lost at a hot restart.",
    )
    .with(common::ENVOY_KEYS),
    Text::new(
        "kubernetes",
        "Let the keys come from a Secret, so that they outlive the pods of a rollout. \
         ingress-nginx holds a single key: changing `ssl-session-ticket-key` refuses all tickets \
         of the former, so change it when few clients are there.",
    )
    .with(common::KUBERNETES_KEYS),
];
