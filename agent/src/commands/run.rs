//! `resumetry run`: the daemon.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_common::{stats, user::clock_is_synchronised};
use anyhow::Context as _;
use resumetry::{
    capture::{Capture, Reporter},
    config::{
        CaptureConfig, DEFAULT_LISTEN, RunConfig,
        values::{AddressMask, Label},
    },
    core::{
        aggregate::AggregateConfig,
        findings::Limits,
        record::{Handshake, Process},
    },
    explain::say,
    export::{
        EventLoss, HandshakeLoss, Readiness, State,
        otlp::{LogQueue, Otlp},
        server::{bind, serve},
        web::Web,
    },
    host::{libraries::detect_version, pods::PodTable},
    output::json,
    pipeline::{Consumer, Health, monotonic_ns, unix_seconds, wall_offset_ns},
    probe::LibraryEvents,
    tap::Tap,
    watch::Report,
};

use super::shutdown;

/// How often idle series are looked for, nanoseconds.
const EXPIRE_NS: u64 = 5_000_000_000;

/// How often the signal flag is looked at while serving.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Captures, aggregates and serves until told to stop.
pub fn run(config: &RunConfig) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the HTTP server's threads")?;
    let web = match &config.web_config {
        Some(path) => Web::read(path)?,
        None => Web::default(),
    };
    let scheme = web.scheme();
    let asks_for_password = web.asks_for_password();
    // Before anything is attached: a port in use is the likelier mistake.
    let listener = runtime.block_on(bind(config.listen))?;
    let address = listener.local_addr()?;

    let labels = config.capture.labels.iter();
    let state = State::new(
        AggregateConfig {
            max_server_names: config.max_server_names,
            histogram_server_names: config.histogram_server_names,
            series_ttl_ns: u64::try_from(config.series_ttl.as_nanos()).unwrap_or(u64::MAX),
            ..AggregateConfig::default()
        },
        labels
            .map(|label| (label.name.clone(), label.value.clone()))
            .collect(),
    );
    let state = Arc::new(state.judging_by(Limits::new(config.quota_target, config.key_max_age)));
    // Before anybody can ask.
    state.set_wall_offset(wall_offset_ns());
    state.set_now(monotonic_ns());
    let server = runtime.spawn(serve(
        listener,
        web,
        Arc::clone(&state),
        stopped(Arc::clone(&stop)),
    ));

    let otlp = config.otlp.as_ref().map(|otlp| {
        Otlp::start(
            otlp,
            &config.capture.labels,
            config.capture.client_address,
            &state,
            &runtime,
        )
    });
    let otlp = otlp.transpose()?;

    let capture = Capture::start(&config.capture, reporter(Arc::clone(&state)))?;
    let taps: Vec<&str> = capture.taps.iter().map(|tap| tap.as_str()).collect();
    state.set_readiness(Readiness::Ready);
    say(format_args!(
        "ready: {scheme}://{address}/metrics (taps: {}; libraries: {})",
        taps.join(", "),
        capture.libraries
    ));
    say(format_args!(
        "look at {scheme}://{address}/ with a browser{}, or run `resumetry findings{}`",
        way_to(address),
        match address == DEFAULT_LISTEN {
            true => String::new(),
            false => format!(" --url {scheme}://{address}"),
        }
    ));
    let pods = capture.pods.clone();
    let (pipeline, watcher) = capture.into_parts();
    let logs = otlp.as_ref().and_then(Otlp::logs);
    let mut counts = Counts::new(Arc::clone(&state), pods, logs, &config.capture);
    let is_guarded = asks_for_password || address.ip().is_loopback();
    counts.client_address = shown_address(counts.client_address, is_guarded);
    let captured = pipeline.run(&mut counts, &stop);
    drop(watcher);
    drop(counts);
    state.set_readiness(Readiness::NotReady("shutting down".into()));
    state.end_show();
    if let Some(otlp) = otlp {
        runtime.block_on(otlp.finish());
    }
    // The server must end too when it was the capture that failed.
    stop.store(true, Ordering::Relaxed);
    let served = runtime
        .block_on(server)
        .context("the HTTP server panicked")?;
    captured?;
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Whole addresses of clients are shown to those who are on this host, or gave a password.
fn shown_address(mask: AddressMask, is_guarded: bool) -> AddressMask {
    match mask {
        AddressMask::Full if !is_guarded => AddressMask::Prefix,
        mask => mask,
    }
}

/// How a browser elsewhere gets there.
fn way_to(address: SocketAddr) -> String {
    match address.ip().is_loopback() {
        true => format!(
            " (from elsewhere after `ssh -L {0}:{address} HOST`)",
            address.port()
        ),
        false => String::new(),
    }
}

async fn stopped(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(STOP_POLL).await;
    }
}

