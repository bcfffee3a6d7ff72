//! Colours and attributes. Each says again what the text says already, so nothing is lost without colour.

use ratatui::style::{Color, Modifier, Style};

use super::columns::quota;
use crate::core::view::Counts;

/// Whether there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    pub color: bool,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        match self.color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    /// Of a quota: what is aimed at, less, or none at all.
    pub fn quota(self, counts: Counts, target: f64) -> Style {
        match quota(counts) {
            None => Style::new(),
            Some(quota) if quota >= target => self.color(Color::Green),
            Some(quota) if quota > 0.0 => self.color(Color::Yellow),
            Some(_) => self.color(Color::Red),
        }
    }

    /// Of what somebody should look at.
    pub fn alarm(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Of the history.
    pub fn history(self) -> Style {
        self.color(Color::Cyan)
    }

    /// Of words that are there to find figures by.
    pub fn label(self) -> Style {
        self.color(Color::DarkGray)
    }

    /// Of titles.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of the chosen row, and of keys.
    pub fn marked(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
