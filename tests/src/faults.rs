//! Servers and clients of which something is wrong, beside some like them of which it is not: what each rule
//! of good ticket practice must tell apart.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use openssl::ssl::SslVersion;

use crate::asks::{ask_early, early_client};
use crate::certs::{Files, Key, ocsp_response};
use crate::client::{Alpn, Profile, Versions};
use crate::nginx::{Nginx, Server};
use crate::quic_peers::Quinn;
use crate::session::{self, Offer};
use crate::stage::{Served, Stage, come_back, fetch, of_version, visit};
use crate::{http1, ports, wait};

/// Handshakes that suffice for rules about what is in them.
const SEEN: usize = 35;

/// As `ssl_session_ticket_key` has them, the one that issues first.
pub fn ticket_keys(files: &[&Path]) -> String {
    let directive = |file: &&Path| format!("ssl_session_ticket_key {};", file.display());
    files.iter().map(directive).collect()
}

/// Two services, of which one uses its key for too long.
pub struct KeysInUse<'a> {
    begun: Instant,
    stage: &'a Stage,
    stale: Served,
    fresh: Served,
}

impl<'a> KeysInUse<'a> {
    pub fn begin(stage: &'a Stage) -> Result<Self> {
        let serve = |service: &str, keys: &[&Path]| {
            let server = stage.tls(&["keys.findings.test"])?;
            stage.serve(service, server.with(ticket_keys(keys)))
        };
        let keys = Self {
            begun: Instant::now(),
            stage,
            stale: serve("nginx-stale", &[&stage.key("stale.key")?])?,
            fresh: serve(
                "nginx-fresh",
                &[&stage.key("fresh.key")?, &stage.key("next.key")?],
            )?,
        };
        keys.issue()?;
        Ok(keys)
    }

    /// What TLS 1.2 issues is seen; what is accepted tells which key it was.
    fn issue(&self) -> Result<()> {
        let profile = of_version(Versions::Tls12, "keys.findings.test");
        for served in [&self.fresh, &self.stale] {
            visit(served.port, &profile, 4, 2)?;
        }
        Ok(())
    }

    /// Both issue again after this time, of which one has changed its key.
    pub fn come_back(&self, after: Duration) -> Result<()> {
        let [old, next] = ["fresh.key", "next.key"].map(|name| self.stage.file(name));
        let (old_key, next_key) = (fs::read(&old)?, fs::read(&next)?);
        fs::write(old, next_key)?;
        fs::write(next, old_key)?;
        self.fresh.nginx.renew()?;
        wait::until(after, || self.begun.elapsed() > after);
        self.issue()
    }
}

pub fn few_and_many_returns(stage: &Stage) -> Result<()> {
    for (service, name, clients, times) in [
        ("nginx-rare", "rare.findings.test", 55, 2),
        ("nginx-regular", "regular.findings.test", 11, 20),
    ] {
        let served = stage.serve(service, stage.tls(&[name])?)?;
        let profile = of_version(Versions::Tls13, name);
        visit(served.port, &profile, clients, times)?;
    }
    Ok(())
}

pub fn clients_without_memory(stage: &Stage) -> Result<()> {
    let name = "forgotten.findings.test";
    let served = stage.serve("nginx-forgotten", stage.tls(&[name])?)?;
    visit(served.port, &of_version(Versions::Tls13, name), 210, 1)
}

pub fn tickets_of_another_node(stage: &Stage) -> Result<()> {
    let name = "nodes.findings.test";
    let issuer = stage.serve("nginx-issuer", stage.tls(&[name])?)?;
    let stranger = stage.serve("nginx-stranger", stage.tls(&[name])?)?;
    let offer = Offer::new(SslVersion::TLS1_3, name);
    let tickets = fetch(issuer.port, &offer, 32)?;
    come_back(issuer.port, &offer, &tickets, true)?;
    come_back(stranger.port, &offer, &tickets, false)?;
    Ok(())
}

pub fn nothing_to_resume_by(stage: &Stage) -> Result<()> {
    for (service, cache) in [("nginx-nothing", "off"), ("nginx-cache", "shared:all:1m")] {
        let name = "by-id.findings.test";
        let directives = format!("ssl_session_tickets off; ssl_session_cache {cache};");
        let served = stage.serve(service, stage.tls(&[name])?.with(directives))?;
        visit(served.port, &of_version(Versions::Tls12, name), 40, 1)?;
    }
    Ok(())
}

