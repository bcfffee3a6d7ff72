//! Servers of several kinds, each on ports that differ in one thing: what a ticket of one of them
//! comes to at another.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apache::{self, Apache, VirtualHost};
use crate::haproxy::{Bind, Haproxy};
use crate::nginx::{Nginx, Server, write_ticket_key};
use crate::ports;
use crate::site::Names;

/// Ports that differ in one thing each.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub title: &'static str,
    /// Issues the tickets.
    pub home: u16,
    /// Holds another key.
    pub stranger: u16,
    /// Tickets expire after a second.
    pub hasty: u16,
    /// The same key for another certificate, hence another session-ID context.
    pub other_context: Option<u16>,
    /// The same key, TLS 1.2 alone.
    pub lowered: Option<u16>,
    /// Writes a new key and still reads that of `home`.
    pub renewing: Option<u16>,
}

/// Ports of a kind of server whose sessions stay in its cache.
#[derive(Clone, Copy, Debug)]
pub struct Caches {
    pub title: &'static str,
    pub one: u16,
    /// With a cache of its own.
    pub other: Option<u16>,
    /// The cache of `one` for another certificate, hence another session-ID context.
    pub other_context: Option<u16>,
    /// Sessions expire after a second; and what comes of them then.
    pub hasty: Option<(u16, &'static str)>,
    /// With a cache for this few sessions.
    pub tiny: Option<(u16, usize)>,
}

/// The running servers.
pub struct Farm {
    _nginx: Nginx,
    _haproxy: [Haproxy; 2],
    _apache: Apache,
    /// By kind of server.
    pub ticket_ports: Vec<Ports>,
    /// By kind of server, without tickets.
    pub caches: Vec<Caches>,
    /// nginx without tickets and without a cache.
    pub nothing: u16,
}

impl Farm {
    pub fn start(names: &Names) -> Result<Self> {
        let directory = names.directory.path();
        let key = |name: &str| write_ticket_key(directory.join(name));
        let (home_key, strange_key, new_key) =
            (key("home.key")?, key("strange.key")?, key("next.key")?);
        let port = ports::free;
        let with_key = |path: &PathBuf| format!("ssl_session_ticket_key {};", path.display());
        let served = &names.served;
        let [other_context, lowered, renewing] = [port()?, port()?, port()?];
        let files = Ports {
            title: "nginx, key file",
            home: port()?,
            stranger: port()?,
            hasty: port()?,
            other_context: Some(other_context),
            lowered: Some(lowered),
            renewing: Some(renewing),
        };
        let own = Ports {
            title: "nginx, OpenSSL's own keys",
            home: port()?,
            stranger: port()?,
            hasty: port()?,
            other_context: None,
            lowered: None,
            renewing: None,
        };
        let shared = Caches {
            title: "nginx, shared cache",
            one: port()?,
            other: Some(port()?),
            other_context: Some(port()?),
            // nginx itself forgets it.
            hasty: Some((port()?, "cache_miss")),
            // The smallest cache that nginx makes, of eight pages.
            tiny: Some((port()?, 500)),
        };
        let builtin = Caches {
            title: "nginx, OpenSSL's own cache",
            one: port()?,
            other: Some(port()?),
            other_context: None,
            hasty: Some((port()?, "expired")),
            tiny: None,
        };
        let nothing = port()?;
        let without_tickets = "ssl_session_tickets off;";
        let cache = |port: Option<u16>, kind: &str| {
            Server::new(port.unwrap_or_default(), "ssl", served)
                .with(without_tickets)
                .with(format!("ssl_session_cache {kind};"))
        };
        let hasty = "ssl_session_timeout 1s;";
        let listen = |port| Server::new(port, "ssl", served);
        let servers = vec![
            listen(files.home).with(with_key(&home_key)),
            listen(files.stranger).with(with_key(&strange_key)),
            listen(files.hasty).with(with_key(&home_key)).with(hasty),
            // Another certificate: nginx derives the context from it.
            Server::new(other_context, "ssl", &served[1..]).with(with_key(&home_key)),
            listen(lowered)
                .with(with_key(&home_key))
                .with("ssl_protocols TLSv1.2;"),
            listen(renewing)
                .with(with_key(&new_key))
                .with(with_key(&home_key)),
            listen(own.home),
            listen(own.stranger),
            listen(own.hasty).with(hasty),
            cache(Some(shared.one), "shared:one:1m"),
            cache(shared.other, "shared:two:1m"),
            Server::new(
                shared.other_context.unwrap_or_default(),
                "ssl",
                &served[1..],
            )
            .with(without_tickets)
            .with("ssl_session_cache shared:one:1m;"),
            cache(shared.hasty.map(|(port, _)| port), "shared:hasty:1m").with(hasty),
            cache(shared.tiny.map(|(port, _)| port), "shared:tiny:32k"),
            cache(Some(builtin.one), "builtin"),
            cache(builtin.other, "builtin"),
            cache(builtin.hasty.map(|(port, _)| port), "builtin").with(hasty),
            cache(Some(nothing), "off"),
        ];
        let groups = "ssl_ecdh_curve P-256;";
        let nginx = Nginx::start(1, groups, &servers)?;
        let haproxy_cache = Caches {
            title: "HAProxy, its cache",
            one: port()?,
            other: None,
            other_context: None,
            hasty: None,
            tiny: None,
        };
        let (haproxy, haproxy_ports) = start_haproxy(directory, haproxy_cache.one)?;
        let (apache, apache_ports) = start_apache(names)?;
        Ok(Self {
            _nginx: nginx,
            _haproxy: haproxy,
            _apache: apache,
            ticket_ports: [files, own]
                .into_iter()
                .chain(haproxy_ports)
                .chain([apache_ports])
                .collect(),
            caches: vec![shared, builtin, haproxy_cache],
            nothing,
        })
    }
}

/// One HAProxy whose sessions live long, and one whose sessions live for a second.
fn start_haproxy(directory: &Path, cache: u16) -> Result<([Haproxy; 2], [Ports; 2])> {
    let keys = |name: &str| -> Result<PathBuf> {
        let path = directory.join(name);
        let mut text = String::new();
        // HAProxy wants three keys: previous, current, next.
        for _ in 0..3 {
            let mut key = [0; 80];
            openssl::rand::rand_bytes(&mut key)?;
            writeln!(
                text,
                "{}",
                openssl::base64::encode_block(&key).replace('\n', "")
            )?;
        }
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let port = ports::free;
    let (home, strange) = (keys("home.keys")?, keys("strange.keys")?);
    let ports = |title| -> Result<Ports> {
        Ok(Ports {
            title,
            home: port()?,
            stranger: port()?,
            hasty: port()?,
            other_context: None,
            lowered: None,
            renewing: None,
        })
    };
    let ports = [
        ports("HAProxy, key file")?,
        ports("HAProxy, OpenSSL's own keys")?,
    ];
    let bind = |port: u16, keys: Option<&PathBuf>| Bind {
        port,
        parameters: format!(
            "ssl-min-ver TLSv1.2 curves P-256 {}",
            keys.map_or_else(String::new, |keys| format!(
                "tls-ticket-keys {}",
                keys.display()
            ))
        ),
    };
    let certificates = directory.join("served/both");
    let lasting = [
        bind(ports[0].home, Some(&home)),
        bind(ports[0].stranger, Some(&strange)),
        bind(ports[1].home, None),
        bind(ports[1].stranger, None),
        Bind {
            parameters: "ssl-min-ver TLSv1.2 curves P-256 no-tls-tickets".to_owned(),
            ..bind(cache, None)
        },
    ];
    let hasty = [
        bind(ports[0].hasty, Some(&home)),
        bind(ports[1].hasty, None),
    ];
    let start = |global: &str, binds: &[Bind]| Haproxy::start_with(&certificates, global, binds);
    let servers = [start("", &lasting)?, start("tune.ssl.lifetime 1", &hasty)?];
    Ok((servers, ports))
}

/// httpd with key files. It gives every virtual host a session-ID context of its own.
fn start_apache(names: &Names) -> Result<(Apache, Ports)> {
    let directory = names.directory.path();
    let home_key = apache::write_ticket_key(directory.join("home.apache.key"))?;
    let strange_key = apache::write_ticket_key(directory.join("strange.apache.key"))?;
    let port = ports::free;
    let [other_context, lowered] = [port()?, port()?];
    let ports = Ports {
        title: "Apache, key file",
        home: port()?,
        stranger: port()?,
        hasty: port()?,
        other_context: Some(other_context),
        lowered: Some(lowered),
        renewing: None,
    };
    let host = |port, ticket_key: &Path, directives: &str| VirtualHost {
        port,
        certificate: names.served[0].1.clone(),
        ticket_key: Some(ticket_key.to_owned()),
        directives: directives.to_owned(),
    };
    let apache = Apache::start(&[
        host(ports.home, &home_key, ""),
        host(ports.stranger, &strange_key, ""),
        host(ports.hasty, &home_key, "SSLSessionCacheTimeout 1"),
        host(other_context, &home_key, ""),
        host(lowered, &home_key, "SSLProtocol TLSv1.2"),
    ])?;
    Ok((apache, ports))
}
