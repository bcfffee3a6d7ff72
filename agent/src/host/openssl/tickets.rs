//! Finds the end of ticket decryption, and proves where the session is there.
//!
//! `tls_decrypt_ticket` (OpenSSL, ssl/t1_lib.c) has no symbol, but calls functions that have one:
//! it decrypts, parses the session with `d2i_SSL_SESSION`, and on every path, good or bad, ends
//! with `EVP_CIPHER_CTX_free`. That call comes once for each ticket. Which register holds the
//! session there is up to the compiler, so every path from the function's start is followed, with
//! what registers and stack hold on it. A register counts only if it holds the parsed session on
//! every path that has one, and zero on every path that has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Register as Name};
use thiserror::Error;

use super::image::{BranchKind, Image, Target};
use super::state::{ARGUMENTS, Escaped, State, Value};
use agent_common::site::Register;

/// Instructions that are looked at in one file, each as often as less becomes known there. Of
/// OpenSSL 3.0 it takes 2,300.
const MAX_STEPS: usize = 200_000;
/// Callers of `d2i_SSL_SESSION` that are looked at; OpenSSL has three or four.
const MAX_CANDIDATES: usize = 32;

/// Why ticket decryption cannot be observed in a file. Addresses are the file's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TicketsError {
    #[error("no function in it both decrypts and parses a session")]
    NotFound,
    #[error(
        "several functions in it decrypt and parse sessions, such as those at {0:#x} and {1:#x}"
    )]
    Ambiguous(u64, u64),
    #[error("its ticket decryption at {0:#x} does not end in EVP_CIPHER_CTX_free")]
    NoEnd(u64),
    #[error("its ticket decryption goes on at an address computed at run time, at {0:#x}")]
    ComputedJump(u64),
    #[error("its ticket decryption comes by two of the places to probe, the second at {0:#x}")]
    Twice(u64),
    #[error("its ticket decryption is jumped into, from {0:#x}")]
    EnteredInside(u64),
    #[error("its ticket decryption cannot be disassembled at {0:#x}")]
    NoInstruction(u64),
    #[error("its ticket decryption is too long to be followed")]
    TooLong,
    #[error("no register holds the session at {0:#x} on every path")]
    NoRegister(u64),
    #[error("what is freed at {0:#x} is not the cipher context on every path")]
    NoContext(u64),
}

/// A call of `EVP_CIPHER_CTX_free` at the end of ticket decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub address: u64,
    /// Holds the session or null. `None`: no path with a session comes here.
    pub session: Option<Register>,
    /// A direct call, which the kernel's uprobes emulate; others they step through, at many times
    /// the cost.
    pub direct: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where the function begins.
    pub start: u64,
    /// In order of address; at least one has a session.
    pub ends: Vec<End>,
    /// Where the function is left by a path that comes by none of them.
    pub other_exits: Vec<u64>,
}

/// How far a ticket is at a point of the function.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// There is no session: not parsed yet, not parsable, or freed again.
    Without,
    /// `d2i_SSL_SESSION` returned, and its session is not known to be null.
    With,
    /// The place to probe is behind.
    Ended,
}

type Point = (u64, Phase);

/// Looks through every caller of `d2i_SSL_SESSION`.
///
/// # Errors
/// When none decrypts tickets, or the one that does cannot be followed to the last detail.
pub fn find(image: &Image<'_>) -> Result<Ends, TicketsError> {
    let mut found: Option<(u64, Result<Ends, TicketsError>)> = None;
    let mut steps = MAX_STEPS;
    for start in candidates(image) {
        let Some(outcome) = examine(image, start, &mut steps) else {
            continue;
        };
        if let Some((other, _)) = found {
            return Err(TicketsError::Ambiguous(other, start));
        }
        found = Some((start, outcome));
    }
    found.map_or(Err(TicketsError::NotFound), |(_, outcome)| outcome)
}

/// Starts of the functions that call `d2i_SSL_SESSION`.
fn candidates(image: &Image<'_>) -> BTreeSet<u64> {
    let callers = image.callers(|target| role(target) == Role::Parse);
    callers.into_iter().take(MAX_CANDIDATES).collect()
}

/// What a called function means to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Decrypt,
    Parse,
    NewContext,
    FreeContext,
    FreeSession,
    /// Does not come back.
    Abort,
    /// May do anything, such as freeing a session that it is given.
    Other,
}

fn role(target: Target) -> Role {
    match target {
        Target::Named(name) => match name {
            "EVP_DecryptUpdate" | "EVP_DecryptFinal" | "EVP_DecryptFinal_ex" => Role::Decrypt,
            "d2i_SSL_SESSION" | "d2i_SSL_SESSION_ex" => Role::Parse,
            "EVP_CIPHER_CTX_new" => Role::NewContext,
            "EVP_CIPHER_CTX_free" => Role::FreeContext,
            "SSL_SESSION_free" => Role::FreeSession,
            "__stack_chk_fail" | "__assert_fail" | "__chk_fail" | "__fortify_fail"
            | "OPENSSL_die" | "abort" | "exit" | "_exit" => Role::Abort,
            _ => Role::Other,
        },
        Target::Imported | Target::Internal(_) | Target::Computed => Role::Other,
    }
}