pub fn tickets_that_expire(stage: &Stage) -> Result<()> {
    let name = "lifetimes.findings.test";
    let offer = Offer::new(SslVersion::TLS1_2, name);
    let issue = |service: &str, lifetime: &str| {
        let timeout = format!("ssl_session_timeout {lifetime};");
        let served = stage.serve(service, stage.tls(&[name])?.with(timeout))?;
        anyhow::Ok((served.port, fetch(served.port, &offer, 16)?))
    };
    let hasty = issue("nginx-hasty", "1s")?;
    let lasting = issue("nginx-lasting", "5m")?;
    // OpenSSL counts whole seconds.
    let issued = Instant::now();
    let life = Duration::from_millis(2_100);
    wait::until(life * 2, || issued.elapsed() > life);
    for ((port, tickets), resumes) in [(hasty, false), (lasting, true)] {
        // A client that knows of the lifetime would not offer them.
        let old = tickets.iter().map(session::rejuvenate);
        let old = old.collect::<Result<Vec<_>>>()?;
        for _ in 0..2 {
            come_back(port, &offer, &old, resumes)?;
        }
    }
    Ok(())
}

pub fn more_tickets_than_of_use(stage: &Stage) -> Result<()> {
    for (service, name, directives) in [
        (
            "nginx-lavish",
            "lavish.findings.test",
            "ssl_conf_command NumTickets 8;",
        ),
        ("nginx-frugal", "frugal.findings.test", ""),
    ] {
        let served = stage.serve(service, stage.tls(&[name])?.with(directives))?;
        visit(served.port, &of_version(Versions::Tls13, name), SEEN, 1)?;
    }
    Ok(())
}

pub fn a_key_is_replaced(stage: &Stage) -> Result<()> {
    let offer = Offer::new(SslVersion::TLS1_2, "rotation.findings.test");
    for (service, keeps) in [("nginx-abrupt", false), ("nginx-gentle", true)] {
        let name = format!("{service}.key");
        let issues = stage.key(&name)?;
        let opens = stage.key(&format!("{service}-opens.key"))?;
        let server = stage.tls(&[&offer.server_name])?;
        let served = stage.serve(service, server.with(ticket_keys(&[&issues, &opens])))?;
        let tickets = fetch(served.port, &offer, 8)?;
        come_back(served.port, &offer, &tickets, true)?;
        if keeps {
            fs::copy(&issues, &opens)?;
        }
        stage.key(&name)?;
        served.nginx.renew()?;
        let renewed = come_back(served.port, &offer, &tickets, keeps)?;
        come_back(served.port, &offer, &renewed, true)?;
    }
    Ok(())
}

pub fn keys_in_quick_succession(stage: &Stage) -> Result<()> {
    let offer = Offer::new(SslVersion::TLS1_2, "hectic.findings.test");
    let keys = ticket_keys(&[&stage.key("hectic.key")?]);
    // Less than the agent has been watching: it must have seen how long keys are used.
    let server = stage.tls(&[&offer.server_name])?.with(keys);
    let server = server.with("ssl_session_timeout 5s;");
    let served = stage.serve("nginx-hectic", server)?;
    let mut tickets = fetch(served.port, &offer, 5)?;
    for _ in 0..2 {
        come_back(served.port, &offer, &tickets, true)?;
        stage.key("hectic.key")?;
        served.nginx.renew()?;
        tickets = come_back(served.port, &offer, &tickets, false)?;
    }
    come_back(served.port, &offer, &tickets, true)?;
    Ok(())
}

pub fn a_key_of_zeros(stage: &Stage) -> Result<()> {
    let zeros = stage.file("zeros.key");
    fs::write(&zeros, [0; 80])?;
    let random = stage.key("random.key")?;
    for (service, key) in [("nginx-zeros", zeros), ("nginx-random", random)] {
        let name = "strength.findings.test";
        let server = stage.tls(&[name])?.with(ticket_keys(&[&key]));
        let served = stage.serve(service, server)?;
        for versions in [Versions::Tls12, Versions::Tls13] {
            visit(served.port, &of_version(versions, name), 3, 2)?;
        }
    }
    Ok(())
}

pub fn a_key_for_two(stage: &Stage) -> Result<()> {
    let (shared, own) = (stage.key("shared.key")?, stage.key("own.key")?);
    for (service, name, key) in [
        ("nginx-shop", "shop.findings.test", &shared),
        ("nginx-blog", "blog.findings.test", &shared),
        ("nginx-mail", "mail.findings.test", &own),
    ] {
        let server = stage.tls(&[name])?.with(ticket_keys(&[key]));
        let served = stage.serve(service, server)?;
        visit(served.port, &of_version(Versions::Tls13, name), 5, 2)?;
    }
    Ok(())
}

