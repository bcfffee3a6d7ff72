//! The figures as Markdown.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result};
use resumetry_tests::stats::{median, quantile};

use crate::Arguments;
use crate::case::{Case, Mode};
use crate::measure::{Far, MOST_OTHERS, ROUND_TRIPS, Results, Row};
use crate::site::Site;
use crate::words;

/// The document.
pub fn markdown(arguments: &Arguments, site: &Site, results: &Results) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "# What resumption saves\n")?;
    writeln!(
        out,
        "Full, resumed and 0-RTT handshakes by TLS version and certificate, on a real nginx.\n\
         Made by `cargo xtask bench savings`, which measures again and writes this file anew.\n"
    )?;
    writeln!(out, "{} {}\n", arguments.machine, versions()?)?;
    words::claims(&mut out, results)?;
    server(&mut out, results)?;
    waiting(&mut out, results)?;
    handshakes(&mut out, results)?;
    agent(&mut out, results)?;
    method(&mut out, arguments, site, results)?;
    Ok(out)
}

/// What nginx says of itself and its TLS library.
fn versions() -> Result<String> {
    let output = Command::new("nginx").arg("-V").output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("nginx version: "))
        .context("nginx has no version")?;
    let library = text
        .lines()
        .find_map(|line| {
            let line = line.strip_prefix("built with ")?;
            // Where both are the same, nginx names one.
            let running = line.split_once("running with ");
            Some(running.map_or(line, |(_, running)| running.trim_end_matches(')')))
        })
        .context("nginx has no TLS library")?;
    let name = library.split_whitespace().take(2).collect::<Vec<_>>();
    Ok(format!("{version}, {}.", name.join(" ")))
}

