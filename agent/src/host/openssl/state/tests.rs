use iced_x86::{Decoder, DecoderOptions};

use super::*;

/// What is known after instructions, from a session in rax and a frame of 64 bytes on.
fn after(code: &[u8]) -> State {
    let mut state = State::entry();
    let mut info = InstructionInfoFactory::new();
    let mut escaped = Escaped::new();
    let frame = [0x48, 0x83, 0xec, 0x40]; // sub rsp, 64
    let decoder = Decoder::new(64, &frame, DecoderOptions::NONE);
    for instruction in decoder {
        state.step(&instruction, &mut info, &mut escaped);
    }
    state.set_register(Register::RAX, Value::Session, &mut escaped);
    for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
        assert!(!instruction.is_invalid());
        state.step(&instruction, &mut info, &mut escaped);
    }
    state
}

fn rbx_after(code: &[&[u8]]) -> Value {
    after(&code.concat()).register(Register::RBX)
}

const STORE: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x08]; // mov [rsp+8], rax
const LOAD: &[u8] = &[0x48, 0x8b, 0x5c, 0x24, 0x08]; // mov rbx, [rsp+8]
const MOVE: &[u8] = &[0x48, 0x89, 0xc3]; // mov rbx, rax

#[test]
fn follows_moves_spills_and_the_stack() {
    assert_eq!(rbx_after(&[MOVE]), Value::Session);
    assert_eq!(rbx_after(&[STORE, LOAD]), Value::Session);
    assert_eq!(rbx_after(&[&[0x50, 0x5b]]), Value::Session); // push rax; pop rbx
    // mov rbp, rsp; push rax; mov rbx, [rbp-8]
    let frame = [0x48, 0x89, 0xe5, 0x50, 0x48, 0x8b, 0x5d, 0xf8];
    assert_eq!(rbx_after(&[&frame]), Value::Session);
    // push rbp; mov rbp, rsp; sub rsp, 16; leave
    let left = after(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0xc9]);
    assert_eq!(left.register(Register::RSP), Value::Stack(-0x40));
    assert!(!left.is_unwound());
    assert!(after(&[0x48, 0x83, 0xc4, 0x40]).is_unwound()); // add rsp, 64
}

#[test]
fn knows_every_way_to_zero() {
    for zeroing in [
        &[0x31, 0xdb][..],   // xor ebx, ebx
        &[0x48, 0x29, 0xdb], // sub rbx, rbx
        &[0xbb, 0, 0, 0, 0], // mov ebx, 0
        &[
            0x48, 0xc7, 0x44, 0x24, 0x08, 0, 0, 0, 0, 0x48, 0x8b, 0x5c, 0x24, 0x08,
        ],
    ] {
        assert_eq!(rbx_after(&[MOVE, zeroing]), Value::Zero);
    }
}

#[test]
fn forgets_what_is_written_otherwise() {
    for overwriting in [
        &[0xb3, 0x01][..],         // mov bl, 1
        &[0x89, 0xdb],             // mov ebx, ebx
        &[0x48, 0x0f, 0x44, 0xd9], // cmove rbx, rcx
        &[0x48, 0x93],             // xchg rbx, rax
        &[0x48, 0xff, 0xc3],       // inc rbx
        &[0xbb, 1, 0, 0, 0],       // mov ebx, 1
    ] {
        assert_eq!(
            rbx_after(&[MOVE, overwriting]),
            Value::Unknown,
            "{overwriting:x?}"
        );
    }
    for overwriting in [
        &[0xc7, 0x44, 0x24, 0x0c, 0, 0, 0, 0][..], // mov dword [rsp+12], 0
        &[0x0f, 0x11, 0x04, 0x24],                 // movups [rsp], xmm0
        &[0x48, 0x89, 0x0c, 0x24, 0x88, 0x4c, 0x24, 0x0f], // mov [rsp], rcx; mov [rsp+15], cl
        &[0x88, 0x0c, 0x04],                       // mov [rsp+rax], cl
    ] {
        assert_eq!(
            rbx_after(&[STORE, overwriting, LOAD]),
            Value::Unknown,
            "{overwriting:x?}"
        );
    }
    let beside = &[0x48, 0x89, 0x0c, 0x24]; // mov [rsp], rcx
    assert_eq!(rbx_after(&[STORE, beside, LOAD]), Value::Session);
}

/// A called function may write there.
#[test]
fn distrusts_slots_whose_address_was_taken() {
    let taken = &[0x48, 0x8d, 0x7c, 0x24, 0x08]; // lea rdi, [rsp+8]
    assert_eq!(rbx_after(&[taken, STORE, LOAD]), Value::Unknown);
    assert_eq!(rbx_after(&[STORE, taken, LOAD]), Value::Unknown);
}

#[test]
fn knows_only_what_is_so_on_both_ways() {
    let mut one = after(MOVE);
    assert!(!one.join(&after(MOVE)));
    assert!(one.join(&after(&[0x31, 0xdb])));
    assert_eq!(one.register(Register::RBX), Value::Unknown);
    assert_eq!(Value::Zero.or(Value::Context), Value::Context);
    assert_eq!(Value::Zero.or(Value::Session), Value::Unknown);
}
