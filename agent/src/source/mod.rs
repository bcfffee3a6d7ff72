//! Where raw events come from: the live ring buffer, or a recording of it.

pub mod recording;
pub mod ring;
