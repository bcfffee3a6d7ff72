//! Resumetry: which share of TLS connections resumes, and why the others do not.

pub mod core;
pub mod export;
