//! The pods of this node, by what a process shows of them: the id of its container, or the uid of the
//! pod in the path of its cgroup. It knows nothing of the API that tells it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::core::record::Pod;

/// Pods that are known at the same time; a node runs some hundreds at most.
const CAPACITY: usize = 4_096;

/// A pod as the API describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub uid: String,
    /// Without a container.
    pub pod: Pod,
    /// Ids and names of the containers that run, or did.
    pub containers: Vec<(String, String)>,
}

/// Shared by those who ask, and who hears of changes.
#[derive(Debug, Default)]
pub struct PodTable {
    pods: RwLock<Pods>,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Pods {
    by_uid: HashMap<String, Entry>,
    /// Container to uid of the pod.
    by_container: HashMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    containers: HashMap<String, Arc<Pod>>,
}

impl PodTable {
    /// The pod of a process; by its container where that is known, which names the container too.
    pub fn lookup(&self, container: Option<&str>, uid: Option<&str>) -> Option<Arc<Pod>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        let by_container = container.and_then(|id| {
            let entry = pods.by_uid.get(pods.by_container.get(id)?)?;
            entry.containers.get(id).cloned()
        });
        by_container.or_else(|| Some(Arc::clone(&pods.by_uid.get(uid?)?.pod)))
    }

    /// Enters a pod, or what it has become.
    pub fn apply(&self, described: Described) {
        self.write(|pods| pods.apply(described));
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        self.write(|pods| pods.remove(uid));
    }

    /// Forgets all pods but these.
    pub fn replace(&self, all: Vec<Described>) {
        self.write(|pods| {
            *pods = Pods::default();
            for described in all {
                pods.apply(described);
            }
        });
    }

    /// Pods that are known.
    pub fn len(&self) -> usize {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.by_uid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts that the API could not be read.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the API could not be read.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn write(&self, change: impl FnOnce(&mut Pods)) {
        change(&mut self.pods.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Pods {
    fn apply(&mut self, described: Described) {
        let Described {
            uid,
            pod,
            containers,
        } = described;
        self.remove(&uid);
        if self.by_uid.len() >= CAPACITY {
            return;
        }
        let of = |name: String| {
            Arc::new(Pod {
                container: Some(name),
                ..pod.clone()
            })
        };
        let containers: HashMap<_, _> = containers
            .into_iter()
            .map(|(id, name)| (id, of(name)))
            .collect();
        for id in containers.keys() {
            self.by_container.insert(id.clone(), uid.clone());
        }
        let pod = Arc::new(pod);
        self.by_uid.insert(uid, Entry { pod, containers });
    }

    fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.by_uid.remove(uid) {
            for id in entry.containers.keys() {
                self.by_container.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn described(uid: &str, name: &str, containers: &[(&str, &str)]) -> Described {
        Described {
            uid: uid.to_owned(),
            pod: Pod {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                ..Pod::default()
            },
            containers: containers
                .iter()
                .map(|(id, name)| ((*id).to_owned(), (*name).to_owned()))
                .collect(),
        }
    }

    fn found(table: &PodTable, container: &str, uid: &str) -> Option<(String, Option<String>)> {
        let pod = table.lookup(Some(container), Some(uid))?;
        Some((pod.name.clone(), pod.container.clone()))
    }

    #[test]
    fn a_container_that_the_kubelet_did_not_tell_of_yet_is_known_by_its_pod() {
        let table = PodTable::default();
        table.apply(described("u1", "web-1", &[]));
        assert_eq!(found(&table, "c1", "u1"), Some(("web-1".to_owned(), None)));
        table.apply(described("u1", "web-1", &[("c1", "nginx")]));
        let named = Some(("web-1".to_owned(), Some("nginx".to_owned())));
        assert_eq!(found(&table, "c1", "u1"), named);
        assert_eq!(found(&table, "c1", "another"), named);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let table = PodTable::default();
        table.apply(described("u1", "web-1", &[("c1", "nginx")]));
        table.apply(described("u1", "web-1", &[("c2", "nginx")]));
        assert_eq!(table.lookup(Some("c1"), None), None);
        table.remove("u1");
        assert_eq!(found(&table, "c2", "u1"), None);
        table.apply(described("u2", "web-2", &[("c3", "nginx")]));
        table.replace(vec![described("u3", "web-3", &[])]);
        assert_eq!(found(&table, "c3", "u2"), None);
        assert_eq!(table.len(), 1);
    }
}
