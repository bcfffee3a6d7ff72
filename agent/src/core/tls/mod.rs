//! What TLS says in clear text: records, and the messages that carry resumption.

pub mod client_hello;
pub mod codes;
pub mod reader;
pub mod record;
pub mod server_hello;
pub mod ssl2_hello;
