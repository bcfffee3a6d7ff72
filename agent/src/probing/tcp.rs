//! One connection over TCP, with one request where HTTP/1.1 is spoken.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::client::Client;
use super::session::Store;
use super::{Attempt, AttemptError, Facts, TicketSeen};
use crate::core::fingerprint::Fingerprinter;
use crate::core::names::cipher_suite;
use crate::core::tls::client_hello::ClientHello;
use crate::core::tls::codes::handshake;
use crate::core::tls::record::{Item, Next, RecordReader};
use crate::core::tls::server_hello::new_session_ticket;

/// How long tickets are waited for at least where nothing else is to come.
const TICKETS: Duration = Duration::from_millis(200);

/// Of each direction, for what stands in it in the clear: more than any pair of flights.
const KEPT_BYTES: usize = 64 << 10;

pub fn attempt(
    client: &Client,
    config: ClientConfig,
    store: &Store,
    address: SocketAddr,
) -> Result<Attempt, AttemptError> {
    let timeout = client.profile.timeout;
    let refused = |error: io::Error| AttemptError::Connect(address, error);
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&address, timeout).map_err(refused)?;
    let connected = Instant::now();
    stream.set_nodelay(true).map_err(refused)?;
    stream.set_write_timeout(Some(timeout)).map_err(refused)?;
    stream.set_read_timeout(Some(timeout)).map_err(refused)?;
    let failed = |error: io::Error| AttemptError::Handshake(address, explain(&error, timeout));
    let mut tls = ClientConnection::new(Arc::new(config), client.name.clone())
        .map_err(|error| AttemptError::Handshake(address, error.to_string()))?;
    let mut wire = Tee {
        stream: &stream,
        sent: Vec::new(),
        received: Vec::new(),
    };
    while tls.is_handshaking() {
        tls.complete_io(&mut wire).map_err(failed)?;
    }
    let established = Instant::now();
    let protocol = tls
        .alpn_protocol()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let speaks_http = protocol
        .as_deref()
        .is_none_or(|name| name.starts_with("http/1."));
    let asks = speaks_http && !client.is_silent(address);
    // Behind the handshake nothing is an error of the probe's: what came counts.
    // A server sends tickets once it has the client's Finished: a round trip from here, and some more.
    let tickets = TICKETS.max(3 * (connected - start));
    let first_byte = exchange(
        client,
        &mut tls,
        &mut wire,
        store,
        asks.then_some(timeout),
        tickets,
    );
    if asks && first_byte.is_none() {
        client.note_silence(address);
    }
    Ok(Attempt {
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        connect: Some(connected - start),
        handshake: established - connected,
        first_byte: first_byte.map(|at| at - connected),
        facts: Facts {
            version: tls.protocol_version().map_or_else(String::new, |version| {
                format!("{version:?}").replace("TLSv", "").replace('_', ".")
            }),
            cipher: tls
                .negotiated_cipher_suite()
                .map(|suite| cipher_suite(suite.suite().into()).into_owned()),
            protocol,
        },
        certificate: client.verifier.take(),
        given: store.take(),
        ticket: seen(&wire, &client.fingerprinter),
    })
}

fn explain(error: &io::Error, timeout: Duration) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("no answer within {} s", timeout.as_secs_f64())
        }
        _ => error.to_string(),
    }
}

/// Asks for a page, where there is a `patience` for it, or waits for `tickets`; when the first byte of the
/// response came.
fn exchange(
    client: &Client,
    tls: &mut ClientConnection,
    wire: &mut Tee<'_>,
    store: &Store,
    patience: Option<Duration>,
    tickets: Duration,
) -> Option<Instant> {
    if patience.is_some() {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: resumetry-probe/{}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            client.host,
            env!("CARGO_PKG_VERSION")
        );
        tls.writer().write_all(request.as_bytes()).ok()?;
    }
    let mut deadline = Instant::now() + patience.unwrap_or(tickets);
    let mut first_byte = None;
    let mut buffer = [0; 16 << 10];
    loop {
        while tls.wants_write() {
            if tls.write_tls(wire).is_err() {
                return first_byte;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let is_enough = patience.is_none() && store.count() > 0;
        if is_enough || left.is_zero() || wire.stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match tls.read_tls(wire) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let Ok(state) = tls.process_new_packets() else {
            break;
        };
        if state.plaintext_bytes_to_read() > 0 && first_byte.is_none() {
            let now = Instant::now();
            first_byte = Some(now);
            // Neither a server that does not close is waited for, nor one that never ends.
            deadline = now + tickets;
        }
        while let Ok(1..) = tls.reader().read(&mut buffer) {}
        if state.peer_has_closed() {
            break;
        }
    }
    tls.send_close_notify();
    let _ = tls.write_tls(wire);
    first_byte
}

/// What the hellos tell of tickets.
fn seen(wire: &Tee<'_>, fingerprinter: &Fingerprinter) -> Option<TicketSeen> {
    let fingerprint = |name: &[u8]| fingerprinter.ticket_key(name);
    let mut offered = None;
    each_message(&wire.sent, |kind, body| {
        if kind == handshake::CLIENT_HELLO
            && let Ok(hello) = ClientHello::read(body)
        {
            let ticket = hello.psk.or(hello.ticket.filter(|ticket| ticket.bytes > 0));
            offered = ticket.map(|ticket| TicketSeen {
                bytes: ticket.bytes,
                key: ticket.key_name.as_ref().map(|name| fingerprint(name)),
                lifetime: None,
            });
        }
    });
    let mut issued = None;
    each_message(&wire.received, |kind, body| {
        if kind == handshake::NEW_SESSION_TICKET {
            issued = new_session_ticket(body).ok().map(|issued| TicketSeen {
                bytes: issued.ticket.bytes,
                key: issued
                    .ticket
                    .key_name
                    .as_ref()
                    .map(|name| fingerprint(name)),
                lifetime: issued
                    .lifetime_s
                    .map(|lifetime| Duration::from_secs(lifetime.into())),
            });
        }
    });
    issued.or(offered)
}

/// The handshake messages of one direction that are in the clear.
fn each_message(bytes: &[u8], mut take: impl FnMut(u8, &[u8])) {
    let mut reader = RecordReader::default();
    // What follows the first protected record is of no interest, and may be taken for anything.
    let _ = reader.data(bytes, &mut |item: Item<'_>, _: u64| match item {
        Item::Message { kind, body, .. } => {
            take(kind, body);
            Next::Continue
        }
        Item::ChangeCipherSpec | Item::Protected { .. } => Next::Stop,
        _ => Next::Continue,
    });
}

/// A socket, and the first bytes that went over it each way.
struct Tee<'a> {
    stream: &'a TcpStream,
    sent: Vec<u8>,
    received: Vec<u8>,
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT_BYTES.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(&bytes[..room]);
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.stream.read(buffer)?;
        keep(&mut self.received, &buffer[..bytes]);
        Ok(bytes)
    }
}

impl Write for Tee<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let bytes = self.stream.write(buffer)?;
        keep(&mut self.sent, &buffer[..bytes]);
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
