//! One request over HTTP/3 (RFC 9114), to see when its response begins.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h3::client::{Connection, SendRequest};
use h3_quinn::OpenStreams;
use http::Request;
use tokio::time::timeout;

/// What was asked; the connection ends with it.
pub struct Asked {
    /// When the response began.
    pub answered: Instant,
    _driver: Connection<h3_quinn::Connection, Bytes>,
    _sender: SendRequest<OpenStreams, Bytes>,
}

/// Asks for `/` of this host; `None` where no response comes within `patience`.
pub async fn ask(connection: quinn::Connection, host: &str, patience: Duration) -> Option<Asked> {
    let connection = h3_quinn::Connection::new(connection);
    let (mut driver, mut sender) = h3::client::new(connection).await.ok()?;
    let request = Request::get(format!("https://{host}/")).body(()).ok()?;
    let exchange = async {
        let mut stream = sender.send_request(request).await.ok()?;
        stream.finish().await.ok()?;
        stream.recv_response().await.ok()?;
        Some(Instant::now())
    };
    let answered = tokio::select! {
        answered = timeout(patience, exchange) => answered.ok()??,
        // The server ended the connection.
        _ = poll_fn(|context| driver.poll_close(context)) => return None,
    };
    Some(Asked {
        answered,
        _driver: driver,
        _sender: sender,
    })
}
