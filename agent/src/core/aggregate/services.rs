//! Service names as small numbers.
//!
//! Services are processes of this host, or of a pod on it, not something a client can invent; the first
//! `max_services` get a number, and one that has no series any more gives its number back.

use ahash::AHashMap;
use std::sync::Arc;

use super::labels;
use crate::core::record::Pod;

/// A service; what it is called is in [`super::Sample::service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(u16);

const UNKNOWN: ServiceId = ServiceId(0);
const OTHER: ServiceId = ServiceId(1);
/// Ids below are not interned names.
const RESERVED: usize = 2;

/// A service as metrics name it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    pub name: String,
    /// Further labels: those of the pod that serves, where it is one.
    pub labels: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Services {
    by_name: AHashMap<Arc<str>, ServiceId>,
    /// Of pods: a few processes each.
    by_pod: AHashMap<Arc<Pod>, Vec<(String, ServiceId)>>,
    /// By id; `None` is free.
    services: Vec<Option<Arc<Service>>>,
    /// Length that `services` may reach.
    capacity: usize,
}

impl Services {
    pub(super) fn new(max_services: usize) -> Self {
        let reserved = |name: &str| {
            Some(Arc::new(Service {
                name: name.to_owned(),
                labels: Vec::new(),
            }))
        };
        Services {
            by_name: AHashMap::new(),
            by_pod: AHashMap::new(),
            services: vec![reserved(labels::UNKNOWN_SERVICE), reserved(labels::OTHER)],
            // Ids are 16 bits wide.
            capacity: max_services
                .saturating_add(RESERVED)
                .min(usize::from(u16::MAX)),
        }
    }

    pub(super) fn intern(&mut self, name: Option<&str>, pod: Option<&Arc<Pod>>) -> ServiceId {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return UNKNOWN;
        };
        let known = match pod {
            None => self.by_name.get(name).copied(),
            Some(pod) => self.by_pod.get(pod).and_then(|processes| {
                let known = processes.iter().find(|(known, _)| known == name);
                known.map(|(_, id)| *id)
            }),
        };
        if let Some(id) = known {
            return id;
        }
        let free = self.services.iter().position(Option::is_none);
        if free.is_none() && self.services.len() >= self.capacity {
            return OTHER;
        }
        let index = free.unwrap_or_else(|| {
            self.services.push(None);
            self.services.len() - 1
        });
        let id = ServiceId(u16::try_from(index).expect("capacity is at most u16::MAX"));
        self.services[index] = Some(Arc::new(Service {
            name: name.to_owned(),
            labels: pod
                .map_or_else(Vec::new, |pod| labels::of_pod(pod))
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }));
        match pod {
            None => {
                self.by_name.insert(name.into(), id);
            }
            Some(pod) => {
                let processes = self.by_pod.entry(Arc::clone(pod)).or_default();
                processes.push((name.to_owned(), id));
            }
        }
        id
    }

    pub(super) fn get(&self, id: ServiceId) -> &Arc<Service> {
        self.services[usize::from(id.0)]
            .as_ref()
            .expect("ids in series are not released")
    }

    /// One flag per id, for [`Services::release_unused`].
    pub(super) fn none_used(&self) -> Vec<bool> {
        vec![false; self.services.len()]
    }

    pub(super) fn release_unused(&mut self, used: &[bool]) {
        let is_used = |id: ServiceId| used.get(usize::from(id.0)).is_none_or(|used| *used);
        self.by_name.retain(|_, id| is_used(*id));
        self.by_pod.retain(|_, processes| {
            processes.retain(|(_, id)| is_used(*id));
            !processes.is_empty()
        });
        for (service, used) in self.services.iter_mut().zip(used).skip(RESERVED) {
            if !used {
                *service = None;
            }
        }
    }
}

impl ServiceId {
    pub(super) fn mark(self, used: &mut [bool]) {
        used[usize::from(self.0)] = true;
    }
}
