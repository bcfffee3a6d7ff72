//! Wires the stages: ring buffer → decode → track → process → consumer. It is the only place where
//! events, the clock and the process table meet; the stages do not know of each other.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Sender,
    },
};

use agent_common::stats;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    core::{
        decode::{Datagram, Event, LibraryCall, PrimitiveCall, Segment, decode},
        inference::Inference,
        record::{Handshake, Process},
        tracker::{Tracker, TrackerStats},
    },
    host::process::ProcessTable,
    probe::{KernelStats, LoadError},
    source::{recording::Recorder, ring::EventRing},
    watch::Notice,
};

/// Events handled between two looks at the clock, the counters and the stop signal.
const BATCH: usize = 4096;

/// Time between two ticks, nanoseconds.
const TICK_NS: u64 = 100_000_000;

/// How the pipeline itself is doing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
    /// Counters of the kernel half, see `agent_common::stats`, read after the events.
    pub kernel: [u64; stats::COUNT as usize],
    /// ClientHellos counted in the kernel before the events were read: none of them can still be
    /// on its way, so that those without a record are missing.
    pub hellos: u64,
    pub tracker: TrackerStats,
    /// Events that did not have the form they should have.
    pub undecodable: u64,
    /// CLOCK_MONOTONIC times of the last event of each tap, nanoseconds; 0 for never.
    pub last_wire_ns: u64,
    pub last_library_ns: u64,
}

/// Takes what comes out of the pipeline.
pub trait Consumer {
    /// A finished handshake. `wall_offset_ns` added to its monotonic times gives Unix time.
    fn record(&mut self, handshake: &Handshake, process: Option<&Process>, wall_offset_ns: i128);

    /// Called about ten times a second.
    fn tick(&mut self, health: &Health);

    /// True when no further record is wanted.
    fn satisfied(&self) -> bool {
        false
    }
}

/// The inputs of a pipeline.
pub struct Pipeline {
    pub ring: EventRing,
    pub stats: Arc<KernelStats>,
    pub tracker: Tracker,
    /// Since when cryptographic primitives are timed in every library, CLOCK_MONOTONIC nanoseconds; 0:
    /// they are not.
    pub primitives_since: Arc<AtomicU64>,
    pub inference: Inference,
    pub processes: ProcessTable,
    /// Told of started programs, and of those that make handshakes.
    pub watcher: Watched,
    /// Gets a copy of every raw event.
    pub recorder: Option<Recorder<Box<dyn io::Write + Send>>>,
}

/// Tells the watcher of processes, each now and then.
#[derive(Debug)]
pub struct Watched {
    watcher: Sender<Notice>,
    told: HashSet<u32>,
    forget_ns: u64,
}

/// After this long the watcher is told of a process again, nanoseconds.
const TELL_AGAIN_NS: u64 = 5_000_000_000;

/// Processes that are remembered as told.
const MAX_TOLD: usize = 4096;

impl Watched {
    pub fn new(watcher: Sender<Notice>) -> Self {
        Self {
            watcher,
            told: HashSet::new(),
            forget_ns: 0,
        }
    }

    /// The watcher ends only with the pipeline; a lost notice costs time, no data.
    fn started(&self, pid: u32) {
        let _ = self.watcher.send(Notice::Started(pid));
    }

    fn shakes(&mut self, pid: u32) {
        if self.told.len() < MAX_TOLD && self.told.insert(pid) {
            let _ = self.watcher.send(Notice::Shakes(pid));
        }
    }

    fn tick(&mut self, now_ns: u64) {
        if now_ns >= self.forget_ns {
            self.forget_ns = now_ns + TELL_AGAIN_NS;
            self.told.clear();
        }
    }
}

