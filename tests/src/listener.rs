//! Servers in threads of the test, a thread a connection.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::Result;

/// Serves loopback for as long as the test runs; the port.
pub fn serve(answer: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A client that leaves is its own business.
            thread::spawn(move || answer(socket).ok());
        }
    });
    Ok(port)
}
