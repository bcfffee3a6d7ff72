//! Formats, compression, TLS and passwords, as a scraper meets them.

use std::io::Read as _;
use std::path::Path;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

/// What Prometheus sends where native histograms are enabled.
const PROTOBUF: &str = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                        encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,\
                        text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";

async fn bytes(address: SocketAddr, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let end = response
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    let body = response.split_off(end);
    (String::from_utf8(response).unwrap(), body)
}

#[tokio::test]
async fn protocol_buffers_are_for_those_who_prefer_them() {
    let server = start(LIMITS).await;
    let (head, body) = bytes(server.address, "/metrics", PROTOBUF).await;
    assert!(
        head.contains("proto=io.prometheus.client.MetricFamily; encoding=delimited"),
        "{head}"
    );
    // A length, then the name of the family: field 1.
    let name = b"tls_handshakes_total";
    assert!(body.windows(name.len()).any(|window| window == name));
    assert_eq!(body[2..4], [0x0a, u8::try_from(name.len()).unwrap()]);

    let other = PROTOBUF.replace("q=0.6", "q=0.1");
    let (head, _) = bytes(server.address, "/metrics", &other).await;
    assert!(head.contains("application/openmetrics-text"), "{head}");
}

#[tokio::test]
async fn gzip_holds_what_is_sent_without_it() {
    let server = start(LIMITS).await;
    let (_, plain) = bytes(server.address, "/metrics", "").await;
    let (head, packed) = bytes(server.address, "/metrics", "Accept-Encoding: gzip\r\n").await;
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(
        packed.len() * 3 < plain.len(),
        "{} of {}",
        packed.len(),
        plain.len()
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .unwrap();
    // Process metrics change from scrape to scrape.
    let own = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("tls_"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(own(&text), own(std::str::from_utf8(&plain).unwrap()));
    assert!(!own(&text).is_empty());
}

#[tokio::test]
async fn the_page_is_compressed_for_those_who_ask() {
    let server = start(LIMITS).await;
    for path in ["/", "/assets/uplot.js"] {
        let (_, plain) = bytes(server.address, path, "").await;
        let (head, packed) = bytes(server.address, path, "Accept-Encoding: gzip\r\n").await;
        assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
        assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
        assert_eq!(head.matches("content-type: ").count(), 1, "{head}");
        assert!(packed.len() * 3 < plain.len() * 2, "{}", packed.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain, "{path}");
    }
}

/// A directory of its own, with what was given.
struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let directory =
            std::env::temp_dir().join(format!("resumetry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let own = Self(directory);
        for (file, text) in files {
            own.write(file, text);
        }
        own
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    fn web(&self) -> Result<Web, crate::export::web::WebConfigError> {
        Web::read(&self.0.join("web.yml"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start_with_web(web: Web) -> Server {
    start_with(
        bind("127.0.0.1:0".parse().unwrap()).await.unwrap(),
        LIMITS,
        web,
    )
}

#[tokio::test]
async fn metrics_need_a_password_and_probes_none() {
    let hash = bcrypt::hash("sesame", 4).unwrap();
    let files = Files::new(
        "users",
        &[("web.yml", &format!("basic_auth_users:\n  prom: {hash}\n"))],
    );
    let server = start_with_web(files.web().unwrap()).await;
    for path in ["/metrics", "/", "/assets/main.js", "/api/v1/quota"] {
        let refused = get(server.address, path, "").await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        assert!(
            refused.contains("www-authenticate: Basic realm="),
            "{refused}"
        );
        // prom:sesame
        let header = "Authorization: Basic cHJvbTpzZXNhbWU=\r\n";
        let answered = get(server.address, path, header).await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
    assert!(
        get(server.address, "/healthz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

const CERTIFICATE: &str = include_str!("../../../../tests/data/web/certificate.pem");
const KEY: &str = include_str!("../../../../tests/data/web/key.pem");
const OTHER_CERTIFICATE: &str = include_str!("../../../../tests/data/web/other-certificate.pem");
const OTHER_KEY: &str = include_str!("../../../../tests/data/web/other-key.pem");

/// The health of the server at `address`, over TLS, if its certificate is `trusted`.
async fn health_over_tls(address: SocketAddr, trusted: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

#[tokio::test]
async fn speaks_tls_with_the_certificate_of_the_day() {
    let files = Files::new(
        "tls",
        &[
            (
                "web.yml",
                "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n",
            ),
            ("c.pem", CERTIFICATE),
            ("k.pem", KEY),
        ],
    );
    let web = files.web().unwrap();
    assert_eq!(web.scheme(), "https");
    let server = start_with_web(web).await;
    let answer = health_over_tls(server.address, CERTIFICATE).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        health_over_tls(server.address, OTHER_CERTIFICATE)
            .await
            .is_err()
    );

    // Half of a renewal is no certificate: the old one stays.
    files.write("c.pem", "nonsense");
    assert!(health_over_tls(server.address, CERTIFICATE).await.is_ok());
    files.write("k.pem", OTHER_KEY);
    files.write("c.pem", OTHER_CERTIFICATE);
    let answer = health_over_tls(server.address, OTHER_CERTIFICATE)
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The message for a configuration, less the directory.
fn refusal(text: &str) -> String {
    let files = Files::new(
        "refused",
        &[("web.yml", text), ("c.pem", CERTIFICATE), ("k.pem", KEY)],
    );
    let message = files.web().map(|_| ()).unwrap_err().to_string();
    message.replace(&files.0.display().to_string(), "DIR")
}

#[test]
fn says_what_is_wrong_with_a_web_configuration() {
    let tls = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n";
    for (text, part) in [
        ("tls_server_config: {cert_file: c.pem}", "key_file"),
        ("rate_limit: 3\n", "rate_limit"),
        (
            "tls_server_config: {cert_file: k.pem, key_file: k.pem}",
            "cert_file",
        ),
        (
            "tls_server_config: {cert_file: c.pem, key_file: none.pem}",
            "DIR/none.pem",
        ),
        (
            &format!("{tls}  client_auth_type: RequireAnyClientCert\n"),
            "nobody verifies",
        ),
        (
            &format!("{tls}  client_auth_type: RequireAndVerifyClientCert\n"),
            "client_ca_file",
        ),
        (
            &format!("{tls}  max_version: TLS11\n"),
            "no version is left",
        ),
        ("basic_auth_users: {prom: secret}", "no bcrypt hash"),
        ("basic_auth_users: [\n", "DIR/web.yml"),
    ] {
        let message = refusal(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(Web::read(Path::new("/no/such/file")).is_err());
}
