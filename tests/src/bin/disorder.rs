//! TLS connections over a link that reorders and duplicates. Run it in a network namespace of its
//! own (`unshare -n`); it prints nginx' log, one JSON line per request.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use resumetry_tests::client::{Alpn, Client, Profile, Versions, open};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::relay::{self, CLIENT, FAR};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};

fn main() -> Result<()> {
    let count: u16 = std::env::args()
        .nth(1)
        .context("usage: disorder CONNECTIONS")?
        .parse()?;
    relay::start(11)?;
    let names = Names::new()?;
    let port = ports::free()?;
    let server = Server {
        address: Some("10.9.0.1"),
        ..Server::new(port, "ssl http2", &names.served)
    };
    let nginx = Nginx::start(1, "", &[server])?;
    let profile = |versions, name| Profile {
        versions,
        alpn: Alpn::Huge,
        server_name: Some(names.name(name)),
        segment: Some(211),
        ..Profile::default()
    };
    let clients = [
        profile(Versions::Tls13, 0),
        profile(Versions::Tls12, 1),
        profile(Versions::Tls13, 1),
    ]
    .into_iter()
    .map(Client::new)
    .collect::<Result<Vec<_>>>()?;
    let clients = &clients;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|offset| {
                scope.spawn(move || -> Result<()> {
                    for index in (offset..count).step_by(4) {
                        let socket = open(
                            SocketAddr::from((CLIENT, 3_000 + index)),
                            (FAR, port).into(),
                        )?;
                        let client = &clients[usize::from(index) % clients.len()];
                        client.request(socket, index % 4 != 0, 2)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => anyhow::bail!("a client thread panicked"),
            })
    })?;
    let all = 2 * usize::from(count);
    let logged = wait::until(Duration::from_secs(10), || {
        nginx.log().is_ok_and(|log| log.len() >= all)
    });
    ensure!(logged, "nginx logged fewer than {all} requests");
    let late = relay::out_of_order()?;
    ensure!(
        late > u64::from(count),
        "only {late} segments came out of order: the link is too good"
    );
    let log = std::fs::read(nginx.directory().join("access.log"))?;
    std::io::stdout().write_all(&log)?;
    Ok(())
}
