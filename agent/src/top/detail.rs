//! One name, looked at closely.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::columns::{counts, gap};
use super::format::{bar, count, duration, fit, fit_end, share, wrap};
use super::header::{history, join};
use super::model::Detail;
use super::theme::Theme;
use crate::core::view::{Finding, Name, NameRow, Pair, Part, Reason};

/// Columns of the parts, beside the service.
const PART_WIDTH: usize = 56;
const SERVICE_WIDTH: usize = 32;

/// All lines, of which the screen may show some.
pub fn lines(detail: &Detail, target: f64, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let columns = usize::from(width);
    let role = detail.key.role;
    let name = fit_end(
        &detail.key.server_name,
        columns.saturating_sub(role.len() + 2),
    );
    let mut lines = vec![Line::from(vec![
        Span::styled(name, theme.title()),
        Span::raw(format!("  {role}")),
    ])];
    let Some(name) = &detail.name else {
        lines.push(Line::raw("Nothing is known of it any more."));
        return lines;
    };
    lines.extend(figures(&name.row, target, theme, width));
    lines.push(history("hour", &name.history, theme, width));
    lines.extend(findings(&name.findings, theme, columns));
    lines.extend(reasons(&name.reasons, theme, columns));
    lines.extend(parts(name, theme, columns));
    lines
}

fn figures(row: &NameRow, target: f64, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let counts = counts(row);
    let completed = counts.full + counts.resumed;
    let since = match row.hour {
        Some(_) => "in the last hour",
        None => "since it was first seen",
    };
    let quota = format!(
        "{:>7} {}",
        share(counts.resumed, completed),
        bar(super::columns::quota(counts), 10)
    );
    let words = vec![
        Span::styled("quota ", theme.title()),
        Span::styled(quota, theme.quota(counts, target)),
        Span::raw(format!("resumed {}", count(counts.resumed))),
        Span::raw(format!("full {}", count(counts.full))),
        Span::raw(format!("failed {}", count(counts.failed))),
        Span::raw(format!("offered {}", share(counts.offered, completed))),
        Span::styled(since, theme.label()),
    ];
    let width = usize::from(width);
    vec![
        join(words, width),
        pair(
            "byte",
            "to the first byte",
            row.first_byte_seconds,
            theme,
            width,
        ),
        pair("cpu", "of the handshake", row.cpu_seconds, theme, width),
    ]
}

/// Medians of both kinds, and what they differ by.
fn pair(
    name: &'static str,
    what: &'static str,
    pair: Pair,
    theme: Theme,
    width: usize,
) -> Line<'static> {
    let words = vec![
        Span::styled(format!("{name:<6}"), theme.title()),
        Span::raw(format!("full {}", duration(pair.full))),
        Span::raw(format!("resumed {}", duration(pair.resumed))),
        Span::raw(format!("gap {}", duration(gap(pair)))),
        Span::styled(what, theme.label()),
    ];
    join(words, width)
}

fn heading(text: &str, theme: Theme) -> [Line<'static>; 2] {
    [
        Line::default(),
        Line::styled(text.to_owned(), theme.title()),
    ]
}

fn findings(findings: &[Finding], theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (index, finding) in findings.iter().enumerate() {
        if index == 0 {
            lines.extend(heading("Findings", theme));
        }
        let style = match finding.severity.as_str() {
            "error" => theme.alarm(),
            _ => Style::new(),
        };
        let title = format!("{}: {}", finding.severity, finding.title);
        let title = wrap(&title, width);
        lines.extend(title.into_iter().map(|line| Line::styled(line, style)));
        let evidence = wrap(&finding.evidence, width.saturating_sub(2));
        let evidence = evidence.into_iter().map(|line| format!("  {line}"));
        lines.extend(evidence.map(Line::raw));
        // The first is for any server, or for the one that is at hand.
        if let Some(advice) = finding.advice.first() {
            let text = wrap(&advice.text, width.saturating_sub(4));
            let marks = std::iter::once("  → ").chain(std::iter::repeat("    "));
            let text = marks.zip(text).map(|(mark, line)| format!("{mark}{line}"));
            lines.extend(text.map(Line::raw));
        }
    }
    lines
}

fn reasons(reasons: &[Reason], theme: Theme, width: usize) -> Vec<Line<'static>> {
    let total: u64 = reasons.iter().map(|reason| reason.count).sum();
    let mut lines = Vec::new();
    if total == 0 {
        return lines;
    }
    lines.extend(heading("Why the others did not resume", theme));
    for reason in reasons.iter().filter(|reason| reason.count > 0) {
        let part = reason.count as f64 / total as f64;
        let line = format!(
            "{:<18} {:>7} {:>7} {}",
            reason.reason,
            count(reason.count),
            share(reason.count, total),
            bar(Some(part), 10)
        );
        lines.push(Line::raw(cut(&line, width)));
    }
    lines
}

/// By service, transport, version and what was offered. A narrow terminal loses the columns at the end,
/// which are those that are nought most often.
fn parts(name: &Name, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if name.parts.is_empty() {
        return lines;
    }
    let longest = name.parts.iter().map(|part| part.service.chars().count());
    let longest = longest.max().unwrap_or(0).clamp(7, SERVICE_WIDTH);
    let service = width.saturating_sub(PART_WIDTH).clamp(7, longest);
    lines.extend(heading("By service, since each was first seen", theme));
    let title = format!(
        "{:<service$} {:<4} {:<4} {:<10} {:>7} {:>7} {:>7} {:>7}",
        "SERVICE", "OVER", "TLS", "OFFERED", "QUOTA", "RESUMED", "FULL", "FAILED"
    );
    lines.push(Line::styled(cut(&title, width), theme.title()));
    for part in &name.parts {
        let line = cells(part, service);
        lines.push(Line::raw(cut(&line, width)));
    }
    lines
}

fn cells(part: &Part, service: usize) -> String {
    format!(
        "{:<service$} {:<4} {:<4} {:<10} {:>7} {:>7} {:>7} {:>7}",
        fit(&part.service, service),
        part.transport,
        part.version,
        part.offered,
        share(part.resumed, part.full + part.resumed),
        count(part.resumed),
        count(part.full),
        count(part.failed)
    )
}

/// What fits of a line that is printable.
fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}
