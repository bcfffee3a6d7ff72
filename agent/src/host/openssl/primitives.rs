//! Finds the places in libssl where a handshake has cryptography done.
//!
//! Of what is one function of libcrypto: each direct call of it, and behind the call the first
//! instruction that the kernel emulates, by which every return comes; in between nothing branches. Of
//! tickets: the function that decrypts one, which `tickets` has found, and the one that makes one, which
//! is the only caller of `EVP_EncryptFinal`, both from their beginning to their `EVP_CIPHER_CTX_free`.

use agent_common::primitive::{self, FUNCTIONS};
use iced_x86::{FlowControl, Instruction, Mnemonic};
use thiserror::Error;

use super::image::{Image, Target};
use super::tickets::Ends;

/// Most places in a file: libssl 3.5 has 26. A program that holds all of OpenSSL calls these functions
/// from everywhere.
const MAX_PLACES: usize = 64;
/// Instructions between a return and the place where it is probed.
const MAX_BEHIND: usize = 12;

/// Why cryptographic operations cannot be timed in a file. Addresses are the file's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PrimitivesError {
    #[error(
        "it calls cryptographic functions from {0} places and more, not from {MAX_PLACES} at most: it is not libssl alone"
    )]
    Places(usize),
    #[error("its call at {0:#x} has no return to probe")]
    NoReturn(u64),
    #[error("it does not call {0}")]
    NotCalled(&'static str),
    #[error("tickets are not known to be decrypted in one place")]
    NoTickets,
    #[error("several functions in it make tickets, or none does")]
    TicketMakers,
    #[error("its maker of tickets at {0:#x} does not end in EVP_CIPHER_CTX_free")]
    NoEnd(u64),
}

/// A pair of places; addresses, or offsets in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimitivePlace {
    /// For the attach cookies of both.
    pub cookie: u64,
    pub begin: u64,
    /// Each time it begins it ends at one of these.
    pub ends: Vec<u64>,
}

/// # Errors
/// When one of the operations that every server makes is not found.
pub fn find(
    image: &Image<'_>,
    tickets: Option<&Ends>,
) -> Result<Vec<PrimitivePlace>, PrimitivesError> {
    let mut found = Vec::new();
    for function in FUNCTIONS {
        let name = function.name;
        let calls = image.calls_of(|target| target == Target::Named(name));
        // Encapsulation came with 3.0.
        if calls.is_empty() && !name.ends_with("capsulate") {
            return Err(PrimitivesError::NotCalled(name));
        }
        if found.len() + calls.len() > MAX_PLACES {
            return Err(PrimitivesError::Places(found.len() + calls.len()));
        }
        for begin in calls {
            let end = behind(image, begin).ok_or(PrimitivesError::NoReturn(begin))?;
            found.push(PrimitivePlace {
                cookie: primitive::to_cookie(function.primitive, function.tells_length),
                begin,
                ends: vec![end],
            });
        }
    }
    let decrypting = tickets.ok_or(PrimitivesError::NoTickets)?;
    found.push(PrimitivePlace {
        cookie: primitive::to_cookie(primitive::TICKET, false),
        begin: image.behind_endbr(decrypting.start),
        ends: decrypting.ends.iter().map(|end| end.address).collect(),
    });
    found.push(making(image)?);
    Ok(found)
}

/// Where a call has returned, whatever it returned: at the first instruction that uprobes emulate
/// (arch/x86/kernel/uprobes.c: relative jumps and calls, `push`, `nop`), or else at the very next.
fn behind(image: &Image<'_>, call: u64) -> Option<u64> {
    let next = image.instruction(call)?.next_ip();
    let mut address = next;
    for _ in 0..MAX_BEHIND {
        let instruction = image.instruction(address)?;
        if is_emulated(&instruction) {
            return Some(address);
        }
        if instruction.flow_control() != FlowControl::Next || image.is_start(instruction.next_ip())
        {
            break;
        }
        address = instruction.next_ip();
    }
    Some(next)
}

fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => {
            instruction.near_branch_target() != 0
        }
        FlowControl::Next => {
            matches!(instruction.mnemonic(), Mnemonic::Push) && instruction.len() <= 2
        }
        _ => false,
    }
}

/// `construct_stateless_ticket`, or in 1.1.1 `tls_construct_new_session_ticket` (OpenSSL,
/// ssl/statem/statem_srvr.c).
fn making(image: &Image<'_>) -> Result<PrimitivePlace, PrimitivesError> {
    let makers = image.callers(|target| target == Target::Named("EVP_EncryptFinal"));
    let start = match makers.iter().collect::<Vec<_>>()[..] {
        [start] => *start,
        _ => return Err(PrimitivesError::TicketMakers),
    };
    let frees = |target| target == Target::Named("EVP_CIPHER_CTX_free");
    let ends = image.calls_within(start, frees);
    if ends.is_empty() {
        return Err(PrimitivesError::NoEnd(start));
    }
    Ok(PrimitivePlace {
        cookie: primitive::to_cookie(primitive::TICKET, false),
        begin: image.behind_endbr(start),
        ends,
    })
}
