//! A terminal: a pseudo-terminal with a command in it, and what its screen shows.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::process::Owned;
use crate::wait;

/// How often the reading thread looks whether it is still wanted.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// What came out so far.
struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

/// A command in a terminal of its own; it ends with the value.
pub struct Terminal {
    process: Owned,
    /// `None` once it was hung up.
    master: Option<OwnedFd>,
    /// Kept open: what was done to the terminal can still be asked when the command has ended.
    line: Option<OwnedFd>,
    seen: Arc<Mutex<Seen>>,
    unwanted: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts a command as the leader of a session, whose terminal this is. What `configure` leaves alone of
    /// its standard streams is the terminal.
    pub fn start(
        program: &std::path::Path,
        (width, height): (u16, u16),
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let line = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        tcsetwinsize(&line, size(width, height))?;
        // It takes the terminal as its own and becomes the program, whose process it stays.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(program)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::from(line.try_clone()?))
            .stdout(Stdio::from(line.try_clone()?))
            .stderr(Stdio::from(line.try_clone()?));
        configure(&mut command);
        let seen = Arc::new(Mutex::new(Seen {
            screen: vt100::Parser::new(at_least_one(height), at_least_one(width), 0),
            bytes: Vec::new(),
        }));
        let unwanted = Arc::new(AtomicBool::new(false));
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        // The command holds copies of what it was given; the terminal would never end with them.
        drop(command);
        let reader = read(
            master.try_clone()?,
            Arc::clone(&seen),
            Arc::clone(&unwanted),
        );
        Ok(Self {
            process: Owned::new(child),
            master: Some(master),
            line: Some(line),
            seen,
            unwanted,
            reader: Some(reader),
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Types keys as a terminal sends them.
    pub fn type_keys(&self, keys: &str) -> Result<()> {
        let master = self.master.as_ref().context("the terminal was hung up")?;
        File::from(master.try_clone()?).write_all(keys.as_bytes())?;
        Ok(())
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let line = self.line.as_ref().context("the terminal was hung up")?;
        let mut seen = self.seen();
        let (rows, columns) = (at_least_one(height), at_least_one(width));
        seen.screen.screen_mut().set_size(rows, columns);
        tcsetwinsize(line, size(width, height))?;
        Ok(())
    }

    /// Takes the terminal away, as a closed window does.
    pub fn hang_up(&mut self) {
        self.end_reading();
        (self.master, self.line) = (None, None);
    }

    /// The screen's lines, without spaces at their ends.
    pub fn lines(&self) -> Vec<String> {
        let seen = self.seen();
        let screen = seen.screen.screen();
        let (_, columns) = screen.size();
        screen
            .rows(0, columns.into())
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits until the screen is as `condition` wants it; else shows what it is.
    pub fn wait(
        &self,
        what: &str,
        timeout: Duration,
        condition: impl Fn(&[String]) -> bool,
    ) -> Result<()> {
        if !wait::until(timeout, || condition(&self.lines())) {
            bail!("{what}: not so on this screen:\n{}", self.text());
        }
        Ok(())
    }

    /// Waits until some line holds all of these.
    pub fn wait_line(&self, parts: &[&str], timeout: Duration) -> Result<()> {
        self.wait(&format!("a line with {parts:?}"), timeout, |lines| {
            let mut lines = lines.iter();
            lines.any(|line| parts.iter().all(|part| line.contains(part)))
        })
    }

    /// Whether the cells of a line are shown the other way round.
    pub fn is_marked(&self, row: usize) -> bool {
        let row = u16::try_from(row).unwrap_or(u16::MAX);
        let seen = self.seen();
        let cell = seen.screen.screen().cell(row, 0);
        cell.is_some_and(vt100::Cell::inverse)
    }

    /// Whether the program has the screen for itself.
    pub fn is_taken(&self) -> bool {
        self.seen().screen.screen().alternate_screen()
    }

    pub fn cursor_is_hidden(&self) -> bool {
        self.seen().screen.screen().hide_cursor()
    }

    /// Everything that was sent.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// How the terminal is set, in a form that can be compared.
    pub fn modes(&self) -> Result<String> {
        let line = self.line.as_ref().context("the terminal was hung up")?;
        let Termios {
            input_modes,
            output_modes,
            control_modes,
            local_modes,
            special_codes,
            ..
        } = tcgetattr(line)?;
        Ok(format!(
            "{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?} {special_codes:?}"
        ))
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// How it ended; fails after `timeout`. What it said last is on the screen then.
    pub fn end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let Some(status) = self.process.wait(timeout) else {
            bail!("it does not end; the screen:\n{}", self.text());
        };
        self.end_reading();
        Ok(status)
    }

    /// The thread reads what is there already, then ends.
    fn end_reading(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has nothing more to say.
            let _ = reader.join();
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_reading();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(width: u16, height: u16) -> Winsize {
    Winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn at_least_one(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap_or(NonZeroU16::MIN)
}

fn read(master: OwnedFd, seen: Arc<Mutex<Seen>>, unwanted: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut master = File::from(master);
        let mut bytes = [0; 4096];
        loop {
            let mut ready = [PollFd::new(&master, PollFlags::IN)];
            match poll(&mut ready, Some(&LOOK)) {
                Ok(0) if unwanted.load(Ordering::Relaxed) => return,
                Ok(0) => continue,
                Ok(_) => {}
                Err(_) => return,
            }
            let Ok(length) = master.read(&mut bytes) else {
                return;
            };
            let mut seen = lock(&seen);
            seen.screen.process(&bytes[..length]);
            seen.bytes.extend_from_slice(&bytes[..length]);
        }
    })
}
