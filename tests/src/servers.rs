//! Servers of every kind that the matrix of compatibility has, each as its users would start it.
//!
//! All listen on loopback, serve one certificate, and answer a request for `/`.

use std::any::Any;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::apache::{Apache, VirtualHost};
use crate::certs::{Files, Identity};
use crate::foreign_server::{self, ForeignServer};
use crate::haproxy::{Bind, Haproxy};
use crate::nginx::{Nginx, Server};
use crate::process::Owned;
use crate::script_server::ScriptServer;
use crate::{listener, ports, repository, rustls_server};

/// What a server needs.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub name: &'a str,
    pub identity: &'a Identity,
    pub files: &'a Files,
    /// For configurations; no two servers use the same file.
    pub directory: &'a Path,
}

/// A server that ends when dropped.
pub struct Running {
    pub port: u16,
    _parts: Box<dyn Any>,
}

impl Running {
    pub fn new(port: u16, parts: impl Any) -> Self {
        Self {
            port,
            _parts: Box::new(parts),
        }
    }
}

/// A row of the matrix.
pub struct Subject {
    /// The server and its version.
    pub title: &'static str,
    pub library: &'static str,
    /// Its tickets allow early data, and it takes it.
    pub early_data: bool,
    pub start: fn(Site<'_>) -> Result<Running>,
}

const fn subject(
    title: &'static str,
    library: &'static str,
    start: fn(Site<'_>) -> Result<Running>,
) -> Subject {
    Subject {
        title,
        library,
        early_data: false,
        start,
    }
}

const fn early(subject: Subject) -> Subject {
    Subject {
        early_data: true,
        ..subject
    }
}

/// Servers of HTTPS over TCP.
pub const HTTPS: [Subject; 18] = [
    early(subject("nginx 1.22", "OpenSSL 3.0", nginx)),
    early(subject("nginx 1.26", "OpenSSL 3.5", nginx_1_26)),
    early(subject("nginx 1.18", "OpenSSL 1.1.1", nginx_1_18)),
    early(subject("HAProxy 2.6", "OpenSSL 3.0", haproxy)),
    subject("Apache 2.4", "OpenSSL 3.0", apache),
    subject("lighttpd 1.4", "OpenSSL 3.0", lighttpd),
    subject("hitch 1.7", "OpenSSL 3.0", hitch),
    subject("stunnel 5.68", "OpenSSL 3.0", stunnel),
    subject("openssl s_server", "OpenSSL 3.5", s_server),
    subject("Node", "OpenSSL 3.0, driven by `SSL_read`", node),
    subject("Python 3.11 asyncio", "OpenSSL 3.0, in memory", asyncio),
    early(subject("gnutls-serv", "GnuTLS 3.7", gnutls)),
    subject("net/http", "Go 1.19", net_http),
    subject("Caddy 2.6", "Go 1.19", caddy_1_19),
    subject("Caddy 2.6", "Go 1.24", caddy_1_24),
    subject("HttpsServer", "Java 17", java),
    subject("rustls 0.23, tickets", "rustls on AWS-LC", rustls_tickets),
    early(subject(
        "rustls 0.23, cache",
        "rustls on AWS-LC",
        rustls_cache,
    )),
];

fn nginx(site: Site<'_>) -> Result<Running> {
    nginx_by(Command::new("nginx"), site)
}

fn nginx_1_26(site: Site<'_>) -> Result<Running> {
    nginx_by(
        foreign_server::trixie("trixie-nginx", "usr/sbin/nginx")?,
        site,
    )
}

/// It knows neither the arguments nor the log format that [`Nginx`] uses.
fn nginx_1_18(site: Site<'_>) -> Result<Running> {
    let config = |port| {
        let directory = site.directory.display();
        let of = |what: &str| format!("{directory}/{port}-{what}");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|part| format!("{part}_temp_path {};\n", of(part)))
            .concat();
        format!(
            "user root; daemon off; worker_processes 1; pid {}; error_log {};\nevents {{ }}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_protocols TLSv1.2 TLSv1.3; ssl_early_data on; ssl_session_cache shared:a:1m;\n\
             location / {{ return 200 ok; }} }} }}\n",
            of("pid"),
            of("log"),
            site.files.certificate.display(),
            site.files.key.display(),
        )
    };
    let mut command = foreign_server::oldest("usr/sbin/nginx");
    command.arg("-c");
    configured(site, command, config)
}

fn nginx_by(command: Command, site: Site<'_>) -> Result<Running> {
    let port = ports::free()?;
    let names = [(site.name.to_owned(), site.files.clone())];
    let server = Server::new(port, "ssl", &names)
        .with("ssl_early_data on; ssl_session_cache shared:matrix:1m;");
    let nginx = Nginx::start_command(command, 1, "", &[server])?;
    Ok(Running::new(port, nginx))
}

fn haproxy(site: Site<'_>) -> Result<Running> {
    let port = ports::free()?;
    let directory = site.directory.join(format!("haproxy-{port}"));
    fs::create_dir(&directory)?;
    fs::copy(&site.files.both, directory.join("site.pem"))?;
    let bind = Bind {
        port,
        parameters: "allow-0rtt".to_owned(),
    };
    Ok(Running::new(port, Haproxy::start(&directory, &[bind])?))
}

fn apache(site: Site<'_>) -> Result<Running> {
    let port = ports::free()?;
    let host = VirtualHost {
        port,
        certificate: site.files.clone(),
        ticket_key: None,
        directives: String::new(),
    };
    Ok(Running::new(port, Apache::start(&[host])?))
}

fn lighttpd(site: Site<'_>) -> Result<Running> {
    let config = |port| {
        format!(
            "server.modules = (\"mod_openssl\")\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.document-root = \"{}\"\nssl.engine = \"enable\"\nssl.pemfile = \"{}\"\n\
             ssl.privkey = \"{}\"\n",
            site.directory.display(),
            site.files.certificate.display(),
            site.files.key.display(),
        )
    };
    let mut command = Command::new("lighttpd");
    command.args(["-D", "-f"]);
    configured(site, command, config)
}

fn hitch(site: Site<'_>) -> Result<Running> {
    let behind = listener::serve(answer)?;
    let config = |port| {
        format!(
            "frontend = \"[127.0.0.1]:{port}\"\nbackend = \"[127.0.0.1]:{behind}\"\n\
             pem-file = \"{}\"\nworkers = 1\ndaemon = off\nuser = \"nobody\"\n",
            site.files.both.display()
        )
    };
    let mut command = Command::new("hitch");
    command.arg("--config");
    configured(site, command, config)
}

fn stunnel(site: Site<'_>) -> Result<Running> {
    let behind = listener::serve(answer)?;
    let config = |port| {
        format!(
            "foreground = yes\npid =\n[site]\naccept = 127.0.0.1:{port}\n\
             connect = 127.0.0.1:{behind}\ncert = {}\nkey = {}\n",
            site.files.certificate.display(),
            site.files.key.display(),
        )
    };
    configured(site, Command::new("stunnel4"), config)
}

fn caddy_1_19(site: Site<'_>) -> Result<Running> {
    caddy("go1.19", site)
}

fn caddy_1_24(site: Site<'_>) -> Result<Running> {
    caddy("go1.24", site)
}

/// Caddy as built with this release of Go.
///
/// # Errors
/// When it was not fetched, or does not serve.
pub fn caddy(go: &str, site: Site<'_>) -> Result<Running> {
    let config = |port| {
        format!(
            "{{\n admin off\n auto_https off\n servers {{\n  protocols h1\n }}\n}}\n\
             https://:{port} {{\n bind 127.0.0.1\n tls {} {}\n respond ok\n}}\n",
            site.files.certificate.display(),
            site.files.key.display(),
        )
    };
    let program = repository().join(format!("target/foreign/caddy-{go}/root/usr/bin/caddy"));
    let mut command = Command::new(program);
    command.args(["run", "--adapter", "caddyfile", "--config"]);
    configured(site, command, config)
}

/// Starts a program that takes the name of its configuration last.
fn configured(
    site: Site<'_>,
    mut command: Command,
    config: impl Fn(u16) -> String,
) -> Result<Running> {
    let port = ports::free()?;
    let path = site.directory.join(format!("{port}.conf"));
    fs::write(&path, config(port))?;
    command
        .arg(path)
        .env("HOME", site.directory)
        .stdout(Stdio::null());
    Ok(Running::new(port, Owned::serving(command, &[port])?))
}

fn s_server(site: Site<'_>) -> Result<Running> {
    let server = ForeignServer::start(site.files)?;
    Ok(Running::new(server.port, server))
}

/// GnuTLS's own server.
///
/// # Errors
/// When it is not installed, or does not serve.
pub fn gnutls(site: Site<'_>) -> Result<Running> {
    let port = ports::free()?;
    let mut command = Command::new("gnutls-serv");
    command
        .args(["--http", "--quiet", "--earlydata", "--port"])
        .arg(port.to_string())
        .arg("--x509certfile")
        .arg(&site.files.certificate)
        .arg("--x509keyfile")
        .arg(&site.files.key)
        .stdout(Stdio::null());
    Ok(Running::new(port, Owned::serving(command, &[port])?))
}

fn node(site: Site<'_>) -> Result<Running> {
    script(ScriptServer::node(site.files)?)
}

fn asyncio(site: Site<'_>) -> Result<Running> {
    script(ScriptServer::asyncio(site.files)?)
}

fn java(site: Site<'_>) -> Result<Running> {
    let mut command = Command::new("java");
    command.arg(repository().join("tests/src/programs/Server.java"));
    script(ScriptServer::start(command, site.files)?)
}

fn net_http(site: Site<'_>) -> Result<Running> {
    let program = site.directory.join("net-http");
    if !program.exists() {
        let status = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(repository().join("tests/src/programs/server.go"))
            .status()
            .context("cannot run go; `cargo xtask setup --tests` installs it")?;
        ensure!(status.success(), "go build failed");
    }
    script(ScriptServer::start(Command::new(program), site.files)?)
}

fn script(server: ScriptServer) -> Result<Running> {
    Ok(Running::new(server.port, server))
}

fn rustls_tickets(site: Site<'_>) -> Result<Running> {
    Ok(Running::new(rustls_server::start(site.identity)?, ()))
}

fn rustls_cache(site: Site<'_>) -> Result<Running> {
    Ok(Running::new(rustls_server::start_early(site.identity)?, ()))
}

/// Plain HTTP, for what only ends TLS.
fn answer(socket: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(&socket);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    (&socket).write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    Ok(())
}
