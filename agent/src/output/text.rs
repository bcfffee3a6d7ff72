//! One handshake as a line of text that is made to be read: aligned columns of fixed width.
//!
//! Much of a record was chosen by a stranger on the network. Only printable ASCII gets through,
//! so no server name, protocol or process can send an escape sequence to the terminal, and every
//! character is one column wide.

use std::fmt::Write;

use super::filter::name_or_marker;
use super::json::ticket_key;
use crate::config::values::AddressMask;
use crate::core::names;
use crate::core::record::{
    Failure, Handshake, Method, Outcome, Process, Role, Transport, alert_direction,
};

/// How all lines of one run look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Colour by ANSI escape sequences.
    pub color: bool,
    /// Wall-clock nanoseconds since 1970 at which the clock of `Handshake::client_hello_ns` was 0.
    pub wall_offset_ns: i128,
    pub client_address: AddressMask,
}

/// Which end of a text that is too long goes.
#[derive(Clone, Copy)]
enum Elide {
    /// The end says more: a domain, a port.
    Start,
    End,
}

struct Column {
    title: &'static str,
    width: usize,
    elide: Elide,
    right: bool,
}

const fn column(title: &'static str, width: usize, elide: Elide) -> Column {
    Column {
        title,
        width,
        elide,
        right: false,
    }
}

const TIME: Column = column("TIME (UTC)", 12, Elide::End);
const ROLE: Column = column("ROLE", 6, Elide::End);
/// Holds every IPv4 address with its port.
const CLIENT: Column = column("CLIENT", 21, Elide::Start);
const SERVER_NAME: Column = column("SERVER NAME", 28, Elide::Start);
const VERSION: Column = column("TLS", 3, Elide::End);
const RESULT: Column = column("RESULT", 7, Elide::End);
const OFFERED: Column = column("OFFERED", 10, Elide::End);
const CIPHER: Column = column("CIPHER", 23, Elide::End);
const KEY: Column = column("TICKET", 8, Elide::End);
const HANDSHAKE: Column = Column {
    title: "HANDSHAKE",
    width: 9,
    elide: Elide::End,
    right: true,
};
/// Time to first byte.
const FIRST_BYTE: Column = Column {
    title: "TTFB",
    width: 9,
    elide: Elide::End,
    right: true,
};
const PROCESS: Column = column("PROCESS", 20, Elide::End);
/// Last, so it may be as long as it likes.
const NOTE: Column = column("NOTE", 0, Elide::End);

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Put where characters were left out.
const ELLIPSIS: char = '…';

/// Appends the titles and a line feed.
pub fn write_header(out: &mut String, style: Style) {
    let start = out.len();
    if style.color {
        out.push_str(BOLD);
    }
    let columns = [
        TIME,
        ROLE,
        CLIENT,
        SERVER_NAME,
        VERSION,
        RESULT,
        OFFERED,
        CIPHER,
        KEY,
        HANDSHAKE,
        FIRST_BYTE,
        PROCESS,
        NOTE,
    ];
    for column in &columns {
        cell(out, column, column.title);
    }
    end_line(out, start, style.color);
}

