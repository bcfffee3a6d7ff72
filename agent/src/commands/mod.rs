//! One file a command: each builds its stages, runs them and says how it went.

mod doctor;
mod run;
mod shutdown;
mod trace;

pub use doctor::doctor;
pub use run::run;
pub use trace::trace;
