//! Early data, certificates, and what is old.

use super::Text;

pub(super) const EARLY_DATA_ACCEPTED_WHY: &str = "The server accepted early data (0-RTT) in the \
    last hour. It spares a round trip, but whoever records it can send it again, and what the \
    requests are cannot be seen from outside.";

pub(super) const EARLY_DATA_ACCEPTED: &[Text] = &[
    Text::new(
        "any",
        "This may be as intended. Make sure that only requests that may be repeated are answered \
         from early data: let the proxy tell the application by `Early-Data: 1`, and let that \
         answer all others with 425 Too Early (RFC 8470). If nobody asked for 0-RTT, switch it \
         off.",
    ),
    Text::new(
        "nginx",
        "Tell the application, or refuse here what is neither GET nor HEAD; `map` belongs into \
         `http`, the rest into the server block.",
    )
    .with(
        "\
map \"$ssl_early_data:$request_method\" $too_early {
    default 0;
    \"~^1:(?!GET$|HEAD$)\" 1;
}
# in the server block
if ($too_early) { return 425; }
proxy_set_header Early-Data $ssl_early_data;",
    ),
    Text::new(
        "haproxy",
        "Let all but GET and HEAD wait for the handshake, or remove `allow-0rtt` from the `bind` \
         lines.",
    )
    .with("http-request wait-for-handshake if !METH_GET"),
    Text::new(
        "envoy",
        "Listeners for QUIC accept early data by default; switch it off in the \
         `QuicDownstreamTransport` if applications cannot bear replays.",
    )
    .with("enable_early_data: false"),
    Text::new(
        "kubernetes",
        "In ingress-nginx somebody switched it on in the ConfigMap, for all applications behind \
         it. Switch it off unless all of them know 425.",
    )
    .with("data:\n  ssl-early-data: \"false\""),
];

pub(super) const CHAIN_LARGE_WHY: &str = "The certificate chain that the server sent in the last \
    hour does not fit into what it may send at first: about 14 kB over TCP (ten segments), and \
    over QUIC three times what the client has sent. Each full handshake waits a round trip for the \
    rest.";

pub(super) const CHAIN_LARGE: &[Text] = &[
    Text::new(
        "any",
        "Send the certificate and the intermediates that clients need, never the root, and nothing \
         twice. See what is sent with `openssl s_client -showcerts`. Chains with ECDSA are far \
         smaller than with RSA; a certificate of many names is better split.",
    ),
    Text::new(
        "nginx",
        "Take the root out of the file of `ssl_certificate`. From 1.29.1 on, with OpenSSL 3.2 or \
         newer, compress the chain for clients of TLS 1.3.",
    )
    .with("ssl_certificate_compression on;"),
    Text::new(
        "apache",
        "Take the root out of the file of `SSLCertificateFile`, and remove \
         `SSLCertificateChainFile`, which is obsolete and may add what is there already.",
    ),
    Text::new(
        "haproxy",
        "Take the root out of the PEM files of `crt`: they hold the certificate, its intermediates \
         and the private key.",
    ),
    Text::new(
        "envoy",
        "Take the root out of the file of `certificate_chain`.",
    ),
    Text::new(
        "kubernetes",
        "Take the root out of `tls.crt` in the Secret. With cert-manager ask for an ECDSA key.",
    )
    .with("spec:\n  privateKey:\n    algorithm: ECDSA\n    size: 256"),
];

pub(super) const OCSP_NOT_STAPLED_WHY: &str = "Clients asked in the last hour for a stapled OCSP \
    response, as most do, and got none. Some then ask the authority themselves, which delays the \
    first connection and tells the authority whom they visit.";

pub(super) const OCSP_NOT_STAPLED: &[Text] = &[
    Text::new(
        "any",
        "See whether the certificate names a responder: `openssl x509 -noout -ocsp_uri -in FILE`. \
         If it prints nothing, there is nothing to staple and all is well: Let's Encrypt, for one, \
         ended OCSP in 2025.",
    ),
    Text::new(
        "nginx",
        "Switch stapling on and give a resolver that can find the responder. nginx fetches the \
         response after the first handshake of each worker, which therefore goes without.",
    )
    .with(
        "\
ssl_stapling on;
ssl_stapling_verify on;
ssl_trusted_certificate /etc/nginx/certs/chain.pem;
resolver 127.0.0.53;",
    ),
    Text::new(
        "apache",
        "Switch stapling on; the cache stands outside of virtual hosts and needs \
         `mod_socache_shmcb`.",
    )
    .with("SSLUseStapling on\nSSLStaplingCache shmcb:/run/apache2/stapling(131072)"),
    Text::new(
        "haproxy",
        "From 2.8 on let HAProxy fetch the responses, by a line of the `crt-list`. Before, put \
         them beside the certificate as `FILE.ocsp`, or `set ssl ocsp-response` on the stats \
         socket.",
    )
    .with("/etc/haproxy/certs/shop.pem [ocsp-update on] shop.example"),
    Text::new(
        "envoy",
        "Envoy fetches no responses: give it a file in DER, and renew the file before the response \
         expires.",
    )
    .with(
        "\
common_tls_context:
  tls_certificates:
    - certificate_chain: { filename: /etc/envoy/certs/shop.pem }
      private_key: { filename: /etc/envoy/certs/shop.key }
      ocsp_staple: { filename: /etc/envoy/certs/shop.ocsp }
ocsp_staple_policy: LENIENT_STAPLING",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx switch it on in the ConfigMap.",
    )
    .with("data:\n  enable-ocsp: \"true\""),
];

