//! The server, its clients, and what is measured on them.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use openssl::x509::X509;
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Alpn, Client, Profile, dial, drain};
use resumetry_tests::distance::Distance;
use resumetry_tests::first_byte::{Ask, Moments};
use resumetry_tests::handshake_bytes::HandshakeBytes;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::{cpu, http1, ports};
use tempfile::TempDir;

use crate::case::{Case, KEYS, Mode, key_name};

const SERVER_CPU: usize = 0;
/// The clients' CPU: they must not disturb the worker, nor share its caches.
pub const CLIENT_CPU: usize = 1;

/// Enough to keep the worker supplied, while one client waits for another's turn.
const CLIENTS: usize = 4;

/// Requests on one connection where the connection is not what is measured.
const REQUESTS: u32 = 1_000;

/// nginx with one worker on [`SERVER_CPU`].
pub struct Site {
    nginx: Nginx,
    /// nginx' own; dropped after it.
    cgroup: Cgroup,
    worker: u32,
    doors: Vec<Door>,
    plain: u16,
    _certificates: TempDir,
}

/// Where a certificate is served.
struct Door {
    key: Key,
    name: String,
    root: X509,
    /// DER of the leaf and of the intermediate authority, bytes.
    chain: (usize, usize),
    port: u16,
    /// With early data allowed, which changes the server's code path and its tickets.
    early: u16,
}

/// The clients of one kind of handshake, each with its own session: a ticket that comes in on one
/// connection retires the session that it renews, which must not be on offer elsewhere then.
pub struct Clients {
    case: Case,
    port: u16,
    clients: Vec<Client>,
}

