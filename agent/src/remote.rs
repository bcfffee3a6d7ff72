//! Asks a running agent over its API.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::authorities::{self, AuthorityError};
use crate::explain::explain;

/// For an answer to come, whole.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Most of an answer that is read, bytes.
const ANSWER_BYTES: usize = 64 << 20;

/// Where an agent answers: `http://127.0.0.1:9650`, or `https://NAME:PASSWORD@HOST:PORT`.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentUrl {
    /// Without name and password, nor a slash at its end.
    base: String,
    is_https: bool,
    authorization: Option<HeaderValue>,
}

/// A text that says no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is no address of an agent; it looks like http://127.0.0.1:9650")]
pub struct AgentUrlError;

impl FromStr for AgentUrl {
    type Err = AgentUrlError;

    fn from_str(text: &str) -> Result<Self, AgentUrlError> {
        let uri: Uri = text.parse().map_err(|_| AgentUrlError)?;
        let scheme = uri.scheme().ok_or(AgentUrlError)?;
        let is_web = [&Scheme::HTTP, &Scheme::HTTPS].contains(&scheme);
        let authority: &Authority = uri.authority().ok_or(AgentUrlError)?;
        if !is_web || authority.host().is_empty() || uri.query().is_some() {
            return Err(AgentUrlError);
        }
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority.as_str()),
        };
        let authorization = user.map(|user| {
            let user: Vec<u8> = percent_decode_str(user).collect();
            let mut value =
                HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(user)))
                    .map_err(|_| AgentUrlError)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            base: format!("{scheme}://{place}{}", uri.path().trim_end_matches('/')),
            is_https: *scheme == Scheme::HTTPS,
            authorization: authorization.transpose()?,
        })
    }
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// Never the password.
impl fmt::Debug for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why an agent did not answer.
#[derive(Debug, Error)]
pub enum RemoteError {
    #[error(transparent)]
    Authorities(#[from] AuthorityError),
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error(
        "no agent answers at {url}: {reason}\nstart one with `resumetry run`, or say where it listens with \
         `--url`"
    )]
    Unreachable { url: AgentUrl, reason: String },
    #[error(
        "{url} asks for a name and password; give them as `--url https://NAME:PASSWORD@HOST:PORT`"
    )]
    Unauthorized { url: AgentUrl },
    #[error("{url} answered {path} with {status}; is it an agent of this version?")]
    Refused {
        url: AgentUrl,
        path: String,
        status: StatusCode,
    },
    #[error("{url} answered {path} with what this version does not understand: {reason}")]
    Answer {
        url: AgentUrl,
        path: String,
        reason: String,
    },
}

/// A client of agents.
pub struct Remote {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Remote {
    /// For these places; authorities are read where one of them wants TLS.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(urls: &[AgentUrl], authorities: Option<&Path>) -> Result<Self, RemoteError> {
        let roots = match urls.iter().any(|url| url.is_https) {
            true => authorities::trusted(authorities)?,
            false => RootCertStore::empty(),
        };
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// What the agent answers to a path of its API.
    ///
    /// # Errors
    /// When it does not answer, or otherwise than this version understands.
    pub async fn get<T: DeserializeOwned>(
        &self,
        url: &AgentUrl,
        path: &str,
    ) -> Result<T, RemoteError> {
        let unreachable = |reason: String| RemoteError::Unreachable {
            url: url.clone(),
            reason,
        };
        let mut request = Request::get(format!("{}{path}", url.base))
            .body(Empty::new())
            .map_err(|error| unreachable(error.to_string()))?;
        if let Some(authorization) = &url.authorization {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        let answer = async {
            let answer = self.client.request(request).await;
            let (head, body) = answer
                .map_err(|error| unreachable(explain(&error)))?
                .into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?;
            Ok((head.status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("nothing came within {TIMEOUT:?}"))))?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|error| RemoteError::Answer {
                url: url.clone(),
                path: path.to_owned(),
                reason: error.to_string(),
            }),
            StatusCode::UNAUTHORIZED => Err(RemoteError::Unauthorized { url: url.clone() }),
            status => Err(RemoteError::Refused {
                url: url.clone(),
                path: path.to_owned(),
                status,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    #[test]
    fn name_and_password_are_sent_and_never_shown() {
        let url: AgentUrl = "https://me:secret@node-1:9650/agents/".parse().unwrap();
        assert_eq!(url.to_string(), "https://node-1:9650/agents");
        assert!(!format!("{url:?}").contains("secret"));
        let sent = url.authorization.unwrap();
        assert_eq!(sent.to_str().unwrap(), "Basic bWU6c2VjcmV0");
        let escaped: AgentUrl = "http://me:p%40ss@node".parse().unwrap();
        let sent = escaped.authorization.unwrap();
        assert_eq!(sent.to_str().unwrap(), "Basic bWU6cEBzcw==");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "127.0.0.1:9650",
            "node",
            "ftp://node",
            "http://",
            "http://a?b",
        ] {
            assert_eq!(text.parse::<AgentUrl>(), Err(AgentUrlError), "{text}");
        }
        assert!("http://[::1]:9650".parse::<AgentUrl>().is_ok());
    }
}
