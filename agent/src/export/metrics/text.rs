//! Both text formats, line by line.
//!
//! `prometheus-client` writes them too, and does so for all that is not of server names; but it
//! composes each line of some forty pieces, and a histogram has eighteen lines with the same labels.
//! Here labels come written, which takes a fraction of the time. A test holds both against each
//! other, byte by byte.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, NoLabelSet, prometheus_text, text as open_metrics,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::{fmt, io};

use super::series::{Bounds, Value, in_seconds, suffix};
use super::{Format, NO_EXEMPLARS};
use crate::core::aggregate::Histogram;

/// Bytes that are collected before they are passed on.
const FLUSH: usize = 16 * 1024;

/// What is written to.
pub(super) struct Text<'o> {
    out: &'o mut dyn io::Write,
    buffer: String,
    format: Format,
}

/// The lines of one family.
pub(super) struct Lines<'a> {
    out: &'a mut dyn io::Write,
    buffer: &'a mut String,
    format: Format,
    name: &'a str,
    suffix: &'static str,
    /// What a line has of the bound alone: all before the labels in OpenMetrics, all behind them in the
    /// older format.
    bounds: Vec<String>,
    /// What the other side of the lines has of a series.
    series: String,
}

impl<'o> Text<'o> {
    /// In one of the text formats.
    pub(super) fn new(out: &'o mut dyn io::Write, format: Format) -> Self {
        Text {
            out,
            buffer: String::with_capacity(FLUSH + FLUSH / 4),
            format,
        }
    }

    /// Begins a family; its bounds where it is of histograms.
    pub(super) fn family<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
        kind: MetricType,
        bounds: Option<&Bounds>,
    ) -> Result<Lines<'a>, fmt::Error> {
        let suffix = suffix(kind);
        // OpenMetrics names the family, the older format its samples.
        let family_suffix = match self.format {
            Format::OpenMetrics => "",
            _ => suffix,
        };
        for (what, about) in [("HELP", help), ("TYPE", kind.as_str())] {
            for piece in ["# ", what, " ", name, family_suffix, " ", about, "\n"] {
                self.buffer.push_str(piece);
            }
        }
        let mut bounds = match bounds {
            Some(bounds) => as_labels(bounds, self.format)?,
            None => Vec::new(),
        };
        for bound in &mut bounds {
            *bound = match self.format {
                Format::OpenMetrics => format!("{name}_bucket{{{bound},"),
                _ => format!("{bound}}} "),
            };
        }
        Ok(Lines {
            bounds,
            series: String::new(),
            out: &mut *self.out,
            buffer: &mut self.buffer,
            format: self.format,
            name,
            suffix,
        })
    }

    /// Writes what the library makes.
    pub(super) fn registry(&mut self, registry: &Registry) -> fmt::Result {
        by_the_library(&mut self.buffer, registry, self.format)
    }

    /// Writes what is left, and the end.
    ///
    /// # Errors
    /// Those of what is written to.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.format == Format::OpenMetrics {
            self.buffer.push_str("# EOF\n");
        }
        self.out.write_all(self.buffer.as_bytes())
    }
}

/// Writes a registry in one of the text formats.
pub(super) fn by_the_library(out: &mut String, registry: &Registry, format: Format) -> fmt::Result {
    match format {
        Format::OpenMetrics => open_metrics::encode_registry(out, registry),
        _ => prometheus_text::encode(out, registry),
    }
}

impl Lines<'_> {
    /// A series with these labels, each with a comma behind it.
    pub(super) fn value(&mut self, labels: &str, value: Value) -> fmt::Result {
        self.line(self.suffix, labels, value);
        self.pass_on()
    }

    /// A histogram with these labels.
    pub(super) fn histogram(&mut self, labels: &str, histogram: &Histogram) -> fmt::Result {
        let is_open = self.format == Format::OpenMetrics;
        if is_open {
            self.sums(labels, histogram);
        }
        self.series.clear();
        let pieces: &[&str] = match is_open {
            true => &[bare(labels), "} "],
            false => &[self.name, "_bucket{", labels],
        };
        pieces.iter().for_each(|piece| self.series.push_str(piece));
        let mut count = 0;
        for (bound, here) in self.bounds.iter().zip(&histogram.buckets) {
            count += here;
            // Two pieces a line: small copies are dear with some C libraries.
            let (first, second) = match is_open {
                true => (bound, &self.series),
                false => (&self.series, bound),
            };
            self.buffer.push_str(first);
            self.buffer.push_str(second);
            push_value(self.buffer, Value::Whole(count));
        }
        if !is_open {
            self.sums(labels, histogram);
        }
        self.pass_on()
    }

    fn sums(&mut self, labels: &str, histogram: &Histogram) {
        self.line("_sum", labels, Value::Real(histogram.sum_ns as f64 / 1e9));
        self.line("_count", labels, Value::Whole(histogram.count()));
    }

    fn line(&mut self, suffix: &str, labels: &str, value: Value) {
        for piece in [self.name, suffix, "{", bare(labels), "} "] {
            self.buffer.push_str(piece);
        }
        push_value(self.buffer, value);
    }

    fn pass_on(&mut self) -> fmt::Result {
        if self.buffer.len() >= FLUSH {
            self.out
                .write_all(self.buffer.as_bytes())
                .map_err(|_| fmt::Error)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Labels without the last comma.
fn bare(labels: &str) -> &str {
    labels.strip_suffix(',').unwrap_or(labels)
}

/// Writes a value and ends the line.
fn push_value(out: &mut String, value: Value) {
    match value {
        Value::Whole(value) => out.push_str(itoa::Buffer::new().format(value)),
        Value::Real(value) => out.push_str(dtoa::Buffer::new().format(value)),
    }
    out.push('\n');
}

/// Writes a label and a comma.
pub(super) fn push_label(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str("=\"");
    if value.contains(['\\', '"', '\n']) {
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
    } else {
        text.push_str(value);
    }
    text.push_str("\",");
}

/// Bounds as labels, as the library writes them.
fn as_labels(bounds: &Bounds, format: Format) -> Result<Vec<String>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Ruler(*bounds)));
    let mut text = String::new();
    by_the_library(&mut text, &registry, format)?;
    let labels = text.lines().filter_map(|line| {
        let (_, from) = line.split_once('{')?;
        Some(from.split_once('}')?.0.to_owned())
    });
    Ok(labels.collect())
}

/// An empty histogram, whose bounds are of interest.
#[derive(Debug)]
struct Ruler(Bounds);

impl Collector for Ruler {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let bounds: Vec<_> = in_seconds(&self.0).map(|bound| (bound, 0)).collect();
        encoder
            .encode_descriptor("ruler", "", None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(0.0, 0, &bounds, NO_EXEMPLARS)
    }
}
