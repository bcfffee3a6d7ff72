//! The one bounded reader that all messages are parsed through.

/// Why a message could not be read. Closed, and free of text from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    #[error("a field ends beyond its message")]
    Short,
    #[error("bytes are left behind the last field")]
    TrailingBytes,
    #[error("a length or value is outside its range")]
    OutOfRange,
}

/// A cursor over the bytes of a message or vector.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidMessage> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(InvalidMessage::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A reader over the next `length` bytes only.
    pub fn sub(&mut self, length: usize) -> Result<Self, InvalidMessage> {
        self.take(length).map(Self::new)
    }

    pub fn u8(&mut self) -> Result<u8, InvalidMessage> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u16(&mut self) -> Result<u16, InvalidMessage> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with a one-byte length.
    pub fn vector8(&mut self) -> Result<Self, InvalidMessage> {
        let length = self.u8()?;
        self.sub(length.into())
    }

    /// A vector with a two-byte length.
    pub fn vector16(&mut self) -> Result<Self, InvalidMessage> {
        let length = self.u16()?;
        self.sub(length.into())
    }

    /// Fails unless everything was read.
    pub fn end(&self) -> Result<(), InvalidMessage> {
        match self.rest {
            [] => Ok(()),
            _ => Err(InvalidMessage::TrailingBytes),
        }
    }
}