/// Appends the record and a line feed.
pub fn write_line(
    out: &mut String,
    handshake: &Handshake,
    process: Option<&Process>,
    style: Style,
) {
    let start = out.len();
    let outcome = handshake.outcome();
    cell(out, &TIME, &time(handshake, style.wall_offset_ns));
    let role = match handshake.role {
        // Of a capture file all are.
        Role::Observer => "-",
        role => role.as_str(),
    };
    cell(out, &ROLE, role);
    cell(
        out,
        &CLIENT,
        &super::mask(handshake.client, style.client_address).to_string(),
    );
    cell(
        out,
        &SERVER_NAME,
        name_or_marker(handshake.server_name.as_ref()),
    );
    cell(
        out,
        &VERSION,
        handshake
            .version
            .map(names::version)
            .as_deref()
            .unwrap_or("-"),
    );
    if style.color {
        out.push_str(match outcome {
            Outcome::Resumed => GREEN,
            Outcome::Full => YELLOW,
            Outcome::Failed => RED,
        });
    }
    cell(out, &RESULT, outcome.as_str());
    if style.color {
        out.push_str(RESET);
    }
    cell(
        out,
        &OFFERED,
        match handshake.offered {
            Method::None => "-",
            offered => offered.as_str(),
        },
    );
    let cipher = handshake.cipher.map(names::cipher_suite);
    cell(out, &CIPHER, cipher.as_deref().map_or("-", short_cipher));
    cell(
        out,
        &KEY,
        handshake
            .ticket_key
            .map(ticket_key)
            .as_deref()
            .unwrap_or("-"),
    );
    cell(
        out,
        &HANDSHAKE,
        handshake.handshake_ns.map(span).as_deref().unwrap_or("-"),
    );
    let first_byte = handshake.time_to_first_byte_ns.map(span);
    cell(out, &FIRST_BYTE, first_byte.as_deref().unwrap_or("-"));
    cell(out, &PROCESS, &process_name(handshake, process));
    cell(out, &NOTE, &note(handshake));
    end_line(out, start, false);
}

/// Appends one cell and a space. Titles and values go the same way, so they cannot drift apart.
fn cell(out: &mut String, column: &Column, text: &str) {
    let length = text.chars().count();
    let width = if column.width == 0 {
        length
    } else {
        column.width
    };
    let padding = width.saturating_sub(length);
    if column.right {
        out.extend(std::iter::repeat_n(' ', padding));
    }
    let printable = |letter: char| if is_printable(letter) { letter } else { '?' };
    if length <= width {
        out.extend(text.chars().map(printable));
    } else {
        match column.elide {
            Elide::Start => {
                out.push(ELLIPSIS);
                out.extend(text.chars().skip(length - width + 1).map(printable));
            }
            Elide::End => {
                out.extend(text.chars().take(width - 1).map(printable));
                out.push(ELLIPSIS);
            }
        }
    }
    if !column.right {
        out.extend(std::iter::repeat_n(' ', padding));
    }
    out.push(' ');
}

fn is_printable(letter: char) -> bool {
    letter == ' ' || letter.is_ascii_graphic()
}

fn end_line(out: &mut String, start: usize, reset: bool) {
    let length = out[start..].trim_end_matches(' ').len();
    out.truncate(start + length);
    if reset {
        out.push_str(RESET);
    }
    out.push('\n');
}

/// Time of day with milliseconds.
fn time(handshake: &Handshake, wall_offset_ns: i128) -> String {
    wall_offset_ns
        .checked_add(i128::from(handshake.client_hello_ns))
        .and_then(|nanoseconds| jiff::Timestamp::from_nanosecond(nanoseconds).ok())
        .map_or_else(
            || "-".to_owned(),
            |time| time.strftime("%H:%M:%S.%3f").to_string(),
        )
}

/// The suite without what every name has (`TLS_`) or what its mode implies (the hash).
fn short_cipher(name: &str) -> &str {
    let name = name.strip_prefix("TLS_").unwrap_or(name);
    let name = match name.split_once("_WITH_") {
        Some((_, cipher)) => cipher,
        None => name,
    };
    ["_SHA256", "_SHA384"]
        .iter()
        .filter_map(|hash| name.strip_suffix(hash))
        .find(|rest| rest.ends_with("GCM") || rest.ends_with("POLY1305"))
        .unwrap_or(name)
}

/// Three to four digits and the unit in which they say most.
pub(crate) fn span(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{} us", nanoseconds / 1_000),
        1_000_000..10_000_000 => format!("{:.2} ms", nanoseconds as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{:.0} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.1} s", nanoseconds as f64 / 1e9),
    }
}

