//! What is on the screen, and what a key press makes of it. Pure: data and keys come in, nothing goes out
//! but what to do next.

use super::columns::{Column, Place, places};
use super::keys::Key;
use super::rates::Rates;
use crate::core::view::{Name, NameRow, Names, Overview};

/// Longest filter; a server name has 253 letters at most.
const LONGEST_FILTER: usize = 64;

/// Everything that is shown of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub overview: Overview,
    pub names: Names,
}

/// What names a row, wherever it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub server_name: String,
    pub role: &'static str,
}

impl RowKey {
    /// That of `row`.
    pub fn of(row: &NameRow) -> Self {
        Self {
            server_name: row.server_name.clone(),
            role: row.role,
        }
    }

    /// Whether `row` is the one.
    pub fn is(&self, row: &NameRow) -> bool {
        self.server_name == row.server_name && self.role == row.role
    }
}

/// Rows of which role are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roles {
    #[default]
    Both,
    Server,
    Client,
}

impl Roles {
    fn next(self) -> Self {
        match self {
            Self::Both => Self::Server,
            Self::Server => Self::Client,
            Self::Client => Self::Both,
        }
    }

    /// In a sentence; nothing where both are shown.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::Both => None,
            Self::Server => Some("server"),
            Self::Client => Some("client"),
        }
    }

    fn lets_through(self, row: &NameRow) -> bool {
        self.words().is_none_or(|role| role == row.role)
    }
}

/// One name, looked at closely.
#[derive(Clone, Debug)]
pub struct Detail {
    pub key: RowKey,
    /// `None`: nothing is known of it any more, or not yet.
    pub name: Option<Name>,
    /// Lines that are above the first one shown.
    pub scroll: usize,
}

/// What the caller is to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Draw,
    /// The screen may hold what is not ours.
    DrawAnew,
    /// Fetch what is shown, and draw.
    Fetch,
    Quit,
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct Model {
    pub snapshot: Option<Snapshot>,
    pub rates: Rates,
    pub detail: Option<Detail>,
    pub sort: Column,
    /// From the largest to the smallest.
    pub falls: bool,
    pub filter: String,
    /// The filter that was there before it is edited.
    pub editing: Option<String>,
    pub roles: Roles,
    pub paused: bool,
    pub help: bool,
    /// The last warning.
    pub message: Option<String>,
    /// The row that was chosen; `None` is the first one, whichever that is.
    selected: Option<RowKey>,
    /// Where it stood, for when it is gone.
    index: usize,
    /// Rows above the first one shown.
    pub scroll: usize,
    /// Rows or lines that there was room for.
    pub page: usize,
    /// Lines that scrolling cannot go beyond, in the detail.
    pub last_line: usize,
    width: u16,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            snapshot: None,
            rates: Rates::default(),
            detail: None,
            sort: Column::Total,
            falls: true,
            filter: String::new(),
            editing: None,
            roles: Roles::default(),
            paused: false,
            help: false,
            message: None,
            selected: None,
            index: 0,
            scroll: 0,
            page: 1,
            last_line: 0,
            width: 80,
        }
    }
}

impl Model {
    /// Takes a newer moment, unless the screen is to stay as it is.
    pub fn update(&mut self, snapshot: Snapshot) {
        if self.paused {
            return;
        }
        self.rates.update(&snapshot.names);
        self.snapshot = Some(snapshot);
        self.settle();
    }

    /// The name of which [`Self::look`] wants to be told.
    pub fn wanted(&self) -> Option<&RowKey> {
        self.detail.as_ref().map(|detail| &detail.key)
    }

    /// Takes what is known of the name that is looked at.
    pub fn look(&mut self, name: Option<Name>) {
        if let Some(detail) = &mut self.detail {
            detail.name = name;
        }
    }

    /// The terminal's width, which decides what columns there are to sort by.
    pub fn resize(&mut self, width: u16) {
        self.width = width;
    }

    /// The rows to show, in order.
    pub fn rows(&self) -> Vec<&NameRow> {
        let Some(snapshot) = &self.snapshot else {
            return Vec::new();
        };
        let filter = self.filter.to_lowercase();
        let rows = snapshot.names.names.iter();
        let mut rows: Vec<&NameRow> = rows
            .filter(|row| self.roles.lets_through(row))
            .filter(|row| row.server_name.to_lowercase().contains(&filter))
            .collect();
        rows.sort_by(|a, b| self.sort.compare(self.falls, a, b));
        rows
    }

    /// The columns for these rows.
    pub fn places(&self, rows: &[&NameRow]) -> Vec<Place> {
        // One more for the mark of a name without an hour of its own.
        let lengths = rows.iter().map(|row| row.server_name.chars().count() + 1);
        places(self.width, lengths.max().unwrap_or(0))
    }

    /// Where the chosen row stands.
    pub fn cursor(&self, rows: &[&NameRow]) -> usize {
        let found = match &self.selected {
            None => Some(0),
            Some(key) => rows.iter().position(|row| key.is(row)),
        };
        found.unwrap_or(self.index.min(rows.len().saturating_sub(1)))
    }

    /// Makes room for `page` rows, so that the chosen one is among them.
    pub fn show(&mut self, page: usize) {
        self.page = page.max(1);
        let rows = self.rows();
        let (cursor, rows) = (self.cursor(&rows), rows.len());
        self.index = cursor;
        let most = rows.saturating_sub(self.page);
        self.scroll = self
            .scroll
            .clamp((cursor + 1).saturating_sub(self.page), cursor)
            .min(most);
    }

