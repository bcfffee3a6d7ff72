//! From hits to CPU time. A run of a probe costs what its program takes, and in user code also the
//! trap that starts it.
//!
//! What a program takes is first assumed as measured on one machine, and corrected by what this
//! kernel measures in short windows (`BPF_ENABLE_STATS`). The kernel measures a program as a whole;
//! how its runs share the time is assumed: they differ by their way through it, by the same factors
//! everywhere.

use agent_common::hits;

/// Hits by slot of [`hits`].
pub type Hits = [u64; hits::COUNT as usize];

/// Probes that can be left out, each group as a whole. The wire tap is none of them: without it there
/// is no handshake to say anything about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    /// The pair on the handshake function: the exact end of a handshake.
    HandshakeCalls,
    /// What becomes of tickets and session IDs: why an offer was refused.
    Tickets,
}

impl Optional {
    /// In the order in which they are shed: what most questions can do without comes first. Why an
    /// offer was refused is what the agent is there for.
    pub const ALL: [Self; 2] = [Self::HandshakeCalls, Self::Tickets];

    /// The name in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeCalls => "handshake_calls",
            Self::Tickets => "tickets",
        }
    }
}

/// Programs whose time the kernel tells together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Wire,
    Socket,
    HandshakeEnter,
    HandshakeReturn,
    MachineBegin,
    MachineEnd,
    PrimitiveBegin,
    PrimitiveEnd,
    Ticket,
    Lookup,
    Exec,
}

impl Family {
    /// `family as usize` is its place here.
    pub const ALL: [Self; 11] = [
        Self::Wire,
        Self::Socket,
        Self::HandshakeEnter,
        Self::HandshakeReturn,
        Self::MachineBegin,
        Self::MachineEnd,
        Self::PrimitiveBegin,
        Self::PrimitiveEnd,
        Self::Ticket,
        Self::Lookup,
        Self::Exec,
    ];

    /// The programs, by their names in the object.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Wire => &["wire_ingress", "wire_egress"],
            Self::Socket => &["tcp_established"],
            Self::HandshakeEnter => &["handshake_enter"],
            Self::HandshakeReturn => &["handshake_return"],
            Self::MachineBegin => &["machine_begin"],
            Self::MachineEnd => &["machine_end"],
            Self::PrimitiveBegin => &["primitive_begin"],
            Self::PrimitiveEnd => &["primitive_end"],
            Self::Ticket => &["ticket_decided"],
            Self::Lookup => &["session_looked_up"],
            Self::Exec => &["process_exec"],
        }
    }
}

/// How a run of a program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// By a call within the kernel, which its time covers.
    Call,
    /// By a trap at a place in user code.
    Trap,
    /// By a trap at a return; the entry's belongs to another probe at the same place.
    ReturnTrap,
    /// By a trap at a return, and one at the entry that prepared it.
    BothTraps,
}

/// One way through one kind of program.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// In [`hits`].
    pub slot: u32,
    /// `probe` in metrics.
    pub name: &'static str,
    pub family: Family,
    pub optional: Option<Optional>,
    start: Start,
    /// Assumed until it is measured, nanoseconds: an EPYC with Linux 6.18, under load.
    run_ns: f64,
}

/// Every probe.
pub const PROBES: [Probe; 14] = {
    use Start::{BothTraps, Call, ReturnTrap, Trap};
    const fn probe(slot: u32, name: &'static str, family: Family, run_ns: f64) -> Probe {
        Probe {
            slot,
            name,
            family,
            optional: None,
            start: Call,
            run_ns,
        }
    }
    const fn optional(probe: Probe, optional: Optional, start: Start) -> Probe {
        Probe {
            optional: Some(optional),
            start,
            ..probe
        }
    }
    let enter = probe(
        hits::HANDSHAKE_ENTER,
        "handshake_enter",
        Family::HandshakeEnter,
        400.0,
    );
    let leave = probe(
        hits::HANDSHAKE_RETURN,
        "handshake_return",
        Family::HandshakeReturn,
        500.0,
    );
    let begin = probe(
        hits::MACHINE_BEGIN,
        "machine_begin",
        Family::MachineBegin,
        600.0,
    );
    let end = probe(hits::MACHINE_END, "machine_end", Family::MachineEnd, 700.0);
    let work_begins = probe(
        hits::PRIMITIVE_BEGIN,
        "primitive_begin",
        Family::PrimitiveBegin,
        400.0,
    );
    let work_ends = probe(
        hits::PRIMITIVE_END,
        "primitive_end",
        Family::PrimitiveEnd,
        500.0,
    );
    let ticket = probe(hits::TICKET, "ticket", Family::Ticket, 1_000.0);
    let lookup = probe(hits::LOOKUP, "lookup", Family::Lookup, 1_000.0);
    [
        probe(hits::WIRE_PASSED, "wire_passed", Family::Wire, 100.0),
        probe(hits::WIRE_HEADERS, "wire_headers", Family::Wire, 200.0),
        probe(hits::WIRE_COPIED, "wire_copied", Family::Wire, 800.0),
        probe(hits::SOCKET_PASSED, "socket_passed", Family::Socket, 100.0),
        probe(
            hits::SOCKET_ESTABLISHED,
            "socket_established",
            Family::Socket,
            1_000.0,
        ),
        optional(enter, Optional::HandshakeCalls, Trap),
        optional(leave, Optional::HandshakeCalls, ReturnTrap),
        optional(begin, Optional::HandshakeCalls, Trap),
        optional(end, Optional::HandshakeCalls, Trap),
        optional(work_begins, Optional::HandshakeCalls, Trap),
        optional(work_ends, Optional::HandshakeCalls, Trap),
        optional(ticket, Optional::Tickets, Trap),
        optional(lookup, Optional::Tickets, BothTraps),
        probe(hits::EXEC, "exec", Family::Exec, 1_000.0),
    ]
};

