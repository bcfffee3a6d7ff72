//! The terminal: taken over as a whole, and given back whatever happens.
//!
//! It is given back when [`Screen`] is dropped, and by a panic of any thread before its message is printed.
//! What ends a process at once (SIGKILL) leaves the terminal as it is: `reset` puts it right.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::queue;
use ratatui::crossterm::style::{Attribute, SetAttribute, force_color_output};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Position, Rect, Size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::draw::draw;
use super::keys::{Decoder, Key};
use super::model::Model;
use super::theme::Theme;

/// How long whoever gives the terminal back waits for a frame that is being written.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the rest of a key's sequence may take: it can come in two packets.
const REST_OF_KEY: Duration = Duration::from_millis(100);

/// Why there can be no screen. Wrong usage: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is no terminal that can be drawn on, and `top` needs one\n`resumetry trace` prints a line for \
     each handshake instead, and `resumetry run` serves the same figures at /metrics"
)]
pub struct NoTerminal(&'static str);

/// Whether the screen is ours. Nothing is written to it but under this lock, so that a frame which was
/// begun before the screen was given back cannot end behind it. What is called under it does not panic.
static OURS: Mutex<bool> = Mutex::new(false);

/// Set by the first panic of any thread.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Looks whether there is a terminal at both ends.
///
/// # Errors
/// [`NoTerminal`] says what is none.
pub fn check() -> Result<(), NoTerminal> {
    if !io::stdin().is_terminal() {
        return Err(NoTerminal("standard input"));
    }
    if !io::stdout().is_terminal() {
        return Err(NoTerminal("standard output"));
    }
    match std::env::var_os("TERM") {
        Some(kind) if kind == "dumb" => Err(NoTerminal("one with TERM=dumb")),
        _ => Ok(()),
    }
}

/// Whether some thread panicked since the screen was taken.
pub fn panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// The terminal while it is ours.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Frames>>,
    theme: Theme,
    decoder: Decoder,
    /// What the last drawing was made for.
    drawn: Size,
}

/// What reading keys came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    Keys(Vec<Key>),
    /// The terminal is gone.
    Ended,
}

impl Screen {
    /// Takes the terminal over. `stop` is set by a panic, so that nobody goes on without a screen.
    ///
    /// # Errors
    /// When the terminal cannot be put into raw mode or written to.
    pub fn enter(color: bool, stop: &Arc<AtomicBool>) -> io::Result<Self> {
        give_back_on_panic(Arc::clone(stop));
        force_color_output(color);
        let terminal = Terminal::new(CrosstermBackend::new(Frames::default()))?;
        enable_raw_mode()?;
        *ours() = true;
        // From here on it is given back by being dropped.
        let mut screen = Self {
            terminal,
            theme: Theme { color },
            decoder: Decoder::default(),
            drawn: Size::ZERO,
        };
        let mut bytes = Vec::new();
        queue!(bytes, EnterAlternateScreen, Hide)?;
        send(&bytes)?;
        screen.forget()?;
        Ok(screen)
    }

    /// Draws what the model has, and sends what differs from what is there.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        let theme = self.theme;
        let drawn = self.terminal.draw(|frame| draw(frame, model, theme))?;
        self.drawn = drawn.area.as_size();
        Ok(())
    }

    /// Forgets what is there, so that the next drawing sends everything.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn forget(&mut self) -> io::Result<()> {
        // `clear` would ask the terminal where its cursor is, and wait for an answer among the keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Whether the terminal has another size than what was drawn last.
    pub fn is_resized(&self) -> bool {
        self.terminal.size().is_ok_and(|size| size != self.drawn)
    }

    /// Keys that are pressed within `timeout`.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn keys(&mut self, timeout: Duration) -> io::Result<Input> {
        let timeout = match self.decoder.is_waiting() {
            true => REST_OF_KEY,
            false => timeout,
        };
        let stdin = io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut ready, Some(&timeout)) {
            Err(Errno::INTR) => return Ok(Input::Keys(Vec::new())),
            Err(errno) => return Err(errno.into()),
            Ok(0) => return Ok(Input::Keys(self.decoder.give_up().into_iter().collect())),
            Ok(_) => {}
        }
        let mut bytes = [0; 256];
        match rustix::io::read(&stdin, &mut bytes) {
            // A terminal in raw mode has no end of file: it was hung up.
            Ok(0) | Err(Errno::IO) => Ok(Input::Ended),
            Ok(length) => Ok(Input::Keys(self.decoder.feed(&bytes[..length]))),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Input::Keys(Vec::new())),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back; does nothing where that has been done.
pub fn give_back() {
    let held = hold(Instant::now() + PATIENCE);
    let was_ours = match held {
        Some(mut ours) if *ours => {
            let mut bytes = Vec::new();
            // What cannot be written has no screen that could be left.
            let _ = queue!(
                bytes,
                SetAttribute(Attribute::Reset),
                Show,
                LeaveAlternateScreen
            );
            let _ = write_all(&bytes);
            *ours = false;
            true
        }
        Some(_) => false,
        // The terminal takes nothing any more; its mode can be put right even so.
        None => true,
    };
    if was_ours {
        let _ = disable_raw_mode();
    }
}

/// The lock, or `None` where it is not to be had until then.
fn hold(deadline: Instant) -> Option<MutexGuard<'static, bool>> {
    loop {
        match OURS.try_lock() {
            Ok(ours) => return Some(ours),
            Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn ours() -> MutexGuard<'static, bool> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Once a process: hooks cannot be told apart, so none is ever removed.
fn give_back_on_panic(stop: Arc<AtomicBool>) {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            PANICKED.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            print(panic);
        }));
    });
}

/// Collects what is drawn until it is flushed, so that a frame is one write.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = send(&self.bytes);
        self.bytes.clear();
        sent
    }
}

/// Writes to the screen while it is ours, and else nowhere.
fn send(bytes: &[u8]) -> io::Result<()> {
    match *ours() {
        true => write_all(bytes),
        false => Ok(()),
    }
}

/// Past the buffer of standard output, whose lock a panicking thread might never get.
fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut rest = bytes;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever had the terminal before may have left it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(&out, PollFlags::OUT)];
                poll(&mut ready, None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
