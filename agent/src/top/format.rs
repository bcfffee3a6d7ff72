//! Figures as a person reads them, each as narrow as it can be without saying more than is known.

use crate::output::text::span;

/// What stands where nothing is known.
pub const UNKNOWN: &str = "–";

/// Heights of a column of the history, eighths of a line.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What a bar ends with, eighths of a cell.
const ENDS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A share of a count, cut and not rounded: what is short of all is never called all, and what is more
/// than nothing never nothing.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return UNKNOWN.to_owned();
    }
    let thousandths = u128::from(part.min(whole)) * 1_000 / u128::from(whole);
    match thousandths {
        0 if part > 0 => "<0.1 %".to_owned(),
        _ => format!("{}.{} %", thousandths / 10, thousandths % 10),
    }
}

/// A ratio that has no counts, cut in the same way.
pub fn percent(ratio: Option<f64>) -> String {
    let Some(ratio) = ratio.filter(|ratio| ratio.is_finite()) else {
        return UNKNOWN.to_owned();
    };
    // 0.57 is a little less than that in binary, and would be cut to 56.9 %.
    let millionths = (ratio.max(0.0) * 1e9 + 1e-3).floor() as u64;
    match millionths {
        0 if ratio > 0.0 => "<0.1 %".to_owned(),
        1..1_000_000 => "<0.1 %".to_owned(),
        _ => format!(
            "{}.{} %",
            millionths / 10_000_000,
            millionths / 1_000_000 % 10
        ),
    }
}

/// A count in at most seven columns.
pub fn count(count: u64) -> String {
    match count {
        0..10_000_000 => count.to_string(),
        10_000_000..10_000_000_000 => format!("{}M", count / 1_000_000),
        10_000_000_000..10_000_000_000_000 => format!("{}G", count / 1_000_000_000),
        _ => format!("{}T", count / 1_000_000_000_000),
    }
}

/// A count with its noun.
pub fn counted(number: u64, one: &str, several: &str) -> String {
    let noun = if number == 1 { one } else { several };
    format!("{} {noun}", count(number))
}

/// A duration in at most seven columns.
pub fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds.filter(|seconds| seconds.is_finite()) else {
        return UNKNOWN.to_owned();
    };
    let sign = if seconds < 0.0 { "-" } else { "" };
    // A cast of a float stays within the type.
    format!("{sign}{}", span((seconds.abs() * 1e9).round() as u64))
}

/// How long the agent has been counting.
pub fn uptime(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (hours, minutes, seconds) = (rest / 3_600, rest / 60 % 60, rest % 60);
    match days {
        0 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}d {hours:02}:{minutes:02}"),
    }
}

/// Time of day.
pub fn clock(unix_seconds: f64) -> String {
    jiff::Timestamp::from_second(unix_seconds as i64).map_or_else(
        |_| UNKNOWN.to_owned(),
        |time| time.strftime("%H:%M:%S UTC").to_string(),
    )
}

/// Events a second.
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => format!("{UNKNOWN}/s"),
        Some(rate) if rate < 999.95 => format!("{rate:.1}/s"),
        Some(rate) => format!("{}/s", count(rate as u64)),
    }
}

/// A bar of `width` cells, padded; empty where nothing is known.
pub fn bar(ratio: Option<f64>, width: usize) -> String {
    let eighths = ratio.map_or(0, |ratio| {
        (ratio.clamp(0.0, 1.0) * width as f64 * 8.0).floor() as usize
    });
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(ENDS[eighths % 8]);
    let cells = eighths / 8 + usize::from(!eighths.is_multiple_of(8));
    bar.extend(std::iter::repeat_n(' ', width.saturating_sub(cells)));
    bar
}

/// A column of the history; a dot where no handshake completed.
pub fn height(ratio: Option<f64>) -> char {
    match ratio {
        None => '·',
        Some(ratio) => HEIGHTS[((ratio.clamp(0.0, 1.0) * 8.0) as usize).min(7)],
    }
}

