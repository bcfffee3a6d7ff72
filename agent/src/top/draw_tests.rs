#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use expect_test::{Expect, expect};
use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend, TestBackend, WindowSize};
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::top::fixture::{names, row, shop, snapshot};
use crate::top::keys::Key;

const PLAIN: Theme = Theme { color: false };

fn model() -> Model {
    let mut model = Model::default();
    model.update(snapshot(names(), 0.0));
    model
}

fn terminal(model: &mut Model, theme: Theme, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, theme)).unwrap();
    terminal
}

/// The screen as text, without spaces at the ends of lines.
fn screen(model: &mut Model, width: u16, height: u16) -> String {
    let terminal = terminal(model, PLAIN, width, height);
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn check(model: &mut Model, width: u16, height: u16, expected: Expect) {
    expected.assert_eq(&screen(model, width, height));
}

#[test]
fn eighty_by_twenty_four() {
    check(
        &mut model(),
        80,
        24,
        expect![[r#"
        resumetry  1.2.3  up 1:30:00  pop=fra1                              01:30:00 UTC
        server   95.1 % █████████▌      –/s  resumed 10249  full 523  failed 3
        client   33.3 % ███▎            –/s  resumed 2  full 4  failed 0  target 90.0 %
        hour   ····▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇██  by minute
        agent   coverage 99.9 %  none lost  found 1 error, 2 warnings  overhead 0.4 %
        SERVER NAME                ROLE     QUOTA        RESUMED    FULL FAILED OFFERED
        api.example                server  99.9 % █████▉    9999       1      3  99.9 %
        shop.example               server  64.5 % ███▉       250     137      0  82.1 %
        legacy.example             server   0.0 %              0     385      0  49.8 %
        collector.metrics.example* client  33.3 % ██           2       4      0  66.6 %












        4 shown  by total, falling
        q quit  ? help  Enter look  s sort  r reverse  / filter  c role  p pause
    "#]],
    );
}

#[test]
fn forty_by_twelve() {
    check(
        &mut model(),
        40,
        12,
        expect![[r#"
        resumetry  1.2.3            01:30:00 UTC
        server   95.1 % █████▋      –/s
        hour   ····▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇██
        SERVER NAME        QUOTA RESUMED    FULL
        api.example       99.9 %    9999       1
        shop.example      64.5 %     250     137
        legacy.example     0.0 %       0     385
        …etrics.example*  33.3 %       2       4


        4 shown  by total, falling
        q quit  ? help  Enter look  s sort
    "#]],
    );
}

#[test]
fn two_hundred_by_fifty() {
    check(
        &mut model(),
        200,
        50,
        expect![[r#"
        resumetry  1.2.3  up 1:30:00  pop=fra1                                                                                                                                                      01:30:00 UTC
        server   95.1 % █████████▌      –/s  resumed 10249  full 523  failed 3  target 90.0 %
        client   33.3 % ███▎            –/s  resumed 2  full 4  failed 0  target 90.0 %
        hour   ····▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇██  by minute
        agent   coverage 99.9 %  none lost  found 1 error, 2 warnings  overhead 0.4 %
        SERVER NAME                ROLE     QUOTA         ▼TOTAL RESUMED    FULL FAILED OFFERED TTFB FULL TTFB RES TTFB GAP CPU FULL CPU RES
        api.example                server  99.9 % █████▉   10003    9999       1      3  99.9 %         –        –        –        –       –
        shop.example               server  64.5 % ███▉       387     250     137      0  82.1 %   6.50 ms  3.40 ms  3.10 ms   355 us  141 us
        legacy.example             server   0.0 %            385       0     385      0  49.8 %         –        –        –        –       –
        collector.metrics.example* client  33.3 % ██           6       2       4      0  66.6 %         –        –        –        –       –






































        4 shown  by total, falling
        q quit  ? help  Enter look  s sort  r reverse  / filter  c role  p pause
    "#]],
    );
}

#[test]
fn too_small() {
    check(
        &mut model(),
        29,
        8,
        expect![[r#"
        The terminal is too small:
        30×8 is the least.






    "#]],
    );
    check(
        &mut model(),
        1,
        1,
        expect![[r#"
        T
    "#]],
    );
}

#[test]
fn a_name_looked_at() {
    let mut model = model();
    model.press(Key::Down);
    model.press(Key::Enter);
    model.look(Some(shop()));
    check(
        &mut model,
        80,
        24,
        expect![[r#"
            resumetry  1.2.3  up 1:30:00  pop=fra1                              01:30:00 UTC
            server   95.1 % █████████▌      –/s  resumed 10249  full 523  failed 3
            shop.example  server
            quota    64.5 % ██████▍     resumed 250  full 137  failed 0  offered 82.1 %
            byte    full 6.50 ms  resumed 3.40 ms  gap 3.10 ms  to the first byte
            cpu     full 355 us  resumed 141 us  gap 214 us  of the handshake
            hour   ····▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇██  by minute

            Findings
            error: Tickets of other servers are refused
              17 of 267 offers bore a key that this server does not hold, and all of them
              one that it never issued tickets with.
              → Give all servers of a name the same ticket keys.

            Why the others did not resume
            never_offered          120  87.5 % ████████▊
            key_unknown             17  12.4 % █▏

            By service, since each was first seen
            SERVICE OVER TLS  OFFERED      QUOTA RESUMED    FULL  FAILED
            nginx   tcp  1.3  psk         95.2 %     200      10       0
            nginx   tcp  1.3  none         0.0 %       0     100       0
            ↓ 1 more
            q quit  Esc back  ? help  p pause  ↑ ↓ scroll
        "#]],
    );
    check(
        &mut model,
        40,
        12,
        expect![[r#"
            resumetry  1.2.3            01:30:00 UTC
            server   95.1 % █████▋      –/s
            shop.example  server
            quota    64.5 % ██████▍     resumed 250
            byte    full 6.50 ms  resumed 3.40 ms
            cpu     full 355 us  resumed 141 us
            hour   ····▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇██

            Findings
            error: Tickets of other servers are
            ↓ 16 more
            q quit  Esc back  ? help  p pause
        "#]],
    );
}

#[test]
fn help() {
    let mut model = model();
    model.press(Key::Letter('?'));
    check(
        &mut model,
        80,
        24,
        expect![[r#"
        resumetry  1.2.3  up 1:30:00  pop=fra1                              01:30:00 UTC
        server   95.1 % █████████▌      –/s  resumed 10249  full 523  failed 3
        client   33.3 % ███▎            –/s  resumed 2  full 4  failed 0  target 90.0 %
        hour   ····▁▁▁▂▂▃▃┌ Keys; any closes this ───────────────────┐
        agent   coverage 9│↑ ↓ PgUp PgDn Home End  move              │ overhead 0.4 %
        SERVER NAME       │Enter        look at a name               │LL FAILED OFFERED
        api.example       │Esc          back                         │ 1      3  99.9 %
        shop.example      │← → or s S   sort by another column       │37      0  82.1 %
        legacy.example    │r            reverse the order            │85      0  49.8 %
        collector.metrics.│/            filter by name               │ 4      0  66.6 %
                          │c            server, client or both       │
                          │p or space   pause, and go on             │
                          │Ctrl-L       draw anew                    │
                          │q or Ctrl-C  quit                         │
                          │                                          │
                          │Quota: resumed of all completed.          │
                          │Counts are of the last hour; with *       │
                          │after the name since it was first seen.   │
                          │–: not known.                             │
                          └──────────────────────────────────────────┘


        4 shown  by total, falling
        q quit  ? help  Enter look  s sort  r reverse  / filter  c role  p pause
    "#]],
    );
    check(
        &mut model,
        40,
        12,
        expect![[r#"
        ┌ Keys; any closes this ───────────────┐
        │↑ ↓ PgUp PgDn Home End  move          │
        │Enter        look at a name           │
        │Esc          back                     │
        │← → or s S   sort by another column   │
        │r            reverse the order        │
        │/            filter by name           │
        │c            server, client or both   │
        │p or space   pause, and go on         │
        │Ctrl-L       draw anew                │
        │q or Ctrl-C  quit                     │
        └──────────────────────────────────────┘
    "#]],
    );
}

#[test]
fn paused_with_a_filter_that_is_typed_and_a_warning() {
    let mut model = model();
    model.message = Some("warn: events were lost".to_owned());
    for letter in "p/example".chars() {
        model.press(Key::Letter(letter));
    }
    check(
        &mut model,
        60,
        12,
        expect![[r#"
        resumetry  1.2.3  up 1:30:00  pop=fra1  PAUSED  01:30:00 UTC
        server   95.1 % █████████▌      –/s  resumed 10249  full 523
        hour   ····▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇██  by minute
        SERVER NAME                  QUOTA RESUMED    FULL FAILED
        api.example                 99.9 %    9999       1      3
        shop.example                64.5 %     250     137      0
        legacy.example               0.0 %       0     385      0
        collector.metrics.example*  33.3 %       2       4      0

        warn: events were lost
        filter: example
        Enter keep  Esc as before  Ctrl-U clear
    "#]],
    );
}

#[test]
fn nothing_yet() {
    let mut model = Model::default();
    check(
        &mut model,
        40,
        8,
        expect![[r#"
        resumetry
        SERVER NAME        QUOTA RESUMED    FULL
        Waiting for the first figures.



        0 shown  by total, falling
        q quit  ? help  Enter look  s sort
    "#]],
    );
    model.update(snapshot(Vec::new(), 0.0));
    check(
        &mut model,
        40,
        8,
        expect![[r#"
        resumetry  1.2.3            01:30:00 UTC
        server   95.1 % █████▋      –/s
        SERVER NAME        QUOTA RESUMED    FULL
        No handshake yet.


        0 shown  by total, falling
        q quit  ? help  Enter look  s sort
    "#]],
    );
}

#[test]
fn without_colour_there_is_none_and_with_it_only_colour_differs() {
    let text = |theme| {
        let mut model = model();
        model.press(Key::Enter);
        model.look(Some(shop()));
        let detail = terminal(&mut model, theme, 120, 30).backend().clone();
        model.press(Key::Escape);
        let table = terminal(&mut model, theme, 120, 30).backend().clone();
        [detail, table]
    };
    let plain = text(PLAIN);
    let colored = text(Theme { color: true });
    for (plain, colored) in plain.iter().zip(&colored) {
        let (plain, colored) = (&plain.buffer().content, &colored.buffer().content);
        assert!(plain.iter().all(|cell| cell.fg == Color::Reset));
        assert!(colored.iter().any(|cell| cell.fg != Color::Reset));
        for (plain, colored) in plain.iter().zip(colored) {
            assert_eq!(plain.symbol(), colored.symbol());
        }
    }
}

#[test]
fn the_chosen_row_is_marked_without_colour() {
    let mut model = model();
    let terminal = terminal(&mut model, PLAIN, 80, 24);
    let buffer = terminal.backend().buffer();
    let marked: Vec<u16> = (0..22)
        .filter(|&y| buffer[(0, y)].modifier.contains(Modifier::REVERSED))
        .collect();
    assert_eq!(marked.len(), 1);
}

#[test]
fn hostile_text_of_others_stays_within_its_cells() {
    let hostile = "\u{1b}]0;x\u{7}\u{202e}漢字\n\u{200b}".repeat(9);
    let mut snapshot = snapshot(vec![row(&hostile, "server", 3, 4)], 0.0);
    let labels = &mut snapshot.overview.labels;
    labels.insert("l".to_owned(), hostile.clone());
    snapshot.overview.health.trouble = Some(hostile.clone());
    let mut model = Model::default();
    model.update(snapshot);
    model.message = Some(hostile.clone());
    let mut name = shop();
    name.parts[0].service = hostile.clone();
    name.findings[0].evidence = hostile.clone();
    name.findings[0].title = hostile;
    for looks in [false, true] {
        if looks {
            model.press(Key::Enter);
            model.look(Some(name.clone()));
        }
        for (width, height) in [(80, 24), (40, 12), (31, 9), (200, 50)] {
            let text = screen(&mut model, width, height);
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{line}");
                assert!(!line.contains(char::is_control), "{line:?}");
                assert!(!line.contains(['漢', '\u{202e}', '\u{200b}']), "{line:?}");
            }
        }
    }
}

/// Counts what a real terminal would be sent.
#[derive(Clone, Default)]
struct Counted(Rc<Cell<usize>>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal of 80×24 that speaks ANSI.
struct Ansi(CrosstermBackend<Counted>);

impl Backend for Ansi {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a ratatui::buffer::Cell)>,
    {
        self.0.draw(content)
    }
    fn hide_cursor(&mut self) -> io::Result<()> {
        self.0.hide_cursor()
    }
    fn show_cursor(&mut self) -> io::Result<()> {
        self.0.show_cursor()
    }
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }
    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.0.set_cursor_position(position)
    }
    fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }
    fn clear_region(&mut self, kind: ratatui::backend::ClearType) -> io::Result<()> {
        self.0.clear_region(kind)
    }
    fn size(&self) -> io::Result<Size> {
        Ok(Size::new(80, 24))
    }
    fn window_size(&mut self) -> io::Result<WindowSize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.0)
    }
}

#[test]
fn a_redraw_sends_what_changed_and_little_else() {
    let counted = Counted::default();
    let mut terminal = Terminal::new(Ansi(CrosstermBackend::new(counted.clone()))).unwrap();
    let mut model = model();
    let mut sent = |model: &mut Model| {
        counted.0.set(0);
        terminal
            .draw(|frame| draw(frame, model, Theme { color: true }))
            .unwrap();
        counted.0.get()
    };
    let first = sent(&mut model);
    assert!((1_000..4_000).contains(&first), "{first} bytes at first");
    let same = sent(&mut model);
    assert!(same < 40, "{same} bytes for nothing new");
    model.update(snapshot(names(), 1.0));
    model.update(snapshot(names(), 2.0));
    sent(&mut model);
    model.update(snapshot(names(), 3.0));
    let idle = sent(&mut model);
    assert!(idle < 100, "{idle} bytes for a second without handshakes");
    let mut busy = names();
    for row in &mut busy {
        let counts = row.hour.get_or_insert(row.total);
        counts.full += 13;
        counts.resumed += 29;
        row.total.full += 42;
    }
    model.update(snapshot(busy, 4.0));
    let busy = sent(&mut model);
    assert!(
        busy < 600,
        "{busy} bytes for a second in which every row changes"
    );
    model.press(Key::Down);
    let moved = sent(&mut model);
    assert!(moved < 500, "{moved} bytes for a step down");
    println!("first {first}, same {same}, idle {idle}, busy {busy}, moved {moved}");
}
