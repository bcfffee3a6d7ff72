//! One nginx with every kind of TLS server block, and the kinds of connection that go with it.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use crate::certs::{Files, Identity, Key};
use crate::client::{Alpn, Profile, Proxy, Versions};
use crate::nginx::{Nginx, Server, write_ticket_key};
use crate::ports;
use crate::workload::{Action, Kind};

/// Certificates for a run. Every name holds a number of this run, so that series of concurrent runs
/// do not mix.
pub struct Names {
    pub directory: TempDir,
    pub authority: Identity,
    /// Nobody trusts this one.
    pub stranger: Identity,
    /// `(name, files)`: ECDSA first, then RSA, then ECDSA.
    pub served: Vec<(String, Files)>,
}

impl Names {
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let authority = Identity::authority("Test Authority")?;
        let stranger = Identity::authority("Stranger")?;
        let mut served = Vec::new();
        let run = format!("r{}", std::process::id());
        fs::create_dir(directory.path().join("served"))?;
        for (label, key) in [
            ("alpha", Key::Ecdsa),
            ("beta", Key::Rsa2048),
            ("gamma", Key::Ecdsa),
        ] {
            let name = format!("{label}-{run}.example");
            let files = authority
                .issue(&name, key)?
                .write(&directory.path().join("served"), &name)?;
            served.push((name, files));
        }
        fs::write(
            directory.path().join("authority.crt"),
            authority.certificate.to_pem()?,
        )?;
        Ok(Self {
            directory,
            authority,
            stranger,
            served,
        })
    }

    pub fn name(&self, index: usize) -> String {
        self.served[index].0.clone()
    }

    /// PEM of the authority.
    pub fn authority_file(&self) -> PathBuf {
        self.directory.path().join("authority.crt")
    }
}

/// Ports of a [`Site`].
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    tickets: u16,
    cache: u16,
    nothing: u16,
    key_files: u16,
    deferred: u16,
    proxy: u16,
    optional: u16,
    required: u16,
    modern: u16,
    retry: u16,
}

/// The running server.
pub struct Site {
    pub nginx: Nginx,
    pub ports: Ports,
}

impl Site {
    pub fn start(names: &Names, workers: u32) -> Result<Self> {
        let port = ports::free;
        let ports = Ports {
            tickets: port()?,
            cache: port()?,
            nothing: port()?,
            key_files: port()?,
            deferred: port()?,
            proxy: port()?,
            optional: port()?,
            required: port()?,
            modern: port()?,
            retry: port()?,
        };
        let served = &names.served;
        let directory = names.directory.path();
        let old = write_ticket_key(directory.join("old.key"))?;
        let new = write_ticket_key(directory.join("new.key"))?;
        let client_ca = format!(
            "ssl_client_certificate {};",
            names.authority_file().display()
        );
        let servers = [
            Server::new(ports.tickets, "ssl http2", served),
            Server::new(ports.cache, "ssl", served)
                .with("ssl_session_tickets off; ssl_session_cache shared:all:10m;"),
            Server::new(ports.nothing, "ssl", served)
                .with("ssl_session_tickets off; ssl_session_cache none;"),
            Server::new(ports.key_files, "ssl http2", served).with(format!(
                "ssl_session_ticket_key {}; ssl_session_ticket_key {};",
                new.display(),
                old.display()
            )),
            Server::new(ports.deferred, "ssl deferred", served),
            Server::new(ports.proxy, "ssl proxy_protocol", served),
            Server::new(ports.optional, "ssl", served)
                .with(&client_ca)
                .with("ssl_verify_client optional;"),
            Server::new(ports.required, "ssl", served)
                .with(&client_ca)
                .with("ssl_verify_client on;"),
            Server::new(ports.modern, "ssl", served).with("ssl_protocols TLSv1.3;"),
            Server::new(ports.retry, "ssl", served).with("ssl_ecdh_curve X25519;"),
        ];
        Ok(Self {
            nginx: Nginx::start(workers, "", &servers)?,
            ports,
        })
    }

