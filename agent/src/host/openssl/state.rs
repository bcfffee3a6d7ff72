//! What is known about registers and stack at one point of a function, and what one instruction
//! changes about it.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    ConditionCode, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    RflagsBits,
};

/// What a register or stack slot of 64 bits holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Unknown,
    Zero,
    /// What the last `d2i_SSL_SESSION` returned: the session, or null when it failed.
    Session,
    /// What `EVP_CIPHER_CTX_new` returned, or null.
    Context,
    /// An address in the frame: that of the return address plus so many bytes.
    Stack(i64),
}

impl Value {
    /// What is known when it may be either.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Zero, Self::Context) | (Self::Context, Self::Zero) => Self::Context,
            _ => Self::Unknown,
        }
    }
}

/// Stack slots that are remembered at once; a frame of ticket decryption needs about ten.
const MAX_SLOTS: usize = 128;
const WORD: i64 = 8;

/// rax, rcx, rdx, rsi, rdi, r8 to r11: a called function may change them (System V ABI, x86-64,
/// 3.2.1).
const CALLER_SAVED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];
pub const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// By their number in an instruction.
    registers: [Value; 16],
    /// 64-bit words of the frame by their offset from the return address; those of unknown value
    /// are left out.
    slots: BTreeMap<i64, Value>,
    /// Of which value, session or context, the zero flag tells whether it is null.
    tested: Option<Value>,
}

/// Offsets of frame words whose address a register held: others may write to them.
pub type Escaped = BTreeSet<i64>;

impl State {
    /// Where a function starts: only the stack is known.
    pub fn entry() -> Self {
        let mut registers = [Value::Unknown; 16];
        registers[Register::RSP.number()] = Value::Stack(0);
        Self {
            registers,
            slots: BTreeMap::new(),
            tested: None,
        }
    }

