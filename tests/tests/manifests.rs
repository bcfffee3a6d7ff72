//! The objects that `deploy/` makes for Kubernetes.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;

use resumetry_tests::manifests::{helm, kustomize, objects, validate, validate_foreign};
use resumetry_tests::repository;
use serde_json::{Value, json};

/// Not in Kubernetes' own schema: those of the Prometheus operator and of Argo Rollouts.
const FOREIGN: [&str; 2] = ["monitoring.coreos.com/v1", "argoproj.io/v1alpha1"];

/// By kind and name.
fn by_name(yaml: &str) -> BTreeMap<String, Value> {
    objects(yaml)
        .unwrap()
        .into_iter()
        .map(|object| {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            (name, object)
        })
        .collect()
}

#[test]
fn kustomize_and_helm_make_the_same_objects() {
    let scratch = tempfile::tempdir().unwrap();
    for (directory, values, count) in [
        ("kustomize", json!({}), 6),
        (
            "kustomize-monitoring",
            json!({"monitoring": {"enabled": true}}),
            8,
        ),
    ] {
        let kustomized = by_name(&kustomize(directory).unwrap());
        assert_eq!(kustomized.len(), count);
        let rendered = by_name(&helm(scratch.path(), &values).unwrap());
        assert_eq!(
            kustomized.keys().collect::<Vec<_>>(),
            rendered.keys().collect::<Vec<_>>()
        );
        for (name, object) in &kustomized {
            assert_eq!(object, &rendered[name], "{name}");
        }
    }
}

#[test]
fn kubernetes_takes_them_all() {
    let scratch = tempfile::tempdir().unwrap();
    // Everything that values can set, so that all of the chart is seen.
    let values = json!({
        "image": {"tag": "9.9.9", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "extraArgs": ["--label", "tier=edge"],
        "extraEnv": [{"name": "RESUMETRY_FINGERPRINT_SALT", "valueFrom":
            {"secretKeyRef": {"name": "resumetry", "key": "salt"}}}],
        "extraCapabilities": ["SYS_ADMIN"],
        "networkPolicy": {"extraEgress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}]}
    });
    let all = helm(scratch.path(), &values).unwrap();
    for text in [&kustomize("kustomize").unwrap(), &all] {
        let path = scratch.path().join("objects.yaml");
        std::fs::write(&path, text).unwrap();
        for version in ["1.28", "1.31", "1.34"] {
            validate(&path, version).unwrap();
        }
    }
    let set = &by_name(&all)["\"DaemonSet\" \"resumetry\""];
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "ghcr.io/resumetry/resumetry:9.9.9");
    assert_eq!(container["args"][4], "tier=edge");
    let added = &container["securityContext"]["capabilities"]["add"];
    assert_eq!(added.as_array().unwrap().len(), 5);

    // The check can fail.
    let wrong = scratch.path().join("wrong.yaml");
    let text = kustomize("kustomize")
        .unwrap()
        .replace("hostPID: true", "hostPid: true");
    std::fs::write(&wrong, text).unwrap();
    assert!(validate(&wrong, "1.31").is_err());
}

#[test]
fn values_leave_out_what_they_should() {
    let scratch = tempfile::tempdir().unwrap();
    let values = json!({
        "namespace": {"create": false}, "kubernetes": {"enabled": false},
        "networkPolicy": {"enabled": false}
    });
    let objects = by_name(&helm(scratch.path(), &values).unwrap());
    assert_eq!(objects.len(), 2, "{:?}", objects.keys());
    let set = &objects["\"DaemonSet\" \"resumetry\""];
    let mounted = &set["spec"]["template"]["spec"]["automountServiceAccountToken"];
    assert_eq!(mounted, false);
}

/// Objects that are not Kubernetes' own.
fn foreign(yaml: &str) -> Vec<Value> {
    let objects = objects(yaml).unwrap().into_iter();
    objects
        .filter(|object| FOREIGN.contains(&object["apiVersion"].as_str().unwrap()))
        .collect()
}

#[test]
fn operators_take_their_objects() {
    let monitoring = kustomize("kustomize-monitoring").unwrap();
    let monitors = foreign(&monitoring);
    let kinds: Vec<_> = monitors.iter().map(|object| &object["kind"]).collect();
    assert_eq!(kinds, ["PodMonitor", "PrometheusRule"]);
    let path = repository().join("deploy/rollouts/argo-rollouts.yaml");
    let templates = foreign(&std::fs::read_to_string(path).unwrap());
    assert!(!templates.is_empty());
    validate_foreign(&monitors.iter().chain(&templates).collect::<Vec<_>>()).unwrap();

    // The check can fail.
    let mut wrong = monitors[0].clone();
    wrong["spec"]["podMetricsEndpoints"][0]["port"] = json!(9650);
    assert!(validate_foreign(&[&wrong]).is_err());
}
