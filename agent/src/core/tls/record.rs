//! Record layer (RFC 8446, 5.1) and handshake layer (RFC 8446, 4) of one direction.
//!
//! Bytes come in any portions, with holes where the kernel copied nothing. Messages that lie
//! whole in a portion are handed on in place; others are gathered. A hole is skipped as long as
//! the place of the next header stays known. Nothing here knows which message may follow which.

use super::codes::{content, handshake};
use super::server_hello::{NAMED_CURVE_BYTES, NEW_TICKET_BYTES};

/// Largest record body: 2^14 bytes and what protection may add (RFC 5246, 6.2.3).
const MAX_RECORD: u16 = (1 << 14) + 2048;

/// Largest hello that is gathered. A ClientHello with every known key share is below 16 KiB.
pub const MAX_HELLO: u32 = 1 << 16;

/// Buffers above this are given back to the allocator when a flow ends.
const MAX_IDLE_BUFFER: usize = 1 << 13;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The header of a clear handshake message.
    MessageStart {
        kind: u8,
        length: u32,
    },
    /// A clear handshake message came to its end; `body` is as much as `wanted` says, or less
    /// where it fell into a hole.
    Message {
        kind: u8,
        length: u32,
        body: &'a [u8],
    },
    ChangeCipherSpec,
    /// An alert in clear text.
    Alert {
        level: u8,
        description: u8,
    },
    /// The header of a record that is protected, or of application data.
    ProtectedStart {
        kind: u8,
        length: u16,
    },
    /// Such a record came to its end.
    Protected {
        kind: u8,
        length: u16,
    },
}

/// What the receiver of an item wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Continue,
    /// From the next record on, this direction is protected.
    Protect,
    /// Read nothing more.
    Stop,
}

/// Why no more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("bytes that are no TLS record")]
    NotARecord,
    #[error("a header fell into a hole")]
    LostInHole,
}

/// Bytes of a message that are worth gathering.
fn wanted(kind: u8, length: u32) -> u32 {
    match kind {
        handshake::CLIENT_HELLO | handshake::SERVER_HELLO => length.min(MAX_HELLO),
        handshake::SERVER_KEY_EXCHANGE => length.min(NAMED_CURVE_BYTES),
        handshake::NEW_SESSION_TICKET => length.min(NEW_TICKET_BYTES),
        _ => 0,
    }
}

#[derive(Debug, Default)]
enum State {
    /// Inside a record header of which this much is known.
    #[default]
    Header,
    /// Inside a record body.
    Body {
        kind: u8,
        length: u16,
        left: u16,
        clear: bool,
    },
    /// After an error or stop.
    End,
}

/// Reads the records of one direction.
#[derive(Debug, Default)]
pub struct RecordReader {
    state: State,
    header: Partial<5>,
    message: Message,
    alert: Partial<2>,
    is_protected: bool,
    position: u64,
}

/// A fixed number of bytes that may come in portions.
#[derive(Debug)]
struct Partial<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Partial<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> Partial<N> {
    /// Takes bytes off `data` until full; then returns them and starts anew.
    fn fill(&mut self, data: &mut &[u8]) -> Option<[u8; N]> {
        let count = (N - self.length).min(data.len());
        let (taken, rest) = data.split_at(count);
        self.bytes[self.length..self.length + count].copy_from_slice(taken);
        *data = rest;
        self.length += count;
        (self.length == N).then(|| {
            self.length = 0;
            self.bytes
        })
    }
}

/// The handshake message being read.
#[derive(Debug, Default)]
struct Message {
    header: Partial<4>,
    is_open: bool,
    kind: u8,
    length: u32,
    left: u32,
    gathered: Vec<u8>,
}

impl RecordReader {
    /// Begins a new stream; buffers are kept for reuse.
    pub fn restart(&mut self) {
        let mut gathered = std::mem::take(&mut self.message.gathered);
        gathered.clear();
        gathered.shrink_to(MAX_IDLE_BUFFER);
        *self = Self::default();
        self.message.gathered = gathered;
    }

