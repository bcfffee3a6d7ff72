//! Resumetry: which share of TLS connections resumes, and why the others do not.

pub mod authorities;
pub mod capture;
pub mod cli;
pub mod config;
pub mod core;
pub mod explain;
pub mod export;
pub mod host;
pub mod output;
pub mod overhead;
pub mod pcap;
pub mod pipeline;
pub mod probe;
pub mod probing;
pub mod remote;
pub mod source;
pub mod tap;
pub mod top;
pub mod verify;
pub mod watch;