/// Text of others, without what would move the cursor, take two columns or none, or change the
/// direction of writing.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if is_printable(letter) { letter } else { '?' })
        .collect()
}

fn is_printable(letter: char) -> bool {
    matches!(letter,
        ' '..='~' | '¡'..='¬' | '®'..='ɏ' | '–' | '—' | '‘' | '’' | '“' | '”' | '…' | '≈' | '≤' | '≥')
}

/// The first letters that fit, with an ellipsis where not all do.
pub fn fit(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// The last letters that fit: what tells server names apart is seldom their end, but what they have in
/// common is even less so.
pub fn fit_end(text: &str, width: usize) -> String {
    let text = printable(text);
    let length = text.chars().count();
    if length <= width {
        return text;
    }
    if width == 0 {
        return String::new();
    }
    std::iter::once('…')
        .chain(text.chars().skip(length - width + 1))
        .collect()
}

/// Lines of at most `width` columns, broken at spaces where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in printable(text).split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while word.len() > width {
            lines.push(word.drain(..width).collect());
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += word.len();
        line.extend(word);
    }
    if length > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_cut_and_not_rounded() {
        assert_eq!(share(9_999, 10_000), "99.9 %");
        assert_eq!(share(10_000, 10_000), "100.0 %");
        assert_eq!(share(57, 100), "57.0 %");
        assert_eq!(share(1, 100_000), "<0.1 %");
        assert_eq!(share(0, 3), "0.0 %");
        assert_eq!(share(0, 0), UNKNOWN);
        assert_eq!(share(u64::MAX - 1, u64::MAX), "99.9 %");
    }

    #[test]
    fn ratios_are_cut_as_shares_are() {
        assert_eq!(percent(Some(0.57)), "57.0 %");
        assert_eq!(percent(Some(0.9999)), "99.9 %");
        assert_eq!(percent(Some(1.0)), "100.0 %");
        assert_eq!(percent(Some(0.0002)), "<0.1 %");
        assert_eq!(percent(Some(1e-30)), "<0.1 %");
        assert_eq!(percent(Some(0.0)), "0.0 %");
        assert_eq!(percent(None), UNKNOWN);
        assert_eq!(percent(Some(f64::NAN)), UNKNOWN);
    }

    #[test]
    fn durations_have_a_unit_and_may_be_negative() {
        assert_eq!(duration(Some(0.000_395)), "395 us");
        assert_eq!(duration(Some(-0.0031)), "-3.10 ms");
        assert_eq!(duration(None), UNKNOWN);
    }

    #[test]
    fn bars_have_the_width_that_was_asked_for() {
        assert_eq!(bar(Some(0.5), 4), "██  ");
        assert_eq!(bar(Some(1.0), 4), "████");
        assert_eq!(bar(Some(0.03), 4), "    ");
        assert_eq!(bar(Some(0.04), 4), "▏   ");
        assert_eq!(bar(None, 4), "    ");
    }

    #[test]
    fn nothing_of_others_reaches_the_terminal_unseen() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}\u{200b}漢\n"), "a?[2Jb????");
        assert_eq!(fit("shop.example", 8), "shop.ex…");
        assert_eq!(fit_end("shop.example", 8), "…example");
    }

    #[test]
    fn text_is_broken_at_spaces_and_else_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_text_is_wider_than_its_place(text in any::<String>(), width in 0_usize..40) {
            prop_assert!(fit(&text, width).chars().count() <= width);
            prop_assert!(fit_end(&text, width).chars().count() <= width);
            for line in wrap(&text, width) {
                prop_assert!(line.chars().count() <= width.max(1));
            }
        }

        #[test]
        fn only_all_is_called_all(part in any::<u64>(), whole in 1_u64..) {
            prop_assert_eq!(share(part, whole) == "100.0 %", part >= whole);
        }
    }
}