    /// Takes a key press.
    pub fn press(&mut self, key: Key) -> Action {
        match key {
            Key::Control('c') => return Action::Quit,
            Key::Control('l') => return Action::DrawAnew,
            _ => {}
        }
        if self.editing.is_some() {
            return self.edit(key);
        }
        if self.help {
            // Any key ends it; those that end the program still do.
            self.help = false;
            return match key {
                Key::Letter('q') => Action::Quit,
                _ => Action::Draw,
            };
        }
        match key {
            Key::Letter('q') => Action::Quit,
            Key::Letter('?' | 'h') => {
                self.help = true;
                Action::Draw
            }
            Key::Letter('p' | ' ') => {
                self.paused = !self.paused;
                if self.paused {
                    Action::Draw
                } else {
                    Action::Fetch
                }
            }
            key if self.detail.is_some() => self.press_in_detail(key),
            key => self.press_in_table(key),
        }
    }

    fn press_in_table(&mut self, key: Key) -> Action {
        match key {
            Key::Up | Key::Letter('k') => self.move_by(-1),
            Key::Down | Key::Letter('j') => self.move_by(1),
            Key::PageUp => self.move_by(-self.page_rows()),
            Key::PageDown => self.move_by(self.page_rows()),
            Key::Home | Key::Letter('g') => self.move_by(isize::MIN),
            Key::End | Key::Letter('G') => self.move_by(isize::MAX),
            Key::Right | Key::Letter('s') => self.sort_by_neighbour(1),
            Key::Left | Key::Letter('S') => self.sort_by_neighbour(-1),
            Key::Letter('r') => {
                self.falls = !self.falls;
                Action::Draw
            }
            Key::Letter('c') => {
                self.roles = self.roles.next();
                self.settle();
                Action::Draw
            }
            Key::Letter('/') => {
                self.editing = Some(self.filter.clone());
                Action::Draw
            }
            Key::Escape if !self.filter.is_empty() => {
                self.filter.clear();
                self.settle();
                Action::Draw
            }
            Key::Enter => self.open(),
            _ => Action::Nothing,
        }
    }

    fn press_in_detail(&mut self, key: Key) -> Action {
        let (page, last_line) = (self.page_rows(), self.last_line);
        let Some(detail) = &mut self.detail else {
            return Action::Nothing;
        };
        let by = match key {
            Key::Escape | Key::Backspace | Key::Enter => {
                self.detail = None;
                return Action::Draw;
            }
            Key::Up | Key::Letter('k') => -1,
            Key::Down | Key::Letter('j') => 1,
            Key::PageUp => -page,
            Key::PageDown => page,
            Key::Home | Key::Letter('g') => isize::MIN,
            Key::End | Key::Letter('G') => isize::MAX,
            _ => return Action::Nothing,
        };
        detail.scroll = detail.scroll.saturating_add_signed(by).min(last_line);
        Action::Draw
    }

    /// A key while the filter is typed: every letter shows at once what it leaves.
    fn edit(&mut self, key: Key) -> Action {
        match key {
            Key::Enter => self.editing = None,
            Key::Escape => self.filter = self.editing.take().unwrap_or_default(),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Control('u') => self.filter.clear(),
            Key::Letter(letter) if self.filter.chars().count() < LONGEST_FILTER => {
                self.filter.push(letter);
            }
            _ => return Action::Nothing,
        }
        self.settle();
        Action::Draw
    }

    fn open(&mut self) -> Action {
        let rows = self.rows();
        let Some(row) = rows.get(self.cursor(&rows)) else {
            return Action::Nothing;
        };
        let key = RowKey::of(row);
        self.selected = Some(key.clone());
        self.detail = Some(Detail {
            key,
            name: None,
            scroll: 0,
        });
        Action::Fetch
    }

    fn page_rows(&self) -> isize {
        isize::try_from(self.page).unwrap_or(1)
    }

    fn move_by(&mut self, by: isize) -> Action {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let index = self.cursor(&rows).saturating_add_signed(by).min(last);
        let selected = rows.get(index).map(|row| RowKey::of(row));
        (self.index, self.selected) = (index, selected);
        Action::Draw
    }

    /// Sorts by the next column that can be seen, or by the total, which is always there to be had.
    fn sort_by_neighbour(&mut self, by: isize) -> Action {
        let rows = self.rows();
        let places = self.places(&rows);
        let columns: Vec<Column> = super::columns::ALL
            .into_iter()
            .filter(|&column| {
                column == Column::Total || places.iter().any(|place| place.column == column)
            })
            .collect();
        let count = isize::try_from(columns.len()).unwrap_or(1);
        let at = columns.iter().position(|&column| column == self.sort);
        let at = at.map_or(0, |at| isize::try_from(at).unwrap_or(0));
        let next = (at + by).rem_euclid(count);
        self.sort = columns[usize::try_from(next).unwrap_or(0)];
        self.falls = self.sort.falls_at_first();
        Action::Draw
    }

    /// Where the chosen row is gone, the one in its place is chosen.
    fn settle(&mut self) {
        let rows = self.rows();
        let gone = |key: &RowKey| !rows.iter().any(|row| key.is(row));
        if self.selected.as_ref().is_some_and(gone) {
            let selected = rows.get(self.cursor(&rows)).map(|row| RowKey::of(row));
            self.selected = selected;
        }
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
