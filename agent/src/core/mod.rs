//! From bytes to handshake records: pure. Nothing here knows of clocks, sockets, files, threads,
//! aya or tokio; time comes in as a parameter.

pub mod aggregate;
pub mod record;
