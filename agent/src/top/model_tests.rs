#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::top::fixture::{names, row, shop, snapshot};

fn model() -> Model {
    let mut model = Model::default();
    model.update(snapshot(names(), 0.0));
    model.show(10);
    model
}

fn shown(model: &Model) -> Vec<&str> {
    let rows = model.rows().into_iter();
    rows.map(|row| row.server_name.as_str()).collect()
}

fn chosen(model: &Model) -> String {
    let rows = model.rows();
    rows[model.cursor(&rows)].server_name.clone()
}

fn press(model: &mut Model, keys: &str) {
    for letter in keys.chars() {
        model.press(Key::Letter(letter));
    }
}

#[test]
fn the_busiest_name_stands_first() {
    assert_eq!(
        shown(&model()),
        [
            "api.example",
            "shop.example",
            "legacy.example",
            "collector.metrics.example"
        ]
    );
}

#[test]
fn sorting_goes_by_the_columns_that_can_be_seen_and_reverses() {
    let mut model = model();
    model.resize(80);
    // From the total, which a line of 80 has no room for, to the next that it has.
    press(&mut model, "s");
    assert_eq!((model.sort, model.falls), (Column::Resumed, true));
    press(&mut model, "SS");
    assert_eq!(model.sort, Column::Quota);
    assert_eq!(shown(&model)[0], "api.example");
    press(&mut model, "r");
    assert_eq!(shown(&model)[0], "legacy.example");
    model.press(Key::Left);
    model.press(Key::Left);
    assert_eq!((model.sort, model.falls), (Column::Name, false));
    press(&mut model, "S");
    assert_eq!(model.sort, Column::Offered, "columns go round");
}

#[test]
fn the_chosen_row_is_kept_by_its_name() {
    let mut model = model();
    model.press(Key::Down);
    assert_eq!(chosen(&model), "shop.example");
    press(&mut model, "r");
    assert_eq!(chosen(&model), "shop.example");
    let mut rows = names();
    rows.push(row("new.example", "server", 100_000, 0));
    model.update(snapshot(rows, 1.0));
    assert_eq!(chosen(&model), "shop.example");
}

#[test]
fn when_the_chosen_row_goes_its_place_is_kept() {
    let mut model = model();
    model.press(Key::Down);
    model.show(10);
    let mut rows = names();
    rows.retain(|row| row.server_name != "shop.example");
    model.update(snapshot(rows, 1.0));
    assert_eq!(chosen(&model), "legacy.example");
}

#[test]
fn moving_stays_within_the_rows_and_scrolls_with_them() {
    let mut model = model();
    model.show(2);
    model.press(Key::Up);
    assert_eq!(chosen(&model), "api.example");
    model.press(Key::PageDown);
    model.show(2);
    assert_eq!(
        (chosen(&model).as_str(), model.scroll),
        ("legacy.example", 1)
    );
    model.press(Key::End);
    model.press(Key::Down);
    model.show(2);
    assert_eq!(model.scroll, 2);
    model.press(Key::Home);
    model.show(2);
    assert_eq!(model.scroll, 0);
}

#[test]
fn a_filter_shows_what_it_leaves_with_each_letter() {
    let mut model = model();
    press(&mut model, "/SHO");
    assert_eq!(shown(&model), ["shop.example"]);
    press(&mut model, "q");
    assert!(shown(&model).is_empty(), "letters are no commands here");
    model.press(Key::Backspace);
    model.press(Key::Enter);
    assert_eq!(shown(&model), ["shop.example"]);
    press(&mut model, "/x");
    model.press(Key::Escape);
    assert_eq!(model.filter, "SHO", "as it was before");
    model.press(Key::Escape);
    assert_eq!(shown(&model).len(), 4);
}

#[test]
fn roles_are_shown_one_at_a_time_or_both() {
    let mut model = model();
    press(&mut model, "c");
    assert_eq!(shown(&model).len(), 3);
    press(&mut model, "c");
    assert_eq!(shown(&model), ["collector.metrics.example"]);
    press(&mut model, "c");
    assert_eq!(shown(&model).len(), 4);
}

#[test]
fn a_pause_keeps_what_is_shown() {
    let mut model = model();
    assert_eq!(model.press(Key::Letter('p')), Action::Draw);
    model.update(snapshot(Vec::new(), 5.0));
    assert_eq!(shown(&model).len(), 4);
    assert_eq!(model.press(Key::Letter(' ')), Action::Fetch);
    model.update(snapshot(Vec::new(), 6.0));
    assert!(shown(&model).is_empty());
}

#[test]
fn enter_looks_at_the_chosen_name_and_escape_goes_back() {
    let mut model = model();
    model.press(Key::Down);
    assert_eq!(model.press(Key::Enter), Action::Fetch);
    assert_eq!(model.wanted().unwrap().server_name, "shop.example");
    model.look(Some(shop()));
    model.last_line = 3;
    model.press(Key::PageDown);
    assert_eq!(model.detail.as_ref().unwrap().scroll, 3);
    model.press(Key::Escape);
    assert!(model.detail.is_none());
    assert_eq!(chosen(&model), "shop.example");
}

#[test]
fn enter_on_no_row_does_nothing() {
    let mut model = Model::default();
    assert_eq!(model.press(Key::Enter), Action::Nothing);
    assert_eq!(model.press(Key::End), Action::Draw);
}

#[test]
fn help_goes_with_any_key_and_quitting_still_quits() {
    let mut model = model();
    press(&mut model, "?");
    assert!(model.help);
    press(&mut model, "c");
    assert_eq!((model.help, model.roles), (false, Roles::Both));
    for keys in ["", "?", "/"] {
        let mut model = model.clone();
        press(&mut model, keys);
        assert_eq!(model.press(Key::Control('c')), Action::Quit, "{keys}");
    }
    assert_eq!(model.press(Key::Letter('q')), Action::Quit);
}
