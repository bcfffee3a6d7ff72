//! One file a hook family.

mod exec;
mod library;
mod primitive;
mod reference;
mod socket;
mod ticket;
mod wire;
