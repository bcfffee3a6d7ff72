//! What a server gave to resume by: one offer a connection, and no more.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Of one connection; a server that gives more gives too many.
const MAX_SESSIONS: usize = 16;

#[derive(Debug)]
pub enum Session {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

impl Session {
    /// The server takes early data with it (RFC 8446, 4.2.10).
    pub fn takes_early_data(&self) -> bool {
        match self {
            Self::Tls12(_) => false,
            Self::Tls13(session) => session.max_early_data_size() > 0,
        }
    }
}

/// The sessions of one connection.
#[derive(Debug, Default)]
pub struct Store {
    offer: Mutex<Option<Session>>,
    got: Mutex<Vec<Session>>,
}

impl Store {
    pub fn offering(offer: Option<Session>) -> Self {
        Self {
            offer: Mutex::new(offer),
            got: Mutex::default(),
        }
    }

    pub fn count(&self) -> usize {
        lock(&self.got).len()
    }

    /// What the server gave.
    pub fn take(&self) -> Vec<Session> {
        std::mem::take(&mut *lock(&self.got))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        // Each one takes the place of the one before.
        *lock(&self.got) = vec![Session::Tls12(session)];
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        match &*lock(&self.offer) {
            Some(Session::Tls12(session)) => Some(session.clone()),
            _ => None,
        }
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *lock(&self.offer) = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, session: Tls13ClientSessionValue) {
        let mut got = lock(&self.got);
        if got.len() < MAX_SESSIONS {
            got.push(Session::Tls13(session));
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut offer = lock(&self.offer);
        match offer.take() {
            Some(Session::Tls13(session)) => Some(session),
            other => {
                *offer = other;
                None
            }
        }
    }
}
