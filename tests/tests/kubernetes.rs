//! Names of pods, from a stand-in for the Kubernetes API that fails as the real one does.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use resumetry_tests::agent::{Agent, Kubernetes, Record};
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Client, Profile, dial};
use resumetry_tests::kubernetes_api::KubernetesApi;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::site::Names;
use resumetry_tests::{metrics, ports, wait};
use serde_json::{Value, json};

/// Between attempts to reach the API pass up to 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

const UID: &str = "8f14e45f-ceea-467f-a0e6-5b0c6ad2a3c1";
const CONTAINER: &str = "4d6fd5e2f3c17c8a90be1f4f6f0f5a1c2b3d4e5f60718293a4b5c6d7e8f90a1b";

/// A pod as API servers describe it, once its containers run, or before.
fn pod(version: &str, runs: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-5d4f8c7b9-x2x7p", "generateName": "web-5d4f8c7b9-", "namespace": "shop",
            "uid": UID, "creationTimestamp": "2026-11-27T01:00:00Z",
            "labels": {
                "app.kubernetes.io/name": "web", "app.kubernetes.io/version": version,
                "pod-template-hash": "5d4f8c7b9"
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9",
                "uid": "0c8f9e3a-52a1-4c5e-8f73-6a2d1c9b7e10", "controller": true,
                "blockOwnerDeletion": true
            }]
        },
        "spec": {
            "nodeName": "node-1", "restartPolicy": "Always",
            "containers": [{"name": "nginx", "image": "nginx:1.30", "resources": {}}]
        },
        "status": {"phase": "Pending", "qosClass": "Burstable"}
    });
    if runs {
        pod["status"] = json!({
            "phase": "Running", "podIP": "10.244.1.17", "qosClass": "Burstable",
            "containerStatuses": [{
                "name": "nginx", "image": "docker.io/library/nginx:1.30",
                "imageID": "docker.io/library/nginx@sha256:0", "ready": true, "started": true,
                "restartCount": 0, "containerID": format!("containerd://{CONTAINER}"),
                "state": {"running": {"startedAt": "2026-11-27T01:00:04Z"}}
            }]
        });
    }
    pod
}

