//! How long `/metrics` takes at a thousand server names, and what ten thousand take of memory:
//! `cargo xtask bench scrape`; with `--check` it fails where they take too much. The handshakes are recorded ones, renamed.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::{
    fs::File,
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use resumetry::{
    core::{
        aggregate::AggregateConfig,
        decode::decode,
        fingerprint::Fingerprinter,
        record::{Handshake, ServerName},
        tracker::{Limits, Tracker},
    },
    export::{
        State,
        server::{bind, serve},
        web::Web,
    },
    source::recording,
};

const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/data/handshakes.events"
);

/// Names by which speed is judged, and the milliseconds that a scrape may take then.
const NAMES: usize = 1_000;
const MOST_MS: f64 = 5.0;
/// Names by which memory is judged, and the megabytes that may be resident then.
const MANY_NAMES: usize = 10_000;
const MOST_MB: f64 = 20.0;

const SCRAPES: usize = 200;

const FORMATS: [(&str, &str); 4] = [
    ("text", ""),
    ("text, gzip", "Accept-Encoding: gzip\r\n"),
    (
        "OpenMetrics, gzip",
        "Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n",
    ),
    (
        "protocol buffers, gzip",
        "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
         encoding=delimited\r\nAccept-Encoding: gzip\r\n",
    ),
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let handshakes = recorded()?;
    let few = start(NAMES, &handshakes).await?;
    println!("{SCRAPES} scrapes each, over loopback, a connection each; {NAMES} server names\n");
    println!("| format | bytes | median | nine in ten |\n|---|---:|---:|---:|");
    let mut slowest: f64 = 0.0;
    for (name, headers) in FORMATS {
        let (bytes, mut times) =
            tokio::task::spawn_blocking(move || scrapes(few, headers)).await??;
        times.sort_unstable();
        let of = |share: usize| times[times.len() * share / 10].as_secs_f64() * 1e3;
        println!("| {name} | {bytes} | {:.1} ms | {:.1} ms |", of(5), of(9));
        slowest = slowest.max(of(5));
    }
    let before = resident_mb()?;
    let many = start(MANY_NAMES, &handshakes).await?;
    let (bytes, _) = tokio::task::spawn_blocking(move || scrapes(many, "")).await??;
    let after = resident_mb()?;
    println!(
        "\n{MANY_NAMES} server names: {bytes} bytes of text; {after:.1} MB resident, with the \
         {NAMES} from above ({before:.1} MB without)"
    );
    let verdict = |is_met: bool| if is_met { "met" } else { "NOT met" };
    println!(
        "\nAims: a scrape of {NAMES} names within {MOST_MS} ms: {}; {MANY_NAMES} names within \
         {MOST_MB} MB: {}.",
        verdict(slowest < MOST_MS),
        verdict(after < MOST_MB)
    );
    if std::env::args().any(|argument| argument == "--check") {
        ensure!(slowest < MOST_MS && after < MOST_MB, "an aim is not met");
    }
    Ok(())
}

/// The handshakes of the recording.
fn recorded() -> Result<Vec<Handshake>> {
    let file = File::open(RECORDING).with_context(|| format!("cannot open {RECORDING}"))?;
    let mut tracker = Tracker::new(Limits::default(), Fingerprinter::new(b"bench"));
    let mut handshakes = Vec::new();
    for event in recording::read(BufReader::new(file))? {
        if let Ok(event) = decode(&event) {
            tracker.on_event(&event, &mut |handshake| handshakes.push(handshake));
        }
    }
    ensure!(!handshakes.is_empty(), "{RECORDING} holds no handshake");
    Ok(handshakes)
}

/// Serves the metrics of so many names.
async fn start(names: usize, handshakes: &[Handshake]) -> Result<SocketAddr> {
    let state = State::new(
        AggregateConfig {
            max_server_names: names,
            ..AggregateConfig::default()
        },
        vec![("pop".to_owned(), "fra1".to_owned())],
    );
    for index in 0..names {
        let name = format!("host{index}.shop.example.com");
        for handshake in handshakes {
            let mut handshake = handshake.clone();
            handshake.server_name = Some(ServerName::Host(name.as_str().into()));
            state.record(&handshake, Some("nginx"), 1);
        }
    }
    let listener = bind(([127, 0, 0, 1], 0).into()).await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(
        listener,
        Web::default(),
        Arc::new(state),
        std::future::pending(),
    ));
    Ok(address)
}

/// Bytes of a response, and how long each of them took from connect to its end.
fn scrapes(address: SocketAddr, headers: &str) -> Result<(usize, Vec<Duration>)> {
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    let mut times = Vec::new();
    let mut response = Vec::new();
    for _ in 0..SCRAPES {
        response.clear();
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut response)?;
        times.push(begin.elapsed());
        if !response.starts_with(b"HTTP/1.1 200") {
            bail!(
                "{}",
                String::from_utf8_lossy(&response[..response.len().min(200)])
            );
        }
    }
    Ok((response.len(), times))
}

fn resident_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("/proc/self/status has no VmRSS")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
