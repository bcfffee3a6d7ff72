//! Finds `state_machine` (OpenSSL, ssl/statem/statem.c), through which every call of a handshake
//! goes, whether `SSL_do_handshake`, `SSL_read` or `SSL_read_early_data` drives it; where it ends;
//! and where it keeps its state.
//!
//! It has no symbol. `TLS_method` does: it returns the address of a table of functions
//! (`struct ssl_method_st`), in which `ssl_accept` and `ssl_connect` stand side by side. These two,
//! `ossl_statem_accept` and `ossl_statem_connect`, do nothing but go on to `state_machine`, with 1
//! and 0 as its second argument. No other neighbours in the table do so.
//!
//! It is not probed at its return, but at its end: the one call of `BUF_MEM_free`, behind which
//! nothing comes but the application's callback and the return. A probe at a return puts another
//! address into the process's stack, and OpenSSL may leave that stack in mid-call and come back to
//! it later (`SSL_MODE_ASYNC`): the kernel then takes the one call's return for the other's, and the
//! process dies. For the same reason the thread is not enough to know whose call it is, so that
//! handshakes in that mode are left alone.

use std::collections::BTreeSet;

use agent_common::call::{MachineSite, state};
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use thiserror::Error;

use super::accessor;
use super::image::{Image, Target};
use super::random;

/// Words of the table that are looked at; it has 30 in OpenSSL 1.1.1 and 3.5.
const MAX_WORDS: u64 = 16;
/// Instructions of `TLS_method`, and of each function in the table, that are looked at.
const MAX_INSTRUCTIONS: usize = 24;
/// Instructions between the end and the return; 36 in 3.5.
const MAX_AFTER_END: usize = 256;
/// Bytes of one function that are looked at; `state_machine` has 5,400 in 3.5.
const MAX_FUNCTION: u64 = 64 << 10;
/// `SSL_MODE_ASYNC` (include/openssl/ssl.h).
const MODE_ASYNC: u64 = 0x100;

/// Why the calls of the handshake cannot be observed at their root. Addresses are the file's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MachineError {
    #[error("it does not define TLS_method")]
    NotFound,
    #[error("its TLS_method at {0:#x} does not simply return an address")]
    Method(u64),
    #[error("no two neighbours in its method table at {0:#x} lead to the state machine")]
    NoPair(u64),
    #[error("its method table at {0:#x} leads to several state machines")]
    Ambiguous(u64),
    #[error("its state machine at {0:#x} does not call BUF_MEM_free")]
    NoEnd(u64),
    #[error("its state machine goes on behind its call of BUF_MEM_free at {0:#x}")]
    NotTheEnd(u64),
    #[error("SSL_get_state and SSL_in_init do not tell where it keeps its state")]
    NoState,
    #[error("its state machine at {0:#x} does not use the state where it should be")]
    OtherState(u64),
    #[error("SSL_do_handshake does not tell where SSL_MODE_ASYNC is")]
    NoMode,
}

/// Places to probe; addresses, or offsets in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Where it begins: its first instruction, or the second where the first is `endbr64`, which
    /// uprobes step through at many times the cost.
    pub begin: u64,
    /// Where it ends: each call comes by one of them, unless it fails before it begins.
    pub ends: Vec<u64>,
    /// For the attach cookies of both.
    pub site: MachineSite,
}

/// # Errors
/// When not exactly one function comes into question, or not all is known of it.
pub fn find(image: &Image<'_>) -> Result<Machine, MachineError> {
    let start = find_start(image)?;
    let ends = find_ends(image, start)?;
    Ok(Machine {
        begin: image.behind_endbr(start),
        ends,
        site: find_state(image, start)?,
    })
}

fn find_start(image: &Image<'_>) -> Result<u64, MachineError> {
    let method = image.export("TLS_method").ok_or(MachineError::NotFound)?;
    let table = returned_address(image, method).ok_or(MachineError::Method(method))?;
    let words: Vec<Option<u64>> = (0..MAX_WORDS)
        .map(|word| image.pointer(table.wrapping_add(8 * word)))
        .collect();
    let mut found = None;
    for pair in words.windows(2) {
        let [Some(accept), Some(connect)] = pair else {
            continue;
        };
        let as_server = passed_on(image, *accept, 1);
        if as_server.is_none() || as_server != passed_on(image, *connect, 0) {
            continue;
        }
        if found.is_some() {
            return Err(MachineError::Ambiguous(table));
        }
        found = as_server;
    }
    found.ok_or(MachineError::NoPair(table))
}

