//! Label values that only the metrics have; all others are words of the record itself.

use crate::core::names;
use crate::core::record::{Pod, Version};

/// `server_name` and `service` of everything that found no room.
pub const OTHER: &str = "_other";
/// `key` of tickets whose format names no key.
pub const NO_KEY: &str = "_none";
/// `service` where the process is not known.
pub const UNKNOWN_SERVICE: &str = "_unknown";

/// `version`: one that has a name. `None` where no ServerHello came, or it selected a version that
/// is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionLabel(Option<Version>);

impl From<Option<Version>> for VersionLabel {
    fn from(version: Option<Version>) -> Self {
        VersionLabel(version.filter(|&version| names::version_name(version).is_some()))
    }
}

impl VersionLabel {
    pub fn as_str(self) -> &'static str {
        match self.0 {
            // The record says `ssl3.0`.
            Some(0x0300) => "ssl3",
            version => version.and_then(names::version_name).unwrap_or("unknown"),
        }
    }
}

/// `status` of early data (RFC 8446, 4.2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EarlyData {
    Offered,
    Accepted,
    Rejected,
}

impl EarlyData {
    pub fn as_str(self) -> &'static str {
        match self {
            EarlyData::Offered => "offered",
            EarlyData::Accepted => "accepted",
            EarlyData::Rejected => "rejected",
        }
    }
}

/// `description` of an alert; `None` is one that went out encrypted.
pub fn alert(description: Option<u8>) -> &'static str {
    match description {
        None => "encrypted",
        Some(code) => alert_name(code).unwrap_or("unknown"),
    }
}

/// Not assigned by IANA, nor will it be.
const UNKNOWN_ALERT: u8 = 255;

/// The code itself where it has a name, else one code for all others: a byte that a client picks
/// must not pick a series.
pub fn known_alert(code: u8) -> u8 {
    if alert_name(code).is_some() {
        code
    } else {
        UNKNOWN_ALERT
    }
}

/// general_error (117) is younger than the set of this label, and stays `unknown` in it.
fn alert_name(code: u8) -> Option<&'static str> {
    names::alert_name(code).filter(|_| code != 117)
}

/// Labels of series that a pod serves, with those of the pod that were asked for.
pub fn of_pod(pod: &Pod) -> Vec<(&str, &str)> {
    let mut labels = vec![
        (POD_NAMESPACE, pod.namespace.as_str()),
        (POD_NAME, pod.name.as_str()),
    ];
    if let Some(container) = &pod.container {
        labels.push((POD_CONTAINER, container));
    }
    if let Some((kind, name)) = &pod.workload {
        labels.extend([(WORKLOAD_KIND, kind.as_str()), (WORKLOAD_NAME, name)]);
    }
    let chosen = pod.labels.iter();
    labels.extend(chosen.map(|(name, value)| (name.as_str(), value.as_str())));
    labels
}

/// Names of labels that only series of pods have.
pub const POD_NAMESPACE: &str = "k8s_namespace_name";
pub const POD_NAME: &str = "k8s_pod_name";
pub const POD_CONTAINER: &str = "k8s_container_name";
pub const WORKLOAD_KIND: &str = "k8s_workload_kind";
pub const WORKLOAD_NAME: &str = "k8s_workload_name";

/// A label of Kubernetes as Prometheus can name it: `app.kubernetes.io/name` is `app_kubernetes_io_name`.
pub fn label_name(name: &str) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_a_name_are_unknown() {
        let label = |version| VersionLabel::from(version).as_str();
        assert_eq!(label(None), "unknown");
        assert_eq!(label(Some(0x0305)), "unknown");
        assert_eq!(VersionLabel::from(Some(0x0305)), VersionLabel::from(None));
        assert_eq!(label(Some(0x0300)), "ssl3");
        assert_eq!(label(Some(0x0304)), "1.3");
    }

    #[test]
    fn alerts_without_a_name_share_one_code() {
        assert_eq!(known_alert(48), 48);
        for code in [1, 117, 200] {
            assert_eq!(known_alert(code), UNKNOWN_ALERT);
            assert_eq!(alert(Some(code)), "unknown");
        }
    }
}
