//! Writes series with the labels that all families of server names have.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder, MetricEncoder};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::{Form, Labels, Scrape, of_service};
use crate::core::aggregate::{self, Common, Sample, Service};

/// The series of one family.
///
/// In text the labels stand in every line, and a histogram has eighteen: they are written out once
/// for a series, those that all families have once for all series that share them. That halves the
/// time of a scrape.
pub(super) struct Series<'a> {
    scrape: &'a Scrape,
    metric: MetricEncoder<'a>,
    /// Whose labels `text` begins with, and how far.
    shared: Option<(Arc<str>, Arc<Service>, Common)>,
    shared_length: usize,
    /// Labels without the value of the last and what encloses it.
    text: String,
}

impl<'a> Series<'a> {
    pub(super) fn new(scrape: &'a Scrape, metric: MetricEncoder<'a>) -> Self {
        Series {
            scrape,
            metric,
            shared: None,
            shared_length: 0,
            text: String::new(),
        }
    }

    /// Writes one series with these further labels; `value` writes its value.
    pub(super) fn write<K: aggregate::Labels, V, const N: usize>(
        &mut self,
        sample: &Sample<K, V>,
        further: &Labels<'_, N>,
        value: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let common = sample.key.common();
        if self.scrape.form != Form::Text {
            let labels = (shared(sample, common), *further);
            return value(self.metric.encode_family(&labels)?);
        }
        self.share(sample, common)?;
        self.text.truncate(self.shared_length);
        let mut last = ("transport", common.transport.as_str());
        for &label in further {
            push(&mut self.text, last)?;
            last = label;
        }
        self.text.push_str(last.0);
        let labels = Written {
            text: &self.text,
            last: last.1,
        };
        value(self.metric.encode_family(&labels)?)
    }

    /// Begins `text` with what the series before may have had as well.
    fn share<K, V>(&mut self, sample: &Sample<K, V>, common: &Common) -> fmt::Result {
        let is_shared = self.shared.as_ref().is_some_and(|(name, service, before)| {
            Arc::ptr_eq(name, &sample.server_name)
                && Arc::ptr_eq(service, &sample.service)
                && before == common
        });
        if is_shared {
            return Ok(());
        }
        self.text.clear();
        for (name, value) in self.scrape.labels() {
            push(&mut self.text, (name, value))?;
        }
        push(&mut self.text, ("role", common.role.as_str()))?;
        push(&mut self.text, ("server_name", &sample.server_name))?;
        push(&mut self.text, ("service", &sample.service.name))?;
        for (name, value) in &sample.service.labels {
            push(&mut self.text, (name, value))?;
        }
        self.shared_length = self.text.len();
        let (name, service) = (&sample.server_name, &sample.service);
        self.shared = Some((Arc::clone(name), Arc::clone(service), *common));
        Ok(())
    }
}

/// Labels that every family of server names has.
fn shared<'a, K, V>(sample: &'a Sample<K, V>, common: &Common) -> impl EncodeLabelSet + 'a {
    let first = [
        ("role", common.role.as_str()),
        ("server_name", &*sample.server_name),
    ];
    let last = [("transport", common.transport.as_str())];
    ((first, of_service(&sample.service)), last)
}

/// Writes a label that another follows, as both text formats have it.
fn push(text: &mut String, (name, value): (&str, &str)) -> fmt::Result {
    text.push_str(name);
    text.push_str("=\"");
    if value.contains(['\\', '"', '\n']) {
        for character in value.chars() {
            match character {
                '\\' | '"' => write!(text, "\\{character}")?,
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
    } else {
        text.push_str(value);
    }
    text.push_str("\",");
    Ok(())
}

/// Labels in text, but for the value of the last: to the encoder one label with a long name.
struct Written<'a> {
    text: &'a str,
    last: &'a str,
}

impl EncodeLabelSet for Written<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let mut label = encoder.encode_label();
        let mut key = label.encode_label_key()?;
        key.write_str(self.text)?;
        let mut value = key.encode_label_value()?;
        value.write_str(self.last)?;
        value.finish()
    }
}
