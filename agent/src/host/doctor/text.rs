//! The doctor's report as text.

use std::fmt::Write;

use super::{Report, State, processes_of};

/// The report as text: aligned, one line a check and one a way out.
pub fn render(report: &Report, color: bool) -> String {
    let paint = |code: &str, text: &str| {
        if color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let mut out = String::new();
    let width = report
        .checks
        .iter()
        .map(|check| check.id.len())
        .max()
        .unwrap_or(0);
    for check in &report.checks {
        let mark = match check.state {
            State::Ok => paint("32", "✓"),
            State::Limited => paint("33", "!"),
            State::Missing => paint("31", "✗"),
        };
        line(
            &mut out,
            &format!("{mark} {:width$}  {}", check.id, printable(&check.detail)),
        );
        if let Some(fix) = &check.fix {
            line(&mut out, &format!("  {:width$}  → {}", "", printable(fix)));
        }
    }

    if !report.libraries.is_empty() {
        line(&mut out, "\nLibraries");
        let paths: Vec<String> = report
            .libraries
            .iter()
            .map(|library| printable(&library.path))
            .collect();
        let width = paths.iter().map(String::len).max().unwrap_or(0);
        for (library, path) in report.libraries.iter().zip(&paths) {
            let version = library.version.as_deref().unwrap_or("version not known");
            let replaced = if library.deleted {
                ", replaced on disk"
            } else {
                ""
            };
            line(
                &mut out,
                &format!(
                    "  {path:width$}  {version:17}  inode {}, {}{replaced}",
                    library.inode,
                    processes_of(library.processes)
                ),
            );
            line(&mut out, &format!("    {}", library.tickets.sentence()));
        }
    }

    line(&mut out, "\nWhat will be seen");
    let taps = [report.taps.wire, report.taps.library, report.taps.socket];
    for (sentence, possible) in report.seen.iter().zip(taps) {
        let mark = if possible {
            paint("32", "✓")
        } else {
            paint("31", "✗")
        };
        line(&mut out, &format!("{mark} {sentence}"));
    }
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Paths are chosen by whoever may start a process; none may send escapes to the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
