//! When things happen, from the client's side: what an agent on the server is held against.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use openssl::ssl::SslStream;

use crate::client::{Alpn, Chopped, Client, goodbye};
use crate::http1::Answer;
use crate::{h2, http1};

/// One connection: how it begins, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Offer the session that the client has from earlier connections.
    pub resume: bool,
    /// Send the first request as early data (0-RTT): needs `resume` and a server that allows it.
    pub early: bool,
    /// How long the client idles between its handshake and its first request.
    pub wait: Duration,
    pub path: &'a str,
    /// Requests for `path`, one after the other on the same connection; at least one.
    pub requests: u32,
}

impl Ask<'_> {
    /// A new session, and one request at once.
    pub const FULL: Self = Self {
        resume: false,
        early: false,
        wait: Duration::ZERO,
        path: "/",
        requests: 1,
    };
    pub const RESUMED: Self = Self {
        resume: true,
        ..Self::FULL
    };
    pub const EARLY: Self = Self {
        early: true,
        ..Self::RESUMED
    };
    /// Thinks before it asks.
    pub const PATIENT: Self = Self {
        wait: Duration::from_millis(35),
        ..Self::RESUMED
    };
    /// Asks more than once.
    pub const CHATTY: Self = Self {
        requests: 3,
        ..Self::RESUMED
    };
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self::FULL
    }
}

/// What a connection was, and when the client saw what. Instants are those of CLOCK_MONOTONIC.
#[derive(Clone, Debug)]
pub struct Moments {
    pub resumed: bool,
    /// The client's end of the connection.
    pub client: SocketAddr,
    /// `connect` was called: the SYN leaves.
    pub began: Instant,
    /// `connect` returned: the SYN/ACK has arrived, and the ACK left.
    pub connected: Instant,
    /// The handshake was finished for the client: it may read what the server says.
    pub finished: Instant,
    pub exchanges: Vec<Exchange>,
}

/// One request and its response.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request leaves.
    pub asked: Instant,
    /// The response's first byte was read: of HTTP/2, that of its HEADERS.
    pub first_byte: Instant,
    pub body: Vec<u8>,
}

impl Moments {
    /// From `connect` to the first byte of the response: what the user waits for.
    pub fn wait(&self) -> Duration {
        self.exchanges[0].first_byte - self.began
    }

    /// From the ClientHello to the end of the handshake, at the client.
    pub fn handshake(&self) -> Duration {
        self.finished - self.connected
    }

    /// From the end of `connect` to the first byte of the response: time to first byte as records
    /// give it.
    pub fn time_to_first_byte(&self) -> Duration {
        self.exchanges[0].first_byte - self.connected
    }

    /// The part of it that passes at the server, over a link of this round trip: from the arrival of
    /// the client's ACK to the departure of the response. Both are half a round trip away from what
    /// the client sees, on the inner side.
    pub fn time_to_first_byte_at_server(&self, round_trip: Duration) -> Duration {
        self.time_to_first_byte().saturating_sub(round_trip)
    }
}

impl Client {
    /// A whole connection, timed. `dial` connects and does nothing else.
    pub fn first_byte(
        &self,
        dial: impl FnOnce() -> io::Result<TcpStream>,
        ask: &Ask<'_>,
    ) -> Result<Moments> {
        let ssl = self.ssl(ask.resume)?;
        let began = Instant::now();
        let socket = dial().context("cannot connect")?;
        let connected = Instant::now();
        let client = socket.local_addr()?;
        let mut stream = SslStream::new(ssl, self.prepare(socket)?)?;
        let mut early = None;
        if ask.early {
            // What is negotiated later is what the session was made with, or early data is refused.
            let h2 = self.alpn() == Alpn::H2;
            let request = self.ask(h2, ask, 0);
            let asked = Instant::now();
            stream
                .write_early_data(&request)
                .context("the session allows no early data")?;
            early = Some(asked);
        }
        stream.connect().context("the handshake failed")?;
        let finished = Instant::now();
        let h2 = stream.ssl().selected_alpn_protocol() == Some(b"h2");
        let mut moments = Moments {
            resumed: stream.ssl().session_reused(),
            client,
            began,
            connected,
            finished,
            exchanges: Vec::new(),
        };
        if !ask.wait.is_zero() {
            thread::sleep(ask.wait);
        }
        for index in 0..ask.requests.max(1) {
            let asked = match early.take() {
                Some(asked) => asked,
                None => {
                    let request = self.ask(h2, ask, index);
                    let asked = Instant::now();
                    stream.write_all(&request)?;
                    asked
                }
            };
            let answer = read(&mut stream, h2, index)?;
            moments.exchanges.push(Exchange {
                asked,
                first_byte: answer.first_byte,
                body: answer.body,
            });
        }
        goodbye(stream);
        Ok(moments)
    }

    fn ask(&self, h2: bool, ask: &Ask<'_>, index: u32) -> Vec<u8> {
        if h2 {
            h2::request(self.host(), ask.path, index)
        } else {
            // The client is the one to close: a server that is done with the connection before
            // the client's Finished, as after early data, issues no tickets.
            http1::request(self.host(), ask.path, false)
        }
    }
}

fn read(stream: &mut SslStream<Chopped>, h2: bool, index: u32) -> Result<Answer> {
    if h2 {
        return Ok(h2::answer(stream, index)?);
    }
    http1::answer(stream)
}
