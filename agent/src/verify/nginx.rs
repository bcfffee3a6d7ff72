//! Lines of nginx, in a format of its own that holds what is needed:
//!
//! ```text
//! log_format resumetry escape=json '{"remote_addr":"$remote_addr","remote_port":"$remote_port",'
//!   '"server_port":"$server_port","ssl_session_reused":"$ssl_session_reused"}';
//! ```

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::Line;

/// What to tell who has another format.
pub const FORMAT: &str = r#"log_format resumetry escape=json '{"remote_addr":"$remote_addr","remote_port":"$remote_port","server_port":"$server_port","ssl_session_reused":"$ssl_session_reused"}';"#;

/// Other fields may stand beside these.
#[derive(Deserialize)]
struct Fields {
    remote_addr: IpAddr,
    remote_port: String,
    server_port: String,
    ssl_session_reused: String,
}

/// What a line says: `Ok(None)` of one without TLS.
///
/// # Errors
/// [`NotOurs`] where it is not of that format.
pub fn line(text: &str) -> Result<Option<Line>, NotOurs> {
    let fields: Fields = serde_json::from_str(text).map_err(|_| NotOurs)?;
    let port = |text: &str| text.parse().map_err(|_| NotOurs);
    let resumed = match fields.ssl_session_reused.as_str() {
        "r" => true,
        "." => false,
        _ => return Ok(None),
    };
    Ok(Some(Line {
        peer: SocketAddr::new(fields.remote_addr, port(&fields.remote_port)?),
        server_port: port(&fields.server_port)?,
        resumed,
    }))
}

/// A line of another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_nginx_writes() {
        let text = |reused: &str| {
            format!(
                r#"{{"remote_addr":"2001:db8::7","remote_port":"50000","server_port":"443","ssl_session_reused":"{reused}","status":"200"}}"#
            )
        };
        let expected = Line {
            peer: "[2001:db8::7]:50000".parse().expect("an address"),
            server_port: 443,
            resumed: true,
        };
        assert_eq!(line(&text("r")), Ok(Some(expected)));
        let full = Line {
            resumed: false,
            ..expected
        };
        assert_eq!(line(&text(".")), Ok(Some(full)));
        // Plain HTTP.
        assert_eq!(line(&text("")), Ok(None));
    }

    #[test]
    fn tells_other_formats() {
        let combined = r#"192.0.2.7 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 3"#;
        for text in [
            combined,
            "",
            "{}",
            r#"{"remote_addr":"unix:","remote_port":"","server_port":"","ssl_session_reused":"r"}"#,
        ] {
            assert_eq!(line(text), Err(NotOurs), "{text}");
        }
    }
}
