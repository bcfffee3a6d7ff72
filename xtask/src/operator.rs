//! Our rules once more, for clusters with the Prometheus operator: as an object of its own for
//! kustomize, and as a file for the Helm chart. Both are made, so that they cannot drift.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell;

const OBJECT: &str = "deploy/kustomize-monitoring/prometheusrule.yaml";
const CHART_FILE: &str = "deploy/helm/resumetry/files/rules.yaml";

const HEAD: &str = "\
# Made by `cargo xtask rules --write` from deploy/prometheus/rules; change these.
";

const METADATA: &str = "\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: resumetry
  namespace: resumetry
  labels:
    app.kubernetes.io/name: resumetry
    app.kubernetes.io/part-of: resumetry
spec:
";

/// Makes both files of the rule files, or checks that they are what would be made.
pub fn make(rules: &[PathBuf], write: bool) -> Result<()> {
    let groups = groups(rules)?;
    let object = format!("{HEAD}{METADATA}{}", indented(&groups));
    for (path, text) in [(OBJECT, object), (CHART_FILE, format!("{HEAD}{groups}"))] {
        let path = shell::root().join(path);
        if write {
            fs::write(&path, text)?;
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            bail!(
                "{} is not what the rules make; run `cargo xtask rules --write`",
                path.display()
            );
        }
    }
    Ok(())
}

/// All groups of all files, as one.
fn groups(rules: &[PathBuf]) -> Result<String> {
    let mut text = "groups:\n".to_owned();
    for path in rules {
        let file = fs::read_to_string(path)?;
        let (_, groups) = file
            .split_once("groups:\n")
            .with_context(|| format!("{} has no groups", path.display()))?;
        text.push_str(groups);
    }
    Ok(text)
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("  {line}\n"),
        })
        .collect()
}
