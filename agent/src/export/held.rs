//! Bytes that are made before they can be sent, since a slow client takes them or their number comes
//! first: what is beyond their beginning is held compressed, so that ten thousand server names take
//! little more memory than a thousand.

use std::io::{self, Read as _, Write};

use axum::body::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Bytes that are held as they are: more than the metrics of a thousand names.
const MOST_PLAIN: usize = 5 << 19;

/// Bytes that are unpacked at a time.
const PART: usize = 64 << 10;

/// What was written so far.
#[derive(Default)]
pub(in crate::export) struct Held {
    plain: Vec<u8>,
    packed: Option<DeflateEncoder<Vec<u8>>>,
    length: usize,
}

impl Held {
    /// Nothing yet, with room for much: memory that is not written to is none.
    pub(in crate::export) fn roomy() -> Self {
        Held {
            plain: Vec::with_capacity(MOST_PLAIN),
            ..Held::default()
        }
    }

    /// Bytes in all.
    pub(in crate::export) fn len(&self) -> usize {
        self.length
    }

    /// The bytes, part by part.
    ///
    /// # Errors
    /// None in practice: it is all in memory.
    pub(in crate::export) fn into_parts(
        self,
    ) -> io::Result<impl Iterator<Item = io::Result<Bytes>> + Send + 'static> {
        let packed = self.packed.map(DeflateEncoder::finish).transpose()?;
        let mut unpacker = DeflateDecoder::new(io::Cursor::new(packed.unwrap_or_default()));
        let rest = std::iter::from_fn(move || {
            let mut part = vec![0; PART];
            match unpacker.read(&mut part) {
                Ok(0) => None,
                Ok(length) => {
                    part.truncate(length);
                    Some(Ok(Bytes::from(part)))
                }
                Err(error) => Some(Err(error)),
            }
        });
        let is_more = self.length > self.plain.len();
        let plain = Bytes::from(self.plain);
        Ok(std::iter::once(Ok(plain)).chain(is_more.then_some(rest).into_iter().flatten()))
    }
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.packed.is_none() && self.plain.len() + bytes.len() <= MOST_PLAIN {
            self.plain.extend_from_slice(bytes);
        } else {
            let packed = self
                .packed
                .get_or_insert_with(|| DeflateEncoder::new(Vec::new(), Compression::fast()));
            packed.write_all(bytes)?;
        }
        self.length += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    /// What comes out of a body of so many lines, and what was held of it meanwhile.
    fn through(lines: usize) -> (String, Vec<u8>, usize) {
        let mut held = Held::roomy();
        let mut text = String::new();
        for line in 0..lines {
            let line = format!("tls_handshakes_total{{server_name=\"host{line}\"}} {line}\n");
            held.write_all(line.as_bytes()).unwrap();
            text.push_str(&line);
        }
        assert_eq!(held.len(), text.len());
        let packed = held
            .packed
            .as_ref()
            .map_or(0, |packed| packed.get_ref().len());
        let memory = held.plain.len() + packed;
        let parts = held.into_parts().unwrap().map(Result::unwrap);
        (text, parts.flatten().collect(), memory)
    }

    #[test]
    fn gives_back_what_was_written() {
        for lines in [0, 1, 1_000, 200_000] {
            let (text, bytes, _) = through(lines);
            assert!(text.as_bytes() == bytes, "{lines} lines");
        }
    }

    #[test]
    fn holds_little_of_what_is_large() {
        let (text, _, memory) = through(200_000);
        assert!(text.len() > 2 * MOST_PLAIN);
        assert!(memory < MOST_PLAIN + text.len() / 4, "{memory}");
    }
}