    /// Bytes read so far, holes included; inside an item's callback, where that item ends.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads on. `receive` gets each item with the offset behind it.
    pub fn data(
        &mut self,
        mut data: &[u8],
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        let end = self.position + data.len() as u64;
        let result = self.read(&mut data, end, receive);
        self.position = end;
        if result.is_err() {
            self.state = State::End;
        }
        result
    }

    fn read(
        &mut self,
        data: &mut &[u8],
        end: u64,
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        while !data.is_empty() {
            match self.state {
                State::End => return Ok(()),
                State::Header => {
                    let header = self.header.fill(data);
                    self.check_header()?;
                    if let Some(header) = header {
                        self.open(header, end - data.len() as u64, receive)?;
                    }
                }
                State::Body {
                    kind, left, clear, ..
                } => {
                    let (mut body, rest) = data.split_at((left as usize).min(data.len()));
                    let before = body.len();
                    if clear && kind == content::HANDSHAKE {
                        let behind = rest.len() as u64;
                        self.read_messages(&mut body, end - behind, receive)?;
                    } else if clear
                        && kind == content::ALERT
                        && let Some([level, description]) = self.alert.fill(&mut body)
                    {
                        let at = end - rest.len() as u64;
                        self.hand(Item::Alert { level, description }, at, receive);
                    }
                    *data = rest;
                    self.advance(before as u16, end - rest.len() as u64, receive);
                }
            }
        }
        Ok(())
    }

    /// Refuses a header as soon as its first bytes are wrong.
    fn check_header(&self) -> Result<(), RecordError> {
        // A filled header has length 0 again; all its bytes are known then.
        let known = match self.header.length {
            0 => 5,
            length => length,
        };
        let [kind, major, minor, ..] = self.header.bytes;
        let sound = (content::CHANGE_CIPHER_SPEC..=content::HEARTBEAT).contains(&kind)
            && (known < 2 || major == 3)
            && (known < 3 || minor <= 4);
        sound.then_some(()).ok_or(RecordError::NotARecord)
    }

    fn open(
        &mut self,
        [kind, _, _, high, low]: [u8; 5],
        at: u64,
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        let length = u16::from_be_bytes([high, low]);
        if length > MAX_RECORD {
            return Err(RecordError::NotARecord);
        }
        let clear = match kind {
            content::HANDSHAKE => !self.is_protected,
            // A clear alert is two bytes long (RFC 8446, 6).
            content::ALERT => !self.is_protected && length == 2,
            content::CHANGE_CIPHER_SPEC => true,
            _ => false,
        };
        if clear && length == 0 {
            return Err(RecordError::NotARecord);
        }
        self.state = State::Body {
            kind,
            length,
            left: length,
            clear,
        };
        if !clear {
            self.hand(Item::ProtectedStart { kind, length }, at, receive);
        }
        // An empty record of application data is allowed (RFC 5246, 6.2.1).
        self.advance(0, at, receive);
        Ok(())
    }

    /// Counts down the record and closes it at its end.
    fn advance(&mut self, count: u16, at: u64, receive: &mut impl FnMut(Item<'_>, u64) -> Next) {
        let State::Body {
            kind,
            length,
            left,
            clear,
        } = &mut self.state
        else {
            return;
        };
        *left -= count;
        if *left > 0 {
            return;
        }
        let (kind, length, clear) = (*kind, *length, *clear);
        self.state = State::Header;
        if !clear {
            self.hand(Item::Protected { kind, length }, at, receive);
        } else if kind == content::CHANGE_CIPHER_SPEC {
            self.hand(Item::ChangeCipherSpec, at, receive);
        }
    }

    fn hand(&mut self, item: Item<'_>, at: u64, receive: &mut impl FnMut(Item<'_>, u64) -> Next) {
        let next = receive(item, at);
        self.obey(next);
    }

    fn obey(&mut self, next: Next) {
        match next {
            Next::Continue => {}
            Next::Protect => self.is_protected = true,
            Next::Stop => self.state = State::End,
        }
    }

