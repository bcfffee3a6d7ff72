//! A node: a network namespace with nginx and an agent; and the clients of all nodes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use resumetry_tests::agent::Agent;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Alpn, Client, Profile, Versions, open};
use resumetry_tests::distance::Distance;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::relay::Disturbance;
use resumetry_tests::rng::Rng;
use resumetry_tests::site::Names;

/// Ports are the node's own: nobody else is there.
const PORT: u16 = 8443;
const METRICS: u16 = 9650;

/// Keys that nginx reads: the first one is used, the others are accepted.
const KEYS: usize = 3;

/// Of one thread of clients; three of them make some hundred connections a second.
const PAUSE: Duration = Duration::from_millis(25);

pub struct Node {
    number: usize,
    directory: std::path::PathBuf,
    server: Server,
    // Dropped in this order: what runs there, then the place.
    _agent: Agent,
    nginx: Option<Nginx>,
    cgroup: Cgroup,
    place: Distance,
}

impl Node {
    /// `track` tells a canary from the rest.
    pub fn start(number: usize, track: &str, names: &Names, keys: &[&[u8]]) -> Result<Self> {
        let place = Distance::new(Duration::ZERO, Disturbance::default())?;
        place.inside(|| -> Result<()> {
            let status = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()?;
            ensure!(status.success(), "cannot switch on a loopback device");
            Ok(())
        })??;
        let directory = names.directory.path().join(format!("node-{number}"));
        fs::create_dir(&directory)?;
        let files: Vec<String> = (0..KEYS)
            .map(|key| directory.join(format!("{key}.key")).display().to_string())
            .collect();
        let mut server = Server::new(PORT, "ssl http2", &names.served[..1])
            .with("ssl_protocols TLSv1.2 TLSv1.3;\nssl_session_cache none;");
        server.address = Some("0.0.0.0");
        for file in files {
            server = server.with(format!("ssl_session_ticket_key {file};"));
        }
        write_keys(&directory, keys)?;
        let cgroup = Cgroup::create(&format!("node-{number}"))?;
        let nginx = start_nginx(&place, &cgroup, &server)?;
        let listen = format!("0.0.0.0:{METRICS}");
        let track = format!("track={track}");
        let path = cgroup.path().to_string_lossy().into_owned();
        let agent = place.inside(|| {
            Agent::start([
                "run",
                "--listen",
                &listen,
                "--cgroup",
                &path,
                "--label",
                "tier=edge",
                "--label",
                &track,
                "--responses",
                "100",
                "--handshake-calls",
                "100",
                "--max-overhead",
                "none",
            ])
        })??;
        Ok(Self {
            number,
            directory,
            server,
            _agent: agent,
            nginx: Some(nginx),
            cgroup,
            place,
        })
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        (IpAddr::from(self.place.client()), PORT).into()
    }

    /// Where Prometheus finds its agent.
    pub fn metrics(&self) -> SocketAddr {
        (IpAddr::from(self.place.client()), METRICS).into()
    }

    /// Issues tickets of the first key, and accepts those of all.
    pub fn use_keys(&mut self, keys: &[&[u8]]) -> Result<()> {
        write_keys(&self.directory, keys)?;
        let nginx = self.nginx.as_ref().context("no server")?;
        nginx.reload()
    }

    /// Starts again without HTTP/2.
    pub fn speak_http1_only(&mut self) -> Result<()> {
        println!("  node {} restarts", self.number);
        self.nginx = None;
        self.server.listen = "ssl";
        self.nginx = Some(start_nginx(&self.place, &self.cgroup, &self.server)?);
        Ok(())
    }
}

fn start_nginx(place: &Distance, cgroup: &Cgroup, server: &Server) -> Result<Nginx> {
    cgroup.inside(|| place.inside(|| Nginx::start(2, "", std::slice::from_ref(server)))?)
}

/// Places without a key get one that nobody else has.
fn write_keys(directory: &std::path::Path, keys: &[&[u8]]) -> Result<()> {
    for place in 0..KEYS {
        let path = directory.join(format!("{place}.key"));
        match keys.get(place) {
            Some(key) => fs::write(&path, key)?,
            None => fs::write(&path, crate::new_key()?)?,
        }
    }
    Ok(())
}

/// Clients that come back, each time to another node. One in twenty has forgotten its session.
pub fn drive(servers: &[SocketAddr], name: &str, clients: usize, seed: u64, done: &AtomicBool) {
    let mut rng = Rng::new(seed + 1);
    let clients: Vec<_> = (0..clients)
        .filter_map(|number| {
            Client::new(Profile {
                versions: [Versions::Tls12, Versions::Tls13][number % 2],
                alpn: Alpn::H2,
                server_name: Some(name.to_owned()),
                ..Profile::default()
            })
            .ok()
        })
        .collect();
    while !done.load(Ordering::Relaxed) {
        let client = &clients[rng.below(clients.len())];
        let server = servers[rng.below(servers.len())];
        let resume = rng.below(20) > 0;
        // A server that restarts refuses some.
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        if let Ok(socket) = open(any, server) {
            let _ = client.request(socket, resume, 1);
        }
        std::thread::sleep(PAUSE);
    }
}
