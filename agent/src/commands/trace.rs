//! `resumetry trace`: one line per finished handshake, live.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use anyhow::Context as _;
use resumetry::{
    capture::Capture,
    config::{TraceConfig, values::Format},
    core::record::{Handshake, Process},
    explain::say,
    output::{json, text},
    pipeline::{Consumer, Health},
};

use super::shutdown;
use super::verification::Verification;

/// Lines that may wait for a slow reader; what does not fit is counted, never waited for, since
/// waiting would lose events in the kernel.
const WAITING_LINES: usize = 64 * 1024;

/// Captures until told to stop, or until `--count` lines are written.
pub fn trace(config: TraceConfig) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    // From here on its lines count: a handshake that is seen has its line behind it.
    let verification = config
        .verify
        .as_ref()
        .map(|log| Verification::start(log, config.capture.client_address));
    let verification = verification.transpose()?;
    let capture = Capture::start(&config.capture, Box::new(|_| ()))?;
    let taps: Vec<&str> = capture.taps.iter().map(|tap| tap.as_str()).collect();
    let (sender, receiver) = sync_channel(WAITING_LINES);
    let writer = write_lines(receiver, Arc::clone(&stop))?;

    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = config.color.applies(io::stdout().is_terminal(), no_color);
    let mut lines = Lines {
        config,
        color,
        sender,
        written: 0,
        dropped: 0,
        lost: 0,
        verification,
        spare: String::new(),
    };
    lines.header();
    say(format_args!(
        "ready: watching TLS handshakes (taps: {}; libraries: {})",
        taps.join(", "),
        capture.libraries
    ));
    let (pipeline, watcher) = capture.into_parts();
    let result = pipeline.run(&mut lines, &stop);
    drop(watcher);
    if lines.dropped > 0 {
        log::warn!(
            "{} lines were left out because their reader was too slow",
            lines.dropped
        );
    }
    if lines.lost > 0 {
        log::warn!(
            "{} handshakes could not be described because their events were lost; a larger \
             --ring-bytes helps",
            lines.lost
        );
    }
    let agrees = lines.verification.take().is_none_or(Verification::finish);
    drop(lines);
    let written = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that writes lines panicked"))?;
    result?;
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ if agrees => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// Makes lines of records.
struct Lines {
    config: TraceConfig,
    color: bool,
    sender: SyncSender<Vec<u8>>,
    written: u64,
    dropped: u64,
    lost: u64,
    verification: Option<Verification>,
    spare: String,
}

impl Lines {
    fn style(&self, wall_offset_ns: i128) -> text::Style {
        text::Style {
            color: self.color,
            wall_offset_ns,
            client_address: self.config.capture.client_address,
        }
    }

    fn header(&mut self) {
        if self.config.format == Format::Text {
            let mut header = String::new();
            text::write_header(&mut header, self.style(0));
            self.send(header.into_bytes());
        }
    }

    fn send(&mut self, line: Vec<u8>) {
        match self.sender.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.dropped += 1,
            // The writer ended: standard output is closed, and the stop flag is set.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Consumer for Lines {
    fn record(&mut self, handshake: &Handshake, process: Option<&Process>, wall_offset_ns: i128) {
        if let Some(verification) = &mut self.verification {
            verification.record(handshake);
        }
        if self.satisfied() || !self.config.filter.matches(handshake, process) {
            return;
        }
        let line = match self.config.format {
            Format::Text => {
                self.spare.clear();
                let style = self.style(wall_offset_ns);
                text::write_line(&mut self.spare, handshake, process, style);
                self.spare.as_bytes().to_vec()
            }
            Format::Json => {
                let mut line = Vec::with_capacity(1024);
                let context = json::Context {
                    wall_offset_ns,
                    client_address: self.config.capture.client_address,
                    labels: &self.config.capture.labels,
                };
                if let Err(error) = json::write_line(&mut line, handshake, process, context) {
                    log::error!("cannot write a record as JSON: {error}");
                    return;
                }
                line
            }
        };
        self.written += 1;
        self.send(line);
    }

    fn tick(&mut self, health: &Health) {
        let tracker = &health.tracker;
        self.lost = tracker.lost_ring_loss + tracker.lost_truncated + tracker.lost_evicted;
        if let Some(verification) = &mut self.verification {
            verification.tick(health.now_ns);
        }
    }

    fn satisfied(&self) -> bool {
        self.config
            .count
            .is_some_and(|count| self.written >= count.get())
    }
}

/// Writes lines in a thread of its own, and flushes whenever none is waiting. Sets `stop` when
/// standard output takes no more.
fn write_lines(
    lines: Receiver<Vec<u8>>,
    stop: Arc<AtomicBool>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new()
        .name("output".into())
        .spawn(move || {
            let write = || -> io::Result<()> {
                let mut out = io::BufWriter::with_capacity(64 * 1024, io::stdout().lock());
                while let Ok(line) = lines.recv() {
                    out.write_all(&line)?;
                    while let Ok(line) = lines.try_recv() {
                        out.write_all(&line)?;
                    }
                    out.flush()?;
                }
                Ok(())
            };
            let result = write();
            stop.store(true, Ordering::Relaxed);
            result
        })
}
