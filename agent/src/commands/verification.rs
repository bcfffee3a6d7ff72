//! `trace --verify`: follows the log, and says how far it agrees.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use resumetry::config::values::{AddressMask, ServerLog};
use resumetry::core::record::Handshake;
use resumetry::explain::say;
use resumetry::output;
use resumetry::pipeline::monotonic_ns;
use resumetry::verify::follow::Follow;
use resumetry::verify::{Difference, Verifier, nginx};

/// How long the last lines are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

pub struct Verification {
    path: String,
    client_address: AddressMask,
    follow: Follow,
    verifier: Verifier,
    /// Lines of another format.
    foreign: u64,
    is_unreadable: bool,
}

impl Verification {
    /// Begins at the end of the log.
    pub fn start(log: &ServerLog, client_address: AddressMask) -> anyhow::Result<Self> {
        let path = log.path.display().to_string();
        let follow = Follow::at_end(&log.path).with_context(|| {
            format!("cannot read {path}, the log to verify by; it must be there, if only empty")
        })?;
        Ok(Self {
            path,
            client_address,
            follow,
            verifier: Verifier::new(monotonic_ns()),
            foreign: 0,
            is_unreadable: false,
        })
    }

    pub fn record(&mut self, handshake: &Handshake) {
        tell(self.verifier.record(handshake), self.client_address);
    }

    pub fn tick(&mut self, now_ns: u64) {
        self.verifier.tick(now_ns);
        self.read();
    }

    fn read(&mut self) {
        let (verifier, foreign, path) = (&mut self.verifier, &mut self.foreign, &self.path);
        let mask = self.client_address;
        let read = self.follow.lines(|text| match nginx::line(text) {
            Ok(Some(line)) => tell(verifier.line(line), mask),
            Ok(None) => {}
            Err(nginx::NotOurs) => {
                if *foreign == 0 {
                    log::warn!(
                        "{path} has lines of another format. Add to nginx' http block: {}\nand to its \
                         servers: access_log {path} resumetry;",
                        nginx::FORMAT
                    );
                }
                *foreign += 1;
            }
        });
        if let Err(error) = read
            && !std::mem::replace(&mut self.is_unreadable, true)
        {
            log::warn!("cannot read {path}: {error}");
        }
    }

    /// Says how far both agree; false where they differ.
    pub fn finish(mut self) -> bool {
        let begin = Instant::now();
        self.read();
        while self.verifier.tally().without_line > 0 && begin.elapsed() < LAST_LINES {
            thread::sleep(LOOK);
            self.read();
        }
        let tally = self.verifier.tally();
        say(format_args!(
            "verified by {}: {} handshakes agree, {} differ; {} have no line (no request was made, or it \
             is logged elsewhere), {} lines have no handshake (of connections that are older, or missed)",
            self.path, tally.agree, tally.differ, tally.without_line, tally.without_record
        ));
        if self.foreign > 0 {
            say(format_args!(
                "{} lines were of another format",
                self.foreign
            ));
        }
        tally.differ == 0
    }
}

fn tell(difference: Option<Difference>, mask: AddressMask) {
    let Some(difference) = difference else {
        return;
    };
    let (logged, seen) = match difference.logged_resumed {
        true => ("resumed", "full"),
        false => ("full", "resumed"),
    };
    log::warn!(
        "{} to {}: the server logged a {logged} handshake, and a {seen} one was seen",
        output::masked(difference.ends.client, mask),
        difference.ends.server
    );
}
