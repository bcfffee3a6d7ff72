//! The figures of this process, as the model wants them.

use std::sync::Arc;

use super::model::{RowKey, Snapshot};
use super::viewer::Source;
use crate::core::record::Role;
use crate::core::view::Name;
use crate::export::State;

/// What is counted in this process.
#[derive(Debug)]
pub struct Figures {
    state: Arc<State>,
}

impl Figures {
    /// Of this state.
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }
}

impl Source for Figures {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            overview: self.state.overview(),
            names: self.state.names(),
        }
    }

    fn name(&self, key: &RowKey) -> Option<Name> {
        let role = match key.role {
            "client" => Role::Client,
            _ => Role::Server,
        };
        self.state.name(&key.server_name, role)
    }
}