fn server(out: &mut String, results: &Results) -> Result<()> {
    writeln!(
        out,
        "## What the server spends\n\n\
         CPU time of the nginx worker, user and system, and bytes of the handshake with its \
         tickets.\n\
         *Handshake* is the connection less the same without TLS; *connection* is everything from \
         accept to close, with one request and a response of 3 bytes.\n\
         Medians, in brackets the middle half of the rounds.\n"
    )?;
    writeln!(
        out,
        "| TLS | certificate | handshake | CPU of the handshake, µs | saved | CPU of the connection, µs | saved | bytes from the client | bytes from the server |"
    )?;
    writeln!(out, "|---|---|---|---:|---:|---:|---:|---:|---:|")?;
    for row in &results.rows {
        let full = results.row(row.case.full())?;
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            head(row.case),
            spread(&row.handshake, 1e6, 0),
            share(row, &saved_share(&full.handshake, &row.handshake)),
            spread(&row.connection, 1e6, 0),
            share(row, &saved_share(&full.connection, &row.connection)),
            row.bytes.client,
            row.bytes.server,
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn waiting(out: &mut String, results: &Results) -> Result<()> {
    writeln!(
        out,
        "## What the user waits for\n\n\
         Time to first byte at the client, in milliseconds: from `connect` to the first byte of the \
         response, so that one round trip is TCP's.\n\
         Medians over links of three round-trip times, in brackets the middle half of the \
         connections; *saved* is the difference of the medians.\n"
    )?;
    write!(out, "| TLS | certificate | handshake |")?;
    for (trip, _) in ROUND_TRIPS {
        write!(out, " {trip} ms away | saved |")?;
    }
    writeln!(out, "\n|---|---|---|---:|---:|---:|---:|---:|---:|")?;
    for row in &results.rows {
        let full = results.row(row.case.full())?;
        write!(out, "| {} |", head(row.case))?;
        for (far, than) in row.far.iter().zip(&full.far) {
            let saved = match row.case.mode {
                Mode::Full => "-".to_owned(),
                _ => format!("{:.1}", saved_wait(than, far) * 1e3),
            };
            write!(out, " {} | {saved} |", spread(&far.wait, 1e3, 1))?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    Ok(())
}

fn handshakes(out: &mut String, results: &Results) -> Result<()> {
    writeln!(
        out,
        "## How long the handshake takes\n\n\
         In milliseconds.\n\
         *Client*: from its ClientHello until it may use the connection.\n\
         *Server*: from the ClientHello's arrival to the end of the handshake there, as the agent \
         reports it (`timing.handshake_seconds`).\n"
    )?;
    write!(out, "| TLS | certificate | handshake |")?;
    for (trip, _) in ROUND_TRIPS {
        write!(out, " {trip} ms, client | {trip} ms, server |")?;
    }
    writeln!(out, "\n|---|---|---|---:|---:|---:|---:|---:|---:|")?;
    for row in &results.rows {
        write!(out, "| {} |", head(row.case))?;
        for far in &row.far {
            let client = spread(&far.handshake, 1e3, 1);
            let server = spread(&far.server_handshake, 1e3, 1);
            write!(out, " {client} | {server} |")?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    Ok(())
}

fn agent(out: &mut String, results: &Results) -> Result<()> {
    writeln!(
        out,
        "## What the agent makes of it\n\n\
         The agent watched the server's end (`resumetry trace`) and reported {} of these {} \
         connections (those whose ports were used twice are left out).\n\
         Its figures beside the clients', as differences: medians, in brackets the middle half.\n\
         Time to first byte is compared from the end of `connect`; the agent adds the round trip that \
         the kernel measured to what it sees at the server.\n\
         Bytes differ by what the wire does not tell apart: in TLS 1.3 the tickets, which the agent \
         leaves out, and with 0-RTT the request and a response that come before the end of the \
         handshake, which it counts.\n",
        results.reported, results.connections
    )?;
    write!(out, "| TLS | handshake |")?;
    for (trip, _) in ROUND_TRIPS {
        write!(out, " time to first byte, {trip} ms away |")?;
    }
    writeln!(out, " bytes from the client | bytes from the server |")?;
    writeln!(out, "|---|---|---:|---:|---:|---:|---:|")?;
    for case in Case::all() {
        // Once for all certificates.
        if case.key != crate::case::KEYS[0] {
            continue;
        }
        let rows: Vec<_> = results
            .rows
            .iter()
            .filter(|row| row.case.versions == case.versions && row.case.mode == case.mode)
            .collect();
        write!(out, "| {} | {} |", case.version(), case.mode.name())?;
        for index in 0..ROUND_TRIPS.len() {
            let errors: Vec<_> = rows
                .iter()
                .flat_map(|row| row.far[index].first_byte_error.iter().copied())
                .collect();
            write!(out, " {} ms |", signed(&errors, 1e3, 2))?;
        }
        let bytes = |pick: fn(&(f64, f64)) -> f64, of: fn(&Row) -> usize| {
            let errors: Vec<_> = rows
                .iter()
                .flat_map(|row| {
                    let own = of(row) as f64;
                    row.far
                        .iter()
                        .flat_map(move |far| far.bytes.iter().map(move |pair| pick(pair) - own))
                })
                .collect();
            signed(&errors, 1.0, 0)
        };
        writeln!(
            out,
            " {} | {} |",
            bytes(|pair| pair.0, |row| row.bytes.client),
            bytes(|pair| pair.1, |row| row.bytes.server)
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn method(out: &mut String, arguments: &Arguments, site: &Site, results: &Results) -> Result<()> {
    let baseline = &results.baseline;
    writeln!(
        out,
        "## How it was measured\n\n\
         - nginx with one worker on a CPU of its own, X25519 and the cipher suites that it and the \
         client's OpenSSL agree on by default; tickets, no session cache; no client certificates.\n\
         - CPU time: {} rounds of {} ms for each kind of handshake in turn, over loopback, from the \
         scheduler's account of the worker (`/proc/PID/task/*/schedstat`). A connection without TLS \
         costs {} µs, a request on a connection that is kept alive {} µs without and {} µs with TLS: \
         the handshake is what a TLS connection costs above the first and the difference of the \
         others. A measurement is taken again when other processes used more than {:.0} % of a CPU \
         meanwhile: {} of {} were disturbed, {} of which were kept for want of patience.\n\
         - Time in the network stack is charged to whoever runs, so the worker's time holds part of \
         the clients' receive path, in the connections without TLS as well.",
        arguments.rounds,
        arguments.slice,
        spread(&baseline.connection, 1e6, 0),
        spread(&baseline.plain_request, 1e6, 1),
        spread(&baseline.request, 1e6, 1),
        100.0 * MOST_OTHERS,
        results.disturbed,
        results.slices,
        results.kept,
    )?;
    let [near, mid, far] = ROUND_TRIPS.map(|(trip, count)| (trip, count * arguments.rounds));
    writeln!(
        out,
        "- Waiting: one connection at a time from network namespaces behind relays that hold packets \
         back by half the round trip each way; {} connections of each kind {} ms away, {} at {} ms, \
         {} at {} ms, in rounds that hold every kind. Clients verify the chain.",
        near.1, near.0, mid.1, mid.0, far.1, far.0
    )?;
    let chains: Vec<_> = site
        .chains()
        .map(|(name, leaf, above)| format!("{name} {leaf} + {above}"))
        .collect();
    writeln!(
        out,
        "- Certificates: a leaf and the intermediate authority that signed it, below an RSA-4096 root \
         that the client has; the authority's key is RSA-2048, and P-256 for the ECDSA leaf. Bytes of \
         both: {}. A public authority's leaf has some 400 bytes more (URLs, transparency timestamps).\n\
         - 0-RTT: the request travels with the ClientHello, on a server of its own with \
         `ssl_early_data on`. Early data can be replayed: it is for requests that may arrive twice.\n\
         - The request is one that costs nginx next to nothing. The more a server does for a request, \
         and the more requests a connection carries, the smaller is the share of its CPU that the \
         handshakes take, and that resumption can save.",
        chains.join(", ")
    )?;
    Ok(())
}

fn head(case: Case) -> String {
    format!(
        "{} | {} | {}",
        case.version(),
        case.key_name(),
        case.mode.name()
    )
}

/// What is saved, as shares of 1, by round.
pub fn saved_share(full: &[f64], other: &[f64]) -> Vec<f64> {
    full.iter()
        .zip(other)
        .map(|(full, other)| 1.0 - other / full)
        .collect()
}

/// What is saved, seconds.
pub fn saved_wait(full: &Far, other: &Far) -> f64 {
    median(&full.wait) - median(&other.wait)
}

fn share(row: &Row, shares: &[f64]) -> String {
    if row.case.mode == Mode::Full {
        return "-".to_owned();
    }
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|place| 100.0 * quantile(shares, place));
    format!("{middle:.0} % ({low:.0} … {high:.0})")
}

fn spread(values: &[f64], scale: f64, digits: usize) -> String {
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|place| scale * quantile(values, place));
    format!("{middle:.digits$} ({low:.digits$} … {high:.digits$})")
}

fn signed(values: &[f64], scale: f64, digits: usize) -> String {
    if values.is_empty() {
        return "not reported".to_owned();
    }
    // Without a sign for what is nothing but rounding.
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|place| {
        let power = 10_f64.powi(digits as i32);
        (scale * quantile(values, place) * power).round() / power + 0.0
    });
    format!("{middle:+.digits$} ({low:+.digits$} … {high:+.digits$})")
}
