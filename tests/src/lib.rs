//! End-to-end fixtures: real servers, real clients, the agent as a user runs it.
//!
//! The agent is only ever seen from outside (its records, metrics, messages, exit codes): nothing
//! here may depend on its crates. What the servers logged is the truth.

pub mod agent;
pub mod apache;
pub mod certs;
pub mod cgroup;
pub mod client;
pub mod compare;
pub mod farm;
pub mod h2;
pub mod haproxy;
pub mod log;
pub mod metrics;
pub mod nginx;
pub mod page;
pub mod ports;
pub mod post_quantum;
pub mod process;
pub mod relay;
pub mod rng;
pub mod rustls_server;
pub mod session;
pub mod site;
pub mod verify;
pub mod wait;
pub mod workload;
