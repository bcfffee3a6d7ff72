//! `resumetry pcap`: the records of capture files.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use resumetry::{
    config::{PcapConfig, values::PcapFormat},
    core::{fingerprint::Fingerprinter, record::Handshake},
    explain::say,
    output::{json, summary::Summary, text},
    pcap::{self, Contents, file::Damage},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::shutdown;

/// The name of standard input.
const STDIN: &str = "-";

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

/// Reads all files, one after the other, until told to stop.
pub fn pcap(config: &PcapConfig) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    match files(config, &stop) {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn files(config: &PcapConfig, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut lines = Lines::new(config);
    for path in &config.files {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = path.display().to_string();
        let contents = if path.as_os_str() == STDIN {
            let file = io::stdin();
            lines.read(Stoppable { file, stop })
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            let file = Progress::new(file, path);
            lines.read(Stoppable { file, stop })
        };
        let contents = contents.with_context(|| name.clone())?;
        // Standard output may be gone; then there is nobody to read the rest.
        lines.written?;
        lines.written = Ok(());
        // Where it was told to stop is no damage.
        if !stop.load(Ordering::Relaxed) {
            remark(&name, &contents);
        }
    }
    if config.format == PcapFormat::Summary {
        let mut text = String::new();
        lines.summary.write(&mut text);
        lines.out.write_all(text.as_bytes())?;
    }
    Ok(lines.out.flush()?)
}

/// Says what a reader of the records should know.
fn remark(name: &str, contents: &Contents) {
    match contents.damage {
        Some(Damage::Truncated) => say(format_args!(
            "{name}: ends in the middle of a packet, the {}th; what was before it is read",
            contents.packets + 1
        )),
        Some(Damage::Garbled) => say(format_args!(
            "{name}: makes no sense after {} packets; what was before is read",
            contents.packets
        )),
        None => {}
    }
    let flows = &contents.flows;
    let missing = flows.lost_ring_loss + flows.lost_truncated + flows.lost_evicted;
    for (count, what) in [
        (
            missing,
            "connections of which bytes are missing in the capture",
        ),
        (flows.unfinished, "handshakes that were not over at its end"),
        (contents.dtls_hellos, "handshakes of DTLS"),
        (
            if contents.joined == 0 {
                contents.pieces
            } else {
                0
            },
            "pieces of IP packets, none of which is whole",
        ),
    ] {
        if count > 0 {
            say(format_args!("{name}: left out: {what}: {count}"));
        }
    }
    if contents.tcp_segments + contents.udp_datagrams == 0 && contents.packets > 0 {
        say(format_args!(
            "{name}: none of its {} packets is TCP or UDP that can be read here",
            contents.packets
        ));
    }
}

/// Where records go.
struct Lines<'a> {
    config: &'a PcapConfig,
    out: BufWriter<io::StdoutLock<'static>>,
    color: bool,
    summary: Summary,
    line: String,
    written: io::Result<()>,
}

impl<'a> Lines<'a> {
    fn new(config: &'a PcapConfig) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let mut lines = Lines {
            config,
            out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
            color: config.color.applies(io::stdout().is_terminal(), no_color),
            summary: Summary::default(),
            line: String::new(),
            written: Ok(()),
        };
        if config.format == PcapFormat::Text {
            let style = lines.style();
            text::write_header(&mut lines.line, style);
            lines.written = lines.out.write_all(lines.line.as_bytes());
        }
        lines
    }

    fn style(&self) -> text::Style {
        text::Style {
            color: self.color,
            wall_offset_ns: 0,
            client_address: self.config.client_address,
        }
    }

    fn read(&mut self, file: impl Read + Send) -> anyhow::Result<Contents> {
        let fingerprinter = Fingerprinter::new(self.config.fingerprint_salt.as_bytes());
        let contents = pcap::read(file, fingerprinter, |handshake| self.record(&handshake));
        Ok(contents?)
    }

    fn record(&mut self, handshake: &Handshake) {
        if self.written.is_err() {
            return;
        }
        self.written = match self.config.format {
            PcapFormat::Summary => {
                self.summary.add(handshake);
                Ok(())
            }
            PcapFormat::Text => {
                self.line.clear();
                let style = self.style();
                text::write_line(&mut self.line, handshake, None, style);
                self.out.write_all(self.line.as_bytes())
            }
            PcapFormat::Json => {
                let context = json::Context {
                    wall_offset_ns: 0,
                    client_address: self.config.client_address,
                    labels: &[],
                };
                json::write_line(&mut self.out, handshake, None, context)
            }
        };
    }
}

/// Ends, as if the file did, when told to stop; also where nothing comes, as from a pipe.
struct Stoppable<'a, F> {
    file: F,
    stop: &'a AtomicBool,
}

impl<F: Read + AsFd> Read for Stoppable<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        while !self.stop.load(Ordering::Relaxed) {
            let mut ends = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut ends, Some(&patience)) {
                // The signal itself may have come; then the flag is about to be set.
                Ok(0) | Err(Errno::INTR) => {}
                // What cannot be waited for can be read.
                _ => return self.file.read(buffer),
            }
        }
        Ok(0)
    }
}

/// Shows on a terminal how far a file is read.
struct Progress {
    file: File,
    name: String,
    length: u64,
    done: u64,
    shown: Option<Instant>,
}

impl Progress {
    fn new(file: File, path: &Path) -> Self {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let is_watched = io::stderr().is_terminal() && length > 0;
        Progress {
            file,
            name: path.display().to_string(),
            length,
            done: 0,
            shown: is_watched.then(Instant::now),
        }
    }
}

impl AsFd for Progress {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Read for Progress {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.done += length as u64;
        if let Some(shown) = &mut self.shown
            && shown.elapsed() >= PROGRESS
        {
            *shown = Instant::now();
            let share = 100 * self.done / self.length;
            eprint!("\r\x1b[K{}: {share} %", self.name);
        }
        Ok(length)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
