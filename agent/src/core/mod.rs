//! From bytes to handshake records: pure. Nothing here knows of clocks, sockets, files, threads,
//! aya or tokio; time comes in as a parameter.
//!
//! `decode` turns ring-buffer bytes into events, `stream` puts the segments of one direction in
//! order, `tls` reads records and messages, `tracker` ties it together, one `record::Handshake`
//! per connection.

pub mod aggregate;
pub mod answer;
pub mod costs;
pub mod decode;
pub mod findings;
pub mod fingerprint;
pub mod inference;
pub mod key_names;
pub mod lifetimes;
pub mod names;
pub mod overhead;
pub mod quic;
pub mod record;
pub mod response;
#[cfg(test)]
pub(crate) mod sample;
pub mod savings;
pub mod stream;
pub mod tls;
pub mod tracker;
pub mod view;
pub mod weak_keys;
