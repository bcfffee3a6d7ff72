//! `resumetry top` in a pseudo-terminal: what it shows of real handshakes, what keys, sizes and signals make
//! of it, and what it leaves behind.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use openssl::ssl::SslVersion;
use resumetry_tests::agent::binary;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::session::{Offer, connect};
use resumetry_tests::site::Names;
use resumetry_tests::terminal::Terminal;
use resumetry_tests::{ports, wait};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);

/// An nginx in a cgroup of its own: of three names the first resumes, the others do not.
struct Site {
    names: Names,
    ports: [u16; 2],
    _nginx: Nginx,
    cgroup: Cgroup,
}

impl Site {
    fn start(name: &str) -> Self {
        let names = Names::new().unwrap();
        let cgroup = Cgroup::create(name).unwrap();
        let ports = [ports::free().unwrap(), ports::free().unwrap()];
        let servers = [
            Server::new(ports[0], "ssl", &names.served),
            Server::new(ports[1], "ssl", &names.served)
                .with("ssl_session_tickets off; ssl_session_cache none;"),
        ];
        let nginx = cgroup.inside(|| Nginx::start(1, "", &servers)).unwrap();
        Self {
            names,
            ports,
            _nginx: nginx,
            cgroup,
        }
    }

    /// A full handshake, and so many that resume it.
    fn resume(&self, times: usize) {
        let offer = Offer::new(SslVersion::TLS1_3, &self.names.name(0));
        let mut last = connect(self.ports[0], &offer, None).unwrap();
        assert_eq!(last.resumed, Some(false));
        for _ in 0..times {
            last = connect(self.ports[0], &offer, last.session.as_ref()).unwrap();
            assert_eq!(last.resumed, Some(true));
        }
    }

    /// Full handshakes with a name of which none resumes.
    fn full(&self, name: usize, times: usize) {
        let offer = Offer::new(SslVersion::TLS1_3, &self.names.name(name));
        for _ in 0..times {
            let outcome = connect(self.ports[1], &offer, None).unwrap();
            assert_eq!(outcome.resumed, Some(false));
        }
    }

    /// `top` that sees nothing but this site, and only on the wire: to attach to every library of the host
    /// takes a while.
    fn top_on_the_wire(&self, size: (u16, u16), configure: impl FnOnce(&mut Command)) -> Terminal {
        self.top(size, |command| {
            command.args(["--taps", "wire"]);
            configure(command);
        })
    }

    /// `top` that sees nothing but this site.
    fn top(&self, size: (u16, u16), configure: impl FnOnce(&mut Command)) -> Terminal {
        let terminal = Terminal::start(&binary(), size, |command| {
            command.args(["top", "--interval", "500ms", "--cgroup"]);
            command.arg(self.cgroup.path());
            configure(command);
        });
        let terminal = terminal.unwrap();
        let taken = wait::until(Duration::from_secs(60), || {
            terminal.is_taken() && terminal.text().contains("by total")
        });
        assert!(taken, "{}", terminal.text());
        terminal
    }
}