/// What two servers of one name have after the address of `listen`, and as directives.
const UNLIKE: [(&str, [(&str, &str); 2]); 4] = [
    ("protocols.findings.test", [("ssl http2", ""), ("ssl", "")]),
    (
        "suites.findings.test",
        [
            ("ssl http2", "ssl_ciphers ECDHE+AES128;"),
            ("ssl http2", "ssl_ciphers ECDHE+AES256;"),
        ],
    ),
    (
        "versions.findings.test",
        [
            ("ssl", "ssl_protocols TLSv1.2 TLSv1.3;"),
            ("ssl", "ssl_protocols TLSv1.2;"),
        ],
    ),
    (
        "alike.findings.test",
        [("ssl http2", ""), ("ssl http2", "")],
    ),
];

/// Full handshakes with a server of this name and kind. Clients would like to speak HTTP/2, and TLS 1.3 where
/// that is the question; TLS 1.2 has the answer in the clear.
fn serve_and_ask(
    stage: &Stage,
    service: &str,
    name: &str,
    (listen, directives): (&'static str, &str),
) -> Result<()> {
    let mut server = stage.tls(&[name])?.with(directives);
    server.listen = listen;
    let served = stage.serve(service, server)?;
    if directives.contains("ssl_protocols") {
        let offer = Offer {
            versions: (SslVersion::TLS1_2, SslVersion::TLS1_3),
            ..Offer::new(SslVersion::TLS1_3, name)
        };
        fetch(served.port, &offer, SEEN)?;
        return Ok(());
    }
    let profile = Profile {
        alpn: Alpn::H2,
        ..of_version(Versions::Tls12, name)
    };
    visit(served.port, &profile, SEEN, 1)
}

pub fn services_of_one_name(stage: &Stage) -> Result<()> {
    for (name, kinds) in UNLIKE {
        for (service, kind) in ["nginx-front", "nginx-back"].into_iter().zip(kinds) {
            serve_and_ask(stage, service, name, kind)?;
        }
    }
    Ok(())
}

pub fn hosts_of_one_name(hosts: [&Stage; 2]) -> Result<()> {
    for (name, kinds) in UNLIKE {
        for (host, kind) in hosts.into_iter().zip(kinds) {
            serve_and_ask(host, "nginx-web", name, kind)?;
        }
    }
    Ok(())
}

pub fn early_data(stage: &Stage) -> Result<()> {
    const TIMES: usize = 12;
    const ON: &str = "ssl_early_data on;";
    for (service, name, is_taken) in [
        ("nginx-early", "early.findings.test", true),
        ("nginx-late", "late.findings.test", false),
    ] {
        let key = stage.key(&format!("{service}.key"))?;
        let server = stage.tls(&[name])?.with(ticket_keys(&[&key])).with(ON);
        let served = stage.serve(service, server)?;
        let clients = (0..TIMES).map(|_| {
            let client = early_client(&stage.authority)?;
            ask_early(&client, served.port, name)?;
            Ok(client)
        });
        let clients = clients.collect::<Result<Vec<_>>>()?;
        if !is_taken {
            let config = served.nginx.directory().join("nginx.conf");
            let text = fs::read_to_string(&config)?;
            fs::write(config, text.replace(ON, ""))?;
            served.nginx.renew()?;
        }
        for client in &clients {
            let (_, _, answer) = ask_early(client, served.port, name)?;
            ensure!(answer == Some(is_taken), "the fixtures: {answer:?}");
        }
    }
    // Over QUIC it is taken for both.
    let start = || Quinn::start(&stage.authority, &stage.identity, true);
    let quic = stage.judge.inside(start)?;
    for name in ["early.findings.test", "late.findings.test"] {
        for _ in 0..TIMES {
            let client = quic.client(true)?;
            quic.connect(&client, name, 1)?;
            let answers = quic.connect(&client, name, 1)?;
            ensure!(answers == [Some(true)], "the fixtures: {answers:?}");
        }
    }
    Ok(())
}

/// Full handshakes of TLS 1.2 with another certificate; the port.
fn with_certificate(
    stage: &Stage,
    service: &str,
    name: &str,
    files: &Files,
    clients: usize,
) -> Result<u16> {
    let named = [(name.to_owned(), files.clone())];
    let served = stage.serve(service, Server::new(ports::free()?, "ssl", &named))?;
    visit(served.port, &of_version(Versions::Tls12, name), clients, 1)?;
    Ok(served.port)
}

pub fn chains(stage: &Stage) -> Result<()> {
    let intermediate = stage.authority.intermediate("Intermediate", Key::Rsa2048)?;
    // Each has some 500 bytes.
    for (service, name, length) in [
        ("nginx-chain", "long.findings.test", 40),
        ("nginx-link", "short.findings.test", 1),
    ] {
        let chain = vec![&intermediate.certificate; length];
        let leaf = intermediate.issue(name, Key::Ecdsa)?;
        let files = leaf.write_chain(&chain, &stage.file(""), name)?;
        with_certificate(stage, service, name, &files, 6)?;
    }
    Ok(())
}

pub fn stapling(stage: &Stage) -> Result<()> {
    let directory = stage.file("");
    let authority = stage.authority.write(&directory, "authority")?;
    let response = ocsp_response(&authority, &stage.files, &directory)?;
    let staples = format!("ssl_stapling on; ssl_stapling_file {};", response.display());
    for (service, name, directives) in [
        ("nginx-bare", "bare.findings.test", ""),
        ("nginx-stapler", "stapled.findings.test", &staples),
    ] {
        let served = stage.serve(service, stage.tls(&[name])?.with(directives))?;
        let profile = Profile {
            status: true,
            ..of_version(Versions::Tls12, name)
        };
        visit(served.port, &profile, SEEN, 1)?;
    }
    Ok(())
}

pub fn rsa(stage: &Stage) -> Result<()> {
    let identity = stage.authority.issue("*.findings.test", Key::Rsa2048)?;
    let files = identity.write(&stage.file(""), "rsa")?;
    with_certificate(stage, "nginx-rsa", "rsa.findings.test", &files, SEEN)?;
    let name = "rsa-only.findings.test";
    let port = with_certificate(stage, "nginx-rsa-only", name, &files, 0)?;
    let offer = Offer {
        ciphers: "ECDHE+aRSA+AESGCM",
        ..Offer::new(SslVersion::TLS1_2, name)
    };
    fetch(port, &offer, SEEN)?;
    Ok(())
}

pub fn tls11(stage: &Stage) -> Result<()> {
    let name = "ancient.findings.test";
    let old = "ssl_protocols TLSv1.1; ssl_ciphers DEFAULT:@SECLEVEL=0;";
    let served = stage.serve("nginx-ancient", stage.tls(&[name])?.with(old))?;
    visit(served.port, &of_version(Versions::Tls11, name), 20, 2)
}

pub fn old_suite(stage: &Stage) -> Result<()> {
    let name = "dusty.findings.test";
    let old = "ssl_ciphers ECDHE-ECDSA-AES128-SHA;";
    let served = stage.serve("nginx-dusty", stage.tls(&[name])?.with(old))?;
    visit(served.port, &of_version(Versions::Tls12, name), 20, 2)
}

/// Sends requests through a proxy to a server that is not watched, as on another host.
fn proxy(
    stage: &Stage,
    service: &str,
    upstream: &str,
    location: &str,
    requests: u32,
) -> Result<()> {
    let name = "inner.findings.test";
    let inner = stage.tls(&[name])?;
    let address = format!("127.0.0.1:{}", inner.port);
    let http = format!("upstream inner {{ server {address}; {upstream} }}");
    let _inner = Nginx::start(1, "", &[inner])?;
    let outer = stage.tls(&["outer.findings.test"])?.location(format!(
        "proxy_pass https://inner; proxy_ssl_server_name on; proxy_ssl_name {name}; {location}"
    ));
    let outer = Server {
        listen: "",
        ..outer
    };
    let served = stage.serve_with(service, &http, &[outer])?;
    let mut stream = TcpStream::connect(("127.0.0.1", served.port))?;
    http1::requests(&mut stream, "outer.findings.test", requests)
}

pub fn proxies_that_resume_or_not(stage: &Stage) -> Result<()> {
    let off = "proxy_ssl_session_reuse off;";
    proxy(stage, "nginx-oblivious", "", off, 110)?;
    proxy(stage, "nginx-mindful", "", "", 110)
}

pub fn proxies_that_keep_connections_or_not(stage: &Stage) -> Result<()> {
    proxy(stage, "nginx-opener", "", "", 310)?;
    let keeps = "proxy_http_version 1.1; proxy_set_header Connection \"\";";
    proxy(stage, "nginx-keeper", "keepalive 8;", keeps, 310)
}
