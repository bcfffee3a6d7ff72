//! The lines above the table: the host as a whole, and how the agent itself is doing.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::columns::quota;
use super::format::{bar, clock, count, counted, height, percent, printable, rate, share, uptime};
use super::model::Model;
use super::theme::Theme;
use crate::core::view::{Counts, FindingCounts, Health, History, Overview};

/// From this width on there is room for a longer bar.
const WIDE: u16 = 60;

/// Terminals as high as this get the two lines on the agent and on clients, lower ones the one or none.
const HIGH: u16 = 18;
const MIDDLING: u16 = 11;

/// The header for a terminal of this size.
pub fn lines(model: &Model, theme: Theme, width: u16, rows: u16) -> Vec<Line<'static>> {
    let Some(snapshot) = &model.snapshot else {
        return vec![Line::styled("resumetry", theme.title())];
    };
    let overview = &snapshot.overview;
    let mut lines = vec![title(model, overview, theme, width)];
    let server = (overview.server, model.rates.server());
    lines.push(role("server", server, overview.target, theme, width));
    if rows >= HIGH {
        let client = (overview.client, model.rates.client());
        lines.push(role("client", client, overview.target, theme, width));
    }
    if rows >= MIDDLING {
        lines.push(history("hour", &overview.history, theme, width));
    }
    if rows >= HIGH {
        lines.push(agent(&overview.health, overview.findings, theme, width));
    }
    lines
}

/// Whose figures these are, and of when.
fn title(model: &Model, overview: &Overview, theme: Theme, width: u16) -> Line<'static> {
    let now = clock(overview.timestamp_seconds);
    let right = match model.paused {
        true => format!("PAUSED  {now}"),
        false => now,
    };
    let up = uptime(overview.timestamp_seconds - overview.started_timestamp_seconds);
    let mut words = vec![
        Span::styled("resumetry", theme.title()),
        Span::raw(overview.version),
        Span::raw(format!("up {up}")),
    ];
    for (name, value) in &overview.labels {
        words.push(Span::raw(printable(&format!("{name}={value}"))));
    }
    let left = join(words, usize::from(width).saturating_sub(right.len() + 2));
    let gap = usize::from(width).saturating_sub(left.width() + right.len());
    let mut spans = left.spans;
    spans.push(Span::raw(" ".repeat(gap)));
    let style = match model.paused {
        true => theme.marked(),
        false => Style::new(),
    };
    spans.push(Span::styled(right, style));
    Line::from(spans)
}

/// What became of the last hour's connections in one role.
fn role(
    name: &'static str,
    (counts, per_second): (Counts, Option<f64>),
    target: f64,
    theme: Theme,
    width: u16,
) -> Line<'static> {
    let Counts {
        full,
        resumed,
        failed,
        ..
    } = counts;
    let bar_width = if width >= WIDE { 10 } else { 6 };
    let words = vec![
        Span::styled(format!("{name:<6}"), theme.title()),
        Span::styled(
            format!(
                "{:>7} {}",
                share(resumed, full + resumed),
                bar(quota(counts), bar_width)
            ),
            theme.quota(counts, target),
        ),
        Span::raw(format!("{:>7}", rate(per_second))),
        Span::raw(format!("resumed {}", count(resumed))),
        Span::raw(format!("full {}", count(full))),
        Span::raw(format!("failed {}", count(failed))),
        Span::styled(format!("target {}", percent(Some(target))), theme.label()),
    ];
    join(words, width.into())
}

/// The quota of each minute, the newest to the right.
pub fn history(name: &'static str, history: &History, theme: Theme, width: u16) -> Line<'static> {
    let name = format!("{name:<6} ");
    let room = usize::from(width).saturating_sub(name.len());
    let points = &history.points;
    let points = &points[points.len().saturating_sub(room)..];
    let columns: String = points
        .iter()
        .map(|point| height(quota(point.counts)))
        .collect();
    let words = vec![
        Span::styled(format!("{name}{columns}"), theme.history()),
        Span::styled("by minute", theme.label()),
    ];
    join(words, width.into())
}

fn agent(health: &Health, findings: FindingCounts, theme: Theme, width: u16) -> Line<'static> {
    let mut words = vec![Span::styled("agent ", theme.title())];
    if let Some(trouble) = &health.trouble {
        words.push(Span::styled(
            format!("NOT READY: {}", printable(trouble)),
            theme.alarm(),
        ));
    }
    let (lost, lost_style) = match (health.events_lost, health.handshakes_lost) {
        (0, 0) => ("none lost".to_owned(), Style::new()),
        (events, handshakes) => (
            format!(
                "lost {}, {}",
                counted(events, "event", "events"),
                counted(handshakes, "handshake", "handshakes"),
            ),
            theme.alarm(),
        ),
    };
    let findings_style = match findings.error {
        0 => Style::new(),
        _ => theme.alarm(),
    };
    words.extend([
        Span::raw(format!("coverage {}", percent(health.coverage))),
        Span::styled(lost, lost_style),
        Span::styled(stand(findings), findings_style),
        Span::raw(format!("overhead {}", percent(health.overhead_ratio))),
    ]);
    join(words, width.into())
}

fn stand(findings: FindingCounts) -> String {
    let kinds: Vec<String> = [
        (findings.error, "error", "errors"),
        (findings.warning, "warning", "warnings"),
        (findings.info, "hint", "hints"),
    ]
    .into_iter()
    .filter(|(number, ..)| *number > 0)
    .map(|(number, one, several)| counted(number, one, several))
    .collect();
    match kinds.is_empty() {
        true => "no findings".to_owned(),
        false => format!("found {}", kinds.join(", ")),
    }
}

/// As many words as fit, two cells between them.
pub fn join(words: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for word in words {
        let gap = if used == 0 { 0 } else { 2 };
        if used + gap + word.width() > width {
            break;
        }
        used += gap + word.width();
        if gap > 0 {
            spans.push(Span::raw("  "));
        }
        spans.push(word);
    }
    Line::from(spans)
}
