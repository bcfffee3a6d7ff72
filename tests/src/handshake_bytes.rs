//! What a handshake takes on the wire, seen from the client.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, ensure};
use openssl::ssl::SslStream;

use crate::client::Client;
use crate::http1;

/// Bytes of TLS records with their headers, each way, without what belongs to the application or
/// to the goodbye: flights of the handshake, and the tickets that the server sends after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeBytes {
    pub client: usize,
    pub server: usize,
}

impl Client {
    /// One connection that asks for nothing, or for `/` as early data.
    pub fn handshake_bytes(
        &self,
        socket: TcpStream,
        resume: bool,
        early: bool,
    ) -> Result<HandshakeBytes> {
        let tap = Tap {
            socket,
            sent: Vec::new(),
            received: Vec::new(),
        };
        let mut stream = SslStream::new(self.ssl(resume)?, tap)?;
        let mut request = 0;
        if early {
            let bytes = http1::request(self.host(), "/", false);
            stream.write_early_data(&bytes)?;
            // Record header, content, its type and its tag (RFC 8446, 5.2).
            request = 5 + bytes.len() + 1 + TAG;
        }
        stream.connect().context("the handshake failed")?;
        let client = sum(&stream.get_ref().sent)? - request;
        let mut answer = 0;
        if early {
            let before = stream.get_ref().received.len();
            http1::answer(&mut stream)?;
            // Tickets that came in between are in records of their own: the response is the last.
            let records = records(&stream.get_ref().received[before..])?;
            answer = *records.last().context("no response")?;
        }
        // The server's goodbye, if it says one, is an alert of two bytes.
        let _ = stream.shutdown();
        let _ = stream.get_ref().socket.shutdown(Shutdown::Write);
        while matches!(stream.ssl_read(&mut [0; 1024]), Ok(1..)) {}
        let records = records(&stream.get_ref().received)?;
        let goodbye = records
            .last()
            .filter(|length| [GOODBYE_12, GOODBYE_13].contains(length))
            .copied()
            .unwrap_or(0);
        let server = records.iter().sum::<usize>() - goodbye - answer;
        Ok(HandshakeBytes { client, server })
    }
}

/// Of AES-GCM and ChaCha20-Poly1305.
const TAG: usize = 16;
/// An alert in TLS 1.3: header, level and description, content type, tag.
const GOODBYE_13: usize = 5 + 2 + 1 + TAG;
/// In TLS 1.2 with AES-GCM: header, explicit nonce (RFC 5288, 3), level and description, tag.
const GOODBYE_12: usize = 5 + 8 + 2 + TAG;

fn sum(bytes: &[u8]) -> Result<usize> {
    Ok(records(bytes)?.iter().sum())
}

/// Lengths of the records with their headers, which must be whole.
fn records(mut bytes: &[u8]) -> Result<Vec<usize>> {
    let mut lengths = Vec::new();
    while !bytes.is_empty() {
        ensure!(bytes.len() >= 5, "half a record header");
        let length = 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        ensure!(bytes.len() >= length, "half a record");
        lengths.push(length);
        bytes = &bytes[length..];
    }
    Ok(lengths)
}

/// Keeps what goes through.
#[derive(Debug)]
struct Tap {
    socket: TcpStream,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.socket.write(bytes)?;
        self.sent.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.socket.read(buffer)?;
        self.received.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}