    fn read_messages(
        &mut self,
        body: &mut &[u8],
        end: u64,
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        while !body.is_empty() || self.message.is_complete() {
            if !self.message.is_open {
                let Some([kind, a, b, c]) = self.message.header.fill(body) else {
                    return Ok(());
                };
                let length = u32::from_be_bytes([0, a, b, c]);
                self.message.open(kind, length);
                let at = end - body.len() as u64;
                self.hand(Item::MessageStart { kind, length }, at, receive);
                if matches!(self.state, State::End) {
                    return Ok(());
                }
                continue;
            }
            let message = &mut self.message;
            let untouched = message.left == message.length;
            let (part, rest) = body.split_at((message.left as usize).min(body.len()));
            *body = rest;
            message.left -= part.len() as u32;
            let wanted = wanted(message.kind, message.length) as usize;
            let missing = wanted
                .saturating_sub(message.gathered.len())
                .min(part.len());
            let whole = message.left == 0;
            if !(whole && untouched) {
                message.gathered.extend_from_slice(&part[..missing]);
            }
            if whole {
                message.is_open = false;
                let body = match untouched {
                    true => &part[..missing],
                    false => &message.gathered,
                };
                let item = Item::Message {
                    kind: message.kind,
                    length: message.length,
                    body,
                };
                let next = receive(item, end - rest.len() as u64);
                self.message.gathered.clear();
                self.obey(next);
                if matches!(self.state, State::End) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Skips `length` bytes that were not copied.
    pub fn hole(
        &mut self,
        length: u64,
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        self.position += length;
        let result = self.skip(length, receive);
        if result.is_err() {
            self.state = State::End;
        }
        result
    }

    fn skip(
        &mut self,
        length: u64,
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        let State::Body {
            kind, left, clear, ..
        } = self.state
        else {
            return match self.state {
                State::End => Ok(()),
                _ => Err(RecordError::LostInHole),
            };
        };
        if length > u64::from(left) {
            return Err(RecordError::LostInHole);
        }
        let count = length as u16;
        if clear {
            self.skip_in_message(kind, u32::from(count), receive)?;
        }
        self.advance(count, self.position, receive);
        Ok(())
    }

    fn skip_in_message(
        &mut self,
        kind: u8,
        count: u32,
        receive: &mut impl FnMut(Item<'_>, u64) -> Next,
    ) -> Result<(), RecordError> {
        let message = &mut self.message;
        let wanted = wanted(message.kind, message.length) as usize;
        let inside = kind == content::HANDSHAKE
            && message.is_open
            && count <= message.left
            && message.gathered.len() >= wanted;
        if !inside {
            return Err(RecordError::LostInHole);
        }
        message.left -= count;
        if message.left == 0 {
            // Ends the message with what was gathered before the hole.
            self.read_messages(&mut &[][..], self.position, receive)?;
        }
        Ok(())
    }
}

impl Message {
    fn open(&mut self, kind: u8, length: u32) {
        self.is_open = true;
        self.kind = kind;
        self.length = length;
        self.left = length;
        self.gathered.clear();
    }

    /// Its last byte came, or it has none, and it was not handed on yet.
    fn is_complete(&self) -> bool {
        self.is_open && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of handshake messages: (type, body length) each, bodies of 0x55.
    fn handshakes(messages: &[(u8, u8)]) -> Vec<u8> {
        let mut body = Vec::new();
        for &(kind, length) in messages {
            body.extend_from_slice(&[kind, 0, 0, length]);
            body.resize(body.len() + usize::from(length), 0x55);
        }
        let mut record = vec![22, 3, 3];
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(&body);
        record
    }

    /// Reads data and holes (negative numbers of bytes to skip) and writes down what comes out.
    fn read(data: &[u8], parts: &[i64]) -> (String, Result<(), RecordError>) {
        let mut reader = RecordReader::default();
        let (mut out, mut at) = (String::new(), 0);
        for &part in parts {
            let length = part.unsigned_abs() as usize;
            let mut receive = |item: Item<'_>, _: u64| {
                out += &match item {
                    Item::Message { kind, length, body } => {
                        format!("message {kind} of {length}, {} read; ", body.len())
                    }
                    Item::Alert { level, description } => format!("alert {level} {description}; "),
                    Item::ChangeCipherSpec => {
                        out += "change; ";
                        return Next::Protect;
                    }
                    Item::Protected { kind, length } => format!("protected {kind} {length}; "),
                    Item::MessageStart { .. } | Item::ProtectedStart { .. } => {
                        return Next::Continue;
                    }
                };
                Next::Continue
            };
            let result = match part {
                0.. => reader.data(&data[at..at + length], &mut receive),
                _ => reader.hole(length as u64, &mut receive),
            };
            if result.is_err() {
                return (out, result);
            }
            at += length;
        }
        (out, Ok(()))
    }

    #[test]
    fn reads_coalesced_messages_at_every_split() {
        let mut data = handshakes(&[(2, 38), (11, 90), (14, 0)]);
        data.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
        data.extend_from_slice(&[22, 3, 3, 0, 4, 9, 9, 9, 9]);
        data.extend_from_slice(&[21, 3, 3, 0, 2, 9, 9]);
        let expected = "message 2 of 38, 38 read; message 11 of 90, 0 read; message 14 of 0, 0 \
                        read; change; protected 22 4; protected 21 2; ";
        for split in 0..data.len() as i64 {
            let (out, result) = read(&data, &[split, data.len() as i64 - split]);
            assert_eq!(
                (out.as_str(), result),
                (expected, Ok(())),
                "split at {split}"
            );
        }
        let ones = vec![1; data.len()];
        assert_eq!(read(&data, &ones).0, expected);
    }

    #[test]
    fn reads_a_message_of_several_records() {
        let whole = handshakes(&[(2, 38)]);
        let mut data = vec![22, 3, 3, 0, 10];
        data.extend_from_slice(&whole[5..15]);
        data.extend_from_slice(&[22, 3, 3, 0, 32]);
        data.extend_from_slice(&whole[15..]);
        assert_eq!(
            read(&data, &[data.len() as i64]).0,
            "message 2 of 38, 38 read; "
        );
    }

    #[test]
    fn skips_holes_inside_bodies_that_are_not_wanted() {
        let data = handshakes(&[(11, 90), (14, 0)]);
        let expected = "message 11 of 90, 0 read; message 14 of 0, 0 read; ";
        assert_eq!(read(&data, &[9, -90, 4]), (expected.to_owned(), Ok(())));
        assert_eq!(read(&data, &[20, -40, 43]), (expected.to_owned(), Ok(())));
    }

    #[test]
    fn gives_up_when_a_header_or_hello_falls_into_a_hole() {
        let data = handshakes(&[(11, 90), (14, 0)]);
        let lost = Err(RecordError::LostInHole);
        assert_eq!(read(&data, &[9, -92, 2]).1, lost);
        assert_eq!(read(&data, &[-103]).1, lost);
        assert_eq!(read(&data, &[3, -100]).1, lost);
        assert_eq!(read(&handshakes(&[(2, 38)]), &[20, -10, 17]).1, lost);
    }

    #[test]
    fn skips_a_hole_in_a_protected_record_but_not_beyond() {
        let data = [&[23, 3, 3, 0, 100][..], &[0; 100]].concat();
        assert_eq!(read(&data, &[7, -98]).0, "protected 23 100; ");
        assert_eq!(read(&data, &[7, -99]).1, Err(RecordError::LostInHole));
    }

    #[test]
    fn refuses_what_is_no_record_at_its_first_wrong_byte() {
        for bytes in [
            &b"GET"[..],
            &[22, 4],
            &[22, 3, 9],
            &[22, 3, 3, 0x7f, 0],
            &[22, 3, 3, 0, 0],
        ] {
            let result = read(bytes, &[bytes.len() as i64]).1;
            assert_eq!(result, Err(RecordError::NotARecord), "{bytes:?}");
        }
    }
}
