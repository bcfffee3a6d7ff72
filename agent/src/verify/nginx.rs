//! Lines of nginx, in a format of its own that holds what is needed:
//!
//! ```text
//! log_format resumetry escape=json '{"remote_addr":"$remote_addr","remote_port":"$remote_port",'
//!   '"server_addr":"$server_addr","server_port":"$server_port","server_protocol":"$server_protocol",'
//!   '"connection_requests":"$connection_requests","ssl_session_reused":"$ssl_session_reused"}';
//! ```

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{Ends, Line};

/// What to tell who has another format.
pub const FORMAT: &str = r#"log_format resumetry escape=json '{"remote_addr":"$remote_addr","remote_port":"$remote_port","server_addr":"$server_addr","server_port":"$server_port","server_protocol":"$server_protocol","connection_requests":"$connection_requests","ssl_session_reused":"$ssl_session_reused"}';"#;

/// Other fields may stand beside these.
#[derive(Deserialize)]
struct Fields {
    remote_addr: IpAddr,
    remote_port: String,
    server_addr: IpAddr,
    server_port: String,
    server_protocol: String,
    connection_requests: String,
    ssl_session_reused: String,
}

/// What a line says of a handshake; `Ok(None)` of one that says nothing: without TLS, of HTTP/3, or of
/// another request on a connection than its first.
///
/// # Errors
/// [`NotOurs`] where it is not of that format.
pub fn line(text: &str) -> Result<Option<Line>, NotOurs> {
    let fields: Fields = serde_json::from_str(text).map_err(|_| NotOurs)?;
    let port = |text: &str| text.parse().map_err(|_| NotOurs);
    let ends = Ends {
        client: SocketAddr::new(fields.remote_addr, port(&fields.remote_port)?),
        server: SocketAddr::new(fields.server_addr, port(&fields.server_port)?),
    };
    let is_first = fields.connection_requests == "1" && fields.server_protocol != "HTTP/3.0";
    let resumed = match fields.ssl_session_reused.as_str() {
        "r" => true,
        "." => false,
        _ => return Ok(None),
    };
    Ok(is_first.then_some(Line { ends, resumed }))
}

/// A line of another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_nginx_writes() {
        let text = |reused: &str, protocol: &str, requests: u32| {
            format!(
                r#"{{"remote_addr":"2001:db8::7","remote_port":"50000","server_addr":"2001:db8::1","server_port":"443","server_protocol":"{protocol}","connection_requests":"{requests}","ssl_session_reused":"{reused}","status":"200"}}"#
            )
        };
        let expected = Line {
            ends: Ends {
                client: "[2001:db8::7]:50000".parse().expect("an address"),
                server: "[2001:db8::1]:443".parse().expect("an address"),
            },
            resumed: true,
        };
        assert_eq!(line(&text("r", "HTTP/1.1", 1)), Ok(Some(expected)));
        let full = Line {
            resumed: false,
            ..expected
        };
        assert_eq!(line(&text(".", "HTTP/2.0", 1)), Ok(Some(full)));
        // Plain HTTP, HTTP/3, and a later request.
        assert_eq!(line(&text("", "HTTP/1.1", 1)), Ok(None));
        assert_eq!(line(&text("r", "HTTP/3.0", 1)), Ok(None));
        assert_eq!(line(&text("r", "HTTP/1.1", 2)), Ok(None));
    }

    #[test]
    fn tells_other_formats() {
        let combined = r#"192.0.2.7 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 3"#;
        for text in [
            combined,
            "",
            "{}",
            r#"{"remote_addr":"192.0.2.7","remote_port":"50000","ssl_session_reused":"r"}"#,
        ] {
            assert_eq!(line(text), Err(NotOurs), "{text}");
        }
    }
}
