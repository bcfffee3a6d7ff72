//! Service names as small numbers.
//!
//! Services are processes of this host, not something a client can invent; the first
//! `max_services` get a number, and one that has no series any more gives its number back.

use ahash::AHashMap;
use std::sync::Arc;

use super::labels;

/// A service; its name is in [`super::Sample::service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(u16);

const UNKNOWN: ServiceId = ServiceId(0);
const OTHER: ServiceId = ServiceId(1);
/// Ids below are not interned names.
const RESERVED: usize = 2;

#[derive(Debug)]
pub(super) struct Services {
    by_name: AHashMap<Arc<str>, ServiceId>,
    /// By id; `None` is free.
    names: Vec<Option<Arc<str>>>,
    /// Length that `names` may reach.
    capacity: usize,
}

impl Services {
    pub(super) fn new(max_services: usize) -> Self {
        Services {
            by_name: AHashMap::new(),
            names: vec![
                Some(labels::UNKNOWN_SERVICE.into()),
                Some(labels::OTHER.into()),
            ],
            // Ids are 16 bits wide.
            capacity: max_services
                .saturating_add(RESERVED)
                .min(usize::from(u16::MAX)),
        }
    }

    pub(super) fn intern(&mut self, name: Option<&str>) -> ServiceId {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return UNKNOWN;
        };
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        if self.by_name.len() + RESERVED >= self.capacity {
            return OTHER;
        }
        let free = self.names.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.names.push(None);
            self.names.len() - 1
        });
        let name: Arc<str> = name.into();
        let id = ServiceId(u16::try_from(index).expect("capacity is at most u16::MAX"));
        self.names[index] = Some(Arc::clone(&name));
        self.by_name.insert(name, id);
        id
    }

    pub(super) fn name(&self, id: ServiceId) -> &Arc<str> {
        self.names[usize::from(id.0)]
            .as_ref()
            .expect("ids in series are not released")
    }

    /// One flag per id, for [`Services::release_unused`].
    pub(super) fn none_used(&self) -> Vec<bool> {
        vec![false; self.names.len()]
    }

    pub(super) fn release_unused(&mut self, used: &[bool]) {
        for (name, used) in self.names.iter_mut().zip(used).skip(RESERVED) {
            if !used && let Some(name) = name.take() {
                self.by_name.remove(&name);
            }
        }
    }
}

impl ServiceId {
    pub(super) fn mark(self, used: &mut [bool]) {
        used[usize::from(self.0)] = true;
    }
}
