//! One file a command: each builds its stages, runs them and says how it went.

mod doctor;
mod findings;
mod help;
mod pcap;
mod probe;
mod run;
mod shutdown;
mod top;
mod trace;
mod verification;

pub use doctor::doctor;
pub use findings::findings;
pub use help::{completions, man_pages};
pub use pcap::pcap;
pub use probe::probe;
pub use run::run;
pub use top::top;
pub use trace::trace;

use std::io::{self, Write as _};

/// Writes to standard output; that nobody reads it any more is a quiet end.
fn print(text: &[u8]) -> io::Result<()> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
