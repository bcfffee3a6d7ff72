//! Servers that one agent judges, each under a name of its own, and clients that come to them.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use openssl::ssl::SslSession;
use tempfile::TempDir;

use crate::certs::{Files, Identity, Key};
use crate::client::{Client, Profile, Versions, dial};
use crate::findings::Judge;
use crate::nginx::{self, Nginx, Server, write_ticket_key};
use crate::ports;
use crate::session::{self, Offer};

/// An agent and the servers that it judges.
pub struct Stage {
    // These end before their cgroup does.
    servers: RefCell<Vec<Rc<Nginx>>>,
    pub judge: Judge,
    /// Of every name below `findings.test`.
    pub identity: Identity,
    pub files: Files,
    pub authority: Identity,
    programs: PathBuf,
    directory: Rc<TempDir>,
}

/// One port of a server.
#[derive(Clone)]
pub struct Served {
    pub port: u16,
    pub nginx: Rc<Nginx>,
}

impl Stage {
    /// With an agent of these arguments.
    pub fn new(name: &str, arguments: &[&str]) -> Result<Self> {
        let directory = Rc::new(tempfile::tempdir()?);
        let authority = Identity::authority("findings authority")?;
        let identity = authority.issue("*.findings.test", Key::Ecdsa)?;
        let files = identity.write(directory.path(), "server")?;
        let programs = directory.path().join(name);
        fs::create_dir(&programs)?;
        Ok(Self {
            servers: RefCell::default(),
            judge: Judge::start(name, arguments)?,
            identity,
            files,
            authority,
            programs,
            directory,
        })
    }

    /// As another host with the same certificate has it.
    pub fn beside(other: &Self, name: &str, arguments: &[&str]) -> Result<Self> {
        let programs = other.directory.path().join(name);
        fs::create_dir(&programs)?;
        Ok(Self {
            servers: RefCell::default(),
            judge: Judge::start(name, arguments)?,
            identity: other.identity.clone(),
            files: other.files.clone(),
            authority: other.authority.clone(),
            programs,
            directory: Rc::clone(&other.directory),
        })
    }

    /// A place for a file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with a new ticket key.
    pub fn key(&self, name: &str) -> Result<PathBuf> {
        write_ticket_key(self.file(name))
    }

    /// A TLS port of these names.
    pub fn tls(&self, names: &[&str]) -> Result<Server> {
        let named = names
            .iter()
            .map(|name| ((*name).to_owned(), self.files.clone()));
        let named: Vec<_> = named.collect();
        Ok(Server::new(ports::free()?, "ssl", &named))
    }

    /// Starts nginx under the name of a service; it serves until all is over.
    pub fn serve(&self, service: &str, server: Server) -> Result<Served> {
        self.serve_with(service, "", &[server])
    }

    /// The same with directives of the `http` block and several ports, of which the first is told.
    pub fn serve_with(&self, service: &str, http: &str, servers: &[Server]) -> Result<Served> {
        let program = nginx::program(&self.programs, service)?;
        let start = || Nginx::start_command(program, 1, http, servers);
        let nginx = Rc::new(self.judge.inside(start)?);
        self.servers.borrow_mut().push(Rc::clone(&nginx));
        let port = servers.first().context("no port to serve")?.port;
        Ok(Served { port, nginx })
    }
}

/// A client of one version.
pub fn of_version(versions: Versions, name: &str) -> Profile {
    Profile {
        versions,
        server_name: Some(name.to_owned()),
        ..Profile::default()
    }
}

/// So many clients come so many times each; all but the first time they resume.
///
/// # Errors
/// When one does not, which is the fixtures' fault.
pub fn visit(port: u16, profile: &Profile, clients: usize, times: usize) -> Result<()> {
    for _ in 0..clients {
        let client = Client::new(profile.clone())?;
        for time in 0..times {
            let done = client.request(dial(port)?, time > 0, 1)?;
            ensure!(
                done.resumed == (time > 0),
                "the fixtures: visit {time} of {profile:?}",
                profile = profile.server_name
            );
        }
    }
    Ok(())
}

/// Full handshakes of so many clients; what each can resume by.
pub fn fetch(port: u16, offer: &Offer, clients: usize) -> Result<Vec<SslSession>> {
    let sessions = (0..clients).map(|_| {
        let session = session::connect(port, offer, None)?.session;
        session.context("the server gave nothing to resume by")
    });
    sessions.collect()
}

/// Offers each of these; what each client has afterwards.
///
/// # Errors
/// When the server answers one otherwise than expected.
pub fn come_back(
    port: u16,
    offer: &Offer,
    sessions: &[SslSession],
    resumes: bool,
) -> Result<Vec<SslSession>> {
    let outcomes = sessions.iter().map(|session| {
        let outcome = session::connect(port, offer, Some(session))?;
        ensure!(
            outcome.resumed == Some(resumes),
            "the fixtures: resumed is {:?} for {}",
            outcome.resumed,
            offer.server_name
        );
        // A server of TLS 1.2 that resumes need not issue another ticket.
        Ok(outcome.session.unwrap_or_else(|| session.clone()))
    });
    outcomes.collect()
}
