//! What many records come to, for people: `resumetry pcap --format summary`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::filter::name_or_marker;
use crate::core::names;
use crate::core::record::{Handshake, Method, Outcome};

/// Server names that are told apart; a capture may hold a scan.
const MOST_NAMES: usize = 10_000;

/// In place of names beyond those.
const OTHER: &str = "_other";

/// Handshakes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    full: u64,
    resumed: u64,
    failed: u64,
    /// Completed, and the client offered to resume.
    offered: u64,
}

impl Count {
    fn add(&mut self, handshake: &Handshake) {
        match handshake.outcome() {
            Outcome::Full => self.full += 1,
            Outcome::Resumed => self.resumed += 1,
            Outcome::Failed => self.failed += 1,
        }
        if handshake.established && handshake.offered != Method::None {
            self.offered += 1;
        }
    }

    fn completed(&self) -> u64 {
        self.full + self.resumed
    }

    /// Share of those that completed, as text.
    fn quota(&self) -> String {
        match self.completed() {
            0 => "-".to_owned(),
            completed => format!("{:.1} %", 100.0 * self.resumed as f64 / completed as f64),
        }
    }
}

/// Sums over records.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    all: Count,
    names: BTreeMap<String, Count>,
    versions: BTreeMap<String, Count>,
    /// By the method that a client resumed with.
    methods: BTreeMap<&'static str, u64>,
    /// Why offers were refused.
    reasons: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub fn add(&mut self, handshake: &Handshake) {
        self.all.add(handshake);
        let name = name_or_marker(handshake.server_name.as_ref());
        let has_room = self.names.len() < MOST_NAMES || self.names.contains_key(name);
        let name = if has_room { name } else { OTHER };
        match self.names.get_mut(name) {
            Some(count) => count.add(handshake),
            None => self
                .names
                .entry(name.to_owned())
                .or_default()
                .add(handshake),
        }
        let version = handshake.version.map_or("unknown".into(), names::version);
        self.versions
            .entry(version.into_owned())
            .or_default()
            .add(handshake);
        if handshake.outcome() == Outcome::Resumed {
            *self.methods.entry(handshake.method.as_str()).or_default() += 1;
        }
        if let Some(reason) = handshake.reject_reason {
            *self.reasons.entry(reason.as_str()).or_default() += 1;
        }
    }

    /// Appends it as text.
    pub fn write(&self, out: &mut String) {
        let all = &self.all;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{} handshakes: {} full, {} resumed, {} failed; quota {}",
            all.completed() + all.failed,
            all.full,
            all.resumed,
            all.failed,
            all.quota()
        );
        let mut names: Vec<_> = self.names.iter().collect();
        // Stable: names of equal traffic stay in the order of their letters.
        names.sort_by_key(|(_, count)| std::cmp::Reverse(count.completed()));
        table(out, "SERVER NAME", names);
        table(out, "VERSION", self.versions.iter().collect());
        list(out, "RESUMED BY", &self.methods);
        list(out, "REFUSED FOR", &self.reasons);
    }
}

fn table(out: &mut String, title: &str, rows: Vec<(&String, &Count)>) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{title:<40} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "FULL", "RESUMED", "FAILED", "OFFERED", "QUOTA"
    );
    for (name, count) in rows {
        let _ = writeln!(
            out,
            "{name:<40} {:>8} {:>8} {:>8} {:>8} {:>8}",
            count.full,
            count.resumed,
            count.failed,
            count.offered,
            count.quota()
        );
    }
}

fn list(out: &mut String, title: &str, rows: &BTreeMap<&'static str, u64>) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title:<40} {:>8}", "COUNT");
    for (what, count) in rows {
        let _ = writeln!(out, "{what:<40} {count:>8}");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::core::record::{RejectReason, ServerName};
    use crate::core::sample;

    fn handshake(name: &str, resumed: bool, reason: Option<RejectReason>) -> Handshake {
        Handshake {
            established: true,
            resumed,
            version: Some(0x0304),
            server_name: Some(ServerName::Host(name.into())),
            offered: if resumed || reason.is_some() {
                Method::Psk
            } else {
                Method::None
            },
            method: if resumed { Method::Psk } else { Method::None },
            reject_reason: reason,
            ..sample::bare()
        }
    }

    #[test]
    fn busiest_names_come_first_and_nothing_is_left_out() {
        let mut summary = Summary::default();
        summary.add(&handshake("a.example", false, None));
        summary.add(&handshake("b.example", true, None));
        summary.add(&handshake(
            "b.example",
            false,
            Some(RejectReason::KeyUnknown),
        ));
        summary.add(&sample::bare());
        let mut text = String::new();
        summary.write(&mut text);
        expect![[r#"
            4 handshakes: 2 full, 1 resumed, 1 failed; quota 33.3 %

            SERVER NAME                                  FULL  RESUMED   FAILED  OFFERED    QUOTA
            b.example                                       1        1        0        2   50.0 %
            a.example                                       1        0        0        0    0.0 %
            _none                                           0        0        1        0        -

            VERSION                                      FULL  RESUMED   FAILED  OFFERED    QUOTA
            1.3                                             2        1        0        2   33.3 %
            unknown                                         0        0        1        0        -

            RESUMED BY                                  COUNT
            psk                                             1

            REFUSED FOR                                 COUNT
            key_unknown                                     1
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let mut summary = Summary::default();
        for number in 0..MOST_NAMES + 5 {
            summary.add(&handshake(&format!("{number}.example"), false, None));
        }
        assert_eq!(summary.names.len(), MOST_NAMES + 1);
        assert_eq!(summary.names[OTHER].full, 5);
    }
}