/// Keeps what the watcher tells in `resumetry_libraries_attached` and `resumetry_probe_…`.
pub(super) fn reporter(state: Arc<State>) -> Reporter {
    let mut attached = BTreeMap::new();
    Box::new(move |report| {
        let event = match report {
            Report::Library(event) => event,
            Report::Overhead(overhead) => return state.set_overhead(overhead.clone()),
        };
        match event {
            LibraryEvents::Attached(file) => {
                let version = detect_version(file).unwrap_or_else(|| "unknown".into());
                attached.insert(
                    (file.device.clone(), file.inode),
                    (file.name.clone(), version),
                );
            }
            LibraryEvents::Detached(file) => {
                attached.remove(&(file.device.clone(), file.inode));
            }
            LibraryEvents::Failed(..) => return,
        }
        state.set_libraries(attached.values().cloned());
    })
}

/// Counts records, and passes on how the pipeline is doing.
pub(super) struct Counts {
    state: Arc<State>,
    now_ns: u64,
    next_expiry_ns: u64,
    /// The pods of this node, where Kubernetes tells of them.
    pods: Option<Arc<PodTable>>,
    /// Where records go besides, when that was asked for.
    logs: Option<LogQueue>,
    /// How much of clients' addresses the page shows.
    client_address: AddressMask,
    labels: Vec<Label>,
}

impl Counts {
    pub(super) fn new(
        state: Arc<State>,
        pods: Option<Arc<PodTable>>,
        logs: Option<LogQueue>,
        capture: &CaptureConfig,
    ) -> Self {
        Self {
            state,
            // Never 0: series counted before the first tick would look idle since boot.
            now_ns: monotonic_ns(),
            next_expiry_ns: 0,
            pods,
            logs,
            client_address: capture.client_address,
            labels: capture.labels.clone(),
        }
    }
}

impl Consumer for Counts {
    fn record(&mut self, handshake: &Handshake, process: Option<&Process>, wall_offset_ns: i128) {
        self.state.record_of(handshake, process, self.now_ns);
        if let Some(logs) = &self.logs {
            logs.push(handshake, process, wall_offset_ns);
        }
        self.state.show(|| {
            let mut line = Vec::with_capacity(1024);
            let context = json::Context {
                wall_offset_ns,
                client_address: self.client_address,
                labels: &self.labels,
            };
            json::write_line(&mut line, handshake, process, context).ok()?;
            // Without the line feed at its end.
            line.pop();
            String::from_utf8(line).ok()
        });
    }

    fn tick(&mut self, health: &Health) {
        self.now_ns = health.now_ns;
        self.state.set_now(self.now_ns);
        let offset = wall_offset_ns();
        self.state.set_wall_offset(offset);
        if self.now_ns >= self.next_expiry_ns {
            self.next_expiry_ns = self.now_ns + EXPIRE_NS;
            self.state.expire(self.now_ns);
            self.state.set_clock_synchronised(clock_is_synchronised());
            self.state.judge();
        }
        let (state, kernel, tracker) = (&self.state, &health.kernel, &health.tracker);
        let counter = |index: u32| kernel[index as usize];
        state.set_events(Tap::Wire, counter(stats::WIRE_EVENTS));
        state.set_events(Tap::Library, counter(stats::LIBRARY_EVENTS));
        state.set_events(Tap::Socket, counter(stats::SOCKET_EVENTS));
        state.set_dtls_hellos(counter(stats::DTLS_HELLOS));
        for (tap, reason, total) in [
            (
                Tap::Wire,
                EventLoss::RingFull,
                counter(stats::WIRE_LOST_RING_FULL),
            ),
            (
                Tap::Wire,
                EventLoss::LoadFailed,
                counter(stats::WIRE_LOST_LOAD),
            ),
            (
                Tap::Wire,
                EventLoss::MapFull,
                counter(stats::WIRE_LOST_MAP_FULL),
            ),
            (Tap::Wire, EventLoss::Undecodable, health.undecodable),
            (
                Tap::Library,
                EventLoss::RingFull,
                counter(stats::LIBRARY_LOST_RING_FULL),
            ),
            (
                Tap::Socket,
                EventLoss::MapFull,
                counter(stats::SOCKET_LOST_MAP_FULL),
            ),
        ] {
            state.set_events_lost(tap, reason, total);
        }
        state.set_handshakes_lost(HandshakeLoss::EventsLost, tracker.lost_ring_loss);
        state.set_handshakes_lost(HandshakeLoss::Truncated, tracker.lost_truncated);
        state.set_handshakes_lost(HandshakeLoss::Evicted, tracker.lost_evicted);
        state.set_coverage(Tap::Wire, tracker.described, tracker.due(health.hellos));
        if let Some(pods) = &self.pods {
            state.set_pods(pods.len(), pods.failures());
        }
        for (probe, last_ns) in [
            ("wire", health.last_wire_ns),
            ("library", health.last_library_ns),
        ] {
            if last_ns > 0 {
                state.set_probe_hit(probe, unix_seconds(i128::from(last_ns) + offset));
            }
        }
    }
}
