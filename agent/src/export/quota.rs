//! `/api/v1/quota`: the quota per server name since the agent started.

use serde::Serialize;

use crate::core::aggregate::Quota;

/// One row of the answer.
#[derive(Debug, Serialize)]
struct Row<'a> {
    server_name: &'a str,
    role: &'static str,
    full: u64,
    resumed: u64,
    failed: u64,
    /// Completed handshakes in which the client offered to resume.
    offered: u64,
    /// Resumed over completed handshakes; null where none completed.
    resumption_quota: Option<f64>,
}

impl<'a> From<&'a Quota> for Row<'a> {
    fn from(quota: &'a Quota) -> Self {
        Row {
            server_name: &quota.server_name,
            role: quota.role.as_str(),
            full: quota.full,
            resumed: quota.resumed,
            failed: quota.failed,
            offered: quota.offered,
            resumption_quota: quota.ratio(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    server_names: Vec<Row<'a>>,
}

pub(super) fn json(quotas: &[Quota]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Answer {
        server_names: quotas.iter().map(Row::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;
    use crate::core::record::Role;

    fn quota(server_name: &str, full: u64, resumed: u64) -> Quota {
        Quota {
            server_name: server_name.into(),
            role: Role::Server,
            full,
            resumed,
            failed: 0,
            offered: resumed,
        }
    }

    #[test]
    fn json_has_null_where_nothing_completed() {
        let answer =
            String::from_utf8(json(&[quota("a", 0, 0), quota("b", 1, 3)]).unwrap()).unwrap();
        assert!(answer.contains(r#""server_name":"a","role":"server","full":0,"resumed":0,"failed":0,"offered":0,"resumption_quota":null"#));
        assert!(answer.contains(r#""resumption_quota":0.75"#), "{answer}");
    }
}
