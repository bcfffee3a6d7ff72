//! What a server gave to resume by: one offer a connection, and no more.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

#[derive(Debug)]
pub enum Session {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

/// What a server gave to resume by on one connection.
#[derive(Debug, Default)]
pub struct Given {
    pub count: usize,
    /// The server takes early data with one of them (RFC 8446, 4.2.10).
    pub takes_early_data: bool,
    /// To be offered, once.
    pub latest: Option<Session>,
}

/// The sessions of one connection.
#[derive(Debug, Default)]
pub struct Store {
    offer: Mutex<Option<Session>>,
    given: Mutex<Given>,
}

impl Store {
    pub fn offering(offer: Option<Session>) -> Self {
        Self {
            offer: Mutex::new(offer),
            given: Mutex::default(),
        }
    }

    pub fn count(&self) -> usize {
        lock(&self.given).count
    }

    /// What the server gave.
    pub fn take(&self) -> Given {
        std::mem::take(&mut *lock(&self.given))
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
        *lock(&self.given) = Given {
            count: 1,
            takes_early_data: false,
            latest: Some(Session::Tls12(session)),
        };
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
        let mut given = lock(&self.given);
        given.count += 1;
        given.takes_early_data |= session.max_early_data_size() > 0;
        given.latest = Some(Session::Tls13(session));
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
