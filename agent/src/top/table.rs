//! The table: one line for each server name and role.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::columns::{Column, Place, counts};
use super::model::Model;
use super::theme::Theme;

/// Draws titles and rows; the model keeps what was scrolled to.
pub fn draw(buffer: &mut Buffer, area: Rect, model: &mut Model, theme: Theme) {
    if area.height == 0 {
        return;
    }
    model.show(usize::from(area.height - 1));
    let rows = model.rows();
    let places = model.places(&rows);
    titles(buffer, area, &places, model, theme);
    if rows.is_empty() {
        buffer.set_stringn(
            area.x,
            area.y + 1,
            nothing(model),
            area.width.into(),
            Style::new(),
        );
        return;
    }
    let target = model
        .snapshot
        .as_ref()
        .map_or(1.0, |all| all.overview.target);
    let cursor = model.cursor(&rows);
    let shown = rows.iter().enumerate().skip(model.scroll);
    for ((index, row), y) in shown.zip(area.y + 1..area.bottom()) {
        let mut x = area.x;
        for place in &places {
            let style = match place.column {
                Column::Quota => theme.quota(counts(row), target),
                _ => Style::new(),
            };
            let text = place.pad(&place.column.cell(row, *place));
            buffer.set_stringn(x, y, text, place.width.into(), style);
            x += place.width + 1;
        }
        if index == cursor {
            buffer.set_style(Rect::new(area.x, y, area.width, 1), theme.marked());
        }
    }
}

/// Each title stands as its cells do; that of the column which is sorted by has an arrow beside it.
fn titles(buffer: &mut Buffer, area: Rect, places: &[Place], model: &Model, theme: Theme) {
    let mut x = area.x;
    for place in places {
        let title = place.column.title();
        let sorts = place.column == model.sort;
        let arrow = match (sorts, model.falls) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let right = x + place.width - place.bar - u16::from(place.bar > 0);
        let length = u16::try_from(title.len()).unwrap_or(0);
        if matches!(place.column, Column::Name | Column::Role) {
            let text = format!("{title}{arrow}");
            buffer.set_stringn(x, area.y, text, place.width.into(), theme.title());
        } else {
            // The arrow may stand in the gap between two columns.
            let length = length + u16::from(sorts);
            let text = format!("{arrow}{title}");
            let start = right.saturating_sub(length);
            buffer.set_stringn(start, area.y, text, length.into(), theme.title());
        }
        x += place.width + 1;
    }
}

fn nothing(model: &Model) -> &'static str {
    let any = |snapshot: &super::model::Snapshot| !snapshot.names.names.is_empty();
    match &model.snapshot {
        None => "Waiting for the first figures.",
        Some(snapshot) if any(snapshot) => "No name goes through the filter.",
        Some(_) => "No handshake yet.",
    }
}
