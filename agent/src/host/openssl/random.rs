//! Finds where an `SSL` keeps the random of the server's hello.
//!
//! `SSL_get_server_random` and `SSL_get_client_random` copy two neighbours (`server_random`,
//! `client_random`; OpenSSL, ssl/ssl_local.h), and nothing else: in 1.1.1 of an object that the `SSL`
//! points to, later of the `SSL` itself. The first address that each of them computes is that of its
//! field, and the two must be as far from each other as a random is long.

use std::collections::HashMap;

use agent_common::call::RandomPlace;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::image::Image;
use super::machine::{body, immediate};

/// Bytes of a random (RFC 5246, 7.4.1.2).
const RANDOM_BYTES: u16 = 32;

/// `None` where the functions are not there, or not as they should be.
pub fn find(image: &Image<'_>) -> Option<RandomPlace> {
    let server = first_address(image, "SSL_get_server_random")?;
    let client = first_address(image, "SSL_get_client_random")?;
    let are_neighbours = server.pointer == client.pointer
        && server.offset.checked_add(RANDOM_BYTES) == Some(client.offset);
    are_neighbours.then_some(server)
}

fn first_address(image: &Image<'_>, function: &str) -> Option<RandomPlace> {
    let start = image.export(function)?;
    // Registers that hold a word of the object.
    let mut words: HashMap<Register, u16> = HashMap::new();
    body(image, start).find_map(|instruction| {
        let written = instruction.op0_register();
        let (base, offset) = match instruction.mnemonic() {
            Mnemonic::Mov => {
                let word = field(&instruction)
                    .filter(|(_, offset)| *offset <= RandomPlace::MAX_POINTER)
                    .filter(|_| instruction.op1_kind() == OpKind::Memory && written.is_gpr64());
                match word {
                    Some((_, offset)) => words.insert(written, offset),
                    None => words.remove(&written.full_register()),
                };
                return None;
            }
            Mnemonic::Lea => field(&instruction)?,
            Mnemonic::Add if written.is_gpr64() && written != Register::RSP => {
                (written, u16::try_from(immediate(&instruction)?).ok()?)
            }
            _ => return None,
        };
        Some(RandomPlace {
            pointer: words.get(&base).copied(),
            offset,
        })
    })
}

/// Of a memory operand: a register and the distance from what it points to.
fn field(instruction: &Instruction) -> Option<(Register, u16)> {
    let base = instruction.memory_base();
    let is_plain = base.is_gpr64()
        && base != Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.segment_prefix() == Register::None;
    let offset = u16::try_from(instruction.memory_displacement64()).ok()?;
    (is_plain && offset != 0).then_some((base, offset))
}