impl Probe {
    /// True for what is no part of a handshake: packets of connections past it or without one, and
    /// new programs.
    const fn is_bystander(&self) -> bool {
        matches!(self.slot, hits::WIRE_PASSED | hits::EXEC)
    }
}

/// What a trap costs whoever runs into it, beside the program; nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Traps {
    pub entry_ns: f64,
    /// At the entry of a function and at its return.
    pub call_ns: f64,
}

impl Default for Traps {
    /// As measured on an EPYC with Linux 6.18, with cold caches.
    fn default() -> Self {
        Self {
            entry_ns: 1_500.0,
            call_ns: 2_100.0,
        }
    }
}

/// What happened while the kernel measured its programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    pub hits: Hits,
    /// Time in programs, nanoseconds, by [`Family`].
    pub run_ns: [u64; Family::ALL.len()],
}

/// What a run of each probe costs.
#[derive(Debug, Clone)]
pub struct CostModel {
    traps: Traps,
    /// Measured over assumed; `None` where nothing was measured yet.
    scales: [Option<f64>; Family::ALL.len()],
    /// Windows that are not long enough yet.
    pending: [Pending; Family::ALL.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    runs: u64,
    assumed_ns: f64,
    measured_ns: f64,
}

/// Runs that a measurement must hold.
const MIN_RUNS: u64 = 30;

/// Weight of the newest measurement.
const NEWEST: f64 = 0.3;

/// Beyond these a measurement is an accident, such as a virtual machine that stood still.
const SCALES: std::ops::RangeInclusive<f64> = 0.05..=20.0;

impl CostModel {
    pub fn new(traps: Traps) -> Self {
        Self {
            traps,
            scales: [None; Family::ALL.len()],
            pending: [Pending::default(); Family::ALL.len()],
        }
    }

    /// Corrects what is assumed of the programs.
    pub fn learn(&mut self, window: &Window) {
        for family in Family::ALL {
            let pending = &mut self.pending[family as usize];
            for probe in PROBES.iter().filter(|probe| probe.family == family) {
                let count = window.hits[probe.slot as usize];
                pending.runs += count;
                pending.assumed_ns += count as f64 * probe.run_ns;
            }
            pending.measured_ns += window.run_ns[family as usize] as f64;
            if pending.runs < MIN_RUNS {
                continue;
            }
            let scale = pending.measured_ns / pending.assumed_ns;
            *pending = Pending::default();
            if !SCALES.contains(&scale) {
                continue;
            }
            let kept = &mut self.scales[family as usize];
            *kept = Some(kept.map_or(scale, |old| old + NEWEST * (scale - old)));
        }
    }

    /// What that many runs of each probe cost.
    pub fn costs(&self, hits: &Hits) -> Costs {
        let mut costs = Costs::default();
        for (probe, cost) in PROBES.iter().zip(&mut costs.0) {
            let run_ns = probe.run_ns * self.scales[probe.family as usize].unwrap_or(1.0);
            let trap_ns = match probe.start {
                Start::Call => 0.0,
                Start::Trap => self.traps.entry_ns,
                Start::ReturnTrap => (self.traps.call_ns - self.traps.entry_ns).max(0.0),
                Start::BothTraps => self.traps.call_ns,
            };
            *cost = hits[probe.slot as usize] as f64 * (run_ns + trap_ns);
        }
        costs
    }
}

/// CPU time by probe, in the order of [`PROBES`], nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs(pub [f64; PROBES.len()]);

impl Costs {
    fn sum(&self, wanted: impl Fn(&Probe) -> bool) -> f64 {
        PROBES
            .iter()
            .zip(self.0)
            .filter(|(probe, _)| wanted(probe))
            .map(|(_, cost)| cost)
            .sum()
    }

