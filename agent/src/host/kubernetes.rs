//! Hears from the Kubernetes API which pods run on this node, and keeps the table of them.
//!
//! It has a thread and a runtime of its own: capture does not wait for it, and goes on without pods
//! where the API cannot be read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, watcher::InitialListStrategy};
use kube::{Api, Client, Config};

use super::pods::{Described, PodTable};
use crate::core::aggregate::labels::label_name;
use crate::core::record::Pod;
use crate::explain::explain;

/// Tells every process in a pod that it is in one.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// A pod of these is made by one of those, which is what people know.
const HASH_LABEL: &str = "pod-template-hash";

/// How long a start waits for the first list, so that the first handshakes are named.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// Pods in one answer of a list.
const PAGE: u32 = 100;

/// Where pods are heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Name of this node; `None` is the name of the host.
    pub node: Option<String>,
    /// How to reach the API; `None` is as pods do.
    pub kubeconfig: Option<PathBuf>,
    /// Labels of pods that are shown.
    pub pod_labels: Vec<String>,
}

/// Why the API that was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error("cannot use the kubeconfig {path}: {message}", path = path.display())]
    Kubeconfig { path: PathBuf, message: String },
    #[error("cannot start the thread that follows pods: {0}")]
    Thread(#[source] std::io::Error),
}

/// Starts to follow the pods of this node; `None` where this host is no node, as far as can be seen.
/// It returns when the pods are known, or after a few seconds.
///
/// # Errors
/// [`KubernetesError`] only where a kubeconfig was given.
pub fn follow(config: &KubernetesConfig) -> Result<Option<Arc<PodTable>>, KubernetesError> {
    let kubeconfig = config.kubeconfig.as_deref().map(read).transpose()?;
    if kubeconfig.is_none() && std::env::var_os(IN_CLUSTER).is_none() {
        return Ok(None);
    }
    let node = config.node.clone().unwrap_or_else(|| {
        let host = rustix::system::uname();
        host.nodename().to_string_lossy().into_owned()
    });
    let follower = Follower {
        table: Arc::default(),
        node,
        pod_labels: config.pod_labels.clone(),
        complained: false,
    };
    let table = Arc::clone(&follower.table);
    let (listed, first) = mpsc::channel();
    thread::Builder::new()
        .name("pods".into())
        .spawn(move || follower.run(kubeconfig, &listed))
        .map_err(KubernetesError::Thread)?;
    // Whoever cannot be reached is named in the log; the rest goes on.
    let _ = first.recv_timeout(FIRST_LIST);
    Ok(Some(table))
}

fn read(path: &Path) -> Result<Kubeconfig, KubernetesError> {
    Kubeconfig::read_from(path).map_err(|error| KubernetesError::Kubeconfig {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

struct Follower {
    table: Arc<PodTable>,
    node: String,
    pod_labels: Vec<String>,
    /// That the API cannot be read was said.
    complained: bool,
}

impl Follower {
    fn run(mut self, kubeconfig: Option<Kubeconfig>, listed: &mpsc::Sender<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.follow(kubeconfig, listed)),
            Err(error) => self.complain(&error.to_string()),
        }
    }

    async fn follow(&mut self, kubeconfig: Option<Kubeconfig>, listed: &mpsc::Sender<()>) {
        let config = match kubeconfig {
            Some(kubeconfig) => {
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| error.to_string())
            }
            None => Config::incluster()
                .map_err(|error| format!("{error}; is the token of the service account mounted?")),
        };
        let client =
            config.and_then(|config| Client::try_from(config).map_err(|error| error.to_string()));
        let client = match client {
            Ok(client) => client,
            Err(error) => return self.complain(&error),
        };
        let settings = watcher::Config {
            field_selector: Some(format!("spec.nodeName={}", self.node)),
            page_size: Some(PAGE),
            initial_list_strategy: InitialListStrategy::ListWatch,
            ..watcher::Config::default()
        };
        let events = watcher(Api::<ApiPod>::all(client), settings).default_backoff();
        pin_mut!(events);
        let mut all = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod)) => {
                    if let Some(described) = self.describe(pod) {
                        self.table.apply(described);
                    }
                    self.recovered();
                }
                Ok(Event::Delete(pod)) => {
                    if let Some(uid) = pod.metadata.uid {
                        self.table.remove(&uid);
                    }
                }
                Ok(Event::Init) => all.clear(),
                Ok(Event::InitApply(pod)) => all.extend(self.describe(pod)),
                Ok(Event::InitDone) => {
                    self.table.replace(std::mem::take(&mut all));
                    self.recovered();
                    // Nobody waits any more after the first.
                    let _ = listed.send(());
                }
                Err(error) => self.complain(&explain(&error)),
            }
        }
    }

    fn describe(&self, pod: ApiPod) -> Option<Described> {
        describe(pod, &self.pod_labels)
    }

    /// What is known stays in use meanwhile.
    fn complain(&mut self, error: &str) {
        self.table.failed();
        if self.complained {
            log::debug!("Kubernetes: {error}");
            return;
        }
        self.complained = true;
        log::warn!(
            "cannot read the pods of node {} from the Kubernetes API: {error}\nhandshakes are seen \
             all the same, without the names of pods; the service account needs `list` and `watch` \
             on pods (deploy/kustomize/rbac.yaml), and --kubernetes-node the name of the node",
            self.node
        );
    }

    fn recovered(&mut self) {
        if self.complained {
            self.complained = false;
            log::info!("the Kubernetes API tells of pods again");
        }
    }
}