    /// Every kind of connection that this site knows.
    pub fn kinds(&self, names: &Names) -> Result<Vec<Kind>> {
        use Action::{CloseAfterHello, ConnectOnly, GarbageAfterHello, PlainHttp, PostQuantum};
        use Action::{Refused, Request, ResetAfterHello, Silent};
        let Ports {
            tickets,
            cache,
            nothing,
            key_files,
            deferred,
            proxy,
            optional,
            required,
            modern,
            retry,
        } = self.ports;
        let alpha = Profile {
            server_name: Some(names.name(0)),
            ..Profile::default()
        };
        let beta = Profile {
            server_name: Some(names.name(1)),
            ..Profile::default()
        };
        let gamma = Profile {
            server_name: Some(names.name(2).to_uppercase()),
            ..Profile::default()
        };
        let old = |profile: &Profile| Profile {
            versions: Versions::Tls12,
            ..profile.clone()
        };
        let ids = |profile: &Profile| Profile {
            tickets: false,
            ..old(profile)
        };
        let ours = names.authority.issue("client", Key::Ecdsa)?;
        let theirs = names.stranger.issue("client", Key::Ecdsa)?;
        let with = |identity: &Identity| Profile {
            identity: Some(identity.clone()),
            ..alpha.clone()
        };
        let chopped = |segment| Profile {
            segment: Some(segment),
            alpn: Alpn::Huge,
            ..alpha.clone()
        };
        let distrust = |profile: &Profile| Profile {
            authority: Some(names.stranger.certificate.clone()),
            ..profile.clone()
        };
        let trust = |profile: &Profile| Profile {
            authority: Some(names.authority.certificate.clone()),
            ..profile.clone()
        };
        Ok(vec![
            kind("tickets 1.3", tickets, alpha.clone(), Request(1)),
            kind("tickets 1.2", tickets, old(&alpha), Request(1)),
            kind("tickets 1.3 rsa", tickets, beta.clone(), Request(1)),
            kind("tickets 1.2 rsa", tickets, old(&beta), Request(1)),
            kind("upper-case name", tickets, gamma.clone(), Request(1)),
            kind("no name 1.3", tickets, Profile::default(), Request(1)),
            kind("no name 1.2", tickets, old(&Profile::default()), Request(1)),
            kind(
                "ip name 1.3",
                tickets,
                Profile {
                    server_name: Some("127.0.0.1".into()),
                    ..Profile::default()
                },
                Request(1),
            ),
            kind(
                "ip name 1.2",
                tickets,
                Profile {
                    server_name: Some("192.0.2.7".into()),
                    ..old(&Profile::default())
                },
                Request(1),
            ),
            kind(
                "http/1.1",
                tickets,
                Profile {
                    alpn: Alpn::Http1,
                    ..alpha.clone()
                },
                Request(1),
            ),
            kind(
                "h2 1.3",
                tickets,
                Profile {
                    alpn: Alpn::H2,
                    ..alpha.clone()
                },
                Request(1),
            ),
            kind(
                "h2 1.2",
                tickets,
                Profile {
                    alpn: Alpn::H2,
                    ..old(&beta)
                },
                Request(3),
            ),
            kind("keep-alive", tickets, alpha.clone(), Request(5)),
            kind("cache 1.3", cache, alpha.clone(), Request(1)),
            kind("cache 1.2", cache, ids(&alpha), Request(1)),
            kind("cache 1.2 ticket offer", cache, old(&beta), Request(1)),
            kind(
                "no tickets, no cache 1.3",
                nothing,
                alpha.clone(),
                Request(1),
            ),
            kind("no tickets, no cache 1.2", nothing, old(&alpha), Request(1)),
            kind("key files 1.3", key_files, beta.clone(), Request(1)),
            kind("key files 1.2", key_files, old(&gamma), Request(1)),
            kind("session id to tickets", key_files, ids(&alpha), Request(1)),
            kind("deferred 1.3", deferred, alpha.clone(), Request(1)),
            kind("deferred 1.2", deferred, old(&beta), Request(2)),
            kind(
                "proxy v1",
                proxy,
                Profile {
                    proxy: Some(Proxy::V1),
                    ..alpha.clone()
                },
                Request(1),
            ),
            kind(
                "proxy v2",
                proxy,
                Profile {
                    proxy: Some(Proxy::V2),
                    ..alpha.clone()
                },
                Request(1),
            ),
            kind(
                "proxy v2 1.2",
                proxy,
                Profile {
                    proxy: Some(Proxy::V2),
                    ..old(&beta)
                },
                Request(1),
            ),
            kind("client cert optional", optional, with(&ours), Request(1)),
            kind("client cert none", optional, alpha.clone(), Request(1)),
            kind("client cert required", required, with(&ours), Request(1)),
            kind("client cert 1.2", required, old(&with(&ours)), Request(1)),
            kind("client cert missing", required, old(&alpha), Request(1)),
            kind("client cert wrong", required, with(&theirs), Request(1)),
            kind("tls 1.3 only", modern, alpha.clone(), Request(1)),
            kind(
                "hello retry",
                retry,
                Profile {
                    groups: Some("P-384:X25519"),
                    ..alpha.clone()
                },
                Request(1),
            ),
            kind(
                "long hello, 536-byte parts",
                tickets,
                chopped(536),
                Request(1),
            ),
            kind(
                "long hello, one piece",
                tickets,
                Profile {
                    alpn: Alpn::Huge,
                    ..old(&alpha)
                },
                Request(1),
            ),
            kind(
                "hello in 7-byte parts",
                tickets,
                Profile {
                    segment: Some(7),
                    ..alpha.clone()
                },
                Request(1),
            ),
            kind("post-quantum", tickets, trust(&beta), PostQuantum),
            kind("silent 1.3", tickets, alpha.clone(), Silent),
            kind("silent 1.2", tickets, old(&alpha), Silent),
            kind("close after hello", tickets, alpha.clone(), CloseAfterHello),
            kind("reset after hello", tickets, old(&alpha), ResetAfterHello),
            kind(
                "garbage after hello",
                tickets,
                alpha.clone(),
                GarbageAfterHello,
            ),
            kind(
                "certificate refused 1.3",
                tickets,
                distrust(&alpha),
                Refused,
            ),
            kind(
                "certificate refused 1.2",
                tickets,
                old(&distrust(&beta)),
                Refused,
            ),
            kind("version refused", modern, old(&alpha), Refused),
            kind(
                "version too old",
                tickets,
                Profile {
                    versions: Versions::Tls11,
                    ..alpha.clone()
                },
                Refused,
            ),
            kind("plain http", tickets, Profile::default(), PlainHttp),
            kind("connect only", tickets, Profile::default(), ConnectOnly),
        ])
    }
}

