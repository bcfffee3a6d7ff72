//! A backend that thinks for as long as it is asked to (`GET /think/20` is answered after 20 ms), and
//! nginx before it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{Alpn, Client, Profile, Versions};
use crate::nginx::{Nginx, Server};
use crate::ports;
use crate::site::Names;

/// Serves plain HTTP/1.0 until the test ends; the port on 127.0.0.1.
pub fn start() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // Who asks for something else gets no answer.
            std::thread::spawn(move || answer(socket).ok());
        }
    });
    Ok(port)
}

fn answer(socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let milliseconds = line
        .split(' ')
        .nth(1)
        .and_then(|path| path.strip_prefix("/think/"))
        .context("not a path of this backend")?
        .parse()?;
    while reader.read_line(&mut line)? > 2 {}
    std::thread::sleep(Duration::from_millis(milliseconds));
    let body = format!("thought for {milliseconds} ms\n");
    write!(
        reader.get_mut(),
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// nginx on every distance, in front of a backend that thinks.
pub struct ThinkingSite {
    pub port: u16,
    names: Names,
    nginx: Nginx,
}

impl ThinkingSite {
    /// One worker; HTTP/1.1 and HTTP/2, early data allowed.
    pub fn start() -> Result<Self> {
        let names = Names::new()?;
        let port = ports::free()?;
        let backend = start()?;
        let server = Server {
            address: Some("0.0.0.0"),
            ..Server::new(port, "ssl http2", &names.served)
        }
        .with(format!(
            "location /think {{ proxy_pass http://127.0.0.1:{backend}; }}"
        ))
        .with("ssl_early_data on;");
        Ok(Self {
            nginx: Nginx::start(1, "", &[server])?,
            names,
            port,
        })
    }

    pub fn client(&self, versions: Versions, alpn: Alpn) -> Result<Client> {
        Client::new(Profile {
            versions,
            alpn,
            server_name: Some(self.names.name(0)),
            ..Profile::default()
        })
    }

    pub fn workers(&self) -> Result<Vec<u32>> {
        self.nginx.workers()
    }
}
