//! What receivers of OTLP get, and what becomes of it while they are away.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::certs::Key;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Client, Profile, dial};
use resumetry_tests::metrics::{self, Sample};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::otlp::{BASIC, BEARER, GrpcReceiver, Store};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and an agent that watches it alone.
struct Watched {
    agent: Agent,
    listen: SocketAddr,
    port: u16,
    name: String,
    _nginx: Nginx,
    // Last: a cgroup goes away when nobody is in it.
    _cgroup: Cgroup,
}

impl Watched {
    fn start(purpose: &str, names: &Names, arguments: &[&str]) -> Self {
        let cgroup = Cgroup::create(purpose).unwrap();
        let port = ports::free().unwrap();
        let server = Server::new(port, "ssl", &names.served).with("ssl_protocols TLSv1.2 TLSv1.3;");
        let nginx = cgroup.inside(|| Nginx::start(1, "", &[server])).unwrap();
        let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
        let listen_text = listen.to_string();
        let cgroup_path = cgroup.path().to_string_lossy();
        let authority = names.authority_file();
        let common = ["run", "--listen", &listen_text, "--cgroup", &cgroup_path];
        let common = common.into_iter().chain([
            "--otlp-ca",
            authority.to_str().unwrap(),
            "--otlp-interval",
            "1s",
        ]);
        let agent = Agent::start(common.chain(arguments.iter().copied())).unwrap();
        Self {
            agent,
            listen,
            port,
            name: names.name(0),
            _nginx: nginx,
            _cgroup: cgroup,
        }
    }

    /// One full handshake, then `resumed` that resume.
    fn visit(&self, resumed: u32) {
        visit(&self.name, self.port, resumed);
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let samples = metrics::scrape(self.listen).unwrap();
        let wanted = samples.iter().filter(|sample| {
            let has = |(label, value): &(&str, &str)| sample.label(label) == *value;
            sample.name == name && labels.iter().all(has)
        });
        wanted.map(|sample| sample.value).sum::<f64>() as u64
    }

    fn handshakes(&self) -> u64 {
        self.sum("tls_handshakes_total", &[("role", "server")])
    }
}

fn visit(name: &str, port: u16, resumed: u32) {
    let client = Client::new(Profile {
        server_name: Some(name.to_owned()),
        ..Profile::default()
    })
    .unwrap();
    for resume in (0..=resumed).map(|round| round > 0) {
        let done = client.request(dial(port).unwrap(), resume, 1).unwrap();
        assert_eq!(done.resumed, resume);
    }
}

/// The labels of `/metrics` by what they are called in OTLP, after the store has made underscores of
/// dots.
fn translated(sample: &Sample) -> Sample {
    let mut sample = sample.clone();
    sample.labels = sample
        .labels
        .into_iter()
        .filter(|(label, _)| label != "pop")
        .map(|(label, value)| {
            let name = match label.as_str() {
                "server_name" => "server_address",
                "transport" => "network_transport",
                "version" => "tls_protocol_version",
                "offered" => "resumption_offered",
                "reason" => "resumption_reject_reason",
                "key" => "resumption_ticket_key",
                "result" => "tls_handshake_result",
                "event" => "tls_ticket_event",
                "status" => "early_data_status",
                "service" => "service_name",
                other => other,
            };
            (name.to_owned(), value)
        })
        .collect();
    sample
}

/// Every series of TLS in `samples`, without what differs by its nature.
fn by_series(samples: impl IntoIterator<Item = Sample>) -> BTreeMap<String, f64> {
    samples
        .into_iter()
        .map(|mut sample| {
            let further = ["host_name", "host_arch", "os_type", "pop", "team", "job"];
            let constant = |label: &str| further.contains(&label) || label.starts_with("otel_");
            sample.labels.retain(|label, _| !constant(label));
            if let Some(bound) = sample.labels.get_mut("le")
                && let Ok(number) = bound.parse::<f64>()
            {
                *bound = number.to_string();
            }
            (format!("{} {:?}", sample.name, sample.labels), sample.value)
        })
        .collect()
}

