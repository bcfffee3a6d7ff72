//! One file a hook family.

mod exec;
mod library;
mod place;
mod primitive;
mod quic;
mod reference;
mod socket;
mod ticket;
mod wire;
