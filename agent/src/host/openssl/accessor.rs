//! Offsets of fields, read out of the exported functions that return them.
//!
//! Such a function is a handful of instructions. It is run here, on an object whose every word
//! holds a chosen value, and what it loads and returns says which field it reads and in which
//! unit. Running it, rather than matching bytes, takes any compiler's way of testing for null or
//! dividing, and cannot mistake one for another: the result has to be right for every value.

use iced_x86::{ConditionCode, FlowControl, Instruction, Mnemonic, OpKind, Register};
use thiserror::Error;

use super::image::{Image, Target};

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the start of the object, bytes.
    pub offset: u16,
    /// Size, 4 or 8 bytes.
    pub bytes: u8,
    pub unit: Unit,
    /// Only objects whose first 32 bits are zero have it there. From 3.2 on an `SSL` starts with
    /// its type, 0 for a TLS connection; QUIC has others.
    pub tagged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// What the function returns.
    AsReturned,
    /// The function returns seconds, and divides by 10⁹ for that.
    Nanoseconds,
}

/// Why a field is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    #[error("{0} is not exported")]
    NotExported(&'static str),
    #[error("{0} is not a plain load")]
    NotPlainLoad(&'static str),
    #[error("{0} loads {1} bytes")]
    Size(&'static str, u8),
    #[error("{0} loads from as far as {1:#x}")]
    Far(&'static str, u16),
    #[error("{0} and {1} count in different units")]
    Units(&'static str, &'static str),
}

/// What fields are given to hold: zero, ones, either side of a second, a time of today in
/// seconds and in nanoseconds, and bits without a pattern.
const SAMPLES: [u64; 9] = [
    0,
    1,
    999_999_999,
    1_000_000_000,
    1_790_000_000,
    1_790_000_000_987_654_321,
    0x0123_4567_89ab_cd7f,
    0x9e37_79b9_7f4a_7c15,
    u64::MAX,
];
const NANOSECONDS: u64 = 1_000_000_000;
/// Instructions that a function may take. 3.5 takes 15.
const MAX_STEPS: usize = 64;
const OBJECT: u64 = 0x5eed_0000_0000;
const OBJECT_BYTES: u64 = 1 << 16;
const STACK: u64 = 0x57ac_0000_0000;
/// What is in registers that a caller leaves undefined.
const JUNK: u64 = 0xbad0_bad0_bad0_bad0;

/// Which field of the object in its first argument an exported function returns.
///
/// # Errors
/// When the file does not define the function, or the function does more than that.
pub fn field(image: &Image<'_>, function: &'static str) -> Result<Field, FieldError> {
    let start = image
        .export(function)
        .ok_or(FieldError::NotExported(function))?;
    [false, true]
        .into_iter()
        .find_map(|tagged| field_of(image, start, tagged))
        .ok_or(FieldError::NotPlainLoad(function))
}

/// Like [`field`], of this size and not beyond an offset.
pub fn sized(
    image: &Image<'_>,
    function: &'static str,
    bytes: u8,
    farthest: u16,
) -> Result<Field, FieldError> {
    let field = field(image, function)?;
    if field.bytes != bytes {
        return Err(FieldError::Size(function, field.bytes));
    }
    if field.offset > farthest {
        return Err(FieldError::Far(function, field.offset));
    }
    Ok(field)
}

fn field_of(image: &Image<'_>, start: u64, tagged: bool) -> Option<Field> {
    let mut field: Option<Load> = None;
    let mut as_returned = true;
    let mut nanoseconds = true;
    for sample in SAMPLES {
        let mut machine = Machine::new(image, sample, tagged);
        let result = machine.run(start)?;
        let load = machine.only_field()?;
        if *field.get_or_insert(load) != load {
            return None;
        }
        let mask = if load.bytes == 4 {
            u32::MAX.into()
        } else {
            u64::MAX
        };
        as_returned &= result & mask == sample & mask;
        nanoseconds &= load.bytes == 8 && result == sample / NANOSECONDS;
    }
    let unit = match (as_returned, nanoseconds) {
        (true, _) => Unit::AsReturned,
        (_, true) => Unit::Nanoseconds,
        _ => return None,
    };
    let Load { offset, bytes } = field?;
    Some(Field {
        offset,
        bytes,
        unit,
        tagged,
    })
}

/// A read of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    offset: u16,
    bytes: u8,
}

const TAG: Load = Load {
    offset: 0,
    bytes: 4,
};

/// As much of a processor as accessors need. Whatever it does not know ends the run.
struct Machine<'a> {
    image: &'a Image<'a>,
    registers: [u64; 16],
    zero: bool,
    sign: bool,
    stack: Vec<u64>,
    /// What every word of the object holds.
    sample: u64,
    /// But for the first, when it has a type of 0.
    tagged: bool,
    loads: Vec<Load>,
}

impl<'a> Machine<'a> {
    fn new(image: &'a Image<'a>, sample: u64, tagged: bool) -> Self {
        let mut registers = [JUNK; 16];
        registers[Register::RDI.number()] = OBJECT;
        registers[Register::RSP.number()] = STACK;
        Self {
            image,
            registers,
            zero: false,
            sign: false,
            stack: Vec::new(),
            sample,
            tagged,
            loads: Vec::new(),
        }
    }

    /// The one field that was read, besides the type.
    fn only_field(&self) -> Option<Load> {
        let is_tag = |load: &&Load| self.tagged && **load == TAG;
        if self.tagged && !self.loads.contains(&TAG) {
            return None;
        }
        let mut fields = self.loads.iter().filter(|load| !is_tag(load));
        let field = *fields.next()?;
        fields.all(|other| *other == field).then_some(field)
    }

    /// What the function at an address returns.
    fn run(&mut self, start: u64) -> Option<u64> {
        let mut address = start;
        for _ in 0..MAX_STEPS {
            let instruction = self.image.instruction(address)?;
            address = match instruction.flow_control() {
                FlowControl::Next => {
                    self.step(&instruction)?;
                    instruction.next_ip()
                }
                FlowControl::UnconditionalBranch => match self.image.target(&instruction) {
                    Target::Internal(target) => target,
                    Target::Named(name) => self.image.export(name)?,
                    _ => return None,
                },
                FlowControl::ConditionalBranch => {
                    if self.is_taken(&instruction)? {
                        instruction.near_branch_target()
                    } else {
                        instruction.next_ip()
                    }
                }
                FlowControl::Return => {
                    let unwound = self.stack.is_empty() && self.register(Register::RSP) == STACK;
                    return unwound.then(|| self.register(Register::RAX));
                }
                _ => return None,
            };
        }
        None
    }

    fn is_taken(&self, jump: &Instruction) -> Option<bool> {
        match jump.condition_code() {
            ConditionCode::e => Some(self.zero),
            ConditionCode::ne => Some(!self.zero),
            ConditionCode::s => Some(self.sign),
            ConditionCode::ns => Some(!self.sign),
            _ => None,
        }
    }

    fn step(&mut self, instruction: &Instruction) -> Option<()> {
        let read = |machine: &mut Self, operand| machine.read(instruction, operand);
        match instruction.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Nop => {}
            Mnemonic::Mov => {
                let value = read(self, 1)?;
                self.write(instruction, value)?;
            }
            Mnemonic::Movsxd => {
                let value = read(self, 1)? as u32;
                self.write(instruction, i64::from(value.cast_signed()).cast_unsigned())?;
            }
            Mnemonic::Test => {
                let value = read(self, 0)? & read(self, 1)?;
                self.flags(instruction, value)?;
            }
            Mnemonic::Cmp => {
                let value = read(self, 0)?.wrapping_sub(read(self, 1)?);
                self.flags(instruction, value)?;
            }
            Mnemonic::Xor | Mnemonic::And | Mnemonic::Or | Mnemonic::Add | Mnemonic::Sub => {
                let (left, right) = (read(self, 0)?, read(self, 1)?);
                let value = match instruction.mnemonic() {
                    Mnemonic::Xor => left ^ right,
                    Mnemonic::And => left & right,
                    Mnemonic::Or => left | right,
                    Mnemonic::Add => left.wrapping_add(right),
                    _ => left.wrapping_sub(right),
                };
                self.flags(instruction, value)?;
                self.write(instruction, value)?;
            }
            Mnemonic::Shr if width(instruction, 0)? == 8 => {
                let (value, by) = (read(self, 0)?, read(self, 1)? & 63);
                self.flags(instruction, value >> by)?;
                self.write(instruction, value >> by)?;
            }
            Mnemonic::Mul if width(instruction, 0)? == 8 => {
                let by = read(self, 0)?;
                let product = u128::from(self.register(Register::RAX)) * u128::from(by);
                self.set(Register::RAX, product as u64);
                self.set(Register::RDX, (product >> 64) as u64);
            }
            Mnemonic::Mulx if width(instruction, 0)? == 8 => {
                let by = read(self, 2)?;
                let product = u128::from(self.register(Register::RDX)) * u128::from(by);
                self.set(instruction.op_register(1), product as u64);
                self.set(instruction.op_register(0), (product >> 64) as u64);
            }
            Mnemonic::Div if width(instruction, 0)? == 8 => {
                let by = read(self, 0)?;
                // A dividend of more than 64 bits is none of an accessor's.
                if self.register(Register::RDX) != 0 {
                    return None;
                }
                let value = self.register(Register::RAX);
                self.set(Register::RAX, value.checked_div(by)?);
                self.set(Register::RDX, value.checked_rem(by)?);
            }
            Mnemonic::Push => {
                let value = read(self, 0)?;
                self.stack.push(value);
                self.move_stack(8_u64.wrapping_neg())?;
            }
            Mnemonic::Pop => {
                let value = self.stack.pop()?;
                self.move_stack(8)?;
                self.write(instruction, value)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn register(&self, register: Register) -> u64 {
        self.registers[register.number()]
    }

    fn set(&mut self, register: Register, value: u64) {
        self.registers[register.number()] = value;
    }

    /// Only `push` and `pop` move the stack, so that what is on it is known.
    fn move_stack(&mut self, by: u64) -> Option<()> {
        let moved = self.register(Register::RSP).wrapping_add(by);
        self.set(Register::RSP, moved);
        (moved == STACK.wrapping_sub(8 * self.stack.len() as u64)).then_some(())
    }

    fn read(&mut self, instruction: &Instruction, operand: u32) -> Option<u64> {
        match instruction.op_kind(operand) {
            OpKind::Register => {
                let register = instruction.op_register(operand);
                let value = *self.registers.get(register.full_register().number())?;
                match register.size() {
                    8 => Some(value),
                    4 => Some(value & u64::from(u32::MAX)),
                    // ah to bh are the second byte of theirs.
                    1 if !is_high_byte(register) => Some(value & 0xff),
                    _ => None,
                }
            }
            OpKind::Memory => self.load(instruction),
            kind => is_immediate(kind).then(|| instruction.immediate(operand)),
        }
    }

    fn load(&mut self, instruction: &Instruction) -> Option<u64> {
        let base = instruction.memory_base();
        let plain = base.is_gpr64()
            && instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None;
        if !plain {
            return None;
        }
        let address = self
            .register(base)
            .wrapping_add(instruction.memory_displacement64());
        let offset = address.checked_sub(OBJECT)?;
        let bytes = u8::try_from(instruction.memory_size().size()).ok()?;
        if offset >= OBJECT_BYTES || (bytes != 4 && bytes != 8) {
            return None;
        }
        let load = Load {
            offset: u16::try_from(offset).ok()?,
            bytes,
        };
        self.loads.push(load);
        Some(match bytes {
            _ if self.tagged && load == TAG => 0,
            4 => self.sample & u64::from(u32::MAX),
            _ => self.sample,
        })
    }

    /// To the first operand, a register; accessors write nothing else.
    fn write(&mut self, instruction: &Instruction, value: u64) -> Option<()> {
        if instruction.op_kind(0) != OpKind::Register {
            return None;
        }
        let register = instruction.op_register(0);
        let value = match register.size() {
            8 => value,
            4 => value & u64::from(u32::MAX),
            _ => return None,
        };
        if !register.full_register().is_gpr64() {
            return None;
        }
        self.set(register.full_register(), value);
        Some(())
    }

    /// Zero and sign of a result as wide as the first operand.
    fn flags(&mut self, instruction: &Instruction, value: u64) -> Option<()> {
        let bits = 8 * width(instruction, 0)?;
        let value = value << (64 - bits);
        self.zero = value == 0;
        self.sign = value >> 63 == 1;
        Some(())
    }
}

/// Of an operand, bytes.
fn width(instruction: &Instruction, operand: u32) -> Option<usize> {
    let bytes = match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => return None,
    };
    (1..=8).contains(&bytes).then_some(bytes)
}

fn is_high_byte(register: Register) -> bool {
    matches!(
        register,
        Register::AH | Register::BH | Register::CH | Register::DH
    )
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}