/// Kinds of connection to HAProxy: `tickets` speaks h2 and issues tickets, `none` has no tickets
/// and asks for client certificates.
pub fn haproxy_kinds(names: &Names, tickets: u16, none: u16) -> Result<Vec<Kind>> {
    use Action::{CloseAfterHello, GarbageAfterHello, Refused, Request, ResetAfterHello, Silent};
    let alpha = Profile {
        server_name: Some(names.name(0)),
        ..Profile::default()
    };
    let beta = Profile {
        server_name: Some(names.name(1)),
        ..Profile::default()
    };
    let old = |profile: &Profile| Profile {
        versions: Versions::Tls12,
        ..profile.clone()
    };
    let h2 = |profile: &Profile| Profile {
        alpn: Alpn::H2,
        ..profile.clone()
    };
    let identity = Some(names.authority.issue("client", Key::Ecdsa)?);
    let authority = Some(names.stranger.certificate.clone());
    Ok(vec![
        kind("tickets 1.3", tickets, alpha.clone(), Request(1)),
        kind("tickets 1.2", tickets, old(&alpha), Request(1)),
        kind("rsa 1.3", tickets, beta.clone(), Request(1)),
        kind("rsa 1.2", tickets, old(&beta), Request(1)),
        kind("h2 1.3", tickets, h2(&alpha), Request(2)),
        kind("h2 1.2", tickets, h2(&old(&alpha)), Request(2)),
        kind("keep-alive", tickets, alpha.clone(), Request(3)),
        kind("no name", tickets, Profile::default(), Request(1)),
        kind(
            "hello in 7-byte parts",
            tickets,
            Profile {
                segment: Some(7),
                ..alpha.clone()
            },
            Request(1),
        ),
        kind(
            "long hello",
            tickets,
            Profile {
                segment: Some(536),
                alpn: Alpn::Huge,
                ..alpha.clone()
            },
            Request(1),
        ),
        kind(
            "session id",
            none,
            Profile {
                tickets: false,
                ..old(&alpha)
            },
            Request(1),
        ),
        kind("no tickets 1.3", none, alpha.clone(), Request(1)),
        kind(
            "client cert",
            none,
            Profile {
                identity,
                ..alpha.clone()
            },
            Request(1),
        ),
        kind("silent 1.2", tickets, old(&alpha), Silent),
        kind("close after hello", tickets, alpha.clone(), CloseAfterHello),
        kind("reset after hello", tickets, old(&beta), ResetAfterHello),
        kind(
            "garbage after hello",
            tickets,
            alpha.clone(),
            GarbageAfterHello,
        ),
        kind(
            "certificate refused",
            tickets,
            Profile {
                authority,
                ..old(&beta)
            },
            Refused,
        ),
    ])
}

fn kind(name: &'static str, port: u16, profile: Profile, action: Action) -> Kind {
    Kind {
        name,
        port,
        profile,
        action,
    }
}
