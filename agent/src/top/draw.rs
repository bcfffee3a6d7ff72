//! The whole screen, from the model.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::format::{fit, printable};
use super::model::Model;
use super::theme::Theme;
use super::{detail, header, help, table};

/// Less than this shows nothing of use.
const LEAST_WIDTH: u16 = 30;
const LEAST_HEIGHT: u16 = 8;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: Theme) {
    let area = frame.area();
    model.resize(area.width);
    if area.width < LEAST_WIDTH || area.height < LEAST_HEIGHT {
        let words =
            format!("The terminal is too small: {LEAST_WIDTH}×{LEAST_HEIGHT} is the least.");
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
        return;
    }
    let mut top = header::lines(model, theme, area.width, area.height);
    if model.detail.is_some() {
        // The name's own figures take the place of the host's.
        top.truncate(2);
    }
    let message = u16::from(model.message.is_some());
    let [head, body, message_line, status, footer] = Layout::vertical([
        Constraint::Length(u16::try_from(top.len()).unwrap_or(1)),
        Constraint::Min(1),
        Constraint::Length(message),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(top), head);
    match model.detail.is_some() {
        true => draw_detail(frame, body, model, theme),
        false => table::draw(frame.buffer_mut(), body, model, theme),
    }
    if let Some(message) = &model.message {
        let line = fit(message, area.width.into());
        frame.render_widget(Line::styled(line, theme.alarm()), message_line);
    }
    draw_status(frame, status, model, theme);
    frame.render_widget(keys(model, theme, area.width), footer);
    if model.help {
        help::draw(frame, theme);
    }
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, model: &mut Model, theme: Theme) {
    let target = model
        .snapshot
        .as_ref()
        .map_or(1.0, |all| all.overview.target);
    let Some(detail) = &mut model.detail else {
        return;
    };
    let lines = detail::lines(detail, target, theme, area.width);
    model.page = usize::from(area.height);
    model.last_line = lines.len().saturating_sub(model.page);
    detail.scroll = detail.scroll.min(model.last_line);
    let lines: Vec<Line<'_>> = lines.into_iter().skip(detail.scroll).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// What is shown of all there is, or the filter that is typed.
fn draw_status(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    if model.editing.is_some() {
        let prompt = "filter: ";
        let room = usize::from(area.width).saturating_sub(prompt.len() + 1);
        let typed = printable(&model.filter);
        let length = typed.chars().count();
        let typed: String = typed.chars().skip(length.saturating_sub(room)).collect();
        let line = format!("{prompt}{typed}");
        let end = u16::try_from(line.chars().count()).unwrap_or(0);
        frame.render_widget(Line::styled(line, theme.title()), area);
        frame.set_cursor_position((area.x + end, area.y));
        return;
    }
    frame.render_widget(status(model, theme, area.width), area);
}

fn status(model: &Model, theme: Theme, width: u16) -> Line<'static> {
    if model.detail.is_some() {
        let below = model.last_line - model.detail.as_ref().map_or(0, |detail| detail.scroll);
        return match below {
            0 => Line::default(),
            below => Line::styled(format!("↓ {below} more"), theme.label()),
        };
    }
    let rows = model.rows().len();
    let all = model
        .snapshot
        .as_ref()
        .map_or(0, |all| all.names.names.len());
    let shown = match rows == all {
        true => format!("{rows} shown"),
        false => format!("{rows} of {all} shown"),
    };
    let mut words = vec![Span::styled(shown, theme.label())];
    if !model.filter.is_empty() {
        words.push(Span::raw(format!("filter {}", printable(&model.filter))));
    }
    if let Some(role) = model.roles.words() {
        words.push(Span::raw(format!("role {role}")));
    }
    let order = if model.falls { "falling" } else { "rising" };
    let sort = format!("by {}, {order}", model.sort.words());
    words.push(Span::styled(sort, theme.label()));
    header::join(words, width.into())
}

/// The keys that matter most here, as many as fit.
fn keys(model: &Model, theme: Theme, width: u16) -> Line<'static> {
    let keys: &[(&str, &str)] = if model.editing.is_some() {
        &[("Enter", "keep"), ("Esc", "as before"), ("Ctrl-U", "clear")]
    } else if model.detail.is_some() {
        &[
            ("q", "quit"),
            ("Esc", "back"),
            ("?", "help"),
            ("p", "pause"),
            ("↑ ↓", "scroll"),
        ]
    } else {
        &[
            ("q", "quit"),
            ("?", "help"),
            ("Enter", "look"),
            ("s", "sort"),
            ("r", "reverse"),
            ("/", "filter"),
            ("c", "role"),
            ("p", "pause"),
        ]
    };
    let mut spans = Vec::new();
    let mut left = usize::from(width);
    for (key, what) in keys {
        let length = key.chars().count() + what.len() + 3;
        if length > left {
            break;
        }
        left -= length;
        spans.push(Span::styled((*key).to_owned(), theme.marked()));
        spans.push(Span::raw(format!(" {what}  ")));
    }
    Line::from(spans)
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
