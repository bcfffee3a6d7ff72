//! The loop that shows figures and takes keys, until somebody quits or the agent is told to stop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::messages::Messages;
use super::model::{Action, Model, RowKey, Snapshot};
use super::terminal::{Input, Screen};
use crate::core::view::Name;

/// How often the stop flag and the terminal's size are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Where figures come from.
pub trait Source {
    /// The host and its names, now.
    fn snapshot(&self) -> Snapshot;

    /// All that is known of one name.
    fn name(&self, key: &RowKey) -> Option<Name>;
}

/// Shows until `stop` is set, by somebody who quits here as well. The screen is given back at the end.
///
/// # Errors
/// When the terminal cannot be read or written.
pub fn show(
    mut screen: Screen,
    source: &impl Source,
    interval: Duration,
    messages: &Messages,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut model = Model::default();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut draws = screen.is_resized();
        let now = Instant::now();
        if now >= due {
            due = now + interval;
            draws |= fetch(&mut model, source) | tell(&mut model, messages);
        }
        if draws {
            screen.draw(&mut model)?;
        }
        let timeout = due.saturating_duration_since(Instant::now()).min(LOOK);
        let Input::Keys(keys) = screen.keys(timeout)? else {
            break;
        };
        // Several keys that came together need one drawing.
        let mut pressed = false;
        for key in keys {
            match model.press(key) {
                Action::Nothing => continue,
                Action::Draw => {}
                Action::DrawAnew => screen.forget()?,
                Action::Fetch => look(&mut model, source),
                Action::Quit => return Ok(()),
            }
            pressed = true;
        }
        if pressed {
            screen.draw(&mut model)?;
        }
    }
    Ok(())
}

/// Takes what is new, unless the screen is to stay as it is; says whether there is anything to draw.
fn fetch(model: &mut Model, source: &impl Source) -> bool {
    if model.paused {
        return false;
    }
    look(model, source);
    true
}

/// Takes what is new even then: somebody asked for a name, or to go on.
fn look(model: &mut Model, source: &impl Source) {
    if !model.paused {
        model.update(source.snapshot());
    }
    if let Some(key) = model.wanted() {
        let name = source.name(key);
        model.look(name);
    }
}

fn tell(model: &mut Model, messages: &Messages) -> bool {
    let last = messages.last();
    let is_new = last != model.message;
    model.message = last;
    is_new
}