#[test]
fn a_store_holds_what_is_served_also_after_it_was_away() {
    let names = Names::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let identity = names.authority.issue("localhost", Key::Ecdsa).unwrap();
    let authority = names.authority.certificate.clone();
    let files = identity
        .write_chain(&[&authority], directory.path(), "store")
        .unwrap();
    let port = ports::free().unwrap();
    let store = Store::start(port, directory.path(), &files).unwrap();
    let endpoint = format!("https://localhost:{port}/opentelemetry");
    let watched = Watched::start(
        "otlp-store",
        &names,
        &[
            "--label",
            "pop=fra1",
            "--otlp-endpoint",
            &endpoint,
            "--otlp-header",
            BASIC,
            "--otlp-attribute",
            "team=web",
        ],
    );

    let agrees = |store: &Store| {
        let served: Vec<_> = metrics::scrape(watched.listen)
            .unwrap()
            .into_iter()
            .filter(|sample| sample.name.starts_with("tls_"))
            .collect();
        let stored = store.latest(r#"{__name__=~"tls_.*"}"#).unwrap();
        let served = by_series(served.iter().map(translated));
        let stored_by = by_series(stored.clone());
        (served == stored_by, served, stored_by, stored)
    };
    let wait_until_they_agree = |store: &Store, handshakes: u64| {
        let there = wait::until(PATIENCE, || {
            watched.handshakes() == handshakes && agrees(store).0
        });
        let (_, served, stored, _) = agrees(store);
        assert!(
            there,
            "served {served:#?}\nstored {stored:#?}\n{}",
            watched.agent.messages()
        );
        assert!(served.len() > 20, "{served:#?}");
    };
    watched.visit(3);
    wait_until_they_agree(&store, 4);
    // What is the same everywhere is on the resource.
    let (_, _, _, stored) = agrees(&store);
    for sample in &stored {
        assert_eq!(sample.label("pop"), "fra1", "{sample:?}");
        assert_eq!(sample.label("team"), "web", "{sample:?}");
    }

    store.stop().unwrap();
    watched.visit(5);
    let failures = || watched.sum("resumetry_otlp_failures_total", &[("signal", "metrics")]);
    let lost = || {
        let labels = [("signal", "metrics"), ("reason", "undelivered")];
        watched.sum("resumetry_otlp_lost_total", &labels)
    };
    assert!(wait::until(PATIENCE, || failures() > 1 && lost() > 0));
    let store = Store::start(port, directory.path(), &files).unwrap();
    wait_until_they_agree(&store, 10);
    let messages = watched.agent.messages();
    let said = |text: &str| messages.matches(text).count();
    assert_eq!(said("does not take metrics"), 1, "{messages}");
    assert_eq!(said("takes metrics again"), 1, "{messages}");
}

#[test]
fn every_handshake_is_a_log_record_or_counted_as_lost() {
    let names = Names::new().unwrap();
    let identity = names.authority.issue("localhost", Key::Ecdsa).unwrap();
    let files = identity.write(names.directory.path(), "receiver").unwrap();
    let port = ports::free().unwrap();
    let receiver = GrpcReceiver::start(port, &files).unwrap();
    let endpoint = format!("https://localhost:{port}");
    let mut watched = Watched::start(
        "otlp-grpc",
        &names,
        &[
            "--otlp-endpoint",
            &endpoint,
            "--otlp-protocol",
            "grpc",
            "--otlp-logs",
            "--otlp-header",
            BEARER,
            "--client-address",
            "prefix",
        ],
    );
    watched.visit(3);
    let there = wait::until(PATIENCE, || {
        receiver.log_records().len() == 4 && receiver.counter("tls.handshakes") == Some(4)
    });
    let records = receiver.log_records();
    assert!(there, "{records:#?}\n{}", watched.agent.messages());
    let mut methods: Vec<_> = Vec::new();
    for (resource, record) in &records {
        assert_eq!(resource["service.name"], "nginx");
        assert_eq!(record["server.address"], watched.name.as_str());
        assert_eq!(record["network.local.address"], "127.0.0.1");
        assert_eq!(record["network.local.port"], watched.port.to_string());
        assert_eq!(record["client.address"], "127.0.0.0/24");
        assert_eq!(record["tls.protocol.version"], "1.3");
        assert!(record.get("client.port").is_none(), "{record}");
        assert!(record.get("labels").is_none(), "{record}");
        methods.push(record["resumption.method"].as_str().unwrap());
    }
    methods.sort_unstable();
    assert_eq!(methods, ["none", "psk", "psk", "psk"]);

    // Away, for more handshakes than anybody may keep.
    let before = watched.agent.resident_bytes().unwrap();
    receiver.stop();
    let lost = |reason| {
        let labels = [("signal", "logs"), ("reason", reason)];
        watched.sum("resumetry_otlp_lost_total", &labels)
    };
    let (name, port_of_server) = (watched.name.clone(), watched.port);
    let mut visits = 4;
    while lost("queue_full") == 0 {
        assert!(visits < 20_000, "no queue is that long");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| visit(&name, port_of_server, 499));
            }
        });
        visits += 2_000;
        assert!(wait::until(PATIENCE, || watched.handshakes() == visits));
    }
    let grown = watched
        .agent
        .resident_bytes()
        .unwrap()
        .saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB", grown >> 20);

    let receiver = GrpcReceiver::start(port, &files).unwrap();
    let sent = || watched.sum("resumetry_otlp_sent_total", &[("signal", "logs")]);
    let balanced = wait::until(PATIENCE * 2, || sent() + lost("queue_full") == visits);
    assert!(
        balanced,
        "{} sent and {} lost of {visits}",
        sent(),
        lost("queue_full")
    );
    // What was sent before is in the hands of the receiver that was stopped.
    let received = || receiver.log_records().len() as u64 + 4;
    assert!(
        wait::until(PATIENCE, || received() == sent()),
        "{} of {}",
        received(),
        sent()
    );

    // Who ends says farewell.
    let before = receiver.log_records().len();
    watched.visit(1);
    assert!(wait::until(PATIENCE, || watched.handshakes() == visits + 2));
    assert!(watched.agent.finish(Signal::TERM).unwrap().success());
    let complete = wait::until(PATIENCE, || {
        receiver.log_records().len() == before + 2
            && receiver.counter("tls.handshakes") == Some(visits + 2)
    });
    assert!(complete, "{:?}", receiver.counter("tls.handshakes"));
}
