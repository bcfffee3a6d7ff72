//! What the keys do.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::theme::Theme;

/// Ten lines and a frame: as much as a terminal of 40×12 shows. The rest is for higher ones.
const LINES: [&str; 15] = [
    "↑ ↓ PgUp PgDn Home End  move",
    "Enter        look at a name",
    "Esc          back",
    "← → or s S   sort by another column",
    "r            reverse the order",
    "/            filter by name",
    "c            server, client or both",
    "p or space   pause, and go on",
    "Ctrl-L       draw anew",
    "q or Ctrl-C  quit",
    "",
    "Quota: resumed of all completed.",
    "Counts are of the last hour; with *",
    "after the name since it was first seen.",
    "–: not known.",
];

/// A frame in the middle.
pub fn draw(frame: &mut Frame<'_>, theme: Theme) {
    let area = frame.area();
    let width = area.width.min(44);
    let height = area.height.min(LINES.len() as u16 + 2);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = LINES.iter().map(|line| Line::raw(*line)).collect();
    let block = Block::bordered().title(Line::styled(" Keys; any closes this ", theme.title()));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
