//! Since when each finding stands, and what people see of it.

use std::collections::HashMap;

use super::Draft;
use super::advice;
use super::rule::Rule;
use crate::core::view::{Advice, Finding};

/// What a finding is about.
type Subject = (Rule, Option<String>, Option<String>);

/// Findings that stand, and since when.
#[derive(Debug, Default)]
pub struct Standing {
    since: HashMap<Subject, f64, ahash::RandomState>,
}

impl Standing {
    /// Takes what stands at this Unix time, seconds; what stood before and does not any more is forgotten.
    pub fn update(&mut self, drafts: Vec<Draft>, now_seconds: f64) -> Vec<Finding> {
        let mut since = HashMap::default();
        let findings = drafts.into_iter().map(|draft| {
            let subject = (draft.rule, draft.server_name.clone(), draft.service.clone());
            let began = self.since.get(&subject).copied().unwrap_or(now_seconds);
            since.insert(subject, began);
            finding(draft, began)
        });
        let findings = findings.collect();
        self.since = since;
        findings
    }
}

/// What people see of a draft that has stood since this Unix time, seconds.
pub fn finding(draft: Draft, since_timestamp_seconds: f64) -> Finding {
    let advice = advice::of(draft.rule).iter().map(|advice| Advice {
        server: advice.server.to_owned(),
        text: advice.text.to_owned(),
        config: advice.config.map(str::to_owned),
    });
    Finding {
        id: draft.rule.id().to_owned(),
        severity: draft.severity.as_str().to_owned(),
        title: draft.rule.title().to_owned(),
        server_name: draft.server_name,
        service: draft.service,
        since_timestamp_seconds,
        evidence: draft.evidence,
        figures: draft
            .figures
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        effect: draft.effect,
        advice: advice.collect(),
    }
}
