//! HTTP/1.1 by hand: requests without a body, responses with a length (RFC 9112).

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// What came back for a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When the client had the first byte of the response.
    pub first_byte: Instant,
    pub body: Vec<u8>,
}

/// A request; the `last` one asks the server to close.
pub fn request(host: &str, path: &str, last: bool) -> Vec<u8> {
    let connection = if last { "close" } else { "keep-alive" };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n").into_bytes()
}

/// Sends `count` requests for `/` one after the other; returns when the last was answered.
pub fn requests(stream: &mut (impl Read + Write), host: &str, count: u32) -> Result<()> {
    for index in 1..=count {
        stream.write_all(&request(host, "/", index == count))?;
        answer(stream)?;
    }
    Ok(())
}

/// Reads one response to its end.
pub fn answer(stream: &mut impl Read) -> Result<Answer> {
    let mut answer = Vec::new();
    let mut first_byte = None;
    // The fixed answers hold no further blank line.
    let head = loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer)?;
        first_byte.get_or_insert_with(Instant::now);
        if length == 0 {
            bail!(
                "the server closed before its response: {:?}",
                String::from_utf8_lossy(&answer)
            );
        }
        answer.extend_from_slice(&buffer[..length]);
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("no content-length")?
        .trim()
        .parse()?;
    let mut body = answer.split_off(head);
    let here = body.len();
    if here < length {
        body.resize(length, 0);
        stream.read_exact(&mut body[here..])?;
    }
    Ok(Answer {
        first_byte: first_byte.context("no response")?,
        body,
    })
}
