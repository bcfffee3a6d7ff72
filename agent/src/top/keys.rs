//! Key presses from the bytes that a terminal sends. Pure: whoever reads has the file and the clock.
//!
//! A terminal sends a key as a letter, a control code or a sequence that begins with ESC. Over a slow line
//! a sequence may come in parts; an ESC behind which nothing comes is the key of that name.

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Letter(char),
    Control(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

const ESC: u8 = 0x1b;

/// Longer than any sequence that a terminal sends for a key: beyond it, it is none.
const LONGEST: usize = 32;

/// Makes keys of bytes, in whatever parts they come.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// The keys that are complete with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut rest = self.pending.as_slice();
        while let Some((key, length)) = next(rest) {
            keys.extend(key);
            rest = &rest[length..];
        }
        self.pending = rest.to_vec();
        keys
    }

    /// Whether a sequence has begun that may go on.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What stands there when nothing more came for a while.
    pub fn give_up(&mut self) -> Option<Key> {
        let pending = std::mem::take(&mut self.pending);
        (pending == [ESC]).then_some(Key::Escape)
    }
}

/// The first key, where it means something, and how many bytes it takes; `None` where more are needed.
fn next(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match *bytes.first()? {
        ESC => sequence(bytes),
        b'\r' | b'\n' => Some((Some(Key::Enter), 1)),
        0x08 | 0x7f => Some((Some(Key::Backspace), 1)),
        code @ 0x01..=0x1a => Some((Some(Key::Control((code + b'a' - 1).into())), 1)),
        0x00..0x20 => Some((None, 1)),
        _ => letter(bytes),
    }
}

fn letter(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let length = match bytes[0] {
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => 1,
    };
    let letter = std::str::from_utf8(bytes.get(..length)?).ok();
    let letter = letter.and_then(|text| text.chars().next());
    // What is no UTF-8 is passed over byte by byte.
    Some((letter.map(Key::Letter), letter.map_or(1, char::len_utf8)))
}

/// ESC [ parameters letter, or ESC O letter. Anything else behind ESC is a key of its own: keys with Alt, which
/// are sent so, mean nothing here, and who goes back may be quick with the next key.
fn sequence(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match *bytes.get(1)? {
        b'O' => Some((keypad(*bytes.get(2)?), 3)),
        b'[' => {
            let is_last = |byte: &u8| matches!(byte, 0x40..=0x7e);
            let Some(end) = bytes[2..].iter().take(LONGEST).position(is_last) else {
                return (bytes.len() >= 2 + LONGEST).then_some((None, 2));
            };
            let (parameters, last) = (&bytes[2..2 + end], bytes[2 + end]);
            let key = match last {
                b'~' => numbered(parameters),
                last => last_letter(last),
            };
            Some((key, 3 + end))
        }
        _ => Some((Some(Key::Escape), 1)),
    }
}

fn keypad(letter: u8) -> Option<Key> {
    match letter {
        b'M' => Some(Key::Enter),
        letter => last_letter(letter),
    }
}

fn last_letter(letter: u8) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        _ => return None,
    })
}

fn numbered(parameters: &[u8]) -> Option<Key> {
    Some(match parameters {
        b"1" | b"7" => Key::Home,
        b"4" | b"8" => Key::End,
        b"5" => Key::PageUp,
        b"6" => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys = decoder.feed(bytes);
        keys.extend(decoder.give_up());
        keys
    }

    #[test]
    fn letters_and_control_codes_are_keys() {
        assert_eq!(
            keys("q/é\r\x7f\x03".as_bytes()),
            [
                Key::Letter('q'),
                Key::Letter('/'),
                Key::Letter('é'),
                Key::Enter,
                Key::Backspace,
                Key::Control('c')
            ]
        );
    }

    #[test]
    fn sequences_of_both_modes_are_the_same_keys() {
        assert_eq!(keys(b"\x1b[A\x1bOA"), [Key::Up, Key::Up]);
        assert_eq!(keys(b"\x1b[5~\x1b[6~"), [Key::PageUp, Key::PageDown]);
        assert_eq!(
            keys(b"\x1b[H\x1b[1~\x1bOH"),
            [Key::Home, Key::Home, Key::Home]
        );
    }

    #[test]
    fn escape_alone_is_a_key_once_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.give_up(), Some(Key::Escape));
        assert!(!decoder.is_waiting());
    }

    #[test]
    fn a_key_right_behind_escape_is_a_key_of_its_own() {
        assert_eq!(
            keys(b"\x1b \x1b\x1b"),
            [Key::Escape, Key::Letter(' '), Key::Escape, Key::Escape]
        );
    }

    #[test]
    fn unknown_sequences_and_broken_text_are_passed_over() {
        assert_eq!(keys(b"\x1b[200~\x1b[<0;1;1Mq"), [Key::Letter('q')]);
        assert_eq!(keys(b"\xff\xfeq"), [Key::Letter('q')]);
        assert_eq!(keys(b"\xe2\x28q"), [Key::Letter('('), Key::Letter('q')]);
    }

    proptest! {
        #[test]
        fn parts_make_the_same_keys_as_the_whole(
            bytes in proptest::collection::vec(
                prop_oneof![Just(ESC), Just(b'['), Just(b'A'), Just(b'5'), Just(b'~'), any::<u8>()],
                0..60,
            ),
        ) {
            let mut whole = Decoder::default();
            let mut parts = Decoder::default();
            let expected = whole.feed(&bytes);
            let keys: Vec<Key> = bytes.iter().flat_map(|byte| parts.feed(&[*byte])).collect();
            prop_assert_eq!(keys, expected);
        }
    }
}
