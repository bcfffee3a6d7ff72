//! HTTP/2 requests by hand: enough to make a server answer, nothing more (RFC 9113, RFC 7541).

use std::io::{self, Read, Write};
use std::time::Instant;

use crate::http1::Answer;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Sends `count` requests for `/` one after the other; returns when the last was answered.
pub fn requests(stream: &mut (impl Read + Write), host: &str, count: u32) -> io::Result<()> {
    for index in 0..count {
        stream.write_all(&request(host, "/", index))?;
        answer(stream, index)?;
    }
    Ok(())
}

/// Request number `index` of a connection; the first comes with the connection preface.
pub fn request(host: &str, path: &str, index: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if index == 0 {
        bytes.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
    }
    let block = header_block(host, path);
    bytes.extend(frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        stream_id(index),
        &block,
    ));
    bytes
}

/// Reads the response to request number `index` to its end. Its first byte is that of its HEADERS:
/// the server's SETTINGS, which may come at any time, answer nothing.
pub fn answer(stream: &mut (impl Read + Write), index: u32) -> io::Result<Answer> {
    let mut first_byte = None;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let ours = u32::from_be_bytes([s0, s1, s2, s3]) == stream_id(index);
        if kind == HEADERS && ours {
            first_byte.get_or_insert_with(Instant::now);
        }
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            RST_STREAM | GOAWAY => return Err(io::Error::other("the server refused the stream")),
            DATA if ours => body.extend(payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && ours && flags & END_STREAM != 0 {
            let first_byte = first_byte.ok_or_else(|| io::Error::other("DATA before HEADERS"))?;
            return Ok(Answer { first_byte, body });
        }
    }
}

/// Client streams are odd: 1, 3, 5, … (RFC 9113, 5.1.1).
fn stream_id(index: u32) -> u32 {
    2 * index + 1
}

fn header_block(host: &str, path: &str) -> Vec<u8> {
    // Static table: 2 `:method: GET`, 7 `:scheme: https`, 4 `:path: /`, 1 `:authority`.
    let mut block = vec![0x82, 0x87];
    if path == "/" {
        block.push(0x84);
    } else {
        literal(&mut block, 0x04, path);
    }
    literal(&mut block, 0x01, host);
    block
}

/// A value that is not indexed, with the name of an entry of the static table (RFC 7541, 6.2.2).
fn literal(block: &mut Vec<u8>, name: u8, value: &str) {
    block.extend([name, value.len() as u8]);
    block.extend(value.as_bytes());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
