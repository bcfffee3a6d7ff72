//! Raw events in a file, as they came out of the ring buffer: for benchmarks and for reproducing a
//! bug without privileges. Each event is preceded by its length, four bytes, little endian.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};

/// First bytes of a recording; the digit is the version of the event layout.
const MAGIC: &[u8; 8] = b"RSMTEV1\n";

/// Larger than any event the kernel half writes.
const MAX_EVENT_BYTES: u32 = 64 * 1024;

/// Writes raw events.
#[derive(Debug)]
pub struct Recorder<W> {
    output: W,
}

impl<W: Write> Recorder<W> {
    /// Starts a recording.
    ///
    /// # Errors
    /// Whatever the output returns.
    pub fn new(mut output: W) -> io::Result<Self> {
        output.write_all(MAGIC)?;
        Ok(Self { output })
    }

    /// Appends one event.
    ///
    /// # Errors
    /// Whatever the output returns.
    pub fn record(&mut self, event: &[u8]) -> io::Result<()> {
        let length = u32::try_from(event.len()).map_err(io::Error::other)?;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(event)
    }

    /// Hands what was written to the operating system.
    ///
    /// # Errors
    /// Whatever the output returns.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Reads a whole recording; each element is one event. All of them share one allocation.
///
/// # Errors
/// `InvalidData` when the input is no recording, `UnexpectedEof` when it is cut off.
pub fn read(mut input: impl Read) -> io::Result<Vec<Bytes>> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(invalid(
            "this is no recording of events, or one of another version",
        ));
    }
    let mut rest = Vec::new();
    input.read_to_end(&mut rest)?;
    let mut rest = Bytes::from(rest);
    let mut events = Vec::new();
    while rest.has_remaining() {
        let length = rest.try_get_u32_le().map_err(|_| cut_off())?;
        if length > MAX_EVENT_BYTES {
            return Err(invalid(
                "the recording is damaged: an event is larger than any can be",
            ));
        }
        let length = length as usize;
        if length > rest.len() {
            return Err(cut_off());
        }
        events.push(rest.split_to(length));
    }
    Ok(events)
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn returns_what_was_recorded() {
        let mut file = Vec::new();
        let mut recorder = Recorder::new(&mut file).unwrap();
        recorder.record(b"one").unwrap();
        recorder.record(b"").unwrap();
        recorder.record(&[7; 4096]).unwrap();
        assert_eq!(
            read(&file[..]).unwrap(),
            [b"one".to_vec(), Vec::new(), vec![7; 4096]]
        );
    }

    #[test]
    fn rejects_foreign_and_torn_files() {
        assert_eq!(
            read(&b"GET / HTTP"[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let mut file = Vec::new();
        Recorder::new(&mut file).unwrap().record(b"event").unwrap();
        for length in MAGIC.len() + 1..file.len() {
            let error = read(&file[..length]).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::UnexpectedEof,
                "cut at {length}"
            );
        }
    }
}
