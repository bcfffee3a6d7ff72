//! The columns of the table: what each shows, how wide it is, what it sorts by, and which of them a
//! terminal has room for.

use std::cmp::Ordering;

use super::format::{bar, count, duration, fit_end, printable, share};
use crate::core::view::{Counts, NameRow, Pair};

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Name,
    Role,
    Quota,
    Total,
    Resumed,
    Full,
    Failed,
    Offered,
    FirstByteFull,
    FirstByteResumed,
    Gap,
    CpuFull,
    CpuResumed,
}

/// From left to right.
pub const ALL: [Column; 13] = [
    Column::Name,
    Column::Role,
    Column::Quota,
    Column::Total,
    Column::Resumed,
    Column::Full,
    Column::Failed,
    Column::Offered,
    Column::FirstByteFull,
    Column::FirstByteResumed,
    Column::Gap,
    Column::CpuFull,
    Column::CpuResumed,
];

/// What a narrow terminal gives up last stands first; the name is always there.
const BY_WORTH: [Column; 12] = [
    Column::Quota,
    Column::Resumed,
    Column::Full,
    Column::Failed,
    Column::Role,
    Column::Offered,
    Column::Total,
    Column::Gap,
    Column::FirstByteFull,
    Column::FirstByteResumed,
    Column::CpuFull,
    Column::CpuResumed,
];

/// A name gets at least this much of the line before a further column does,
const NAME_WIDTH: u16 = 16;
/// and where the line is this long, so much if it needs it.
const WIDE: u16 = 60;
const WIDE_NAME_WIDTH: u16 = 26;
/// Longer names lose their start.
const LONGEST_NAME: u16 = 64;
const BAR_WIDTH: u16 = 6;
/// The bar goes where this column has no place: it repeats what the figure says.
const BAR_BEFORE: Column = Column::Offered;

impl Column {
    /// Above the column, at most as wide as it is.
    pub fn title(self) -> &'static str {
        match self {
            Self::Name => "SERVER NAME",
            Self::Role => "ROLE",
            Self::Quota => "QUOTA",
            Self::Total => "TOTAL",
            Self::Resumed => "RESUMED",
            Self::Full => "FULL",
            Self::Failed => "FAILED",
            Self::Offered => "OFFERED",
            Self::FirstByteFull => "TTFB FULL",
            Self::FirstByteResumed => "TTFB RES",
            Self::Gap => "TTFB GAP",
            Self::CpuFull => "CPU FULL",
            Self::CpuResumed => "CPU RES",
        }
    }

    /// In a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Role => "role",
            Self::Quota => "quota",
            Self::Total => "total",
            Self::Resumed => "resumed",
            Self::Full => "full",
            Self::Failed => "failed",
            Self::Offered => "offered",
            Self::FirstByteFull => "first byte, full",
            Self::FirstByteResumed => "first byte, resumed",
            Self::Gap => "gap of the first byte",
            Self::CpuFull => "CPU, full",
            Self::CpuResumed => "CPU, resumed",
        }
    }

    fn width(self) -> u16 {
        match self {
            Self::Name => NAME_WIDTH,
            Self::Role => 6,
            Self::Quota | Self::Total | Self::Resumed | Self::Full => 7,
            Self::Failed => 6,
            Self::Offered => 7,
            Self::FirstByteFull => 9,
            Self::FirstByteResumed | Self::Gap | Self::CpuFull => 8,
            Self::CpuResumed => 7,
        }
    }

    /// Names from a to z, figures from the largest on: what is looked for stands first.
    pub fn falls_at_first(self) -> bool {
        !matches!(self, Self::Name | Self::Role)
    }

    /// The cell's text, without padding but for the bar.
    pub fn cell(self, row: &NameRow, place: Place) -> String {
        let counts = counts(row);
        let completed = counts.full + counts.resumed;
        match self {
            Self::Name => {
                let width = usize::from(place.width);
                match row.hour {
                    Some(_) => fit_end(&row.server_name, width),
                    None => format!("{}*", fit_end(&row.server_name, width.saturating_sub(1))),
                }
            }
            Self::Role => printable(row.role),
            Self::Quota if place.bar > 0 => format!(
                "{:>7} {}",
                share(counts.resumed, completed),
                bar(quota(counts), usize::from(place.bar))
            ),
            Self::Quota => share(counts.resumed, completed),
            Self::Total => count(completed + counts.failed),
            Self::Resumed => count(counts.resumed),
            Self::Full => count(counts.full),
            Self::Failed => count(counts.failed),
            Self::Offered => share(counts.offered, completed),
            Self::FirstByteFull => duration(row.first_byte_seconds.full),
            Self::FirstByteResumed => duration(row.first_byte_seconds.resumed),
            Self::Gap => duration(gap(row.first_byte_seconds)),
            Self::CpuFull => duration(row.cpu_seconds.full),
            Self::CpuResumed => duration(row.cpu_seconds.resumed),
        }
    }

    /// What the column sorts by; text is compared apart.
    fn figure(self, row: &NameRow) -> Option<f64> {
        let counts = counts(row);
        let completed = (counts.full + counts.resumed) as f64;
        match self {
            Self::Name | Self::Role => None,
            Self::Quota => quota(counts),
            Self::Total => Some(completed + counts.failed as f64),
            Self::Resumed => Some(counts.resumed as f64),
            Self::Full => Some(counts.full as f64),
            Self::Failed => Some(counts.failed as f64),
            Self::Offered => (completed > 0.0).then(|| counts.offered as f64 / completed),
            Self::FirstByteFull => row.first_byte_seconds.full,
            Self::FirstByteResumed => row.first_byte_seconds.resumed,
            Self::Gap => gap(row.first_byte_seconds),
            Self::CpuFull => row.cpu_seconds.full,
            Self::CpuResumed => row.cpu_seconds.resumed,
        }
    }

    /// The order of two rows. What is not known comes last, whichever way the rest goes; equal rows go by
    /// name, so that they do not change places at every look.
    pub fn compare(self, falls: bool, a: &NameRow, b: &NameRow) -> Ordering {
        let turned = |order: Ordering| if falls { order.reverse() } else { order };
        let order = match self {
            Self::Name => turned(a.server_name.cmp(&b.server_name)),
            Self::Role => turned(a.role.cmp(b.role)),
            _ => match (self.figure(a), self.figure(b)) {
                (Some(a), Some(b)) => turned(a.total_cmp(&b)),
                (a, b) => b.is_some().cmp(&a.is_some()),
            },
        };
        order
            .then_with(|| a.server_name.cmp(&b.server_name))
            .then_with(|| b.role.cmp(a.role))
    }
}