/// `None` for a function that is not ticket decryption. Takes from the steps that are left.
fn examine(image: &Image<'_>, start: u64, steps: &mut usize) -> Option<Result<Ends, TicketsError>> {
    let mut escaped = Escaped::new();
    loop {
        let known = escaped.len();
        let mut walk = Walk::new(image, start, &mut escaped);
        let followed = walk.run(steps);
        let Walk {
            states,
            parses,
            decrypts,
            trouble,
            exits,
            ..
        } = walk;
        if !followed {
            return Some(Err(TicketsError::TooLong));
        }
        if !(parses && decrypts) {
            return None;
        }
        // Else begin anew: a slot was trusted before its address was seen to be taken.
        if escaped.len() == known {
            return Some(match trouble {
                Some(error) => Err(error),
                None => conclude(image, start, &states, exits),
            });
        }
    }
}

/// All paths through one function.
struct Walk<'a> {
    image: &'a Image<'a>,
    start: u64,
    escaped: &'a mut Escaped,
    info: InstructionInfoFactory,
    states: HashMap<Point, State>,
    waiting: Vec<Point>,
    parses: bool,
    decrypts: bool,
    /// The first reason why this function cannot be followed.
    trouble: Option<TicketsError>,
    /// Where it is left, not having ended.
    exits: BTreeSet<u64>,
}

impl<'a> Walk<'a> {
    fn new(image: &'a Image<'a>, start: u64, escaped: &'a mut Escaped) -> Self {
        let at_start = (start, Phase::Without);
        Self {
            image,
            start,
            escaped,
            info: InstructionInfoFactory::new(),
            states: HashMap::from([(at_start, State::entry())]),
            waiting: vec![at_start],
            parses: false,
            decrypts: false,
            trouble: None,
            exits: BTreeSet::new(),
        }
    }

    /// Follows every path; whether the steps sufficed.
    fn run(&mut self, steps: &mut usize) -> bool {
        while let Some(point) = self.waiting.pop() {
            let Some(left) = steps.checked_sub(1) else {
                return false;
            };
            *steps = left;
            if let Some(state) = self.states.get(&point).cloned() {
                self.step(point, state);
            }
        }
        true
    }

    fn fail(&mut self, error: TicketsError) {
        self.trouble.get_or_insert(error);
    }

    /// Control may come to a point in this state.
    fn reach(&mut self, point: Point, state: State) {
        use std::collections::hash_map::Entry;
        let less_is_known = match self.states.entry(point) {
            Entry::Vacant(entry) => {
                entry.insert(state);
                true
            }
            Entry::Occupied(mut entry) => entry.get_mut().join(&state),
        };
        if less_is_known {
            self.waiting.push(point);
        }
    }

    /// Control runs on into the next instruction, unless another function starts there: then the
    /// one before does not come back.
    fn run_on(&mut self, next: u64, phase: Phase, state: State) {
        if !self.image.is_start(next) {
            self.reach((next, phase), state);
        }
    }

    fn jump(&mut self, from: u64, to: u64, phase: Phase, state: State) {
        let leaves = self.image.is_start(to) && to != self.start && state.is_unwound();
        if leaves {
            self.leave(from, phase);
        } else {
            self.reach((to, phase), state);
        }
    }

    fn leave(&mut self, from: u64, phase: Phase) {
        if phase != Phase::Ended {
            self.exits.insert(from);
        }
    }

    fn step(&mut self, (address, phase): Point, mut state: State) {
        let Some(instruction) = self.image.instruction(address) else {
            self.fail(TicketsError::NoInstruction(address));
            return;
        };
        let next = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::Next => {
                state.step(&instruction, &mut self.info, self.escaped);
                self.run_on(next, phase, state);
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                self.call(&instruction, phase, state);
            }
            FlowControl::UnconditionalBranch => match self.image.target(&instruction) {
                Target::Internal(target) => self.jump(address, target, phase, state),
                _ => self.leave(address, phase),
            },
            FlowControl::ConditionalBranch => self.branch(&instruction, phase, state),
            FlowControl::IndirectBranch => {
                // A jump table after the end cannot lead back before it: the source has no loop.
                let is_call = self.image.target(&instruction) != Target::Computed;
                if is_call || phase == Phase::Ended {
                    self.leave(address, phase);
                } else {
                    self.fail(TicketsError::ComputedJump(address));
                }
            }
            FlowControl::Return
            | FlowControl::Interrupt
            | FlowControl::Exception
            | FlowControl::XbeginXabortXend => self.leave(address, phase),
        }
    }

    /// A conditional jump. Where it asks whether something is null, each side knows.
    fn branch(&mut self, jump: &Instruction, phase: Phase, state: State) {
        let null = state.null_after(jump);
        let sides = [(jump.near_branch_target(), true), (jump.next_ip(), false)];
        for (to, taken) in sides {
            let mut phase = phase;
            let mut state = state.clone();
            if let Some((value, when)) = null
                && when == taken
            {
                state.replace(value, Value::Zero);
                if value == Value::Session && phase == Phase::With {
                    phase = Phase::Without;
                }
            }
            if taken {
                self.jump(jump.ip(), to, phase, state);
            } else {
                self.run_on(to, phase, state);
            }
        }
    }

    fn call(&mut self, call: &Instruction, phase: Phase, mut state: State) {
        let mut phase = phase;
        let mut result = Value::Unknown;
        match role(self.image.target(call)) {
            Role::Decrypt => self.decrypts = true,
            Role::Parse if phase == Phase::Without => {
                self.parses = true;
                phase = Phase::With;
                result = Value::Session;
            }
            Role::FreeContext if phase != Phase::Ended => phase = Phase::Ended,
            Role::Parse | Role::FreeContext => self.fail(TicketsError::Twice(call.ip())),
            Role::NewContext => {
                state.replace(Value::Context, Value::Unknown);
                result = Value::Context;
            }
            Role::FreeSession if phase == Phase::With => {
                if state.register(Name::RDI) == Value::Session {
                    phase = Phase::Without;
                }
                state.replace(Value::Session, Value::Unknown);
            }
            Role::Abort => return,
            Role::Other | Role::FreeSession => {
                let is_session = |name: &Name| state.register(*name) == Value::Session;
                if ARGUMENTS.iter().any(is_session) {
                    state.replace(Value::Session, Value::Unknown);
                }
            }
        }
        state.after_call(result);
        self.run_on(call.next_ip(), phase, state);
    }
}

