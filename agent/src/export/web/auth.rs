//! Names and passwords of clients (RFC 7617), as bcrypt hashes.
//!
//! A hash takes some 50 ms to check. So what was found right is remembered, wrong guesses are checked
//! one at a time, and an unknown name takes as long as a wrong password.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::WebConfigError;

/// Pairs of name and password that are remembered; a name has one password.
const MAX_REMEMBERED: usize = 1_000;

/// Checked where the name is unknown. What it is the hash of matters to nobody.
const NOBODY: &str = "$2b$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// Who may read.
#[derive(Debug)]
pub(in crate::export) struct Users {
    hashes: BTreeMap<String, String>,
    /// SHA-256 of headers that were right.
    right: Mutex<HashSet<[u8; 32]>>,
    /// Held while a hash is checked.
    turn: tokio::sync::Mutex<()>,
}

impl Users {
    pub(super) fn new(
        path: &Path,
        hashes: BTreeMap<String, String>,
    ) -> Result<Self, WebConfigError> {
        for (name, hash) in &hashes {
            bcrypt::verify("", hash).map_err(|_| WebConfigError::Value {
                path: path.to_owned(),
                key: format!("basic_auth_users.{name}"),
                reason: "this is no bcrypt hash; `htpasswd -nBC 10 \"\"` makes one".to_owned(),
            })?;
        }
        Ok(Self {
            hashes,
            right: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Whether a request with these headers may be answered.
    pub(in crate::export) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(header.as_bytes()).into();
        let remembered = || {
            self.right
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&digest)
        };
        if remembered() {
            return true;
        }
        let Some((name, password)) = credentials(header.as_bytes()) else {
            return false;
        };
        let hash = self
            .hashes
            .get(&name)
            .map_or(NOBODY, String::as_str)
            .to_owned();
        let is_known = self.hashes.contains_key(&name);
        let _turn = self.turn.lock().await;
        let check = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let is_right = tokio::task::spawn_blocking(check).await.unwrap_or(false) && is_known;
        if is_right {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() < MAX_REMEMBERED {
                right.insert(digest);
            }
        }
        is_right
    }
}

/// Name and password of a header of the `Basic` scheme.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    Some((
        String::from_utf8(name.to_vec()).ok()?,
        password.get(1..)?.to_vec(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    fn users() -> Users {
        let hash = bcrypt::hash("open:sesame", 4).unwrap();
        Users::new(
            Path::new("web.yml"),
            BTreeMap::from([("prometheus".to_owned(), hash)]),
        )
        .unwrap()
    }

    fn headers(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn admits_the_right_password_only() {
        let users = users();
        for _ in 0..2 {
            assert!(users.admit(&headers("prometheus:open:sesame")).await);
        }
        assert!(!users.admit(&headers("prometheus:open")).await);
        assert!(!users.admit(&headers("grafana:open:sesame")).await);
        assert!(!users.admit(&headers("no colon")).await);
        assert!(!users.admit(&HeaderMap::new()).await);
    }

    #[test]
    fn the_hash_for_unknown_names_is_one() {
        assert!(bcrypt::verify("", NOBODY).is_ok());
    }

    #[test]
    fn refuses_a_password_in_clear_text() {
        let hashes = BTreeMap::from([("prometheus".to_owned(), "secret".to_owned())]);
        let error = Users::new(Path::new("web.yml"), hashes).unwrap_err();
        assert!(error.to_string().contains("basic_auth_users.prometheus"));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
