//! Decides what to leave out.
//!
//! The estimate is what probes cost handshakes over the CPU time of the processes that make them, plus
//! what they cost bystanders over that of everybody. It is judged over the last two samples together,
//! so that one odd second decides nothing.
//!
//! Above the limit the groups are shed in the order of [`Optional::ALL`] until the rest keeps it.
//! What a group cost a handshake is remembered, so that it comes back when its cost would fit again,
//! with a fifth of the limit to spare, in three samples in a row. Servers that use next to no CPU are
//! not judged by a ratio: a few per cent of nothing is nothing, and everything comes back.

use super::model::{CostModel, Costs, Hits, Optional, PROBES, Window};

/// Part of one CPU that the servers must use before anything is shed: below, clock ticks are too
/// coarse to divide by, and nothing is at stake.
const BUSY: f64 = 0.04;

/// Part of one CPU below which what was shed comes back.
const IDLE: f64 = 0.02;

/// What must remain below the limit with a restored group.
const ROOM: f64 = 0.8;

/// Samples in a row that must allow it before a group comes back.
const CALM: u32 = 3;

/// Least CPU time of servers that an estimate is made from, nanoseconds: five ticks of
/// `/proc/PID/stat`.
const MIN_SERVERS_NS: u64 = 50_000_000;

/// What happened in a few seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub elapsed_ns: u64,
    pub hits: Hits,
    /// ClientHellos.
    pub handshakes: u64,
    /// CPU time of the processes that make handshakes, nanoseconds.
    pub servers_ns: u64,
    /// CPU time of everybody whose packets are watched, nanoseconds; 0 where it is not known.
    pub everybody_ns: u64,
}

/// A group that is to be shed, or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Shed(Optional),
    Restore(Optional),
}

/// What follows from a sample.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Estimated cost of watching over the servers' CPU time; `None` where they used too little to
    /// tell.
    pub ratio: Option<f64>,
    pub changes: Vec<Change>,
}

/// Two samples.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    sample: Sample,
    costs: Costs,
}

/// The policy and what it remembers.
#[derive(Debug, Clone)]
pub struct Governor {
    model: CostModel,
    /// As a ratio; `None` sheds nothing.
    limit: Option<f64>,
    last: Option<Span>,
    shed: [Option<Shed>; Optional::ALL.len()],
    calm: u32,
    totals: Costs,
}

/// A group that is left out.
#[derive(Debug, Clone, Copy)]
struct Shed {
    /// What it cost a handshake, nanoseconds.
    each_ns: f64,
}

impl Governor {
    pub fn new(model: CostModel, limit: Option<f64>) -> Self {
        Self {
            model,
            limit,
            last: None,
            shed: [None; Optional::ALL.len()],
            calm: 0,
            totals: Costs::default(),
        }
    }

    /// Corrects what probes are thought to cost.
    pub fn learn(&mut self, window: &Window) {
        self.model.learn(window);
    }

    /// CPU time of each probe so far, nanoseconds, in the order of [`PROBES`].
    pub fn totals_ns(&self) -> [f64; PROBES.len()] {
        self.totals.0
    }

    pub fn is_shed(&self, group: Optional) -> bool {
        self.shed[group as usize].is_some()
    }

    /// Takes what happened since the last call.
    pub fn judge(&mut self, sample: Sample) -> Verdict {
        let new = Span {
            costs: self.model.costs(&sample.hits),
            sample,
        };
        self.totals += new.costs;
        let Some(last) = self.last.replace(new) else {
            return Verdict {
                ratio: new.ratio(),
                changes: Vec::new(),
            };
        };
        let span = last.with(new);
        let changes = match (self.limit, span.ratio()) {
            (None, _) => Vec::new(),
            (Some(limit), Some(ratio)) if span.load() >= BUSY && ratio > limit => {
                self.calm = 0;
                self.shed_down_to(limit, ratio, &span)
            }
            (Some(limit), ratio) => self.restore(limit, ratio, &span).into_iter().collect(),
        };
        if !changes.is_empty() {
            // What was seen before belongs to another set of probes.
            self.last = None;
        }
        Verdict {
            ratio: span.ratio(),
            changes,
        }
    }

    fn shed_down_to(&mut self, limit: f64, mut ratio: f64, span: &Span) -> Vec<Change> {
        let mut changes = Vec::new();
        for group in Optional::ALL {
            let cost_ns = span.costs.of_ns(group);
            if ratio <= limit || cost_ns <= 0.0 || self.is_shed(group) {
                continue;
            }
            ratio -= cost_ns / span.sample.servers_ns as f64;
            self.shed[group as usize] = Some(Shed {
                each_ns: cost_ns / span.sample.handshakes.max(1) as f64,
            });
            changes.push(Change::Shed(group));
        }
        changes
    }

    fn restore(&mut self, limit: f64, ratio: Option<f64>, span: &Span) -> Option<Change> {
        // The last one that went is the first to come back.
        let group = Optional::ALL
            .into_iter()
            .rev()
            .find(|group| self.is_shed(*group))?;
        let each_ns = self.shed[group as usize]?.each_ns;
        let fits = span.load() < IDLE
            || ratio.is_some_and(|ratio| {
                let more_ns = each_ns * span.sample.handshakes as f64;
                ratio + more_ns / span.sample.servers_ns as f64 <= limit * ROOM
            });
        self.calm = if fits { self.calm + 1 } else { 0 };
        if self.calm < CALM {
            return None;
        }
        self.calm = 0;
        self.shed[group as usize] = None;
        Some(Change::Restore(group))
    }
}

impl Span {
    fn with(self, other: Self) -> Self {
        let (a, b) = (self.sample, other.sample);
        let mut costs = self.costs;
        costs += other.costs;
        Self {
            sample: Sample {
                elapsed_ns: a.elapsed_ns + b.elapsed_ns,
                // Counted into the costs already.
                hits: b.hits,
                handshakes: a.handshakes + b.handshakes,
                servers_ns: a.servers_ns + b.servers_ns,
                everybody_ns: a.everybody_ns + b.everybody_ns,
            },
            costs,
        }
    }

    fn ratio(&self) -> Option<f64> {
        let servers_ns = self.sample.servers_ns;
        if servers_ns < MIN_SERVERS_NS {
            return None;
        }
        let everybody_ns = self.sample.everybody_ns.max(servers_ns);
        Some(
            self.costs.handshakes_ns() / servers_ns as f64
                + self.costs.bystanders_ns() / everybody_ns as f64,
        )
    }

    /// CPUs that the servers use.
    fn load(&self) -> f64 {
        self.sample.servers_ns as f64 / self.sample.elapsed_ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests;
