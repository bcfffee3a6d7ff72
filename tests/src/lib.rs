//! End-to-end fixtures: real servers, real clients, the agent as a user runs it.
//!
//! The agent is only ever seen from outside (its records, metrics, messages, exit codes): nothing
//! here may depend on its crates. What the servers logged is the truth.

pub mod agent;
pub mod apache;
pub mod asks;
pub mod browser;
pub mod certs;
pub mod cgroup;
pub mod client;
pub mod compare;
pub mod container;
pub mod counters;
pub mod cpu;
pub mod distance;
pub mod farm;
pub mod faults;
pub mod findings;
pub mod first_byte;
pub mod foreign_server;
pub mod h2;
pub mod handshake_bytes;
pub mod haproxy;
pub mod http1;
pub mod kubernetes_api;
pub mod listener;
pub mod log;
pub mod machine;
pub mod manifests;
pub mod metrics;
pub mod nginx;
pub mod otlp;
pub mod page;
pub mod ports;
pub mod post_quantum;
pub mod process;
pub mod prometheus;
pub mod quic_peers;
pub mod relay;
pub mod rng;
pub mod rustls_server;
pub mod script_server;
pub mod servers;
pub mod session;
pub mod site;
pub mod stage;
pub mod starttls;
pub mod stats;
pub mod terminal;
pub mod think;
pub mod timed_server;
pub mod undisturbed;
pub mod verify;
pub mod wait;
pub mod workload;

/// The top of the repository.
pub fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
