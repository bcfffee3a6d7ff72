//! What stands before the records of a client: a PROXY header, or a ClientHello in the form of SSL 2.0.

use std::net::SocketAddr;

use super::proxy_protocol::{self, ProxyHeader};
use crate::core::tls::client_hello::ClientHello;
use crate::core::tls::ssl2_hello::{self, Ssl2Hello};

/// How far it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No byte came yet.
    #[default]
    Unknown,
    Proxy,
    /// The PROXY header is over.
    Behind,
    Ssl2,
    Records,
}

/// Reads it, in any portions.
#[derive(Debug, Default)]
pub struct Opening {
    state: State,
    proxy: ProxyHeader,
    ssl2: Ssl2Hello,
}

/// What some bytes of the stream came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Those of records.
    pub records: &'a [u8],
    /// The handshake has begun.
    pub has_begun: bool,
    /// A ClientHello that came outside of records.
    pub hello: Option<ClientHello>,
}

impl Opening {
    pub fn restart(&mut self) {
        self.state = State::Unknown;
        self.proxy.restart();
        self.ssl2.restart();
    }

    /// The client that a PROXY header announced.
    pub fn announced(&self) -> Option<SocketAddr> {
        match self.state {
            State::Unknown | State::Proxy => None,
            State::Behind | State::Ssl2 | State::Records => self.proxy.client(),
        }
    }

    /// Takes the next bytes of the stream; `None` where they are nothing of all that.
    pub fn data<'a>(&mut self, mut data: &'a [u8]) -> Option<Opened<'a>> {
        let mut hello = None;
        if self.state == State::Unknown
            && let Some(&byte) = data.first()
        {
            self.state = match proxy_protocol::may_start_with(byte) {
                true => State::Proxy,
                false => State::Behind,
            };
        }
        if self.state == State::Proxy {
            data = self.proxy.data(data).ok()?;
            if self.proxy.is_done() {
                self.state = State::Behind;
            }
        }
        if self.state == State::Behind
            && let Some(&byte) = data.first()
        {
            self.state = match ssl2_hello::may_start_with(byte) {
                true => State::Ssl2,
                false => State::Records,
            };
        }
        let has_begun = matches!(self.state, State::Ssl2 | State::Records);
        if self.state == State::Ssl2 {
            (data, hello) = self.ssl2.data(data).ok()?;
            if hello.is_some() {
                self.state = State::Records;
            }
        }
        Some(Opened {
            records: data,
            has_begun,
            hello,
        })
    }
}
