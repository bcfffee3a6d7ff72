//! Replays recorded kernel events through decode → track → aggregate on one core, as fast as they
//! go: `cargo xtask bench pipeline [-- RECORDING [SECONDS]]`. A recording is made by
//! `resumetry trace --record-events FILE`.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::File,
    io::BufReader,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use agent_common::event::{EventHeader, KIND_SEGMENT, SegmentEvent};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use resumetry::{
    core::{
        aggregate::{AggregateConfig, Aggregator},
        decode::decode,
        fingerprint::Fingerprinter,
        tracker::{Limits, Tracker},
    },
    source::recording,
};

const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/data/handshakes.events"
);

/// Events between two ticks; the daemon ticks every 100 ms.
const TICK_EVENTS: usize = 4096;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| RECORDING.into());
    let seconds = arguments.next().map_or(Ok(3.0), |text| text.parse())?;
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    let events =
        recording::read(BufReader::new(file)).with_context(|| format!("cannot read {path}"))?;
    let span_ns = span(&events) + 1_000_000_000;
    let bytes: usize = events.iter().map(Bytes::len).sum();

    let stages = [
        measure(&events, span_ns, seconds, false),
        measure(&events, span_ns, seconds, true),
    ];
    ensure!(stages[0].handshakes > 0, "{path} holds no whole handshake");
    println!(
        "{} events, {} bytes, {} handshakes in the recording; one core; single runs of {seconds} s",
        events.len(),
        bytes,
        stages[0].per_round
    );
    for (stage, name) in stages
        .iter()
        .zip(["decode, track        ", "decode, track, metrics"])
    {
        println!(
            "{name}  {:>9.0} handshakes/s  {:.2} us, {:.1} events, {:.1} allocations a handshake",
            stage.handshakes as f64 / stage.elapsed.as_secs_f64(),
            stage.elapsed.as_secs_f64() * 1e6 / stage.handshakes as f64,
            stage.events as f64 / stage.handshakes as f64,
            stage.allocations as f64 / stage.handshakes as f64,
        );
    }
    Ok(())
}

struct Measured {
    handshakes: u64,
    per_round: u64,
    events: u64,
    allocations: u64,
    elapsed: Duration,
}

/// Replays the recording over and over; each round is a set of new connections, later in time.
fn measure(events: &[Bytes], span_ns: u64, seconds: f64, aggregate: bool) -> Measured {
    let mut tracker = Tracker::new(Limits::default(), Fingerprinter::new(b"bench"));
    let mut aggregator = Aggregator::new(AggregateConfig::default());
    let mut scratch = Vec::new();
    let (mut handshakes, mut replayed, mut per_round, mut round) = (0, 0, 0, 0);
    let mut allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let mut started = Instant::now();
    loop {
        let mut now_ns = 0;
        for (index, event) in events.iter().enumerate() {
            scratch.clear();
            scratch.extend_from_slice(event);
            now_ns = renew(&mut scratch, round, span_ns);
            if let Ok(event) = decode(&scratch) {
                tracker.on_event(&event, &mut |handshake| {
                    handshakes += 1;
                    if aggregate {
                        aggregator.record(&handshake, Some("nginx"), now_ns);
                    }
                });
            }
            if index % TICK_EVENTS == 0 {
                tracker.tick(now_ns, 0, &mut |_| handshakes += 1);
            }
        }
        tracker.tick(now_ns, 0, &mut |_| handshakes += 1);
        replayed += events.len() as u64;
        round += 1;
        if round == 1 {
            // The first round fills tables and pools.
            per_round = handshakes;
            (handshakes, replayed) = (0, 0);
            allocations = ALLOCATIONS.load(Ordering::Relaxed);
            started = Instant::now();
        } else if started.elapsed().as_secs_f64() >= seconds {
            break;
        }
    }
    Measured {
        handshakes,
        per_round,
        events: replayed,
        allocations: ALLOCATIONS.load(Ordering::Relaxed) - allocations,
        elapsed: started.elapsed(),
    }
}

const TIME: usize = std::mem::offset_of!(EventHeader, time_ns);
const NETNS: usize = std::mem::offset_of!(SegmentEvent, key);
const ESTABLISHED: usize = std::mem::offset_of!(SegmentEvent, established_ns);

/// Makes an event one of round `round`: another network namespace, a later time. Returns the time.
fn renew(event: &mut [u8], round: u64, span_ns: u64) -> u64 {
    let time = add(event, TIME, round * span_ns);
    if event[..4] == KIND_SEGMENT.to_ne_bytes() {
        add(event, NETNS, round);
        if read(event, ESTABLISHED) != 0 {
            add(event, ESTABLISHED, round * span_ns);
        }
    }
    time
}

fn add(event: &mut [u8], offset: usize, value: u64) -> u64 {
    let sum = read(event, offset) + value;
    event[offset..offset + 8].copy_from_slice(&sum.to_ne_bytes());
    sum
}

fn read(event: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&event[offset..offset + 8]);
    u64::from_ne_bytes(bytes)
}

/// From the first event to the last, nanoseconds.
fn span(events: &[Bytes]) -> u64 {
    let times = || events.iter().map(|event| read(event, TIME));
    times().max().unwrap_or(0) - times().min().unwrap_or(0)
}