pub(super) const RSA_CERTIFICATE_WHY: &str = "Full handshakes of the last hour were signed with \
    RSA for clients that could do ECDSA. A signature with RSA-2048 costs the server many times the \
    CPU time of one with ECDSA P-256, and the certificate is larger.";

pub(super) const RSA_CERTIFICATE: &[Text] = &[
    Text::new(
        "any",
        "Get a certificate with a P-256 key for the name. Keep that with RSA beside it only if old \
         clients are left; servers choose by what the client can do.",
    ),
    Text::new("nginx", "Name both; certificates and keys go by pairs.").with(
        "\
ssl_certificate /etc/nginx/certs/shop.ecdsa.pem;
ssl_certificate_key /etc/nginx/certs/shop.ecdsa.key;
ssl_certificate /etc/nginx/certs/shop.rsa.pem;
ssl_certificate_key /etc/nginx/certs/shop.rsa.key;",
    ),
    Text::new("apache", "Name both in the virtual host.").with(
        "\
SSLCertificateFile /etc/apache2/certs/shop.ecdsa.pem
SSLCertificateKeyFile /etc/apache2/certs/shop.ecdsa.key
SSLCertificateFile /etc/apache2/certs/shop.rsa.pem
SSLCertificateKeyFile /etc/apache2/certs/shop.rsa.key",
    ),
    Text::new(
        "haproxy",
        "Put both beside each other as `shop.pem.ecdsa` and `shop.pem.rsa`, and name what they \
         have in common.",
    )
    .with("bind :443 ssl crt /etc/haproxy/certs/shop.pem"),
    Text::new("envoy", "List both in the same context.").with(
        "\
common_tls_context:
  tls_certificates:
    - certificate_chain: { filename: /etc/envoy/certs/shop.ecdsa.pem }
      private_key: { filename: /etc/envoy/certs/shop.ecdsa.key }
    - certificate_chain: { filename: /etc/envoy/certs/shop.rsa.pem }
      private_key: { filename: /etc/envoy/certs/shop.rsa.key }",
    ),
    Text::new(
        "kubernetes",
        "With cert-manager ask for an ECDSA key in the Certificate; its default is RSA.",
    )
    .with("spec:\n  privateKey:\n    algorithm: ECDSA\n    size: 256"),
];

pub(super) const VERSION_OLD_WHY: &str = "Connections of the last hour used TLS 1.0 or 1.1. Both \
    are deprecated (RFC 8996): they rest on MD5 and SHA-1, and know no authenticated encryption.";

pub(super) const VERSION_OLD: &[Text] = &[
    Text::new(
        "any",
        "See who these clients are before you shut them out: `resumetry trace` shows their \
         addresses. Browsers have not needed either version since 2020.",
    ),
    Text::new(
        "nginx",
        "Leave the old versions out, in `http`; before 1.27.3 they are among the defaults.",
    )
    .with("ssl_protocols TLSv1.2 TLSv1.3;"),
    Text::new(
        "apache",
        "Leave the old versions out, for the whole server.",
    )
    .with("SSLProtocol -all +TLSv1.2 +TLSv1.3"),
    Text::new(
        "haproxy",
        "The default is TLS 1.2 or newer; remove `ssl-min-ver` with an older one, and \
         `force-tlsv10` or `force-tlsv11`.",
    )
    .with("global\n    ssl-default-bind-options ssl-min-ver TLSv1.2"),
    Text::new(
        "envoy",
        "The default is TLS 1.2 or newer; remove what lowers it.",
    )
    .with(
        "\
common_tls_context:
  tls_params:
    tls_minimum_protocol_version: TLSv1_2",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx take the old versions out of the ConfigMap.",
    )
    .with("data:\n  ssl-protocols: \"TLSv1.2 TLSv1.3\""),
];

pub(super) const CIPHER_OLD_WHY: &str = "Connections of the last hour used cipher suites without \
    forward secrecy (key exchange by RSA) or without authenticated encryption (CBC, RC4). With the \
    first, who gets hold of the certificate's key can decrypt all that was recorded.";

pub(super) const CIPHER_OLD: &[Text] = &[
    Text::new(
        "any",
        "See who these clients are before you shut them out, then leave only ECDHE with AES-GCM or \
         ChaCha20 for TLS 1.2. All suites of TLS 1.3 are sound.",
    ),
    Text::new(
        "nginx",
        "Set the list in `http`, and look for other lists in server blocks.",
    )
    .with("ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;"),
    Text::new(
        "apache",
        "Set the list for the whole server, and look for others in virtual hosts.",
    )
    .with("SSLCipherSuite ECDHE+AESGCM:ECDHE+CHACHA20"),
    Text::new(
        "haproxy",
        "Set the list in `global`, and remove `ciphers` from single lines.",
    )
    .with("global\n    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20"),
    Text::new(
        "envoy",
        "The defaults of today are sound; remove the old suites from the list.",
    )
    .with(
        "\
common_tls_context:
  tls_params:
    cipher_suites:
      - ECDHE-ECDSA-AES128-GCM-SHA256
      - ECDHE-RSA-AES128-GCM-SHA256
      - ECDHE-ECDSA-CHACHA20-POLY1305
      - ECDHE-RSA-CHACHA20-POLY1305",
    ),
    Text::new(
        "kubernetes",
        "In ingress-nginx set the list in the ConfigMap, or return to the default.",
    )
    .with("data:\n  ssl-ciphers: \"ECDHE+AESGCM:ECDHE+CHACHA20\""),
];