    /// Of what handshakes run into.
    pub fn handshakes_ns(&self) -> f64 {
        self.sum(|probe| !probe.is_bystander())
    }

    /// Of what everybody runs into.
    pub fn bystanders_ns(&self) -> f64 {
        self.sum(Probe::is_bystander)
    }

    /// Of a group that can be left out.
    pub fn of_ns(&self, optional: Optional) -> f64 {
        self.sum(|probe| probe.optional == Some(optional))
    }
}

impl std::ops::AddAssign for Costs {
    fn add_assign(&mut self, other: Self) {
        for (sum, cost) in self.0.iter_mut().zip(other.0) {
            *sum += cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(counts: &[(u32, u64)]) -> Hits {
        let mut hits = Hits::default();
        for (slot, count) in counts {
            hits[*slot as usize] = *count;
        }
        hits
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn every_probe_has_a_slot_and_a_name_of_its_own() {
        for (index, probe) in PROBES.iter().enumerate() {
            assert!(probe.slot < hits::COUNT);
            for other in &PROBES[..index] {
                assert!(probe.slot != other.slot && probe.name != other.name);
            }
        }
    }

    #[test]
    fn a_family_has_its_place() {
        for (index, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family as usize, index);
        }
    }

    #[test]
    fn a_hit_in_user_code_costs_its_trap_and_its_program() {
        let model = CostModel::new(Traps {
            entry_ns: 1_000.0,
            call_ns: 1_700.0,
        });
        let cost = |slot| model.costs(&hits(&[(slot, 10)])).handshakes_ns();
        assert!(near(cost(hits::TICKET), 10.0 * 2_000.0));
        // Both probes of the handshake function sit at its entry, where there is one trap.
        assert!(near(cost(hits::HANDSHAKE_ENTER), 10.0 * 1_400.0));
        assert!(near(cost(hits::HANDSHAKE_RETURN), 10.0 * 1_200.0));
        assert!(near(cost(hits::LOOKUP), 10.0 * 2_700.0));
    }

    #[test]
    fn measured_time_corrects_every_way_through_a_program() {
        let mut model = CostModel::new(Traps::default());
        let seen = hits(&[(hits::WIRE_PASSED, 100), (hits::WIRE_COPIED, 100)]);
        let mut window = Window {
            hits: seen,
            ..Window::default()
        };
        // Twice the 100 ns and 800 ns that are assumed.
        window.run_ns[Family::Wire as usize] = 180_000;
        model.learn(&window);
        let costs = model.costs(&seen);
        assert!(near(costs.bystanders_ns(), 20_000.0));
        assert!(near(costs.handshakes_ns(), 160_000.0));
    }

    #[test]
    fn short_windows_add_up() {
        let mut model = CostModel::new(Traps::default());
        let mut window = Window {
            hits: hits(&[(hits::TICKET, MIN_RUNS / 2)]),
            ..Window::default()
        };
        window.run_ns[Family::Ticket as usize] = MIN_RUNS / 2 * 5_000;
        let before = model.costs(&window.hits).handshakes_ns();
        model.learn(&window);
        assert!(near(model.costs(&window.hits).handshakes_ns(), before));
        model.learn(&window);
        let each = model.costs(&window.hits).handshakes_ns() / (MIN_RUNS / 2) as f64;
        assert!(near(each, 5_000.0 + Traps::default().entry_ns), "{each}");
    }

    #[test]
    fn a_few_runs_or_an_absurd_time_teach_nothing() {
        let mut model = CostModel::new(Traps::default());
        let before = model
            .costs(&hits(&[(hits::WIRE_COPIED, 1)]))
            .handshakes_ns();
        for (count, run_ns) in [(1_000, 1), (1_000, u64::MAX), (MIN_RUNS - 1, 10_000_000)] {
            let mut window = Window {
                hits: hits(&[(hits::WIRE_COPIED, count)]),
                ..Window::default()
            };
            window.run_ns[Family::Wire as usize] = run_ns;
            model.learn(&window);
        }
        let after = model
            .costs(&hits(&[(hits::WIRE_COPIED, 1)]))
            .handshakes_ns();
        assert!(near(after, before));
    }
}
