//! `probe`: opens connections to a server as a client and says whether, and by how much, the second one
//! is faster.
//!
//! One connection is an [`Attempt`], over TCP or QUIC; `measure` makes many and draws the conclusions,
//! `report` shows them. Nothing here knows of the kernel half.

mod client;
mod http3;
mod measure;
mod quic;
pub mod report;
mod session;
mod statistics;
mod target;
mod tcp;
mod verifier;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub use client::{Client, ClientError};
pub use measure::{Conclusion, Measured, Plan, Progress, Verdict, measure};
pub use target::{Target, TargetError};
use thiserror::Error;

use crate::core::record::Transport;
use session::Given;

/// What a connection is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub transport: Transport,
    /// ALPN; empty for none.
    pub protocols: Vec<String>,
    /// The only version to offer.
    pub version: Option<Version>,
    /// Take any certificate.
    pub insecure: bool,
    /// Longest wait for anything.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

/// One connection.
#[derive(Debug)]
struct Attempt {
    resumed: bool,
    /// TCP's own handshake.
    connect: Option<Duration>,
    /// From there to the end of the TLS handshake as the client sees it; of QUIC, from the first packet.
    handshake: Duration,
    /// From the established connection (QUIC: from the first packet) to the first byte of the response,
    /// where one was asked for.
    first_byte: Option<Duration>,
    facts: Facts,
    /// Of full handshakes.
    certificate: Option<Certificate>,
    /// What the server gave to resume by.
    given: Given,
    /// Of the ticket that was offered, or that the server issued in the clear.
    ticket: Option<TicketSeen>,
}

/// What should be the same at every address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    version: String,
    /// IANA name; not known over QUIC.
    cipher: Option<String>,
    protocol: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Certificate {
    /// Start of the SHA-256 of the server's own certificate.
    fingerprint: [u8; 8],
    /// Of all certificates.
    chain_bytes: usize,
}

/// What of a ticket went over the wire in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TicketSeen {
    bytes: u32,
    /// Fingerprint of what may be the name of its key.
    key: Option<u32>,
    /// The server's hint (RFC 5077, 5.6).
    lifetime: Option<Duration>,
}

/// Why there was no connection.
#[derive(Debug, Error)]
pub enum AttemptError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("no TLS handshake with {0}: {1}")]
    Handshake(SocketAddr, String),
    #[error("cannot speak QUIC with {0}: {1}")]
    Quic(SocketAddr, String),
    #[error("{0} was not tested to the end: this was told to stop")]
    Stopped(SocketAddr),
}