    /// What is known when control may come from either; whether that is less than before.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (mine, theirs) in self.registers.iter_mut().zip(other.registers) {
            *mine = mine.or(theirs);
        }
        self.slots.retain(|offset, mine| {
            let theirs = other.slots.get(offset).copied().unwrap_or(Value::Unknown);
            *mine = mine.or(theirs);
            *mine != Value::Unknown
        });
        if self.tested != other.tested {
            self.tested = None;
        }
        *self != before
    }

    pub fn register(&self, register: Register) -> Value {
        self.registers[register.number()]
    }

    /// General registers that hold a value.
    pub fn holders(&self, value: Value) -> impl Iterator<Item = usize> {
        let registers = self.registers.iter().enumerate();
        registers
            .filter(move |(_, held)| **held == value)
            .map(|(number, _)| number)
    }

    /// The stack is as it was at the start, so a jump out of the function is a call in disguise.
    pub fn is_unwound(&self) -> bool {
        self.register(Register::RSP) == Value::Stack(0)
    }

    /// Every copy of a value becomes another.
    pub fn replace(&mut self, old: Value, by: Value) {
        let slots = self.slots.values_mut();
        for value in self.registers.iter_mut().chain(slots) {
            if *value == old {
                *value = by;
            }
        }
        self.slots.retain(|_, value| *value != Value::Unknown);
    }

    /// What is null on one side of a conditional jump, where the jump asks that, and whether it
    /// is the side where the jump is taken.
    pub fn null_after(&self, jump: &Instruction) -> Option<(Value, bool)> {
        let value = self.tested?;
        match jump.condition_code() {
            ConditionCode::e => Some((value, true)),
            ConditionCode::ne => Some((value, false)),
            _ => None,
        }
    }

    /// A function was called and came back with a result in rax.
    pub fn after_call(&mut self, result: Value) {
        for register in CALLER_SAVED {
            self.registers[register.number()] = Value::Unknown;
        }
        self.registers[Register::RAX.number()] = result;
        self.tested = None;
    }

    /// An instruction that neither jumps nor calls.
    pub fn step(
        &mut self,
        instruction: &Instruction,
        info: &mut InstructionInfoFactory,
        escaped: &mut Escaped,
    ) {
        let outcome = self.outcome(instruction);
        let tested = self.tested_by(instruction);
        self.forget_written(instruction, info);
        if instruction.rflags_modified() & RflagsBits::ZF != 0 {
            self.tested = tested;
        }
        for (place, value) in outcome.into_iter().flatten() {
            match place {
                Place::Register(register) => self.set_register(register, value, escaped),
                Place::Slot(offset) => self.set_slot(offset, value, escaped),
            }
        }
    }

    /// Of the instructions that move values about: what is where afterwards.
    fn outcome(&self, instruction: &Instruction) -> [Option<(Place, Value)>; 2] {
        let one = |place: Option<Place>, value| [place.map(|place| (place, value)), None];
        let stack_at = |by: i64| match self.register(Register::RSP) {
            Value::Stack(offset) => Some(offset.wrapping_add(by)),
            _ => None,
        };
        let stack_moved = |by: i64| {
            stack_at(by).map(|offset| (Place::Register(Register::RSP), Value::Stack(offset)))
        };
        match instruction.mnemonic() {
            Mnemonic::Mov => one(self.place(instruction), self.operand(instruction, 1)),
            Mnemonic::Lea if instruction.op_register(0).is_gpr64() => {
                let address = self.stack_address(instruction);
                let place = self.place(instruction);
                one(place, address.map_or(Value::Unknown, Value::Stack))
            }
            Mnemonic::Xor | Mnemonic::Sub if zeroes(instruction) => {
                one(self.place(instruction), Value::Zero)
            }
            Mnemonic::Add | Mnemonic::Sub => {
                match (self.operand(instruction, 0), immediate(instruction)) {
                    (Value::Stack(offset), Some(by)) => {
                        let by = if instruction.mnemonic() == Mnemonic::Add {
                            by
                        } else {
                            by.wrapping_neg()
                        };
                        one(
                            self.place(instruction),
                            Value::Stack(offset.wrapping_add(by)),
                        )
                    }
                    _ => [None, None],
                }
            }
            Mnemonic::Push => {
                let slot = stack_at(-WORD).map(Place::Slot);
                [
                    slot.map(|slot| (slot, self.operand(instruction, 0))),
                    stack_moved(-WORD),
                ]
            }
            Mnemonic::Pop => {
                let value = stack_at(0).map_or(Value::Unknown, |offset| self.slot(offset));
                [
                    stack_moved(WORD),
                    self.place(instruction).map(|place| (place, value)),
                ]
            }
            Mnemonic::Leave => match self.register(Register::RBP) {
                Value::Stack(frame) => [
                    Some((Place::Register(Register::RBP), self.slot(frame))),
                    Some((
                        Place::Register(Register::RSP),
                        Value::Stack(frame.wrapping_add(WORD)),
                    )),
                ],
                _ => [None, None],
            },
            _ => [None, None],
        }
    }

    /// Of `test r, r`, `cmp r, 0` and `cmpq $0, slot`: what they compare with null.
    fn tested_by(&self, instruction: &Instruction) -> Option<Value> {
        let against_itself = || {
            instruction.op_kind(1) == OpKind::Register
                && instruction.op_register(0) == instruction.op_register(1)
        };
        let compares = match instruction.mnemonic() {
            Mnemonic::Test => against_itself(),
            Mnemonic::Cmp => immediate(instruction) == Some(0),
            _ => false,
        };
        let value = self.operand(instruction, 0);
        let counts = compares && matches!(value, Value::Session | Value::Context);
        counts.then_some(value)
    }

    /// Whatever an instruction writes is unknown, unless better is known of it.
    fn forget_written(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        let info = info.info(instruction);
        let writes = |access| {
            matches!(
                access,
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            )
        };
        for memory in info
            .used_memory()
            .iter()
            .filter(|memory| writes(memory.access()))
        {
            let base = memory.base();
            let address = base.is_gpr64().then(|| self.register(base));
            match address {
                Some(Value::Stack(offset))
                    if memory.index() == Register::None && !instruction.is_string_instruction() =>
                {
                    let start = offset.wrapping_add(memory.displacement().cast_signed());
                    let size = memory.memory_size().size() as i64;
                    // Of unknown size, such as fxsave.
                    let size = if size == 0 { i64::from(u16::MAX) } else { size };
                    self.forget_slots(start, start.saturating_add(size));
                }
                Some(Value::Stack(_)) => self.slots.clear(),
                _ if base == Register::RSP || instruction.is_string_instruction() => {
                    self.slots.clear();
                }
                // Through any other pointer: not a slot, since a slot's address was never taken.
                _ => {}
            }
        }
        for used in info
            .used_registers()
            .iter()
            .filter(|used| writes(used.access()))
        {
            let register = used.register().full_register();
            if register.is_gpr64() {
                self.registers[register.number()] = Value::Unknown;
            }
        }
    }

    fn forget_slots(&mut self, start: i64, end: i64) {
        self.slots
            .retain(|offset, _| offset.saturating_add(WORD) <= start || *offset >= end);
    }

    fn set_register(&mut self, register: Register, value: Value, escaped: &mut Escaped) {
        // A frame pointer is no variable's address.
        let is_frame = register == Register::RSP || register == Register::RBP;
        if let Value::Stack(offset) = value
            && !is_frame
        {
            escaped.insert(offset);
            self.slots.remove(&offset);
        }
        self.registers[register.number()] = value;
    }

    fn set_slot(&mut self, offset: i64, value: Value, escaped: &Escaped) {
        self.forget_slots(offset, offset.saturating_add(WORD));
        let room = self.slots.len() < MAX_SLOTS && !escaped.contains(&offset);
        if value != Value::Unknown && room {
            self.slots.insert(offset, value);
        }
    }

    fn slot(&self, offset: i64) -> Value {
        self.slots.get(&offset).copied().unwrap_or(Value::Unknown)
    }

    /// Where the first operand is, if all its 64 bits are written.
    fn place(&self, instruction: &Instruction) -> Option<Place> {
        match instruction.op_kind(0) {
            OpKind::Register => {
                let register = instruction.op_register(0);
                // Writing 32 bits of a register zeroes the others.
                (register.is_gpr64() || register.is_gpr32())
                    .then(|| Place::Register(register.full_register()))
            }
            OpKind::Memory if instruction.memory_size().size() == 8 => {
                self.stack_address(instruction).map(Place::Slot)
            }
            _ => None,
        }
    }

    /// What an operand holds. Half of a register says only whether it is zero.
    fn operand(&self, instruction: &Instruction, operand: u32) -> Value {
        match instruction.op_kind(operand) {
            OpKind::Register => {
                let register = instruction.op_register(operand);
                let whole = register.full_register();
                if register.is_gpr64() {
                    self.register(register)
                } else if register.is_gpr32() && self.register(whole) == Value::Zero {
                    Value::Zero
                } else {
                    Value::Unknown
                }
            }
            OpKind::Memory if instruction.memory_size().size() == 8 => self
                .stack_address(instruction)
                .map_or(Value::Unknown, |offset| self.slot(offset)),
            _ if is_immediate(instruction, operand) && instruction.immediate(operand) == 0 => {
                Value::Zero
            }
            _ => Value::Unknown,
        }
    }

    /// The address of a memory operand that lies in the frame.
    fn stack_address(&self, instruction: &Instruction) -> Option<i64> {
        let base = instruction.memory_base();
        let plain = base.is_gpr64()
            && instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None;
        match plain.then(|| self.register(base)) {
            Some(Value::Stack(offset)) => {
                Some(offset.wrapping_add(instruction.memory_displacement64().cast_signed()))
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Register(Register),
    Slot(i64),
}

/// `xor r, r` and `sub r, r`.
fn zeroes(instruction: &Instruction) -> bool {
    instruction.op_kind(0) == OpKind::Register
        && instruction.op_kind(1) == OpKind::Register
        && instruction.op_register(0) == instruction.op_register(1)
}

fn is_immediate(instruction: &Instruction, operand: u32) -> bool {
    matches!(
        instruction.op_kind(operand),
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

/// The second operand, where it is in the instruction itself.
fn immediate(instruction: &Instruction) -> Option<i64> {
    is_immediate(instruction, 1).then(|| instruction.immediate(1).cast_signed())
}

#[cfg(test)]
mod tests;
