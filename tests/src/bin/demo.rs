//! A guided tour: nginx with three server names, real clients, the agent, and the share of
//! connections that resume, by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use resumetry_tests::agent::Agent;
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::client::{Alpn, Client, Profile, Versions, open};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::rng::Rng;
use resumetry_tests::{metrics, ports};
use rustix::process::Signal;

/// Starts nginx with three server names, drives it with real clients, and shows which share of the
/// connections resume.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  demo --seconds 10")]
struct Arguments {
    /// How long to run.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

const SHOP: &str = "shop.example";
const API: &str = "api.example";
const LEGACY: &str = "legacy.example";

/// Pause of each client between connections: three names at about 20 connections/s each.
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    run(Duration::from_secs(arguments.seconds), &stop)
}

fn run(length: Duration, stop: &AtomicBool) -> Result<()> {
    let stage = Stage::start()?;
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free()?).into();
    let mut agent = Agent::start(["run", "--listen", &listen.to_string()])?;
    println!("nginx serves {SHOP}, {API} and {LEGACY}; the last has neither tickets nor a cache.");
    println!("The agent watches the whole host; its metrics are at http://{listen}/metrics\n");

    let mut last = BTreeMap::new();
    let shown = std::thread::scope(|scope| {
        for (index, (name, port)) in stage.names.iter().enumerate() {
            scope.spawn(move || drive(name, *port, index as u64, stop));
        }
        let shown = show(listen, length, stop, &mut last);
        stop.store(true, Ordering::Relaxed);
        shown
    });
    shown?;
    if agent.is_running() {
        agent.finish(Signal::TERM)?;
    }
    println!("\n{}", verdict(&last));
    println!("The agent and nginx have ended; nothing is left behind.");
    Ok(())
}

/// The servers.
struct Stage {
    names: Vec<(&'static str, u16)>,
    /// Kept for its life.
    _nginx: Nginx,
}

impl Stage {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let authority = Identity::authority("Demo Authority")?;
        let mut names = Vec::new();
        let mut servers = Vec::new();
        for (name, key, directives) in [
            (SHOP, Key::Ecdsa, ""),
            (
                API,
                Key::Rsa2048,
                "ssl_session_tickets off; ssl_session_cache shared:api:1m;",
            ),
            (
                LEGACY,
                Key::Ecdsa,
                "ssl_session_tickets off; ssl_session_cache none;",
            ),
        ] {
            let port = ports::free()?;
            let files = authority.issue(name, key)?.write(directory.path(), name)?;
            servers
                .push(Server::new(port, "ssl http2", &[(name.to_owned(), files)]).with(directives));
            names.push((name, port));
        }
        // nginx has read the certificates once it serves: their directory may go.
        let nginx = Nginx::start(2, "", &servers)?;
        Ok(Self {
            names,
            _nginx: nginx,
        })
    }
}

/// A steady trickle of visitors; two in three come back.
fn drive(name: &str, port: u16, seed: u64, stop: &AtomicBool) {
    let profile = |versions, alpn| Profile {
        versions,
        alpn,
        server_name: Some(name.to_owned()),
        ..Profile::default()
    };
    let clients: Vec<_> = [
        profile(Versions::Tls13, Alpn::H2),
        profile(Versions::Tls13, Alpn::None),
        profile(Versions::Tls12, Alpn::None),
    ]
    .into_iter()
    .filter_map(|profile| Client::new(profile).ok())
    .collect();
    let mut rng = Rng::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let client = &clients[rng.below(clients.len())];
        let visit = open(([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], port).into())
            .map_err(anyhow::Error::from)
            .and_then(|socket| client.request(socket, !rng.one_in(3), 1));
        if let Err(error) = visit
            && !stop.load(Ordering::Relaxed)
        {
            eprintln!("a client of {name} failed: {error:#}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Handshakes of one name by result.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    full: u64,
    resumed: u64,
    failed: u64,
}

impl Tally {
    /// Resumed share of completed handshakes; `None` before the first.
    fn quota(self) -> Option<f64> {
        let completed = self.full + self.resumed;
        (completed > 0).then(|| self.resumed as f64 / completed as f64)
    }
}

fn show(
    listen: SocketAddr,
    length: Duration,
    stop: &AtomicBool,
    last: &mut BTreeMap<String, Tally>,
) -> Result<()> {
    const EVERY: Duration = Duration::from_secs(2);
    let terminal = std::io::stdout().is_terminal();
    let begin = Instant::now();
    let mut lines = 0;
    let mut next = begin + EVERY;
    while begin.elapsed() < length && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        let end = begin.elapsed() >= length;
        if Instant::now() < next && !end {
            continue;
        }
        next += EVERY;
        match scrape(listen) {
            Ok(tallies) => *last = tallies,
            // Ctrl-C reaches the agent as well.
            Err(_) if stop.load(Ordering::Relaxed) => break,
            Err(error) => return Err(error).context("cannot read the agent's metrics"),
        }
        let table = table(begin.elapsed(), last);
        if terminal && lines > 0 {
            // Up to the start of the last table, which this one replaces.
            print!("\x1b[{lines}A\x1b[J");
        }
        print!("{table}");
        std::io::stdout().flush()?;
        lines = table.lines().count();
    }
    Ok(())
}

fn scrape(listen: SocketAddr) -> Result<BTreeMap<String, Tally>> {
    let mut tallies: BTreeMap<String, Tally> = [SHOP, API, LEGACY]
        .map(|name| (name.to_owned(), Tally::default()))
        .into();
    for sample in metrics::scrape(listen)? {
        if sample.name != "tls_handshakes_total" || sample.label("role") != "server" {
            continue;
        }
        if let Some(tally) = tallies.get_mut(sample.label("server_name")) {
            let count = sample.value as u64;
            match sample.label("result") {
                "full" => tally.full += count,
                "resumed" => tally.resumed += count,
                _ => tally.failed += count,
            }
        }
    }
    Ok(tallies)
}

fn table(elapsed: Duration, tallies: &BTreeMap<String, Tally>) -> String {
    const BAR: f64 = 20.0;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:>3} s  {:<16} {:>6} {:>8} {:>7}  {:>6}",
        elapsed.as_secs(),
        "server name",
        "full",
        "resumed",
        "failed",
        "quota"
    );
    for (name, tally) in tallies {
        let quota = tally.quota();
        let shown = quota.map_or("-".to_owned(), |quota| format!("{:.0} %", quota * 100.0));
        let bar = "#".repeat((quota.unwrap_or(0.0) * BAR).round() as usize);
        let Tally {
            full,
            resumed,
            failed,
        } = tally;
        let line =
            format!("       {name:<16} {full:>6} {resumed:>8} {failed:>7}  {shown:>6}  {bar}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn verdict(tallies: &BTreeMap<String, Tally>) -> String {
    let mut out = String::new();
    for (name, tally) in tallies {
        let completed = tally.full + tally.resumed;
        let _ = match tally.quota() {
            None => writeln!(out, "{name}: no connection was seen."),
            Some(0.0) => writeln!(
                out,
                "{name}: none of {completed} connections resumed. Here resumption is broken."
            ),
            Some(quota) => writeln!(
                out,
                "{name}: {} of {completed} connections resumed ({:.0} %).",
                tally.resumed,
                quota * 100.0
            ),
        };
    }
    out.trim_end().to_owned()
}