/// The service with the process id, or what is known of these.
fn process_name(handshake: &Handshake, process: Option<&Process>) -> String {
    let name =
        process.and_then(|process| process.service.as_deref().or(process.executable.as_deref()));
    let pid = process.map(|process| process.pid).or(handshake.pid);
    match (name, pid) {
        (Some(name), Some(pid)) => {
            // The number must survive a long name.
            let pid = format!("[{pid}]");
            let room = PROCESS.width.saturating_sub(pid.len());
            if name.chars().count() <= room {
                format!("{name}{pid}")
            } else {
                let short: String = name.chars().take(room.saturating_sub(1)).collect();
                format!("{short}~{pid}")
            }
        }
        (Some(name), None) => name.to_owned(),
        (None, Some(pid)) => format!("[{pid}]"),
        (None, None) => "-".to_owned(),
    }
}

/// What has no column, and why, where there is a why.
fn note(handshake: &Handshake) -> String {
    let mut note = String::new();
    let mut add = |text: &str| {
        if !note.is_empty() {
            note.push_str(", ");
        }
        note.push_str(text);
    };
    if handshake.transport == Transport::Quic {
        add("QUIC");
    }
    if let Some(reason) = handshake.reject_reason {
        add(reason.as_str());
    }
    if handshake.weak_key == Some(true) {
        add("weak ticket key");
    }
    if !handshake.established {
        match (handshake.failure, handshake.alert) {
            (_, Some(alert)) => {
                let mut text = String::from("alert");
                if let Some(description) = alert.description {
                    // Writing to a String cannot fail.
                    let _ = write!(text, " {}", names::alert(description));
                }
                text.push(' ');
                text.push_str(alert_direction(alert.sent));
                add(&text);
            }
            (Some(Failure::Reset), None) => add("reset"),
            (Some(Failure::Closed), None) => add("closed before the end"),
            (Some(Failure::Timeout), None) => add("timed out"),
            (Some(Failure::Malformed), None) => add("no TLS after the ClientHello"),
            (Some(Failure::Alert), None) => add("alert"),
            (Some(Failure::Unfinished), None) => add(match handshake.resumed {
                true => "the capture ends first; resumes",
                false => "the capture ends first; does not resume",
            }),
            (None, None) => {}
        }
    }
    if handshake.hello_retry {
        add("hello retry");
    }
    match (handshake.early_data_offered, handshake.early_data_accepted) {
        (true, Some(true)) => add("early data"),
        (true, Some(false)) => add("early data refused"),
        _ => {}
    }
    if handshake.ech_offered {
        add("outer name of ECH");
    }
    note
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::core::record::ServerName;
    use crate::core::sample;

    const PLAIN: Style = Style {
        color: false,
        wall_offset_ns: sample::WALL_OFFSET_NS,
        client_address: AddressMask::Full,
    };
    const COLOURED: Style = Style {
        color: true,
        ..PLAIN
    };

    fn line(handshake: &Handshake, process: Option<&Process>, style: Style) -> String {
        let mut out = String::new();
        write_line(&mut out, handshake, process, style);
        out
    }

    #[test]
    fn columns_are_aligned_under_their_titles() {
        let mut out = String::new();
        write_header(&mut out, PLAIN);
        let process = sample::process();
        write_line(&mut out, &sample::resumed(), Some(&process), PLAIN);
        write_line(&mut out, &sample::refused(), Some(&process), PLAIN);
        write_line(&mut out, &sample::failed(), None, PLAIN);
        expect![[r#"
            TIME (UTC)   ROLE   CLIENT                SERVER NAME                  TLS RESULT  OFFERED    CIPHER                  TICKET   HANDSHAKE      TTFB PROCESS              NOTE
            03:16:21.123 server 203.0.113.77:51234    www.example.com              1.3 resumed psk        AES_128_GCM             00abcdef   1.50 ms     31 ms nginx[4242]          early data refused
            03:16:21.123 server 203.0.113.77:51234    www.example.com              1.2 full    ticket     AES_128_GCM             00abcdef   1.50 ms     31 ms nginx[4242]          key_unknown
            03:16:21.123 client 203.0.113.77:51234    _none                        -   failed  -          -                       -                -         - -                    alert unknown_ca received
        "#]].assert_eq(&out);
    }

    #[test]
    fn colour_adds_escapes_and_changes_nothing_else() {
        for (handshake, colour) in [
            (sample::resumed(), GREEN),
            (sample::refused(), YELLOW),
            (sample::failed(), RED),
        ] {
            let coloured = line(&handshake, None, COLOURED);
            assert!(coloured.contains(colour));
            let stripped = coloured.replace(colour, "").replace(RESET, "");
            assert_eq!(stripped, line(&handshake, None, PLAIN));
        }
        let mut header = String::new();
        write_header(&mut header, PLAIN);
        assert!(!header.contains('\x1b'));
    }

    #[test]
    fn long_names_lose_their_start_and_keep_the_columns() {
        let long = Handshake {
            server_name: Some(ServerName::Host(
                "a-very-long-name.of.a.host.example.com".into(),
            )),
            client: "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:51234"
                .parse()
                .expect("valid"),
            ..sample::resumed()
        };
        let text = line(&long, None, PLAIN);
        assert!(text.contains("…-name.of.a.host.example.com 1.3"), "{text}");
        assert!(text.contains("…ddd:eeee:ffff]:51234 "), "{text}");
        let result = text.chars().collect::<String>().find("resumed");
        let usual = line(&sample::resumed(), None, PLAIN).find("resumed");
        // Two ellipses of three bytes each stand for one column each.
        assert_eq!(result.map(|at| at - 4), usual);
    }

    #[test]
    fn hostile_text_cannot_reach_the_terminal() {
        let process = Process {
            service: Some("\x1b]0;owned\x07\u{9b}31m\u{202e}x\n".to_owned()),
            ..sample::process()
        };
        let hostile = Handshake {
            server_name: Some(ServerName::Host("\x1b[2J\r\nevil\u{7f}".into())),
            ..sample::resumed()
        };
        let text = line(&hostile, Some(&process), PLAIN);
        assert!(text.contains("?[2J??evil?"), "{text}");
        let body = text.strip_suffix('\n').expect("one line");
        assert!(
            body.chars()
                .all(|letter| is_printable(letter) || letter == ELLIPSIS),
            "{text:?}"
        );
    }

    proptest! {
        #[test]
        fn any_name_leaves_the_later_columns_in_place(name in any::<String>(), service in any::<String>()) {
            let handshake = Handshake {
                server_name: Some(ServerName::Host(name.into())),
                ..sample::resumed()
            };
            let process = Process { service: Some(service), ..sample::process() };
            let text = line(&handshake, Some(&process), PLAIN);
            let letters: Vec<char> = text.chars().collect();
            let at = TIME.width + ROLE.width + CLIENT.width + SERVER_NAME.width + VERSION.width + 5;
            prop_assert_eq!(letters[at..at + 7].iter().collect::<String>(), "resumed");
            prop_assert_eq!(text.matches('\n').count(), 1);
        }
    }

    #[test]
    fn ciphers_are_short_but_distinct() {
        for (name, short) in [
            ("TLS_AES_128_GCM_SHA256", "AES_128_GCM"),
            ("TLS_CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305"),
            ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "AES_256_GCM"),
            ("TLS_RSA_WITH_AES_128_CBC_SHA", "AES_128_CBC_SHA"),
            ("TLS_RSA_WITH_AES_128_CBC_SHA256", "AES_128_CBC_SHA256"),
            ("0x1234", "0x1234"),
        ] {
            assert_eq!(short_cipher(name), short);
        }
    }

    #[test]
    fn spans_fit_their_column() {
        for (nanoseconds, text) in [
            (0, "0 us"),
            (999_999, "999 us"),
            (1_500_001, "1.50 ms"),
            (123_456_789, "123 ms"),
            (30_000_000_000, "30.0 s"),
        ] {
            assert_eq!(span(nanoseconds), text);
        }
        assert!(span(9_999_999_999).len() <= HANDSHAKE.width);
    }

    #[test]
    fn masked_clients_do_not_show() {
        let style = Style {
            client_address: AddressMask::None,
            ..PLAIN
        };
        assert!(!line(&sample::resumed(), None, style).contains("203.0"));
        let style = Style {
            client_address: AddressMask::Prefix,
            ..PLAIN
        };
        assert!(line(&sample::resumed(), None, style).contains("203.0.113.0/24 "));
    }
}