/// Why a pipeline ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("cannot wait for events of the kernel: {0}")]
    Wait(#[source] io::Error),
    #[error(transparent)]
    Stats(#[from] LoadError),
    #[error("cannot write the recording of events: {0}; is the disk full?")]
    Record(#[source] io::Error),
}

impl Pipeline {
    /// Runs until `stop` is set or the consumer is satisfied; what is established by then is still
    /// handed over.
    ///
    /// # Errors
    /// [`PipelineError`]; the probes go with the process.
    pub fn run(
        mut self,
        consumer: &mut impl Consumer,
        stop: &AtomicBool,
    ) -> Result<(), PipelineError> {
        let mut health = Health::default();
        let mut next_tick = 0;
        while !stop.load(Ordering::Relaxed) && !consumer.satisfied() {
            self.ring.wait().map_err(PipelineError::Wait)?;
            let now_ns = monotonic_ns();
            let due = now_ns >= next_tick;
            let hellos = if due { self.hellos()? } else { 0 };
            let drained = self.drain(consumer, &mut health)?;
            // While the ring is behind, "nothing came" is not yet true: no timeout may be declared.
            if due && drained < BATCH {
                next_tick = now_ns + TICK_NS;
                health.hellos = hellos;
                self.tick(now_ns, consumer, &mut health)?;
            }
        }
        health.hellos = self.hellos()?;
        self.drain(consumer, &mut health)?;
        let (tracker, inference) = (&mut self.tracker, &mut self.inference);
        let (processes, watcher) = (&mut self.processes, &mut self.watcher);
        let offset = wall_offset_ns();
        tracker.finish(&mut |handshake| {
            deliver(handshake, inference, processes, offset, watcher, consumer)
        });
        self.tick(monotonic_ns(), consumer, &mut health)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.flush().map_err(PipelineError::Record)?;
        }
        Ok(())
    }

    fn hellos(&self) -> Result<u64, PipelineError> {
        Ok(self.stats.read()?[stats::HELLOS as usize])
    }

    fn drain(
        &mut self,
        consumer: &mut impl Consumer,
        health: &mut Health,
    ) -> Result<usize, PipelineError> {
        let Self {
            ring,
            tracker,
            primitives_since,
            inference,
            processes,
            watcher,
            recorder,
            ..
        } = self;
        let offset = wall_offset_ns();
        tracker.set_wall_offset(offset);
        tracker.set_primitives_since(primitives_since.load(Ordering::SeqCst));
        let mut failure = None;
        let drained = ring.drain(BATCH, |bytes| {
            if let Some(recorder) = recorder
                && let Err(error) = recorder.record(meaningful(bytes))
            {
                failure = Some(error);
            }
            match decode(bytes) {
                Ok(Event::Exec { pid, .. }) => {
                    watcher.started(pid);
                }
                Ok(event) => {
                    match &event {
                        Event::Segment(Segment { time_ns, .. })
                        | Event::Datagram(Datagram { time_ns, .. }) => {
                            health.last_wire_ns = *time_ns;
                        }
                        Event::Library(LibraryCall { time_ns, .. })
                        | Event::Primitive(PrimitiveCall { time_ns, .. })
                        | Event::Ticket { time_ns, .. } => {
                            health.last_library_ns = *time_ns;
                        }
                        Event::Exec { .. } => {}
                    }
                    tracker.on_event(&event, &mut |handshake| {
                        deliver(handshake, inference, processes, offset, watcher, consumer);
                    });
                }
                Err(error) => {
                    if health.undecodable == 0 {
                        log::warn!("an event of the kernel half cannot be read: {error}");
                    }
                    health.undecodable += 1;
                }
            }
        });
        match failure {
            Some(error) => Err(PipelineError::Record(error)),
            None => Ok(drained),
        }
    }

    fn tick(
        &mut self,
        now_ns: u64,
        consumer: &mut impl Consumer,
        health: &mut Health,
    ) -> Result<(), PipelineError> {
        health.now_ns = now_ns;
        self.watcher.tick(now_ns);
        health.kernel = self.stats.read()?;
        let lost = lost_events(&health.kernel);
        let (tracker, inference) = (&mut self.tracker, &mut self.inference);
        let (processes, watcher) = (&mut self.processes, &mut self.watcher);
        let offset = wall_offset_ns();
        tracker.tick(now_ns, lost, &mut |handshake| {
            deliver(handshake, inference, processes, offset, watcher, consumer);
        });
        health.tracker = tracker.stats();
        consumer.tick(health);
        Ok(())
    }
}

/// The part of an event that carries meaning: ring-buffer records come in a few sizes.
fn meaningful(bytes: &[u8]) -> &[u8] {
    const SIZE: std::ops::Range<usize> = 4..8;
    let size = bytes
        .get(SIZE)
        .and_then(|size| size.try_into().ok())
        .map_or(bytes.len(), |size| u32::from_ne_bytes(size) as usize);
    bytes.get(..size).unwrap_or(bytes)
}

/// Events that the kernel half could not hand over, whatever the reason.
fn lost_events(kernel: &[u64; stats::COUNT as usize]) -> u64 {
    [
        stats::WIRE_LOST_RING_FULL,
        stats::WIRE_LOST_LOAD,
        stats::WIRE_LOST_MAP_FULL,
    ]
    .iter()
    .map(|index| kernel[*index as usize])
    .sum()
}

fn deliver(
    mut handshake: Handshake,
    inference: &mut Inference,
    processes: &mut ProcessTable,
    wall_offset_ns: i128,
    watcher: &mut Watched,
    consumer: &mut impl Consumer,
) {
    if let Some(pid) = handshake.pid {
        watcher.shakes(pid);
    }
    let process = handshake.pid.and_then(|pid| processes.lookup(pid));
    inference.complete(&mut handshake, process.as_deref());
    consumer.record(&handshake, process.as_deref(), wall_offset_ns);
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    u64::try_from(nanoseconds(ClockId::Monotonic)).unwrap_or(0)
}

/// What to add to CLOCK_MONOTONIC to get Unix time, nanoseconds.
pub fn wall_offset_ns() -> i128 {
    nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds to seconds; a millisecond is all that a liveness figure needs.
pub fn unix_seconds(nanoseconds: i128) -> f64 {
    f64::from(u32::try_from(nanoseconds / 1_000_000_000).unwrap_or(u32::MAX))
        + f64::from(u32::try_from(nanoseconds % 1_000_000_000 / 1_000_000).unwrap_or(0)) / 1_000.0
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
