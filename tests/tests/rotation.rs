//! A rotation of ticket keys over three nodes, done wrongly: what each node's metrics show.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::{SslSession, SslVersion};
use resumetry_tests::agent::Agent;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::nginx::{Nginx, Server, write_ticket_key};
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{metrics, ports, wait};

/// One nginx in a cgroup of its own, and an agent that watches just that.
struct Node {
    agent: Agent,
    metrics: SocketAddr,
    port: u16,
    /// What it writes with, and reads.
    write: PathBuf,
    read: PathBuf,
    nginx: Nginx,
    // Dropped last: it must be empty.
    _cgroup: Cgroup,
}

impl Node {
    fn start(names: &Names, index: usize, keys: &[PathBuf]) -> Self {
        let directory = names.directory.path();
        let [write, read] = ["write", "read"].map(|kind| {
            let path = directory.join(format!("node{index}.{kind}.key"));
            fs::copy(&keys[0], &path).unwrap();
            path
        });
        let cgroup = Cgroup::create(&format!("node{index}")).unwrap();
        let port = ports::free().unwrap();
        let server = Server::new(port, "ssl", &names.served).with(format!(
            "ssl_session_ticket_key {}; ssl_session_ticket_key {};",
            write.display(),
            read.display()
        ));
        let nginx = cgroup.inside(|| Nginx::start(1, "", &[server])).unwrap();
        let metrics: SocketAddr = format!("127.0.0.1:{}", ports::free().unwrap())
            .parse()
            .unwrap();
        let agent = Agent::start([
            "run",
            "--listen",
            &metrics.to_string(),
            "--cgroup",
            &cgroup.path().to_string_lossy(),
        ])
        .unwrap();
        Self {
            agent,
            metrics,
            port,
            write,
            read,
            nginx,
            _cgroup: cgroup,
        }
    }

    /// Gives the node other keys, as a deployment does: files, then a reload.
    fn rotate(&self, write: &PathBuf, read: &PathBuf) {
        fs::copy(write, &self.write).unwrap();
        fs::copy(read, &self.read).unwrap();
        self.nginx.renew().unwrap();
    }

    /// A counter of this node by one of its labels.
    fn count(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for sample in metrics::scrape(self.metrics).unwrap() {
            if sample.name == name {
                *counts.entry(sample.label(label).to_owned()).or_default() += sample.value as u64;
            }
        }
        counts
    }

    /// Tickets by event and key.
    fn tickets(&self, event: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for sample in metrics::scrape(self.metrics).unwrap() {
            if sample.name == "tls_tickets_total" && sample.label("event") == event {
                counts.insert(sample.label("key").to_owned(), sample.value as u64);
            }
        }
        counts
    }

    fn refusals(&self) -> BTreeMap<String, u64> {
        self.count("tls_resumption_rejections_total", "reason")
    }
}

/// Clients that got their session at one node and offer it to every node.
fn hop(nodes: &[Node], offer: &Offer, issuer: usize, clients: usize) -> SslSession {
    let mut session = None;
    for _ in 0..clients {
        let fresh = session::connect(nodes[issuer].port, offer, None)
            .unwrap()
            .session
            .unwrap();
        for node in nodes {
            session::connect(node.port, offer, Some(&fresh)).unwrap();
        }
        session = Some(fresh);
    }
    session.unwrap()
}

fn settled(nodes: &[Node], expected: [u64; 3]) -> bool {
    let refused = || {
        nodes
            .iter()
            .map(|node| node.refusals().values().sum::<u64>())
            .collect::<Vec<_>>()
    };
    let settled = wait::until(Duration::from_secs(20), || refused() == expected);
    if !settled {
        println!("refused: {:?}, expected {expected:?}", refused());
    }
    settled
}

