//! One file a hook family.

mod exec;
mod library;
mod reference;
mod socket;
mod ticket;
mod wire;
