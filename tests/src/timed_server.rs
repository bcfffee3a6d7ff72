//! A server on OpenSSL, in a thread of the test, that holds each of its handshake's calls against the
//! kernel's own account of the thread (`CLOCK_THREAD_CPUTIME_ID`).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cpu::thread_ns;
use anyhow::Result;
use openssl::ssl::{ErrorCode, Ssl, SslAcceptor, SslContext, SslFiletype, SslMethod, SslStream};
use rustix::event::{PollFd, PollFlags, poll};

use crate::certs::Files;

/// How a server lets its library work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// `SSL_do_handshake` on a socket that does not block, as nginx and HAProxy do.
    NonBlocking,
    /// `SSL_read` on buffers in memory, as Node and Python's asyncio do: what the library wrote is
    /// sent after its call.
    Memory,
}

/// CPU time of the calls of each handshake, nanoseconds, by the client's port.
pub type Times = Arc<Mutex<BTreeMap<u16, u64>>>;

/// A running server; it ends with the test.
#[derive(Debug)]
pub struct TimedServer {
    pub port: u16,
    times: Times,
}

impl TimedServer {
    pub fn start(files: &Files, drive: Drive) -> Result<Self> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_certificate_chain_file(&files.certificate)?;
        acceptor.set_private_key_file(&files.key, SslFiletype::PEM)?;
        acceptor.set_session_id_context(b"timed")?;
        let context = acceptor.build().into_context();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let times = Times::default();
        let shared = Arc::clone(&times);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // A client that leaves early is its own business.
                if let Ok((peer, spent)) = serve(&context, socket, drive) {
                    lock(&shared).insert(peer, spent);
                }
            }
        });
        Ok(Self { port, times })
    }

    /// What was measured so far.
    pub fn times(&self) -> BTreeMap<u16, u64> {
        lock(&self.times).clone()
    }
}

fn lock(times: &Times) -> std::sync::MutexGuard<'_, BTreeMap<u16, u64>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(context: &SslContext, socket: TcpStream, drive: Drive) -> Result<(u16, u64)> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    let peer = socket.peer_addr()?.port();
    let link = Link {
        socket,
        drive,
        read: Vec::new(),
        written: Vec::new(),
    };
    let mut ssl = Ssl::new(context)?;
    if drive == Drive::Memory {
        ssl.set_accept_state();
    }
    let mut stream = SslStream::new(ssl, link)?;
    let mut spent = 0;
    let mut request = [0; 4096];
    loop {
        stream.get_mut().wait()?;
        let before = thread_ns();
        let outcome = match drive {
            Drive::NonBlocking => stream.accept().map(|()| 0),
            Drive::Memory => stream.ssl_read(&mut request),
        };
        let after = thread_ns();
        // A clock costs, too: what two readings in a row take is not the call's.
        spent += (after - before).saturating_sub(thread_ns() - after);
        stream.get_mut().send()?;
        let is_done = stream.ssl().is_init_finished();
        match outcome {
            _ if is_done => break,
            Ok(_) => {}
            Err(error) if error.code() == ErrorCode::WANT_READ => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The request may have been read already.
    stream.get_ref().socket.set_nonblocking(false)?;
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    let _ = stream.shutdown();
    stream.get_mut().send()?;
    io::copy(&mut stream.get_mut().socket, &mut io::sink())?;
    Ok((peer, spent))
}

/// A socket, with buffers in memory before it where the library is to know of none.
#[derive(Debug)]
struct Link {
    socket: TcpStream,
    drive: Drive,
    read: Vec<u8>,
    written: Vec<u8>,
}

impl Link {
    /// Waits until there is something to read.
    fn wait(&mut self) -> io::Result<()> {
        poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None)?;
        if self.drive == Drive::Memory {
            let mut bytes = [0; 16 * 1024];
            let count = self.socket.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read.extend_from_slice(&bytes[..count]);
        }
        Ok(())
    }

    /// Sends what the library wrote.
    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.written);
        self.socket.write_all(&bytes)
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.drive == Drive::NonBlocking {
            return self.socket.read(into);
        }
        if self.read.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.read.len().min(into.len());
        into[..count].copy_from_slice(&self.read[..count]);
        self.read.drain(..count);
        Ok(count)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.drive == Drive::NonBlocking {
            return self.socket.write(bytes);
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