/// The calls of `BUF_MEM_free`, in the function or in the parts that the compiler split off.
fn find_ends(image: &Image<'_>, start: u64) -> Result<Vec<u64>, MachineError> {
    let frees = |target| target == Target::Named("BUF_MEM_free");
    let ends = image.calls_within(start, frees);
    if ends.is_empty() {
        return Err(MachineError::NoEnd(start));
    }
    match ends.iter().find(|end| !is_end(image, **end)) {
        Some(end) => Err(MachineError::NotTheEnd(*end)),
        None => Ok(ends),
    }
}

/// Whether every path behind a call leads to the return, by no other call than that of a function
/// that is only known at run time: the application's callback.
fn is_end(image: &Image<'_>, call: u64) -> bool {
    let Some(call) = image.instruction(call) else {
        return false;
    };
    if call.flow_control() != FlowControl::Call {
        return false;
    }
    let mut seen = BTreeSet::new();
    let mut waiting = vec![call.next_ip()];
    let mut returns = false;
    while let Some(address) = waiting.pop() {
        if !seen.insert(address) {
            continue;
        }
        let Some(instruction) = image.instruction(address) else {
            return false;
        };
        if seen.len() > MAX_AFTER_END {
            return false;
        }
        match instruction.flow_control() {
            FlowControl::Next => waiting.push(instruction.next_ip()),
            FlowControl::ConditionalBranch => {
                waiting.extend([instruction.next_ip(), instruction.near_branch_target()]);
            }
            FlowControl::UnconditionalBranch => waiting.push(instruction.near_branch_target()),
            FlowControl::Return => returns = true,
            FlowControl::Call
                if image.target(&instruction) == Target::Named("__stack_chk_fail") => {}
            FlowControl::IndirectCall if image.target(&instruction) == Target::Computed => {
                waiting.push(instruction.next_ip());
            }
            _ => return false,
        }
    }
    returns
}

/// Where the state is: by the functions that return two of its words, whose distance is known, and
/// by the state machine itself, which refuses to go on from an error and notes when it is finished.
fn find_state(image: &Image<'_>, start: u64) -> Result<MachineSite, MachineError> {
    let word =
        |function| accessor::sized(image, function, 4, u16::MAX).map_err(|_| MachineError::NoState);
    let hand = word("SSL_get_state")?.offset;
    let init = word("SSL_in_init")?.offset;
    let distance = |index: usize| 4 * index as u16;
    let state_offset = hand
        .checked_sub(distance(state::HAND))
        .filter(|offset| offset.checked_add(distance(state::IN_INIT)) == Some(init))
        .ok_or(MachineError::NoState)?;
    let mut refuses = false;
    let mut finishes = false;
    for instruction in body(image, start) {
        let is_flow = instruction.op0_kind() == OpKind::Memory
            && instruction.memory_displacement64() == u64::from(state_offset)
            && instruction.memory_base().is_gpr64()
            && instruction.memory_base() != Register::RSP
            && instruction.memory_size().size() == 4;
        let value = is_flow
            .then(|| immediate(&instruction))
            .flatten()
            .and_then(|value| u32::try_from(value).ok());
        match instruction.mnemonic() {
            Mnemonic::Cmp => refuses |= value == Some(state::FLOW_ERROR),
            Mnemonic::Mov => finishes |= value == Some(state::FLOW_FINISHED),
            _ => {}
        }
    }
    if !(refuses && finishes) {
        return Err(MachineError::OtherState(start));
    }
    Ok(MachineSite {
        state_offset,
        async_offset: async_mode(image)?,
        primitives: false,
        random: random::find(image),
    })
}