/// The last hour's, or where the name has none of its own all since its series began.
pub fn counts(row: &NameRow) -> Counts {
    row.hour.unwrap_or(row.total)
}

/// From the counts, so that the figure and the bar agree.
pub fn quota(counts: Counts) -> Option<f64> {
    let completed = counts.full + counts.resumed;
    (completed > 0).then(|| counts.resumed as f64 / completed as f64)
}

/// What a full handshake takes longer until the first byte.
pub fn gap(pair: Pair) -> Option<f64> {
    Some(pair.full? - pair.resumed?)
}

/// A column and the room that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub column: Column,
    pub width: u16,
    /// Cells of `width` that are the bar's.
    pub bar: u16,
}

impl Place {
    /// Padded to its width: names and words to the left, figures to the right.
    pub fn pad(self, text: &str) -> String {
        let width = usize::from(self.width);
        match self.column {
            Column::Name | Column::Role => format!("{text:<width$}"),
            Column::Quota if self.bar > 0 => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        }
    }
}

/// The columns that fit `width`, from left to right, with one cell between them. `longest` is that of the
/// names to show.
pub fn places(width: u16, longest: usize) -> Vec<Place> {
    let longest = u16::try_from(longest).unwrap_or(LONGEST_NAME);
    let longest = longest.clamp(NAME_WIDTH, LONGEST_NAME);
    let least = match width {
        WIDE.. => longest.min(WIDE_NAME_WIDTH),
        _ => NAME_WIDTH,
    };
    let mut left = width.saturating_sub(least);
    let mut chosen = vec![Column::Name];
    let mut bar = 0;
    for column in BY_WORTH {
        if column == BAR_BEFORE && left > BAR_WIDTH {
            bar = BAR_WIDTH;
            left -= BAR_WIDTH + 1;
        }
        if left <= column.width() {
            break;
        }
        left -= column.width() + 1;
        chosen.push(column);
    }
    let name = (least + left).min(longest);
    ALL.into_iter()
        .filter(|column| chosen.contains(column))
        .map(|column| match column {
            Column::Name => Place {
                column,
                width: name.min(width),
                bar: 0,
            },
            Column::Quota if bar > 0 => Place {
                column,
                width: column.width() + 1 + bar,
                bar,
            },
            _ => Place {
                column,
                width: column.width(),
                bar: 0,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::top::fixture::row;

    fn titles(width: u16) -> Vec<&'static str> {
        places(width, 30)
            .iter()
            .map(|place| place.column.title())
            .collect()
    }

    #[test]
    fn narrow_terminals_keep_what_is_worth_most() {
        assert_eq!(titles(20), ["SERVER NAME"]);
        assert_eq!(titles(40), ["SERVER NAME", "QUOTA", "RESUMED", "FULL"]);
        assert_eq!(
            titles(80),
            [
                "SERVER NAME",
                "ROLE",
                "QUOTA",
                "RESUMED",
                "FULL",
                "FAILED",
                "OFFERED"
            ]
        );
        assert_eq!(titles(200).len(), ALL.len());
    }

    #[test]
    fn what_is_not_known_comes_last_in_both_directions() {
        let known = row("a.example", "server", 1, 2);
        let unknown = row("b.example", "server", 0, 0);
        for falls in [false, true] {
            assert_eq!(
                Column::Quota.compare(falls, &known, &unknown),
                Ordering::Less
            );
        }
    }

    #[test]
    fn a_name_without_an_hour_of_its_own_is_marked() {
        let mut row = row("a.example", "server", 1, 2);
        row.hour = None;
        let place = places(80, 9)[0];
        assert_eq!(Column::Name.cell(&row, place), "a.example*");
    }

    proptest! {
        #[test]
        fn columns_and_their_cells_fit_the_line(
            width in 1_u16..300,
            longest in 0_usize..400,
            name in any::<String>(),
            full in any::<u32>(),
            resumed in any::<u32>(),
        ) {
            let places = places(width, longest);
            let total: u16 = places.iter().map(|place| place.width + 1).sum();
            prop_assert!(total <= width + 1);
            let row = row(&name, "server", full.into(), resumed.into());
            for place in places {
                let cell = place.pad(&place.column.cell(&row, place));
                prop_assert!(cell.chars().count() <= usize::from(place.width.max(1)));
                prop_assert!(width < NAME_WIDTH || place.column.title().len() <= usize::from(place.width));
            }
        }
    }
}