#[test]
fn cold_node_and_early_retirement_show_on_just_the_right_nodes() {
    const CLIENTS: usize = 20;
    let names = Names::new().unwrap();
    let keys: Vec<PathBuf> = ["a", "b"]
        .iter()
        .map(|key| write_ticket_key(names.directory.path().join(format!("{key}.key"))).unwrap())
        .collect();
    let (a, b) = (&keys[0], &keys[1]);
    let mut nodes: Vec<Node> = (1..=3)
        .map(|index| Node::start(&names, index, &keys))
        .collect();
    // TLS 1.2 shows what is issued.
    let offer = Offer::new(SslVersion::TLS1_2, &names.name(0));

    // All nodes write and read A: every node takes every ticket.
    hop(&nodes, &offer, 0, CLIENTS);
    assert!(settled(&nodes, [0, 0, 0]));
    // The first may be issued before it is known that they name their key.
    let named = || {
        let issued = nodes[0].tickets("issued");
        issued.into_keys().find(|key| !key.starts_with('_'))
    };
    wait::until(Duration::from_secs(20), || named().is_some());
    let key_a = named().expect("no ticket was seen to be issued");
    for node in &nodes {
        let accepted = BTreeMap::from([(key_a.clone(), CLIENTS as u64)]);
        let found = wait::until(Duration::from_secs(20), || {
            node.tickets("accepted") == accepted
        });
        assert!(
            found,
            "the same key has the same fingerprint on all nodes: {:?}, not {accepted:?}",
            node.tickets("accepted")
        );
    }

    // B reaches nodes 1 and 2 only; node 1 writes with it: node 3 is cold.
    nodes[0].rotate(b, a);
    nodes[1].rotate(a, b);
    let of_b = hop(&nodes, &offer, 0, CLIENTS);
    assert!(settled(&nodes, [0, 0, CLIENTS as u64]));
    let key_b = nodes[0]
        .tickets("issued")
        .into_keys()
        .find(|key| *key != key_a && !key.starts_with('_'))
        .unwrap();
    assert_eq!(
        nodes[2].refusals(),
        BTreeMap::from([("key_unknown".to_owned(), CLIENTS as u64)])
    );
    let accepted = || nodes[1].tickets("accepted").get(&key_b).copied();
    let found = wait::until(Duration::from_secs(20), || {
        accepted() == Some(CLIENTS as u64)
    });
    assert!(
        found,
        "node 2 accepted {:?} tickets of the new key",
        accepted()
    );
    assert!(!nodes[2].tickets("accepted").contains_key(&key_b));
    assert!(!nodes[2].tickets("issued").contains_key(&key_b));

    // Node 3 catches up; then node 2 drops A too early.
    nodes[2].rotate(a, b);
    for node in &nodes {
        session::connect(node.port, &offer, Some(&of_b)).unwrap();
    }
    assert!(
        settled(&nodes, [0, 0, CLIENTS as u64]),
        "node 3 is warm now"
    );
    nodes[1].rotate(b, b);
    // Node 3 still writes with A.
    hop(&nodes, &offer, 2, CLIENTS);
    assert!(settled(&nodes, [0, CLIENTS as u64, CLIENTS as u64]));
    assert_eq!(
        nodes[1].refusals(),
        BTreeMap::from([("key_unknown".to_owned(), CLIENTS as u64)])
    );
    assert_eq!(
        nodes[1].tickets("rejected"),
        BTreeMap::from([(key_a.clone(), CLIENTS as u64)]),
        "the key that was retired too early is the one that is refused"
    );
    let early = |node: &Node| node.count("tls_ticket_key_refused_early_total", "key");
    assert_eq!(early(&nodes[0]), BTreeMap::new());
    assert_eq!(early(&nodes[1]), BTreeMap::from([(key_a, CLIENTS as u64)]));
    assert_eq!(early(&nodes[2]), BTreeMap::new(), "a cold node is none");
    for node in &mut nodes {
        node.agent.finish(rustix::process::Signal::TERM).unwrap();
    }
}
