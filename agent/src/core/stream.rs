//! One direction of a TCP stream: segments in any order in, bytes in order out.
//!
//! In-order data is passed on straight from the segment, without a copy; only what arrives ahead
//! of a gap is kept. Nothing here knows of TLS.

/// Segments further than this from the expected place belong to another connection on the same
/// ports; no handshake is that long.
const WINDOW_BYTES: u64 = 1 << 20;

/// Separate pieces kept ahead of a gap. A flow of one-byte segments in reverse order meets it.
const MAX_PIECES: usize = 1024;

/// What comes next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    Data(&'a [u8]),
    /// This many bytes were not copied.
    Hole(u64),
}

/// Data ahead of a gap.
#[derive(Debug)]
struct Piece {
    offset: u64,
    data: Vec<u8>,
    /// Bytes it stands for; those beyond `data` are a hole.
    payload: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.payload
    }
}

/// Reassembles one direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// Sequence number of the first byte.
    start: u32,
    /// Offset of the next byte to pass on.
    next: u64,
    /// Sorted by offset.
    ahead: Vec<Piece>,
    ahead_bytes: usize,
    /// Offset of the FIN, once seen.
    fin: Option<u64>,
    /// The peer acknowledged everything before this offset.
    acknowledged: u64,
    overflowed: bool,
}

impl Stream {
    /// Begins a new stream whose first byte has this sequence number.
    pub fn restart(&mut self, start: u32) {
        self.start = start;
        self.next = 0;
        self.ahead.clear();
        self.ahead_bytes = 0;
        self.fin = None;
        self.acknowledged = 0;
        self.overflowed = false;
    }

    /// What begins at this sequence number came before, or is the stream's beginning.
    pub fn has_passed(&self, sequence: u32) -> bool {
        self.offset(sequence)
            .is_some_and(|offset| offset == 0 || (offset > 0 && offset < self.next as i64))
    }

    /// Bytes passed on so far, holes included.
    pub fn delivered(&self) -> u64 {
        self.next
    }

    /// The FIN and everything before it came.
    pub fn is_closed(&self) -> bool {
        self.fin.is_some_and(|fin| self.next >= fin)
    }

    /// Bytes are known to exist that never came: data ahead of a gap, a FIN beyond the data, or
    /// an acknowledgment of bytes that were not seen.
    pub fn has_gap(&self) -> bool {
        let known_end = self.fin.unwrap_or(0).max(self.acknowledged);
        !self.ahead.is_empty() || self.overflowed || known_end > self.next
    }

    /// More arrived ahead of a gap than may be kept.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Whether a sequence number may belong to this stream at all.
    pub fn contains(&self, sequence: u32) -> bool {
        self.offset(sequence).is_some()
    }

    /// Notes what the other direction acknowledges. The acknowledgment of a FIN counts one more
    /// than its data, which `fin` takes back.
    pub fn acknowledge(&mut self, acknowledgment: u32) {
        if let Some(offset) = self
            .offset(acknowledgment)
            .and_then(|o| u64::try_from(o).ok())
        {
            let offset = self.fin.map_or(offset, |fin| offset.min(fin));
            self.acknowledged = self.acknowledged.max(offset);
        }
    }

    /// Notes a FIN behind `payload` bytes from `sequence`.
    pub fn finish(&mut self, sequence: u32, payload: u32) {
        if let Some(offset) = self.offset(sequence) {
            let fin = u64::try_from(offset + i64::from(payload)).unwrap_or(0);
            self.fin = Some(self.fin.map_or(fin, |old| old.min(fin)));
            // The acknowledgment of this FIN may have been seen before it.
            self.acknowledged = self.acknowledged.min(fin);
        }
    }

