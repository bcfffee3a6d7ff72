// Holds objects against the schemas of their operators: an array on standard input, as JSON.
import { readFileSync } from "node:fs";
import * as argo from "@kubernetes-models/argo-rollouts/argoproj.io/v1alpha1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const models = { "argoproj.io/v1alpha1": argo, "monitoring.coreos.com/v1": prometheus };

for (const object of JSON.parse(readFileSync(0))) {
  const { apiVersion, kind, metadata } = object;
  const model = models[apiVersion]?.[kind];
  if (model === undefined) {
    throw new Error(`no schema of ${apiVersion} ${kind}`);
  }
  try {
    new model(object).validate();
  } catch (error) {
    throw new Error(`${kind} ${metadata.name}: ${error.message}`);
  }
}
