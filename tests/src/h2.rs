//! One HTTP/2 request by hand: enough to make a server answer, nothing more (RFC 9113, RFC 7541).

use std::io::{self, Read, Write};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Sends the connection preface and `count` requests for `/` one after the other; returns when the
/// last was answered.
pub fn requests(stream: &mut (impl Read + Write), host: &str, count: u32) -> io::Result<()> {
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &[]));
    for request in 0..count {
        // Client streams are odd: 1, 3, 5, … (RFC 9113, 5.1.1).
        let id = 2 * request + 1;
        let mut bytes = std::mem::take(&mut opening);
        bytes.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            id,
            &header_block(host),
        ));
        stream.write_all(&bytes)?;
        stream.flush()?;
        answer(stream, id)?;
    }
    Ok(())
}

fn answer(stream: &mut (impl Read + Write), id: u32) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        let ends = flags & END_STREAM != 0 && u32::from_be_bytes([s0, s1, s2, s3]) == id;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            DATA | HEADERS if ends => return Ok(()),
            RST_STREAM | GOAWAY => return Err(io::Error::other("the server refused the stream")),
            _ => {}
        }
    }
}

fn header_block(host: &str) -> Vec<u8> {
    // Static table: 2 `:method: GET`, 7 `:scheme: https`, 4 `:path: /`, 1 `:authority`.
    let mut block = vec![0x82, 0x87, 0x84, 0x01, host.len() as u8];
    block.extend(host.as_bytes());
    block
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
