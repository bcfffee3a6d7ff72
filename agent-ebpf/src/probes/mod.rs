//! One file a hook family.

mod exec;
mod library;
mod socket;
mod wire;