/// `None` for what is no pod that could run.
fn describe(pod: ApiPod, shown: &[String]) -> Option<Described> {
    let metadata = pod.metadata;
    let labels = metadata.labels.unwrap_or_default();
    let name = metadata.name?;
    let owners = metadata.owner_references.unwrap_or_default();
    let owner = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true));
    let workload = owner.map(|owner| {
        let hash = labels.get(HASH_LABEL);
        let deployment = hash
            .filter(|_| owner.kind == "ReplicaSet")
            .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        match deployment {
            Some(name) => ("Deployment".to_owned(), name.to_owned()),
            None => (owner.kind, owner.name),
        }
    });
    let status = pod.status.unwrap_or_default();
    let statuses = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ];
    Some(Described {
        uid: metadata.uid?,
        pod: Pod {
            namespace: metadata.namespace.unwrap_or_default(),
            name,
            container: None,
            workload,
            labels: shown
                .iter()
                .filter_map(|name| Some((label_name(name), labels.get(name)?.clone())))
                .collect(),
        },
        containers: statuses
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(container)
            .collect(),
    })
}

/// Id and name; the id stands behind the name of the runtime: `containerd://0123…`.
fn container(status: ContainerStatus) -> Option<(String, String)> {
    let id = status.container_id?;
    let (_, id) = id.split_once("://")?;
    Some((id.to_owned(), status.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn pod(owner: (&str, &str), hash: Option<&str>) -> ApiPod {
        let mut labels = json!({"app.kubernetes.io/name": "web"});
        if let Some(hash) = hash {
            labels[HASH_LABEL] = hash.into();
        }
        serde_json::from_value(json!({
            "metadata": {
                "name": "web-5d4f8c7b9-x2x7p", "namespace": "shop", "uid": "u1", "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": owner.0, "name": owner.1, "uid": "o1",
                    "controller": true
                }]
            },
            "status": {"containerStatuses": [
                {"name": "nginx", "containerID": "containerd://c1", "image": "", "imageID": "",
                 "ready": true, "restartCount": 0},
                {"name": "waits", "image": "", "imageID": "", "ready": false, "restartCount": 0}
            ]}
        }))
        .unwrap()
    }

    fn workload(owner: (&str, &str), hash: Option<&str>) -> (String, String) {
        describe(pod(owner, hash), &[])
            .unwrap()
            .pod
            .workload
            .unwrap()
    }

    #[test]
    fn what_people_deployed_is_the_workload() {
        let named = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let set = ("ReplicaSet", "web-5d4f8c7b9");
        assert_eq!(workload(set, Some("5d4f8c7b9")), named("Deployment", "web"));
        assert_eq!(workload(set, None), named("ReplicaSet", "web-5d4f8c7b9"));
        let own = ("StatefulSet", "db");
        assert_eq!(workload(own, Some("5d4f8c7b9")), named("StatefulSet", "db"));
    }

    #[test]
    fn containers_that_have_started_are_known_by_their_id() {
        let shown = ["app.kubernetes.io/name".to_owned(), "absent".to_owned()];
        let described = describe(pod(("ReplicaSet", "web"), None), &shown).unwrap();
        assert_eq!(
            described.containers,
            [("c1".to_owned(), "nginx".to_owned())]
        );
        let label = ("app_kubernetes_io_name".to_owned(), "web".to_owned());
        assert_eq!(described.pod.labels, [label]);
    }

    #[test]
    fn an_object_without_a_uid_is_no_pod() {
        assert_eq!(describe(ApiPod::default(), &[]), None);
    }
}