impl Site {
    pub fn start() -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        let quiet = "access_log off; keepalive_requests 1000000000; ssl_session_timeout 1h;";
        let (mut doors, mut servers) = (Vec::new(), Vec::new());
        for (index, key) in KEYS.into_iter().enumerate() {
            // As public authorities do it: an old RSA root, and below it a line for each algorithm.
            let root = Identity::authority_on("Savings Root", Key::Rsa4096)?;
            let below = match key {
                Key::Ecdsa => Key::Ecdsa,
                _ => Key::Rsa2048,
            };
            let authority = root.intermediate("Savings Authority", below)?;
            let name = format!("key{index}.example");
            let leaf = authority.issue(&name, key)?;
            let above = [&authority.certificate];
            let files = leaf.write_chain(&above, certificates.path(), &name)?;
            let names = [(name.clone(), files)];
            let [port, early] = [ports::free()?, ports::free()?];
            for (port, directives) in [(port, ""), (early, "ssl_early_data on;")] {
                servers.push(Server {
                    address: Some("0.0.0.0"),
                    ..Server::new(port, "ssl", &names)
                        .with(quiet)
                        .with(directives)
                });
            }
            doors.push(Door {
                key,
                name,
                chain: (
                    leaf.certificate.to_der()?.len(),
                    authority.certificate.to_der()?.len(),
                ),
                root: root.certificate,
                port,
                early,
            });
        }
        let plain = ports::free()?;
        servers.push(Server::new(plain, "", &servers[0].names).with(quiet));
        let cgroup = Cgroup::create("savings")?;
        let nginx = cgroup.inside(|| Nginx::start(1, "", &servers))?;
        let worker = *nginx.workers()?.first().context("nginx has no worker")?;
        cpu::pin(worker, SERVER_CPU)?;
        Ok(Self {
            nginx,
            cgroup,
            worker,
            doors,
            plain,
            _certificates: certificates,
        })
    }

    /// The cgroup in which nginx is, and its clients are not.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// The worker's process id.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// Name of the key, bytes of the leaf and of the intermediate authority.
    pub fn chains(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        self.doors
            .iter()
            .map(|door| (key_name(door.key), door.chain.0, door.chain.1))
    }

    /// What goes wrong at the server's end.
    pub fn errors(&self) -> String {
        self.nginx.errors()
    }

    /// Clients that have what they need for `case`: a session, unless it is full.
    pub fn clients(&self, case: Case) -> Result<Clients> {
        let door = self
            .doors
            .iter()
            .find(|door| door.key == case.key)
            .context("nobody serves this key")?;
        let port = match case.mode {
            Mode::Early => door.early,
            _ => door.port,
        };
        let profile = Profile {
            versions: case.versions,
            server_name: Some(door.name.clone()),
            authority: Some(door.root.clone()),
            alpn: Alpn::Http1,
            ..Profile::default()
        };
        let clients = (0..CLIENTS)
            .map(|_| {
                let client = Client::new(profile.clone())?;
                client.first_byte(|| dial(port), &Ask::default())?;
                Ok(client)
            })
            .collect::<Result<_>>()?;
        Ok(Clients {
            case,
            port,
            clients,
        })
    }

    /// CPU time of the worker for a connection with one request, seconds.
    pub fn connection(&self, clients: &Clients, length: Duration) -> Result<f64> {
        self.slice(length, |thread| {
            clients.one(&clients.clients[thread], || dial(clients.port))?;
            Ok(1)
        })
    }

    /// The same without TLS.
    pub fn plain_connection(&self, length: Duration) -> Result<f64> {
        self.slice(length, |_| self.plain(1))
    }

    /// CPU time of the worker for a request on a connection that exists, seconds.
    pub fn plain_request(&self, length: Duration) -> Result<f64> {
        self.slice(length, |_| self.plain(REQUESTS))
    }

    /// The same through TLS; holds a resumed handshake for every [`REQUESTS`] of them.
    pub fn request(&self, clients: &Clients, length: Duration) -> Result<f64> {
        self.slice(length, |thread| {
            let client = &clients.clients[thread];
            client.request(dial(clients.port)?, true, REQUESTS)?;
            Ok(REQUESTS.into())
        })
    }

    fn plain(&self, requests: u32) -> Result<u64> {
        let mut stream = dial(self.plain)?;
        for _ in 0..requests {
            stream.write_all(&http1::request("plain.example", "/", false))?;
            http1::answer(&mut stream)?;
        }
        stream.shutdown(Shutdown::Write)?;
        drain(&mut stream);
        Ok(requests.into())
    }

    /// Does `work` in [`CLIENTS`] threads for about `length`; CPU time of the worker for one of the
    /// units that it counts, seconds.
    fn slice(&self, length: Duration, work: impl Fn(usize) -> Result<u64> + Sync) -> Result<f64> {
        let before = cpu::time(self.worker)?;
        let end = Instant::now() + length;
        let count = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (work, count) = (&work, &count);
            let threads: Vec<_> = (0..CLIENTS)
                .map(|thread| {
                    scope.spawn(move || -> Result<()> {
                        cpu::pin_this_thread(CLIENT_CPU)?;
                        while Instant::now() < end {
                            count.fetch_add(work(thread)?, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
        })?;
        // The worker still closes the last connections.
        std::thread::sleep(Duration::from_millis(20));
        let spent = cpu::time(self.worker)? - before;
        let count = count.into_inner();
        ensure!(count > 0, "nothing was served");
        Ok(spent.as_secs_f64() / count as f64)
    }
}

impl Clients {
    pub fn case(&self) -> Case {
        self.case
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection with one request over `distance`.
    pub fn over(&self, distance: &Distance) -> Result<Moments> {
        self.one(&self.clients[0], distance.dial(self.port)?)
    }

    /// Bytes of a handshake.
    pub fn bytes(&self) -> Result<HandshakeBytes> {
        let mode = self.case.mode;
        let socket = dial(self.port)?;
        self.clients[0].handshake_bytes(socket, mode != Mode::Full, mode == Mode::Early)
    }

    fn one(
        &self,
        client: &Client,
        dial: impl FnOnce() -> io::Result<TcpStream>,
    ) -> Result<Moments> {
        let mode = self.case.mode;
        let ask = Ask {
            resume: mode != Mode::Full,
            early: mode == Mode::Early,
            ..Ask::default()
        };
        let moments = client.first_byte(dial, &ask)?;
        ensure!(
            moments.resumed == ask.resume,
            "a connection was not what it was meant to be"
        );
        // Early data that a server refuses is not sent again here: an answer says it was taken.
        Ok(moments)
    }
}
