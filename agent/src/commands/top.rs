//! `resumetry top`: what handshakes come to by server name, on a full screen.

use std::{
    io,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use resumetry::{
    capture::Capture,
    config::TopConfig,
    core::{aggregate::AggregateConfig, findings::Limits},
    explain::say,
    export::{Readiness, State},
    pipeline::{monotonic_ns, wall_offset_ns},
    top::{
        figures::Figures,
        messages::Messages,
        terminal::{self, Screen},
        viewer,
    },
};
use rustix::io::Errno;

use super::{
    run::{Counts, reporter},
    shutdown,
};

/// A terminal that takes nothing any more must not keep the agent from ending.
const PATIENCE: Duration = Duration::from_secs(2);

/// Captures, counts and draws until somebody quits or it is told to stop.
pub fn top(config: &TopConfig, messages: &Messages) -> anyhow::Result<ExitCode> {
    terminal::check()?;
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    let labels = config.capture.labels.iter();
    let labels = labels.map(|label| (label.name.clone(), label.value.clone()));
    let state = State::new(AggregateConfig::default(), labels.collect());
    let state = Arc::new(state.judging_by(Limits::new(config.quota_target, config.key_max_age)));
    let capture = Capture::start(&config.capture, reporter(Arc::clone(&state)))?;
    let taps: Vec<&str> = capture.taps.iter().map(|tap| tap.as_str()).collect();
    state.set_readiness(Readiness::Ready);
    say(format_args!(
        "ready: watching TLS handshakes (taps: {}; libraries: {})",
        taps.join(", "),
        capture.libraries
    ));
    // What is drawn before the first tick has its time already.
    state.set_wall_offset(wall_offset_ns());
    state.set_now(monotonic_ns());
    let pods = capture.pods.clone();
    let mut counts = Counts::new(Arc::clone(&state), pods, None, &config.capture);
    let (pipeline, watcher) = capture.into_parts();

    let drawn = start_drawing(config, state, messages, Arc::clone(&stop))
        .inspect_err(|_| messages.release())?;
    let captured = pipeline.run(&mut counts, &stop);
    // The screen goes first: detaching may take a moment, and whoever quits wants the terminal back.
    stop.store(true, Ordering::Relaxed);
    let drawn = drawn.recv_timeout(PATIENCE);
    terminal::give_back();
    messages.release();
    drop(watcher);
    captured?;
    if terminal::panicked() {
        bail!("a part of the agent panicked, and the rest cannot go on without it");
    }
    match drawn {
        // A terminal that is gone, as when its window is closed, is a way to end it.
        Ok(Err(error)) if Errno::from_io_error(&error) != Some(Errno::IO) => {
            Err(error).context("cannot draw on the terminal")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Takes the terminal over, and draws in a thread of its own; what that came to is sent at its end.
fn start_drawing(
    config: &TopConfig,
    state: Arc<State>,
    messages: &Messages,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Receiver<io::Result<()>>> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = config.color.applies(true, no_color);
    let interval = config.interval;
    let (sender, drawn) = mpsc::sync_channel(1);
    messages.hold();
    let screen = Screen::enter(color, &stop).context("cannot take the terminal over")?;
    let messages = messages.clone();
    std::thread::Builder::new()
        .name("screen".into())
        .spawn(move || {
            let result = viewer::show(screen, &Figures::new(state), interval, &messages, &stop);
            stop.store(true, Ordering::Relaxed);
            // Whoever waited for it may have lost patience.
            let _ = sender.send(result);
        })
        .context("cannot start a thread")?;
    Ok(drawn)
}
