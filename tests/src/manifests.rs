//! What `deploy/` makes of Kubernetes objects, by kustomize and by the Helm chart.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::repository;

/// YAML documents on stdin, as one JSON list on stdout.
const TO_JSON: &str = "import json, sys, yaml\n\
    print(json.dumps([one for one in yaml.safe_load_all(sys.stdin) if one]))";

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}; `cargo xtask setup --tests` helps"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// What a kustomization below `deploy` makes, as YAML.
pub fn kustomize(directory: &str) -> Result<String> {
    let kubectl = repository().join("target/foreign/kubectl/root/usr/bin/kubectl");
    let directory = repository().join("deploy").join(directory);
    output(Command::new(kubectl).arg("kustomize").arg(directory))
}

/// What the chart makes of some values, as YAML: not by Helm, which no distribution packages, but by
/// the template engine that Helm is made of.
pub fn helm(scratch: &Path, values: &Value) -> Result<String> {
    let renderer = scratch.join("helm");
    output(
        Command::new("go")
            .args(["build", "-o"])
            .arg(&renderer)
            .arg(repository().join("tests/src/programs/helm.go"))
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOCACHE", scratch.join("cache")),
    )?;
    let chart = repository().join("deploy/helm/resumetry");
    output(
        Command::new(renderer)
            .arg(chart)
            .arg("resumetry")
            .arg(values.to_string()),
    )
}

/// The objects of some YAML.
pub fn objects(yaml: &str) -> Result<Vec<Value>> {
    let scratch = tempfile::NamedTempFile::new()?;
    std::fs::write(scratch.path(), yaml)?;
    let python = Command::new(repository().join("target/python/bin/python"))
        .args(["-c", TO_JSON])
        .stdin(scratch.reopen()?)
        .output()?;
    ensure!(
        python.status.success(),
        "{}",
        String::from_utf8_lossy(&python.stderr)
    );
    Ok(serde_json::from_slice(&python.stdout)?)
}

/// Schemas of the operators whose objects these are (Prometheus, Argo Rollouts); what the first says
/// that is not satisfied.
pub fn validate_foreign(objects: &[&Value]) -> Result<()> {
    let scratch = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(scratch.as_file(), objects)?;
    let node = Command::new("node")
        .arg(repository().join("target/node/validate.mjs"))
        .stdin(scratch.reopen()?)
        .output()?;
    ensure!(
        node.status.success(),
        "{}",
        String::from_utf8_lossy(&node.stderr)
    );
    Ok(())
}

/// Kubernetes' own schema, nothing unknown allowed; what it says where it is not satisfied.
pub fn validate(yaml: &Path, version: &str) -> Result<()> {
    let validate = repository().join("target/python/bin/kubernetes-validate");
    output(
        Command::new(validate)
            .args(["--strict", "--kubernetes-version", version])
            .arg(yaml),
    )
    .map(drop)
}