/// Cells of the first line that holds the name.
fn cells(lines: &[String], name: &str) -> Vec<String> {
    let line = lines.iter().find(|line| line.contains(name));
    let line = line.map(String::as_str).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

/// The first letters of the names from above to below: a, b and g.
fn order(lines: &[String]) -> String {
    let names = ["alpha-", "beta-", "gamma-"];
    lines
        .iter()
        .filter_map(|line| names.iter().find(|name| line.starts_with(**name)))
        .map(|name| &name[..1])
        .collect()
}

/// It ended well, and the terminal is as it was before.
fn assert_restored(terminal: &mut Terminal, modes: &str) {
    let status = terminal.end(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", terminal.text());
    assert!(!terminal.is_taken(), "the alternate screen is left");
    assert!(!terminal.cursor_is_hidden(), "the cursor is there");
    assert_eq!(terminal.modes().unwrap(), modes);
}

#[test]
fn each_name_has_its_quota_and_keys_do_what_they_say() {
    let site = Site::start("top-keys");
    let terminal = site.top((100, 24), |_| ());
    site.resume(3);
    site.full(1, 2);
    site.full(2, 5);
    let name = site.names.name(0);
    // Name, role, quota and its sign, the bar, resumed, full and failed of what has ended.
    terminal
        .wait("quota of the first name", PATIENCE, |lines| {
            let cells = cells(lines, &name);
            let figures: Vec<&str> = cells.iter().map(String::as_str).collect();
            figures.get(1..4) == Some(&["server", "75.0", "%"])
                && figures.get(5..9) == Some(&["4", "3", "1", "0"])
        })
        .unwrap();
    terminal
        .wait_line(
            &["server ", "27.2 %", "resumed 3", "full 8", "failed 0"],
            PATIENCE,
        )
        .unwrap();
    let beta = cells(&terminal.lines(), "beta-");
    assert_eq!(beta[2..4], ["0.0", "%"]);

    let sorted = |what: &str, expected: &str| {
        terminal
            .wait(what, PATIENCE, |lines| order(lines) == expected)
            .unwrap();
    };
    sorted("busiest first", "gab");
    terminal.type_keys("r").unwrap();
    sorted("reversed", "bag");
    // From the total to the quota, by the key and by the arrow.
    terminal.type_keys("S").unwrap();
    sorted("by quota", "abg");
    terminal.wait_line(&["▼QUOTA"], PATIENCE).unwrap();
    terminal.type_keys("\x1b[D\x1b[D").unwrap();
    terminal.wait_line(&["SERVER NAME▲"], PATIENCE).unwrap();
    sorted("by name", "abg");
    terminal.type_keys("r").unwrap();
    sorted("by name, from z to a", "gba");

    // The chosen row stays the same name, wherever it goes.
    terminal.type_keys("G").unwrap();
    let marked = |name: &str| {
        let lines = terminal.lines();
        let row = lines.iter().position(|line| line.starts_with(name));
        row.is_some_and(|row| terminal.is_marked(row))
    };
    assert!(wait::until(PATIENCE, || marked("alpha-")));
    terminal.type_keys("r").unwrap();
    sorted("by name again", "abg");
    assert!(wait::until(PATIENCE, || marked("alpha-")));

    terminal.type_keys("/GAM").unwrap();
    sorted("filtered", "g");
    terminal.wait_line(&["filter: GAM"], PATIENCE).unwrap();
    assert!(!terminal.cursor_is_hidden(), "it stands where is typed");
    terminal.type_keys("\r").unwrap();
    terminal
        .wait_line(&["1 of 3 shown", "filter GAM"], PATIENCE)
        .unwrap();
    terminal.type_keys("\x1b").unwrap();
    sorted("no filter", "abg");
    terminal.type_keys("cc").unwrap();
    terminal
        .wait_line(&["No name goes through the filter."], PATIENCE)
        .unwrap();
    terminal.type_keys("c").unwrap();
    sorted("both roles", "abg");

    terminal.type_keys("?").unwrap();
    terminal
        .wait_line(&["Enter", "look at a name"], PATIENCE)
        .unwrap();
    terminal.type_keys("x").unwrap();
    terminal
        .wait("no help", PATIENCE, |lines| {
            !lines.iter().any(|line| line.contains("look at a name"))
        })
        .unwrap();

    terminal.type_keys("g\r").unwrap();
    terminal.wait_line(&[&name, "server"], PATIENCE).unwrap();
    terminal
        .wait_line(
            &["quota", "75.0 %", "resumed 3", "full 1", "failed 0"],
            PATIENCE,
        )
        .unwrap();
    terminal
        .wait_line(&["SERVICE", "OVER", "TLS", "OFFERED"], PATIENCE)
        .unwrap();
    terminal
        .wait_line(&["nginx", "tcp", "1.3", "psk", "100.0 %"], PATIENCE)
        .unwrap();
    terminal
        .wait_line(&["nginx", "tcp", "1.3", "none", "0.0 %"], PATIENCE)
        .unwrap();
    terminal.type_keys("\x1b").unwrap();
    sorted("the table again", "abg");
}

#[test]
fn a_pause_holds_the_screen_while_handshakes_go_on() {
    let site = Site::start("top-pause");
    let terminal = site.top_on_the_wire((80, 24), |_| ());
    site.resume(1);
    terminal.wait_line(&["alpha-", "50.0 %"], PATIENCE).unwrap();
    terminal.type_keys("p").unwrap();
    terminal.wait_line(&["PAUSED"], PATIENCE).unwrap();
    let (screen, sent) = (terminal.text(), terminal.bytes().len());
    site.full(1, 3);
    // Four times as long as a look at the figures takes.
    let changed = wait::until(Duration::from_secs(2), || terminal.bytes().len() > sent);
    assert!(!changed, "{}", terminal.text());
    assert_eq!(terminal.text(), screen);
    // Keys are answered all the same.
    terminal.type_keys("/al").unwrap();
    terminal.wait_line(&["filter: al"], PATIENCE).unwrap();
    terminal.type_keys("\x1b").unwrap();
    terminal.type_keys(" ").unwrap();
    terminal.wait_line(&["beta-", "0.0 %"], PATIENCE).unwrap();
    assert!(!terminal.text().contains("PAUSED"));
}

#[test]
fn every_size_shows_what_fits_and_the_terminal_comes_back() {
    let site = Site::start("top-sizes");
    let mut terminal = site.top_on_the_wire((80, 24), |_| ());
    // As it was is as another terminal is that nobody has touched.
    let untouched = Terminal::start("/bin/true".as_ref(), (80, 24), |_| ()).unwrap();
    let modes = untouched.modes().unwrap();
    assert_ne!(terminal.modes().unwrap(), modes, "the line is in raw mode");
    assert!(terminal.cursor_is_hidden());
    site.resume(1);
    terminal.wait_line(&["alpha-", "50.0 %"], PATIENCE).unwrap();
    let shows = |columns: &[&str], height: usize| {
        terminal
            .wait("titles and keys", PATIENCE, |lines| {
                let titles = |line: &String| columns.iter().all(|title| line.contains(title));
                let any = lines.iter().any(titles);
                lines.len() == height && any && lines[height - 1].starts_with("q quit")
            })
            .unwrap();
    };
    shows(
        &["SERVER NAME", "ROLE", "QUOTA", "RESUMED", "FULL", "FAILED"],
        24,
    );
    terminal.resize(40, 12).unwrap();
    shows(&["SERVER NAME", "QUOTA", "RESUMED", "FULL"], 12);
    assert!(!terminal.text().contains("ROLE"));
    terminal.resize(200, 50).unwrap();
    shows(
        &["TTFB FULL", "TTFB RES", "TTFB GAP", "CPU FULL", "CPU RES"],
        50,
    );
    terminal.resize(20, 5).unwrap();
    terminal
        .wait("a sentence", PATIENCE, |lines| {
            lines.join(" ").contains("The terminal is too small")
        })
        .unwrap();
    terminal.resize(80, 24).unwrap();
    shows(&["SERVER NAME", "ROLE", "QUOTA"], 24);
    terminal.type_keys("q").unwrap();
    assert_restored(&mut terminal, &modes);
    let bytes = terminal.bytes();
    let said = String::from_utf8_lossy(&bytes);
    let (before, _) = said.split_once("\u{1b}[?1049h").unwrap();
    assert!(
        before.contains("ready: watching TLS handshakes"),
        "{before}"
    );
}

#[test]
fn ctrl_c_and_signals_end_it_as_quitting_does() {
    let site = Site::start("top-signals");
    let untouched = Terminal::start("/bin/true".as_ref(), (80, 24), |_| ()).unwrap();
    let modes = untouched.modes().unwrap();
    let mut terminal = site.top_on_the_wire((80, 24), |_| ());
    terminal.type_keys("\x03").unwrap();
    assert_restored(&mut terminal, &modes);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = site.top_on_the_wire((80, 24), |_| ());
        terminal.signal(signal).unwrap();
        assert_restored(&mut terminal, &modes);
    }
}

#[test]
fn a_terminal_that_goes_away_ends_it() {
    let site = Site::start("top-hangup");
    let mut terminal = site.top_on_the_wire((80, 24), |_| ());
    terminal.hang_up();
    assert_eq!(terminal.end(PATIENCE).unwrap().code(), Some(0));
}

/// Whether any sequence sets a colour: SGR 30 to 37, 38, 40 to 47, 48, 90 to 97 or 100 to 107.
fn has_color(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.split("\u{1b}[").skip(1).any(|sequence| {
        let end = sequence.find(|letter: char| letter.is_ascii_alphabetic());
        let Some(end) = end.filter(|&end| sequence[end..].starts_with('m')) else {
            return false;
        };
        let mut codes = sequence[..end]
            .split(';')
            .filter_map(|code| code.parse().ok());
        codes.any(|code: u16| matches!(code, 30..=38 | 40..=48 | 90..=107))
    })
}

#[test]
fn no_color_means_none_and_log_lines_go_where_standard_error_goes() {
    let site = Site::start("top-color");
    for no_color in [false, true] {
        let log = site.names.directory.path().join(format!("{no_color}.log"));
        let file = fs::File::create(&log).unwrap();
        let mut terminal = site.top_on_the_wire((120, 30), |command| {
            command.stderr(file).args(["--log-level", "debug"]);
            if no_color {
                command.env("NO_COLOR", "1");
            }
        });
        let ready = fs::read_to_string(&log).unwrap();
        assert!(
            ready.lines().any(|line| line.starts_with("ready: ")),
            "{ready}"
        );
        site.resume(1);
        site.full(1, 1);
        terminal.wait_line(&["alpha-", "%"], PATIENCE).unwrap();
        terminal.wait_line(&["beta-", "0.0 %"], PATIENCE).unwrap();
        terminal.type_keys("q").unwrap();
        assert_eq!(terminal.end(PATIENCE).unwrap().code(), Some(0));
        assert_eq!(has_color(&terminal.bytes()), !no_color);
    }
}

#[test]
fn a_warning_shows_on_the_screen_and_is_printed_behind_it() {
    let site = Site::start("top-warning");
    // Watching costs more than this, which is said when probes are left out for it.
    let mut terminal = site.top((80, 24), |command| {
        command.args(["--max-overhead", "0.01"]);
    });
    let warned = wait::until(Duration::from_secs(60), || {
        site.full(1, 5);
        terminal.text().contains("warn: the probes `")
    });
    assert!(warned, "{}", terminal.text());
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(
        !bytes.contains("--max-overhead 0.01"),
        "the line is cut, and not scrolled in"
    );
    terminal.type_keys("q").unwrap();
    assert_eq!(terminal.end(PATIENCE).unwrap().code(), Some(0));
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    let (_, behind) = bytes.split_once("\u{1b}[?1049l").unwrap();
    assert!(behind.contains("warn: the probes `"), "{behind}");
    assert!(behind.contains("--max-overhead 0.01"), "{behind}");
}

#[test]
fn an_idle_second_costs_a_slow_line_next_to_nothing() {
    let site = Site::start("top-idle");
    let terminal = site.top_on_the_wire((80, 24), |_| ());
    site.resume(1);
    terminal.wait_line(&["alpha-", "50.0 %"], PATIENCE).unwrap();
    // Rates of the last ten seconds change until these are over.
    terminal
        .wait_line(&["server ", "50.0 %", " 0.0/s"], PATIENCE)
        .unwrap();
    let (sent, start) = (terminal.bytes().len(), Instant::now());
    wait::until(Duration::from_secs(5), || false);
    let bytes = (terminal.bytes().len() - sent) as f64 / start.elapsed().as_secs_f64();
    println!("{bytes:.0} bytes a second while nothing happens");
    assert!(bytes < 200.0, "{bytes:.0} bytes a second");
}

#[test]
fn without_a_terminal_it_says_what_else_there_is() {
    let output = Command::new(binary())
        .arg("top")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for way in ["standard input", "resumetry trace", "/metrics"] {
        assert!(said.contains(way), "{said}");
    }
    assert!(output.stdout.is_empty());
    // Standard output to a file, as of somebody who wants to keep it.
    let mut terminal = Terminal::start(&binary(), (120, 24), |command| {
        command.arg("top").stdout(Stdio::null());
    })
    .unwrap();
    assert_eq!(terminal.end(PATIENCE).unwrap().code(), Some(2));
    assert!(terminal.text().contains("standard output is no terminal"));
    let mut terminal = Terminal::start(&binary(), (120, 24), |command| {
        command.arg("top").env("TERM", "dumb");
    })
    .unwrap();
    assert_eq!(terminal.end(PATIENCE).unwrap().code(), Some(2));
    assert!(!terminal.bytes().contains(&0x1b), "it is not drawn on");
}