#[test]
fn pods_are_named_and_the_api_may_fail_as_it_likes() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    // As the kubelet places containers, with the cgroup driver that needs no systemd.
    let node = Cgroup::create("kubernetes").unwrap();
    let cgroup = node
        .nested(&format!("kubepods/burstable/pod{UID}/{CONTAINER}"))
        .unwrap();
    let port = ports::free().unwrap();
    let server = Server::new(port, "ssl", &names.served);
    let _nginx = cgroup.inside(|| Nginx::start(1, "", &[server])).unwrap();

    let api_port = ports::free().unwrap();
    let kubeconfig = KubernetesApi::kubeconfig(names.directory.path(), api_port).unwrap();
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let listen_text = listen.to_string();
    let node_path = node.path().to_string_lossy().into_owned();
    let common = [
        "--cgroup",
        &node_path,
        "--kubeconfig",
        &kubeconfig,
        "--kubernetes-node",
        "node-1",
        "--pod-label",
        "app.kubernetes.io/version",
    ];
    // Nobody listens yet, which holds up nothing for long.
    let trace = Agent::start(["trace", "--format", "json"].into_iter().chain(common)).unwrap();
    let run = Agent::start(["run", "--listen", &listen_text].into_iter().chain(common)).unwrap();
    let client = Client::new(Profile {
        server_name: Some(name.clone()),
        ..Profile::default()
    })
    .unwrap();
    let mut seen = 0;
    let mut visit = || -> Record {
        client.request(dial(port).unwrap(), false, 1).unwrap();
        seen += 1;
        let records = || {
            let mut records = trace.records().unwrap();
            records.retain(|record| record.role == "server");
            records
        };
        assert!(wait::until(PATIENCE, || records().len() == seen));
        records().pop().unwrap()
    };
    let unnamed = visit();
    assert_eq!(unnamed.k8s, None);
    assert_eq!(unnamed.service.name.as_deref(), Some("nginx"));
    assert_eq!(unnamed.container.id.as_deref(), Some(CONTAINER));
    assert!(
        run.messages()
            .contains("cannot read the pods of node node-1")
    );

    // A visit after which the record is as wanted; what a process is, is looked at once a second.
    let mut until = |wanted: &dyn Fn(&Record) -> bool| -> Record {
        let mut last = visit();
        let found = wait::until(PATIENCE, || {
            last = visit();
            wanted(&last)
        });
        assert!(found, "{last:#?}\n{}", trace.messages());
        last
    };
    let container = |record: &Record| {
        let k8s = record.k8s.clone().unwrap_or_default();
        k8s.container.name
    };

    // The pod is known before its containers are.
    let api = KubernetesApi::start(api_port).unwrap();
    api.put(pod("1.0", false));
    let record = until(&|record| record.k8s.is_some());
    let named = Kubernetes {
        namespace: Some("shop".to_owned()).into(),
        pod: Some("web-5d4f8c7b9-x2x7p".to_owned()).into(),
        container: None.into(),
    };
    assert_eq!(record.k8s, Some(named.clone()));
    assert_eq!(record.service.name.as_deref(), Some("web"));
    assert_eq!(record.labels["app_kubernetes_io_version"], "1.0");
    api.put(pod("1.1", true));
    let record = until(&|record| container(record).is_some());
    assert_eq!(container(&record).as_deref(), Some("nginx"));
    assert_eq!(record.labels["app_kubernetes_io_version"], "1.1");
    let of_node = |target: &String| target.contains("fieldSelector=spec.nodeName%3Dnode-1");
    assert!(api.requests().iter().all(of_node), "{:?}", api.requests());

    // Metrics bear the same.
    let counted = wait::until(PATIENCE, || {
        // The daemon may hear of the pod later than the one that is traced.
        until(&|_| true);
        let samples = metrics::scrape(listen).unwrap();
        samples.iter().any(|sample| {
            let has = |label: &str, value: &str| sample.label(label) == value;
            sample.name == "tls_handshakes_total"
                && has("service", "web")
                && has("k8s_namespace_name", "shop")
                && has("k8s_pod_name", "web-5d4f8c7b9-x2x7p")
                && has("k8s_container_name", "nginx")
                && has("k8s_workload_kind", "Deployment")
                && has("k8s_workload_name", "web")
                && has("app_kubernetes_io_version", "1.1")
        })
    });
    assert!(counted, "{:#?}", metrics::scrape(listen).unwrap());

    // A watch that is too old begins anew, and what it missed is made good.
    api.lose(&pod("1.1", true));
    api.expire_watches();
    until(&|record| record.k8s.is_none());
    api.put(pod("1.2", true));
    until(&|record| record.k8s.is_some());

    // What is known stays in use while the API is away or forbids to read it.
    api.forbid(true);
    let failures = || {
        let samples = metrics::scrape(listen).unwrap();
        let name = "resumetry_kubernetes_failures_total";
        let sample = samples.into_iter().find(|sample| sample.name == name);
        sample.map_or(0.0, |sample| sample.value)
    };
    let before = failures();
    assert!(wait::until(PATIENCE, || failures() > before));
    assert_eq!(until(&|_| true).labels["app_kubernetes_io_version"], "1.2");
    drop(api);
    assert_eq!(until(&|_| true).labels["app_kubernetes_io_version"], "1.2");
    let api = KubernetesApi::start(api_port).unwrap();
    api.put(pod("1.3", true));
    until(&|record| {
        record
            .labels
            .get("app_kubernetes_io_version")
            .is_some_and(|it| it == "1.3")
    });
    api.delete(&pod("1.3", true));
    until(&|record| record.k8s.is_none());
    let messages = run.messages();
    assert!(messages.contains("tells of pods again"), "{messages}");
    assert!(messages.contains("is forbidden"), "{messages}");
    fs::remove_file(kubeconfig).unwrap();
}
