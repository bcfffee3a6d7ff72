//! Many connections of many kinds, in a mixed but repeatable order, each with a note of what it did.

use std::collections::HashMap;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;

use anyhow::{Result, anyhow};

use crate::client::{self, Client, Profile};
use crate::compare::Key;
use crate::post_quantum;
use crate::rng::Rng;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Handshake, this many requests, orderly close.
    Request(u32),
    /// As `Request(1)`, with a post-quantum key share.
    PostQuantum,
    /// Handshake, then goodbye.
    Silent,
    /// ClientHello, then FIN.
    CloseAfterHello,
    /// ClientHello, then RST.
    ResetAfterHello,
    /// ClientHello, then bytes that are no TLS.
    GarbageAfterHello,
    /// A handshake that one of both must refuse.
    Refused,
    /// Plain HTTP to a TLS port.
    PlainHttp,
    /// TCP connect and close, as a port scan does.
    ConnectOnly,
}

/// Garbage shorter than a record header (RFC 8446, 5.1) would only make the server wait for more.
const RECORD_HEADER: usize = 5;

/// What must be found about a connection afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The server logged a request over an established handshake.
    Logged,
    /// Established, but not logged for want of a request.
    Established,
    Failed,
    /// No handshake began.
    Nothing,
}

impl Action {
    fn expect(self) -> Expect {
        match self {
            Self::Request(_) | Self::PostQuantum => Expect::Logged,
            Self::Silent => Expect::Established,
            Self::CloseAfterHello
            | Self::ResetAfterHello
            | Self::GarbageAfterHello
            | Self::Refused => Expect::Failed,
            Self::PlainHttp | Self::ConnectOnly => Expect::Nothing,
        }
    }
}

/// A kind of connection.
#[derive(Clone)]
pub struct Kind {
    pub name: &'static str,
    pub port: u16,
    pub profile: Profile,
    pub action: Action,
}

/// What a client did.
#[derive(Clone, Debug)]
pub struct Note {
    pub kind: &'static str,
    pub key: Key,
    pub server_name: Option<String>,
    pub expect: Expect,
    /// The client's own view, where it has one.
    pub resumed: Option<bool>,
    /// What should not have happened.
    pub error: Option<String>,
}

/// Opens `connections` connections from `threads` threads, every kind equally often.
pub fn drive(kinds: &[Kind], connections: usize, threads: usize, seed: u64) -> Result<Vec<Note>> {
    let mut order: Vec<usize> = (0..connections).map(|index| index % kinds.len()).collect();
    Rng::new(seed).shuffle(&mut order);
    let share = connections.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = order
            .chunks(share)
            .enumerate()
            .map(|(index, order)| {
                let ports = LocalPorts::new(index, threads);
                scope.spawn(move || work(kinds, order, ports, Rng::new(seed ^ (index as u64 + 1))))
            })
            .collect();
        let mut notes = Vec::with_capacity(connections);
        for worker in workers {
            notes.extend(
                worker
                    .join()
                    .map_err(|_| anyhow!("a client thread panicked"))??,
            );
        }
        Ok(notes)
    })
}

fn work(kinds: &[Kind], order: &[usize], mut ports: LocalPorts, mut rng: Rng) -> Result<Vec<Note>> {
    let clients: Vec<_> = kinds
        .iter()
        .map(|kind| {
            Ok(match kind.action {
                Action::PostQuantum => {
                    Driver::PostQuantum(post_quantum::Client::new(&kind.profile)?)
                }
                _ => Driver::Openssl(Client::new(kind.profile.clone())?),
            })
        })
        .collect::<Result<_>>()?;
    let mut notes = Vec::with_capacity(order.len());
    for &index in order {
        let kind = &kinds[index];
        let server = SocketAddr::new(
            if rng.one_in(3) {
                Ipv6Addr::LOCALHOST.into()
            } else {
                Ipv4Addr::LOCALHOST.into()
            },
            kind.port,
        );
        let (socket, local) = ports.open(server)?;
        // One in four starts afresh, so that both ways keep occurring in every kind.
        let resume = !rng.one_in(4);
        let outcome = clients[index].run(kind.action, socket, resume, &mut rng);
        let (resumed, error) = match outcome {
            Ok(resumed) => (resumed, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        notes.push(Note {
            kind: kind.name,
            key: Key {
                server_port: kind.port,
                peer: local,
            },
            server_name: kind.profile.server_name.clone(),
            expect: kind.action.expect(),
            resumed,
            error,
        });
    }
    Ok(notes)
}

enum Driver {
    Openssl(Client),
    PostQuantum(post_quantum::Client),
}

impl Driver {
    fn run(
        &self,
        action: Action,
        mut socket: TcpStream,
        resume: bool,
        rng: &mut Rng,
    ) -> Result<Option<bool>> {
        let client = match self {
            Self::Openssl(client) => client,
            Self::PostQuantum(client) => return client.request(socket).map(Some),
        };
        match action {
            Action::Request(requests) => {
                return Ok(Some(client.request(socket, resume, requests)?.resumed));
            }
            Action::Silent => return Ok(Some(client.request(socket, resume, 0)?.resumed)),
            Action::Refused => client.fail(socket)?,
            Action::CloseAfterHello => {
                let mut socket = client.write_raw(socket, &client.client_hello()?)?;
                socket.shutdown(std::net::Shutdown::Write)?;
                client::drain(&mut socket);
            }
            Action::ResetAfterHello => {
                let socket = client.write_raw(socket, &client.client_hello()?)?;
                client::reset(socket)?;
            }
            Action::GarbageAfterHello => {
                let mut bytes = client.client_hello()?;
                bytes.extend((0..RECORD_HEADER + rng.below(200)).map(|_| rng.draw() as u8 | 0x80));
                let mut socket = client.write_raw(socket, &bytes)?;
                client::drain(&mut socket);
            }
            Action::PlainHttp => {
                socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
                client::drain(&mut socket);
            }
            Action::ConnectOnly => {}
            Action::PostQuantum => anyhow::bail!("another client does post-quantum handshakes"),
        }
        Ok(None)
    }
}

/// Hands out local ports so that no (server, local port) pair occurs twice in a run.
struct LocalPorts {
    start: u32,
    stride: u32,
    used: HashMap<SocketAddr, u32>,
}

/// Below 20,000 tests listen nowhere, and below 32,768 the kernel assigns nothing by itself: in
/// 2,000..19,000 a client's port can meet no other. 17,000 ports for each server address.
const LOCAL: std::ops::Range<u32> = 2_000..19_000;

impl LocalPorts {
    fn new(index: usize, stride: usize) -> Self {
        Self {
            start: index as u32,
            stride: stride as u32,
            used: HashMap::new(),
        }
    }

    fn open(&mut self, server: SocketAddr) -> Result<(TcpStream, SocketAddr)> {
        let address: IpAddr = if server.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        let next = self.used.entry(server).or_insert(0);
        loop {
            let port = LOCAL.start + self.start + *next * self.stride;
            anyhow::ensure!(port < LOCAL.end, "no local port is left for {server}");
            *next += 1;
            let local = SocketAddr::new(address, port as u16);
            match client::open(local, server) {
                Ok(socket) => return Ok((socket, local)),
                // Somebody else's socket has it: take the next.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