/// `SSL_do_handshake` asks for the mode before it starts a job: by the one test of that bit in
/// memory. `None` where it starts none.
fn async_mode(image: &Image<'_>) -> Result<Option<u16>, MachineError> {
    let start = image
        .export("SSL_do_handshake")
        .ok_or(MachineError::NoMode)?;
    let mut starts_jobs = false;
    let mut found = BTreeSet::new();
    for instruction in body(image, start) {
        if instruction.flow_control() == FlowControl::Call
            && image.target(&instruction) == Target::Named("ASYNC_get_current_job")
        {
            starts_jobs = true;
        }
        if instruction.mnemonic() == Mnemonic::Test
            && instruction.op0_kind() == OpKind::Memory
            && instruction.memory_base().is_gpr64()
            && instruction.memory_base() != Register::RSP
            && let Some(bits) = immediate(&instruction)
        {
            let offset = instruction.memory_displacement64();
            // As a byte by itself, or within a word.
            let byte = match (instruction.memory_size().size(), bits) {
                (1, 1) => Some(offset),
                (4 | 8, MODE_ASYNC) => offset.checked_add(1),
                _ => None,
            };
            found.extend(byte);
        }
    }
    match (starts_jobs, found.len(), found.first()) {
        (false, ..) => Ok(None),
        (true, 1, Some(byte)) => u16::try_from(*byte)
            .ok()
            .filter(|byte| *byte != u16::MAX)
            .map(Some)
            .ok_or(MachineError::NoMode),
        _ => Err(MachineError::NoMode),
    }
}

pub(super) fn immediate(instruction: &Instruction) -> Option<u64> {
    let is_immediate = matches!(
        instruction.op1_kind(),
        OpKind::Immediate8
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32
            | OpKind::Immediate32to64
    );
    is_immediate.then(|| instruction.immediate(1))
}

/// The instructions of a function, one after the other, up to the next function.
pub(super) fn body<'a>(image: &'a Image<'_>, start: u64) -> impl Iterator<Item = Instruction> + 'a {
    let mut address = start;
    std::iter::from_fn(move || {
        let goes_on = address == start || !image.is_start(address);
        let instruction = image
            .instruction(address)
            .filter(|_| goes_on && address - start < MAX_FUNCTION)?;
        address = instruction.next_ip();
        Some(instruction)
    })
}

/// What a function returns that is no more than `lea table(%rip), %rax; ret`, or, in a program whose
/// addresses are fixed, `mov $table, %eax; ret`.
fn returned_address(image: &Image<'_>, start: u64) -> Option<u64> {
    let load = image.instruction(image.behind_endbr(start))?;
    let end = image.instruction(load.next_ip())?;
    if end.flow_control() != FlowControl::Return {
        return None;
    }
    match (load.mnemonic(), load.op0_register()) {
        (Mnemonic::Lea, Register::RAX) if load.is_ip_rel_memory_operand() => {
            Some(load.ip_rel_memory_address())
        }
        (Mnemonic::Mov, Register::EAX) if load.op1_kind() == OpKind::Immediate32 => {
            Some(load.immediate32().into())
        }
        _ => None,
    }
}

/// The function that the one at `start` hands its caller's first argument on to, with `second` as
/// the second; `None` where there is none, or more than one.
fn passed_on(image: &Image<'_>, start: u64, second: u32) -> Option<u64> {
    if !image.is_start(start) {
        return None;
    }
    let mut target = None;
    let mut argument = None;
    let mut address = start;
    for _ in 0..MAX_INSTRUCTIONS {
        if address != start && image.is_start(address) {
            break;
        }
        let instruction = image.instruction(address)?;
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::UnconditionalBranch => {
                if let Target::Internal(to) = image.target(&instruction)
                    && image.is_start(to)
                    && argument == Some(second)
                    && target.replace(to).is_some_and(|other| other != to)
                {
                    return None;
                }
                argument = None;
            }
            _ => argument = set_argument(&instruction).or(argument),
        }
        address = instruction.next_ip();
    }
    target
}

/// The value that an instruction puts into the second argument (System V ABI: esi).
fn set_argument(instruction: &Instruction) -> Option<u32> {
    if instruction.op0_kind() != OpKind::Register || instruction.op0_register() != Register::ESI {
        return None;
    }
    match instruction.mnemonic() {
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Immediate32 => {
            Some(instruction.immediate32())
        }
        Mnemonic::Xor if instruction.op1_register() == Register::ESI => Some(0),
        _ => None,
    }
}
