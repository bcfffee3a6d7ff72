//! Clients at a known distance: each lives in a network namespace of its own, and a relay holds
//! back what passes between it and this host. (`tc netem` is not in every kernel.)
//!
//! A namespace is held by a file descriptor and by its sockets, the link by the descriptors of its
//! two TUN devices: all of it goes when the process does, however that ends.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use socket2::{Domain, Protocol, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::client;
use crate::relay::{self, Disturbance, Queue};

/// Ethernet's, so that a server's flight takes as many segments as on most links.
const MTU: u16 = 1_500;

/// Where clients at one distance live, and the way to them.
#[derive(Debug)]
pub struct Distance {
    round_trip: Duration,
    server: Ipv4Addr,
    client: Ipv4Addr,
    namespace: File,
    /// Readable once the relays are to end.
    stop: Arc<OwnedFd>,
    relays: Vec<JoinHandle<Result<()>>>,
}

impl Distance {
    /// A namespace and the link to it. Needs root. Any number can be had at the same time.
    pub fn new(round_trip: Duration, disturbance: Disturbance) -> Result<Self> {
        Self::with_mtu(round_trip, disturbance, MTU)
    }

    /// The same with packets of at most `mtu` bytes.
    pub fn with_mtu(round_trip: Duration, disturbance: Disturbance, mtu: u16) -> Result<Self> {
        let here = device("distance%d")?;
        // The kernel gave the name, so nobody else has this number, nor the addresses that come
        // with it.
        let name = here.name()?;
        let number: u32 = name
            .strip_prefix("distance")
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("a device was named {name}"))?;
        let (server, client) = addresses(number)?;
        configure(&name, server, mtu)?;
        let (namespace, there) = thread::spawn(move || -> Result<_> {
            // SAFETY: the table of file descriptors stays shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .context("cannot make a network namespace, which needs root")?;
            let there = device("near0")?;
            configure("near0", client, mtu)?;
            Ok((File::open("/proc/thread-self/ns/net")?, there))
        })
        .join()
        .map_err(|_| anyhow!("the thread of a namespace panicked"))??;
        let (here, there) = (Arc::new(here), Arc::new(there));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let direction = |from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, seed| {
            let (from, to, stop) = (Arc::clone(from), Arc::clone(to), Arc::clone(&stop));
            let queue = Queue::new(
                round_trip / 2,
                Disturbance {
                    seed,
                    ..disturbance
                },
            );
            thread::spawn(move || relay::pump(&from, &to, queue, stop.as_fd()))
        };
        let relays = vec![
            direction(&here, &there, disturbance.seed),
            direction(&there, &here, !disturbance.seed),
        ];
        Ok(Self {
            round_trip,
            server,
            client,
            namespace,
            stop,
            relays,
        })
    }

    /// What was asked for.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// This host as clients at this distance see it. A server that listens on 0.0.0.0 is there.
    pub fn server(&self) -> Ipv4Addr {
        self.server
    }

    /// The clients as this host sees them.
    pub fn client(&self) -> Ipv4Addr {
        self.client
    }

    /// Runs `work` in a thread that is there. A socket stays where it was made, whoever uses it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| -> Result<T> {
                    let network = Some(LinkNameSpaceType::Network);
                    move_into_link_name_space(self.namespace.as_fd(), network)
                        .context("cannot enter a network namespace")?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow!("the thread in a namespace panicked"))?
        })
    }

    /// What connects to `port` of this host once it is called. The way there is prepared already,
    /// so that the call takes a round trip and no more.
    pub fn dial(&self, port: u16) -> Result<impl FnOnce() -> io::Result<TcpStream> + use<>> {
        self.dial_from(0, port)
    }

    /// The same from a port of the caller's choice; 0 is any.
    pub fn dial_from(
        &self,
        local: u16,
        port: u16,
    ) -> Result<impl FnOnce() -> io::Result<TcpStream> + use<>> {
        let socket =
            self.inside(|| Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)))??;
        let (from, to) = ((self.client, local).into(), (self.server, port).into());
        Ok(move || client::connect(socket, from, to))
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        // An eventfd that can be written to cannot fail to be.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        for relay in self.relays.drain(..) {
            match relay.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("a relay ended early: {error:#}"),
                Err(_) => eprintln!("a relay panicked"),
            }
        }
    }
}

/// The host's address and the client's in network `number` of 198.18.0.0/15, four addresses each:
/// RFC 2544 (C.2.2) keeps that range for measurements, so no host needs it for anything else.
fn addresses(number: u32) -> Result<(Ipv4Addr, Ipv4Addr)> {
    if number >= 1 << 15 {
        bail!("{number} links are too many");
    }
    let network = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 4 * number;
    Ok((Ipv4Addr::from(network + 1), Ipv4Addr::from(network + 2)))
}

/// A TUN device in the network namespace of the calling thread.
fn device(name: &str) -> Result<SyncDevice> {
    let device = DeviceBuilder::new()
        .name(name)
        .build_sync()
        .context("cannot make a TUN device, which needs root and /dev/net/tun")?;
    device.set_nonblocking(true)?;
    Ok(device)
}

fn configure(name: &str, address: Ipv4Addr, mtu: u16) -> Result<()> {
    ip(&["link", "set", name, "mtu", &mtu.to_string(), "up"])?;
    ip(&["address", "add", &format!("{address}/30"), "dev", name])
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if !output.status.success() {
        bail!(
            "ip {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
