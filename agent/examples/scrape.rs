//! How long `/metrics` takes at a thousand server names, and what ten thousand take of memory:
//! `cargo xtask bench scrape`; with `--check` it fails where they take too much, and with the name of
//! a format it times that one only. The handshakes are recorded ones, renamed.
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

/// What Prometheus asks for where it takes native histograms.
const PROTOBUF: &str = "protocol buffers, gzip";

const FORMATS: [(&str, &str); 4] = [
    ("text", ""),
    ("text, gzip", "Accept-Encoding: gzip\r\n"),
    (
        "OpenMetrics, gzip",
        "Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n",
    ),
    (
        PROTOBUF,
        "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
         encoding=delimited\r\nAccept-Encoding: gzip\r\n",
    ),
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let handshakes = recorded()?;
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    // Memory first: what was freed later would still count.
    let resident = match wanted {
        Some(_) => 0.0,
        None => memory(&handshakes).await?,
    };
    let few = start(NAMES, &handshakes).await?;
    println!("{SCRAPES} scrapes each, over loopback, a connection each; {NAMES} server names\n");
    println!("| format | bytes | median | nine in ten |\n|---|---:|---:|---:|");
    let (mut slowest, mut slowest_text): (f64, f64) = (0.0, 0.0);
    for (name, headers) in FORMATS {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let (bytes, mut times) =
            tokio::task::spawn_blocking(move || scrapes(few, headers, SCRAPES)).await??;
        times.sort_unstable();
        let of = |share: usize| times[times.len() * share / 10].as_secs_f64() * 1e3;
        println!("| {name} | {bytes} | {:.1} ms | {:.1} ms |", of(5), of(9));
        slowest = slowest.max(of(5));
        if name != PROTOBUF {
            slowest_text = slowest_text.max(of(5));
        }
    }
    let verdict = |is_met: bool| if is_met { "met" } else { "NOT met" };
    println!(
        "\nAims: a scrape of {NAMES} names within {MOST_MS} ms: {} in text, {} in protocol buffers; \
         {MANY_NAMES} names within {MOST_MB} MB: {}.",
        verdict(slowest_text < MOST_MS),
        verdict(slowest < MOST_MS),
        verdict(resident < MOST_MB)
    );
    if std::env::args().any(|argument| argument == "--check") {
        ensure!(slowest < MOST_MS && resident < MOST_MB, "an aim is not met");
    }
    Ok(())
}

/// Megabytes that are resident at most while many names are scraped.
async fn memory(handshakes: &[Handshake]) -> Result<f64> {
    let before = resident_mb()?;
    let many = start(MANY_NAMES, handshakes).await?;
    let idle = resident_mb()?;
    let mut most: f64 = 0.0;
    println!("| format | bytes, {MANY_NAMES} names | resident then |\n|---|---:|---:|");
    for (name, headers) in FORMATS.into_iter().rev() {
        let (bytes, _) = tokio::task::spawn_blocking(move || scrapes(many, headers, 5)).await??;
        let resident = resident_mb()?;
        println!("| {name} | {bytes} | {resident:.1} MB |");
        most = most.max(resident);
    }
    println!("\n{before:.1} MB without names, {idle:.1} MB before the first scrape\n");
    Ok(most)
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

/// Bytes of a response, and how long each of `count` took from connect to its end. The client keeps
/// nothing: what it kept would count as the agent's.
fn scrapes(address: SocketAddr, headers: &str, count: usize) -> Result<(usize, Vec<Duration>)> {
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    let mut times = Vec::new();
    let mut part = vec![0; 64 * 1024];
    let mut bytes = 0;
    for _ in 0..count {
        bytes = 0;
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        loop {
            let length = stream.read(&mut part)?;
            if length == 0 {
                break;
            }
            if bytes == 0 && !part.starts_with(b"HTTP/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&part[..length]));
            }
            bytes += length;
        }
        times.push(begin.elapsed());
    }
    Ok((bytes, times))
}

fn resident_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("/proc/self/status has no VmHWM")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