fn conclude(
    image: &Image<'_>,
    start: u64,
    states: &HashMap<Point, State>,
    exits: BTreeSet<u64>,
) -> Result<Ends, TicketsError> {
    reject_other_entries(image, start, states)?;
    let mut at_end: BTreeMap<u64, Vec<(Phase, &State)>> = BTreeMap::new();
    for ((address, phase), state) in states {
        let is_end = *phase != Phase::Ended
            && image.instruction(*address).is_some_and(|instruction| {
                is_call(&instruction) && role(image.target(&instruction)) == Role::FreeContext
            });
        if is_end {
            at_end.entry(*address).or_default().push((*phase, state));
        }
    }
    let ends = at_end
        .into_iter()
        .map(|(address, arrivals)| end(image, address, &arrivals))
        .collect::<Result<Vec<End>, TicketsError>>()?;
    if !ends.iter().any(|end| end.session.is_some()) {
        return Err(TicketsError::NoEnd(start));
    }
    Ok(Ends {
        start,
        ends,
        other_exits: exits.into_iter().collect(),
    })
}

fn is_call(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    )
}

fn end(image: &Image<'_>, address: u64, arrivals: &[(Phase, &State)]) -> Result<End, TicketsError> {
    let frees_context =
        |state: &State| matches!(state.register(Name::RDI), Value::Context | Value::Zero);
    if !arrivals.iter().all(|(_, state)| frees_context(state)) {
        return Err(TicketsError::NoContext(address));
    }
    let direct = image
        .instruction(address)
        .is_some_and(|call| call.flow_control() == FlowControl::Call);
    if arrivals.iter().all(|(phase, _)| *phase == Phase::Without) {
        return Ok(End {
            address,
            session: None,
            direct,
        });
    }
    let holds = |number: usize| {
        arrivals.iter().all(|(phase, state)| {
            let wanted = match phase {
                Phase::With => Value::Session,
                _ => Value::Zero,
            };
            state.holders(wanted).any(|holder| holder == number)
        })
    };
    let register = (0..16).find(|number| holds(*number));
    let register = register.ok_or(TicketsError::NoRegister(address))?;
    Ok(End {
        address,
        session: Some(dwarf(register)),
        direct,
    })
}

/// The DWARF number of a register by its number in instructions.
fn dwarf(number: usize) -> Register {
    const RAX_TO_RDI: [Register; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
    RAX_TO_RDI
        .get(number)
        .copied()
        .unwrap_or(number as Register)
}

/// What was followed must be all there is: no jump from elsewhere into it, as from a part of the
/// function that was taken for another one; and its start must be no such part itself.
fn reject_other_entries(
    image: &Image<'_>,
    start: u64,
    states: &HashMap<Point, State>,
) -> Result<(), TicketsError> {
    let before_end: BTreeSet<u64> = states
        .keys()
        .filter(|(_, phase)| *phase != Phase::Ended)
        .map(|(address, _)| *address)
        .collect();
    let range = start.min(*before_end.first().unwrap_or(&start))
        ..=start.max(*before_end.last().unwrap_or(&start));
    let followed =
        |address| before_end.contains(&address) || states.contains_key(&(address, Phase::Ended));
    let intruder = image.direct_branches().find(|branch| {
        let enters = match branch.kind {
            BranchKind::Call => false,
            BranchKind::Jump => branch.to != start,
            BranchKind::ConditionalJump => true,
        };
        enters
            && range.contains(&branch.to)
            && before_end.contains(&branch.to)
            && !followed(branch.from)
    });
    intruder.map_or(Ok(()), |branch| {
        Err(TicketsError::EnteredInside(branch.from))
    })
}
