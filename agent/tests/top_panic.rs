//! A panic while `top` has the screen, in a pseudo-terminal: the terminal comes back before the message.
//!
//! The product has no way to be made to panic, so this test binary takes the screen itself, in a process of
//! its own: it calls itself, asked for the one test.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resumetry::top::model::Model;
use resumetry::top::terminal::{self, Screen};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const CHILD: &str = "RESUMETRY_TEST_CHILD";
const LEAVE: &str = "\u{1b}[?1049l";
const ENTER: &str = "\u{1b}[?1049h";
const MESSAGE: &str = "made to panic";

struct Line {
    master: OwnedFd,
    slave: OwnedFd,
}

fn open() -> Line {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size).unwrap();
    Line { master, slave }
}

/// This test again, in a session whose terminal the line is.
fn again(test: &str, line: &Line) -> Child {
    Command::new("setsid")
        .arg("--ctty")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("TERM", "xterm")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::from(line.slave.try_clone().unwrap()))
        .stdout(Stdio::from(line.slave.try_clone().unwrap()))
        .stderr(Stdio::from(line.slave.try_clone().unwrap()))
        .spawn()
        .unwrap()
}

/// Everything that comes out until the child has ended.
fn output(line: Line, mut child: Child) -> String {
    let cooked = tcgetattr(&line.slave).unwrap().local_modes;
    assert!(cooked.contains(LocalModes::ECHO | LocalModes::ICANON));
    let reader = {
        let mut master = File::from(line.master);
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut part = [0; 4096];
            // It ends with an error once nobody holds the other end.
            while let Ok(length) = master.read(&mut part) {
                bytes.extend_from_slice(&part[..length]);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    child.wait().unwrap();
    let after = tcgetattr(&line.slave).unwrap().local_modes;
    assert_eq!(after, cooked, "the terminal is as it was");
    drop(line.slave);
    reader.join().unwrap()
}

fn draw_until(stop: &AtomicBool, screen: &mut Screen) {
    while !stop.load(Ordering::Relaxed) {
        screen.draw(&mut Model::default()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_panic_of_another_thread_gives_the_terminal_back_first() {
    if std::env::var_os(CHILD).is_some() {
        let stop = Arc::new(AtomicBool::new(false));
        let mut screen = Screen::enter(false, &stop).unwrap();
        screen.draw(&mut Model::default()).unwrap();
        let other = std::thread::spawn(|| panic!("{MESSAGE}"));
        // Draws on and on, and nothing of it may come behind the message.
        draw_until(&stop, &mut screen);
        let _ = other.join();
        screen.forget().unwrap();
        screen.draw(&mut Model::default()).unwrap();
        assert!(terminal::panicked());
        return;
    }
    let line = open();
    let child = again(
        "a_panic_of_another_thread_gives_the_terminal_back_first",
        &line,
    );
    let text = output(line, child);
    let (drawn, rest) = text.split_once(LEAVE).expect("the screen was left");
    assert!(
        drawn.contains(ENTER) && drawn.contains("resumetry"),
        "{text:?}"
    );
    assert!(!drawn.contains(MESSAGE), "{text:?}");
    assert!(
        rest.contains(MESSAGE) && rest.contains("1 passed"),
        "{text:?}"
    );
    let is_escape = |letter: char| letter == '\u{1b}';
    assert!(
        !rest.contains(is_escape),
        "nothing is drawn any more: {rest:?}"
    );
}

#[test]
fn a_panic_of_the_thread_that_draws_gives_the_terminal_back_first() {
    if std::env::var_os(CHILD).is_some() {
        let stop = Arc::new(AtomicBool::new(false));
        let mut screen = Screen::enter(false, &stop).unwrap();
        screen.draw(&mut Model::default()).unwrap();
        panic!("{MESSAGE}");
    }
    let line = open();
    let child = again(
        "a_panic_of_the_thread_that_draws_gives_the_terminal_back_first",
        &line,
    );
    let text = output(line, child);
    let (drawn, rest) = text.split_once(LEAVE).expect("the screen was left");
    assert!(drawn.contains(ENTER), "{text:?}");
    assert!(
        !drawn.contains(MESSAGE) && rest.contains(MESSAGE),
        "{text:?}"
    );
    assert!(!rest.contains(LEAVE), "it is left once: {text:?}");
}