    /// Takes a segment that stands for `payload` bytes of which `data` was copied, and passes on
    /// what is now in order. At most `limit` bytes are kept ahead of a gap.
    pub fn push(
        &mut self,
        sequence: u32,
        data: &[u8],
        payload: u32,
        limit: usize,
        mut deliver: impl FnMut(Chunk<'_>),
    ) {
        let Some(offset) = self.offset(sequence) else {
            return;
        };
        let end = offset + i64::from(payload);
        if end <= self.next as i64 {
            return;
        }
        if offset > self.next as i64 {
            self.keep(offset as u64, data, u64::from(payload), limit);
            return;
        }
        self.pass(offset, data, u64::from(payload), &mut deliver);
        if self.ahead.is_empty() {
            return;
        }
        let ready = self
            .ahead
            .partition_point(|piece| piece.offset <= self.next);
        if ready == 0 {
            return;
        }
        // Each delivered piece may make the next one ready.
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut used = 0;
        while let Some(piece) = ahead.get(used).filter(|piece| piece.offset <= self.next) {
            self.ahead_bytes -= piece.data.len();
            if piece.end() > self.next {
                self.pass(
                    piece.offset as i64,
                    &piece.data,
                    piece.payload,
                    &mut deliver,
                );
            }
            used += 1;
        }
        ahead.drain(..used);
        self.ahead = ahead;
    }

    /// Passes on the part of an in-order segment that is new.
    fn pass(
        &mut self,
        offset: i64,
        data: &[u8],
        payload: u64,
        deliver: &mut impl FnMut(Chunk<'_>),
    ) {
        let known = (self.next as i64 - offset) as u64;
        let new = data.get(known as usize..).unwrap_or_default();
        let hole = payload - known - new.len() as u64;
        self.next += new.len() as u64 + hole;
        if !new.is_empty() {
            deliver(Chunk::Data(new));
        }
        if hole > 0 {
            deliver(Chunk::Hole(hole));
        }
    }

    fn keep(&mut self, offset: u64, data: &[u8], payload: u64, limit: usize) {
        let end = offset + payload;
        let at = self.ahead.partition_point(|piece| piece.offset <= offset);
        if let Some(before) = at.checked_sub(1).map(|i| &mut self.ahead[i]) {
            if before.end() >= end {
                return;
            }
            let whole = before.payload == before.data.len() as u64;
            if before.end() == offset && whole && self.ahead_bytes + data.len() <= limit {
                before.data.extend_from_slice(data);
                before.payload += payload;
                self.ahead_bytes += data.len();
                return;
            }
        }
        if self.ahead.len() >= MAX_PIECES || self.ahead_bytes + data.len() > limit {
            self.overflowed = true;
            return;
        }
        self.ahead_bytes += data.len();
        self.ahead.insert(
            at,
            Piece {
                offset,
                data: data.to_vec(),
                payload,
            },
        );
    }

    /// Offset of a sequence number, which wraps around (RFC 9293, 3.4); negative before the start.
    fn offset(&self, sequence: u32) -> Option<i64> {
        let expected = self.start.wrapping_add(self.next as u32);
        let distance = sequence.wrapping_sub(expected) as i32;
        (u64::from(distance.unsigned_abs()) <= WINDOW_BYTES)
            .then(|| self.next as i64 + i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence numbers wrap in the middle of the test data.
    const START: u32 = u32::MAX - 3;

    fn stream() -> Stream {
        let mut stream = Stream::default();
        stream.restart(START);
        stream
    }

    fn push(stream: &mut Stream, offset: u32, data: &[u8], payload: u32, out: &mut String) {
        stream.push(
            START.wrapping_add(offset),
            data,
            payload,
            64,
            |chunk| match chunk {
                Chunk::Data(data) => out.push_str(&String::from_utf8_lossy(data)),
                Chunk::Hole(length) => out.push_str(&".".repeat(length as usize)),
            },
        );
    }

    fn run(segments: &[(u32, &str)]) -> (String, Stream) {
        let (mut out, mut stream) = (String::new(), stream());
        for (offset, data) in segments {
            push(
                &mut stream,
                *offset,
                data.as_bytes(),
                data.len() as u32,
                &mut out,
            );
        }
        (out, stream)
    }

    #[test]
    fn orders_overlapping_and_repeated_segments() {
        let (out, stream) = run(&[(6, "ghi"), (2, "cdefg"), (6, "gh"), (0, "abc"), (0, "abc")]);
        assert_eq!(out, "abcdefghi");
        assert!(!stream.has_gap());
    }

    #[test]
    fn holds_data_behind_a_gap() {
        let (out, stream) = run(&[(0, "ab"), (3, "d")]);
        assert_eq!(out, "ab");
        assert!(stream.has_gap());
    }

    #[test]
    fn drops_bytes_before_the_start() {
        let (mut out, mut stream) = (String::new(), stream());
        push(&mut stream, u32::MAX, b"xab", 3, &mut out);
        assert_eq!(out, "ab");
    }

    #[test]
    fn passes_holes_on_in_any_order() {
        let (mut out, mut stream) = (String::new(), stream());
        push(&mut stream, 2, b"c", 3, &mut out);
        push(&mut stream, 5, b"f", 1, &mut out);
        push(&mut stream, 0, b"ab", 2, &mut out);
        assert_eq!(out, "abc..f");
    }

    #[test]
    fn fin_beyond_the_data_is_a_gap() {
        let (_, mut stream) = run(&[(0, "ab")]);
        stream.finish(START.wrapping_add(2), 0);
        assert!(stream.is_closed() && !stream.has_gap());
        let (_, mut stream) = run(&[(0, "ab")]);
        stream.finish(START.wrapping_add(3), 4);
        assert!(!stream.is_closed() && stream.has_gap());
    }

    #[test]
    fn acknowledged_bytes_that_never_came_are_a_gap() {
        let (_, mut stream) = run(&[(0, "ab")]);
        stream.acknowledge(START.wrapping_add(2));
        assert!(!stream.has_gap());
        stream.acknowledge(START.wrapping_add(3));
        assert!(stream.has_gap());
        stream.finish(START.wrapping_add(2), 0);
        assert!(!stream.has_gap(), "it was the FIN that was acknowledged");
    }

    #[test]
    fn keeps_no_more_than_its_limit() {
        let (mut out, mut stream) = (String::new(), stream());
        push(&mut stream, 1, &[b'x'; 60], 60, &mut out);
        push(&mut stream, 100, &[b'x'; 60], 60, &mut out);
        assert!(stream.overflowed() && stream.ahead_bytes <= 64);
    }
}
