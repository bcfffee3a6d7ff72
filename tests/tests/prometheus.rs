//! What a real Prometheus makes of `/metrics`, of our rules, and of what our boards ask.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::SocketAddr;
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Client, Profile, Versions, dial};
use resumetry_tests::metrics;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::prometheus::{Prometheus, board_queries};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};

/// Passwords: the hash of `sesame`, of the least cost.
const HASH: &str = "$2b$04$Q7x1sVdGmL2bT9eRkWc0Uu.SVkIsx6UOxTFt..E9VFUmZERFvb9KG";

const CONNECTIONS: u32 = 60;

#[test]
fn prometheus_reads_metrics_rules_and_boards() {
    let names = Names::new().unwrap();
    let directory = names.directory.path();
    let (name, files) = &names.served[0];
    let hash = HASH;
    // The certificate is one of a test's server; whoever scrapes is told its name.
    let web = directory.join("web.yml");
    let settings = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\nbasic_auth_users:\n  prometheus: {hash}\n",
        files.certificate.display(),
        files.key.display()
    );
    std::fs::write(&web, settings).unwrap();

    let cgroup = Cgroup::create("prometheus").unwrap();
    let port = ports::free().unwrap();
    let server = Server::new(port, "ssl", &names.served).with("ssl_protocols TLSv1.2 TLSv1.3;");
    let _nginx = cgroup.inside(|| Nginx::start(1, "", &[server])).unwrap();
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let listen_text = listen.to_string();
    let cgroup_path = cgroup.path().to_string_lossy();
    let common = [
        "--cgroup",
        &cgroup_path,
        "--max-overhead",
        "none",
        "--handshake-calls",
        "100",
    ];
    let secured = Agent::start(
        [
            "run",
            "--listen",
            &listen_text,
            "--web-config",
            web.to_str().unwrap(),
        ]
        .into_iter()
        .chain(["--label", "track=canary", "--responses", "100"])
        .chain(common),
    )
    .unwrap();
    assert!(
        secured
            .messages()
            .contains(&format!("ready: https://{listen}/metrics"))
    );
    // Its twin can be read without Prometheus.
    let plain: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let plain_text = plain.to_string();
    let _plain = Agent::start(["run", "--listen", &plain_text].into_iter().chain(common)).unwrap();

    let prometheus = Prometheus::start(&format!(
        "  - job_name: resumetry\n    scheme: https\n    \
         basic_auth: {{username: prometheus, password: sesame}}\n    \
         tls_config: {{ca_file: '{}', server_name: '{name}'}}\n    \
         static_configs: [{{targets: ['{listen}']}}]\n  \
         - job_name: resumetry-stranger\n    scheme: https\n    \
         tls_config: {{ca_file: '{}', server_name: '{name}'}}\n    \
         static_configs: [{{targets: ['{listen}']}}]\n",
        names.authority_file().display(),
        names.authority_file().display()
    ))
    .unwrap();
    let up = |job: &str| prometheus.one(&format!("up{{job=\"{job}\"}}")).unwrap();
    let scraped = wait::until(Duration::from_secs(30), || {
        up("resumetry") == Some(1.0) && up("resumetry-stranger") == Some(0.0)
    });
    assert!(
        scraped,
        "{:?} {:?}\n{}",
        up("resumetry"),
        up("resumetry-stranger"),
        prometheus.log()
    );

    // A quarter of the connections is full; the first scrape must see a beginning.
    for round in 0..2 {
        for version in [Versions::Tls12, Versions::Tls13] {
            let profile = Profile {
                versions: version,
                server_name: Some(name.clone()),
                ..Profile::default()
            };
            for _ in 0..CONNECTIONS / 4 {
                let client = Client::new(profile.clone()).unwrap();
                for resume in [false, true, true, true] {
                    let done = client.request(dial(port).unwrap(), resume, 1).unwrap();
                    assert_eq!(done.resumed, resume);
                }
            }
        }
        let wanted = f64::from(CONNECTIONS * 2 * (round + 1));
        let counted = wait::until(Duration::from_secs(30), || {
            let query = "sum(tls_handshakes_total{role=\"server\",job=\"resumetry\"})";
            prometheus.one(query).unwrap() == Some(wanted)
        });
        assert!(counted, "{:?}", prometheus.query("tls_handshakes_total"));
    }

    // The rule's quota is what the clients made.
    let quota = || {
        prometheus
            .one("server_name_role:tls_resumption_quota:ratio_rate5m")
            .unwrap()
    };
    let agrees = wait::until(Duration::from_secs(20), || {
        quota().is_some_and(|quota| (quota - 0.75).abs() < 0.01)
    });
    assert!(agrees, "{:?}", quota());

    // Native histograms hold what the buckets of the text hold.
    let text: f64 = metrics::scrape(plain)
        .unwrap()
        .iter()
        .filter(|sample| sample.name == "tls_handshake_duration_seconds_count")
        .map(|sample| sample.value)
        .sum();
    assert_eq!(text, f64::from(CONNECTIONS * 4));
    let native = prometheus
        .one("sum(histogram_count(tls_handshake_duration_seconds))")
        .unwrap();
    assert_eq!(native, Some(text));
    let median = prometheus
        .one("histogram_quantile(0.5, sum(tls_handshake_duration_seconds))")
        .unwrap();
    assert!(
        median.is_some_and(|median| median > 1e-5 && median < 1.0),
        "{median:?}"
    );

    // Every panel that need not be empty is not, but those that ask for buckets, which Prometheus
    // does not keep beside native histograms.
    let queries = board_queries().unwrap();
    assert!(queries.len() > 50, "{}", queries.len());
    for asked in &queries {
        let answer = prometheus.query(&asked.query).unwrap();
        let of_buckets = asked.query.contains("_bucket{");
        assert!(
            !answer.is_empty() || asked.may_be_empty || of_buckets,
            "{}: {}: {}",
            asked.board,
            asked.panel,
            asked.query
        );
    }
    // Nothing is wrong here, but that a stranger is kept out.
    let alerts = prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap();
    assert!(alerts.is_empty(), "{alerts:?}");
}
