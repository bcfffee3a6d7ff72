//! What a library's file lets be read about tickets.

use std::path::Path;

use serde::Serialize;

use crate::explain::explain;
use crate::host::openssl::{self, Layout, ReadError};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tickets {
    /// How each offered ticket fared: key known, session or none.
    pub readable: bool,
    /// How each offered session ID fared: in the server's cache or not.
    pub session_ids: bool,
    /// Of a decrypted ticket's session.
    pub fields: Vec<&'static str>,
    /// Why not all of it.
    pub reasons: Vec<String>,
}

impl Tickets {
    /// Reads the file.
    pub fn of(library: &Path) -> Self {
        Self::judge(&openssl::inspect_file(library))
    }

    pub(super) fn judge(layout: &Result<Layout, ReadError>) -> Self {
        let mut tickets = Self {
            readable: false,
            session_ids: false,
            fields: Vec::new(),
            reasons: Vec::new(),
        };
        match layout {
            Err(error) => tickets.reasons.push(explain(error)),
            Ok(layout) => {
                match &layout.tickets {
                    Ok(_) => tickets.readable = true,
                    Err(error) => tickets.reasons.push(explain(error)),
                }
                match &layout.lookup {
                    Ok(_) => tickets.session_ids = true,
                    Err(error) => tickets.reasons.push(explain(error)),
                }
                let session = &layout.session;
                for (name, field) in [
                    ("time", session.time),
                    ("timeout", session.timeout),
                    ("version", session.version),
                ] {
                    match field {
                        Ok(_) => tickets.fields.push(name),
                        Err(error) => tickets.reasons.push(error.to_string()),
                    }
                }
            }
        }
        tickets
    }

    /// One line.
    pub(super) fn sentence(&self) -> String {
        let reasons = self.reasons.join("; ");
        if !self.readable {
            return format!("ticket decisions not readable: {reasons}");
        }
        let fields = match self.fields.as_slice() {
            [] => "nothing".to_owned(),
            fields => fields.join(", "),
        };
        let but = if reasons.is_empty() {
            String::new()
        } else {
            format!(" ({reasons})")
        };
        format!("ticket decisions readable; of the session: {fields}{but}")
    }
}
