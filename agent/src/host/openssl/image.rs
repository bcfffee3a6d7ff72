//! A loaded library as its processes see it: code by address, and the names behind calls.
//!
//! Nothing in the file is trusted. Reads are bounds-checked, tables are capped, and a name is
//! compared within its first few bytes, so that no file can make this slow or large.

use std::collections::{BTreeSet, HashMap};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, Rela, SectionHeader, Sym, SymbolTable};
use object::{LittleEndian, SymbolIndex};

use super::InspectError;

type Header = elf::FileHeader64<LittleEndian>;
type Symbols<'a> = SymbolTable<'a, Header>;

const ENDIAN: LittleEndian = LittleEndian;

/// Symbols and relocations that are looked at. Node, the largest program known to carry OpenSSL,
/// has 110,000 symbols.
pub(super) const MAX_ENTRIES: usize = 1 << 20;
/// Linkers make four or five.
const MAX_SEGMENTS: usize = 32;
/// An x86 instruction is never longer (Intel SDM, volume 2, 2.3.11).
const MAX_INSTRUCTION_BYTES: usize = 15;

/// Every name that means something here, longest `NAME_BYTES`.
const NAMES: [&str; 47] = [
    "ASYNC_get_current_job",
    "BUF_MEM_free",
    "CRYPTO_THREAD_read_lock",
    "EVP_CIPHER_CTX_free",
    "EVP_CIPHER_CTX_new",
    "EVP_DecryptFinal",
    "EVP_DecryptFinal_ex",
    "EVP_DecryptUpdate",
    "EVP_DigestSign",
    "EVP_DigestVerify",
    "EVP_EncryptFinal",
    "EVP_PKEY_decapsulate",
    "EVP_PKEY_decrypt",
    "EVP_PKEY_derive",
    "EVP_PKEY_encapsulate",
    "EVP_PKEY_encrypt",
    "EVP_PKEY_keygen",
    "OPENSSL_LH_retrieve",
    "OPENSSL_die",
    "SSL_CTX_add_session",
    "SSL_CTX_use_certificate_chain_mem",
    "SSL_SESSION_free",
    "SSL_SESSION_from_bytes",
    "SSL_SESSION_get_protocol_version",
    "SSL_SESSION_get_time",
    "SSL_SESSION_get_time_ex",
    "SSL_SESSION_get_timeout",
    "SSL_do_handshake",
    "SSL_get_client_random",
    "SSL_get_server_random",
    "SSL_get_session",
    "SSL_get_state",
    "SSL_has_matching_session_id",
    "SSL_in_init",
    "SSL_is_server",
    "SSL_session_reused",
    "SSL_version",
    "TLS_method",
    "__assert_fail",
    "__chk_fail",
    "__fortify_fail",
    "__stack_chk_fail",
    "abort",
    "d2i_SSL_SESSION",
    "d2i_SSL_SESSION_ex",
    "exit",
    "_exit",
];
const NAME_BYTES: usize = 40;

/// Where a call or jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A function of a known name, of this file or another.
    Named(&'static str),
    /// A function of another file whose name does not matter here.
    Imported,
    /// Code of this file without a name.
    Internal(u64),
    /// Through a register or memory: only known at run time.
    Computed,
}

/// A part of the file that is mapped.
#[derive(Debug)]
struct Segment<'a> {
    address: u64,
    file_offset: u64,
    bytes: &'a [u8],
    executable: bool,
}

#[derive(Debug)]
pub struct Image<'a> {
    segments: Vec<Segment<'a>>,
    /// Functions that this file defines and exports.
    exports: HashMap<&'static str, u64>,
    exported_at: HashMap<u64, &'static str>,
    /// Slots of the global offset table that the dynamic linker fills in with a function. `None`:
    /// one whose name does not matter.
    slots: HashMap<u64, Option<&'static str>>,
    /// Words of data that the dynamic linker makes point into this file, and whereto, by address.
    pointers: Vec<(u64, u64)>,
    /// First addresses of functions and of their split-off parts, rising.
    starts: Vec<u64>,
}

impl<'a> Image<'a> {
    /// # Errors
    /// When this is no ELF file for x86-64, or it lacks what is needed to find functions.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InspectError> {
        let header = parse_header(bytes)?;
        let malformed = |_| InspectError::Malformed;
        let program_headers = header.program_headers(ENDIAN, bytes).map_err(malformed)?;
        let mut segments: Vec<Segment<'a>> = Vec::new();
        for program_header in program_headers {
            if program_header.p_type(ENDIAN) == elf::PT_LOAD {
                if segments.len() == MAX_SEGMENTS {
                    return Err(InspectError::Malformed);
                }
                segments.push(Segment {
                    address: program_header.p_vaddr(ENDIAN),
                    file_offset: program_header.p_offset(ENDIAN),
                    bytes: program_header
                        .data(ENDIAN, bytes)
                        .map_err(|()| InspectError::Malformed)?,
                    executable: program_header.p_flags(ENDIAN) & elf::PF_X != 0,
                });
            }
        }
        let executable = segments.iter().filter(|segment| segment.executable);
        if executable.map(|segment| segment.bytes.len()).sum::<usize>() > bytes.len() {
            return Err(InspectError::Malformed);
        }
        let mut image = Self {
            segments,
            exports: HashMap::new(),
            exported_at: HashMap::new(),
            slots: HashMap::new(),
            pointers: Vec::new(),
            starts: Vec::new(),
        };
        image.read_symbols(header, bytes)?;
        image.starts = program_headers
            .iter()
            .find(|program_header| program_header.p_type(ENDIAN) == elf::PT_GNU_EH_FRAME)
            .and_then(|program_header| image.read_starts(program_header.p_vaddr(ENDIAN)))
            .ok_or(InspectError::NoFunctionTable)?;
        Ok(image)
    }

    fn read_symbols(&mut self, header: &Header, bytes: &'a [u8]) -> Result<(), InspectError> {
        let malformed = |_| InspectError::Malformed;
        let sections = header.sections(ENDIAN, bytes).map_err(malformed)?;
        let symbols = sections
            .symbols(ENDIAN, bytes, elf::SHT_DYNSYM)
            .map_err(malformed)?;
        if symbols.is_empty() {
            return Err(InspectError::NoSymbols);
        }
        let strings = sections
            .section(symbols.string_section())
            .and_then(|section| section.data(ENDIAN, bytes))
            .map_err(malformed)?;
        let name = |symbol: &elf::Sym64<LittleEndian>| {
            known_name(strings, symbol.st_name(ENDIAN) as usize)
        };
        for symbol in symbols.iter().take(MAX_ENTRIES) {
            if symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF
                && symbol.st_type() == elf::STT_FUNC
                && let Some(name) = name(symbol)
            {
                self.exports.insert(name, symbol.st_value(ENDIAN));
                self.exported_at.insert(symbol.st_value(ENDIAN), name);
            }
        }
        let mut budget = MAX_ENTRIES;
        for section in sections.iter() {
            if section.sh_type(ENDIAN) != elf::SHT_RELA || section.link(ENDIAN) != symbols.section()
            {
                continue;
            }
            let relocations = section.data_as_array(ENDIAN, bytes).map_err(malformed)?;
            self.read_slots(
                &symbols,
                name,
                &relocations[..relocations.len().min(budget)],
            );
            budget -= relocations.len().min(budget);
        }
        self.pointers.sort_unstable();
        Ok(())
    }

    fn read_slots(
        &mut self,
        symbols: &Symbols<'_>,
        name: impl Fn(&elf::Sym64<LittleEndian>) -> Option<&'static str>,
        relocations: &[elf::Rela64<LittleEndian>],
    ) {
        for relocation in relocations {
            let kind = relocation.r_type(ENDIAN, false);
            if kind == elf::R_X86_64_RELATIVE {
                let to = relocation.r_addend(ENDIAN).cast_unsigned();
                self.pointers.push((relocation.r_offset(ENDIAN), to));
                continue;
            }
            if kind != elf::R_X86_64_JUMP_SLOT && kind != elf::R_X86_64_GLOB_DAT {
                continue;
            }
            let index = SymbolIndex(relocation.r_sym(ENDIAN, false) as usize);
            let name = symbols.symbol(index).ok().and_then(&name);
            self.slots.insert(relocation.r_offset(ENDIAN), name);
        }
    }

    /// The binary search table of `.eh_frame_hdr` (Linux Standard Base, Core, 10.6.2): it lists
    /// the start of every range that has unwind information, so of every function, whether or not
    /// the file has symbols.
    fn read_starts(&self, address: u64) -> Option<Vec<u64>> {
        // Version 1; pointer to .eh_frame, 4 bytes; count, udata4; table, sdata4 from here.
        const SHAPE: [(usize, u8, u8); 4] = [
            (0, 0xff, 1),
            (1, 0x0f, 0x0b),
            (2, 0xff, 0x03),
            (3, 0xff, 0x3b),
        ];
        let bytes = self.bytes_at(address)?;
        let as_expected = |&(at, mask, value): &(usize, u8, u8)| {
            bytes.get(at).is_some_and(|byte| byte & mask == value)
        };
        if !SHAPE.iter().all(as_expected) {
            return None;
        }
        let count = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
        let table = bytes
            .get(12..)?
            .chunks_exact(8)
            .take(count.min(MAX_ENTRIES));
        let mut starts: Vec<u64> = table
            .map(|entry| {
                let relative = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
                address.wrapping_add_signed(relative.into())
            })
            .collect();
        starts.sort_unstable();
        starts.dedup();
        (!starts.is_empty()).then_some(starts)
    }

    /// What is mapped from an address to the end of its segment.
    fn bytes_at(&self, address: u64) -> Option<&'a [u8]> {
        self.segments.iter().find_map(|segment| {
            let offset = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            segment.bytes.get(offset..).filter(|rest| !rest.is_empty())
        })
    }

    /// What a word of data points to: as the dynamic linker will have it (System V ABI for x86-64,
    /// 4.4.1), or as it stands in the file, in programs at fixed addresses and with packed relocations.
    pub fn pointer(&self, address: u64) -> Option<u64> {
        if let Ok(at) = self
            .pointers
            .binary_search_by_key(&address, |entry| entry.0)
        {
            return Some(self.pointers[at].1);
        }
        let word = self.bytes_at(address)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*word)).filter(|to| *to != 0)
    }

    /// The address behind an `endbr64` at the start of a function, or the start itself.
    pub fn behind_endbr(&self, start: u64) -> u64 {
        self.instruction(start)
            .filter(|first| first.mnemonic() == Mnemonic::Endbr64)
            .map_or(start, |first| first.next_ip())
    }

    /// Where in the file the byte of an address is.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let offset = address.checked_sub(segment.address)?;
            if offset >= segment.bytes.len() as u64 {
                return None;
            }
            segment.file_offset.checked_add(offset)
        })
    }

    pub fn export(&self, name: &str) -> Option<u64> {
        self.exports.get(name).copied()
    }

    /// Whether a function of a name that matters here is at an address, for other files to call.
    pub fn is_exported(&self, address: u64) -> bool {
        self.exported_at.contains_key(&address)
    }

    /// Start of the function, or split-off part of one, that an address belongs to.
    pub fn start_of(&self, address: u64) -> Option<u64> {
        let after = self.starts.partition_point(|start| *start <= address);
        self.starts.get(after.checked_sub(1)?).copied()
    }

    pub fn is_start(&self, address: u64) -> bool {
        self.starts.binary_search(&address).is_ok()
    }

    /// The instruction at an address of executable memory.
    pub fn instruction(&self, address: u64) -> Option<Instruction> {
        self.segments.iter().find_map(|segment| {
            if !segment.executable {
                return None;
            }
            let offset = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            let bytes = segment.bytes.get(offset..)?;
            let bytes = &bytes[..bytes.len().min(MAX_INSTRUCTION_BYTES)];
            let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
            (!instruction.is_invalid()).then_some(instruction)
        })
    }

    /// Where a call or jump leads.
    pub fn target(&self, branch: &Instruction) -> Target {
        match branch.flow_control() {
            FlowControl::Call
            | FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch => self.resolve(branch.near_branch_target()),
            _ => self.slot(branch).unwrap_or(Target::Computed),
        }
    }

    /// What is called by its address: an export of this file, or a stub of the procedure linkage
    /// table, `[endbr64] [bnd] jmp *slot(%rip)`.
    fn resolve(&self, address: u64) -> Target {
        if let Some(name) = self.exported_at.get(&address) {
            return Target::Named(name);
        }
        let stub = self.instruction(address).and_then(|first| {
            let jump = if first.mnemonic() == Mnemonic::Endbr64 {
                self.instruction(first.next_ip())?
            } else {
                first
            };
            if jump.flow_control() == FlowControl::IndirectBranch {
                self.slot(&jump)
            } else {
                None
            }
        });
        stub.unwrap_or(Target::Internal(address))
    }

    /// What a call or jump through a slot of the global offset table leads to.
    fn slot(&self, branch: &Instruction) -> Option<Target> {
        if !branch.is_ip_rel_memory_operand() {
            return None;
        }
        self.slot_target(branch.ip_rel_memory_address())
    }

    /// Every place in executable memory that looks like a direct jump or call, and where it leads:
    /// `E8` or `E9` or `0F 8x`, and 32 bits. Bytes of data can look so too.
    pub fn direct_branches(&self) -> impl Iterator<Item = Branch> {
        let executable = self.segments.iter().filter(|segment| segment.executable);
        executable.flat_map(|segment| {
            segment
                .bytes
                .windows(6)
                .enumerate()
                .filter_map(|(at, bytes)| {
                    let (kind, length) = match bytes {
                        [0xe8, ..] => (BranchKind::Call, 5),
                        [0xe9, ..] => (BranchKind::Jump, 5),
                        [0x0f, 0x80..=0x8f, ..] => (BranchKind::ConditionalJump, 6),
                        _ => return None,
                    };
                    let relative = bytes[length - 4..length].try_into().ok()?;
                    let from = segment.address.wrapping_add(at as u64);
                    let next = from.wrapping_add(length as u64);
                    Some(Branch {
                        kind,
                        from,
                        to: next.wrapping_add_signed(i32::from_le_bytes(relative).into()),
                    })
                })
        })
    }

    /// Starts of the functions, or split-off parts, that call a wanted one.
    pub fn callers(&self, wanted: impl Fn(Target) -> bool + Copy) -> BTreeSet<u64> {
        let entries = self.entries(wanted);
        let direct = self
            .direct_branches()
            .filter(|branch| branch.kind == BranchKind::Call && entries.contains(&branch.to))
            .map(|branch| branch.from);
        direct
            .chain(self.calls_by_slot(wanted))
            .filter_map(|address| self.start_of(address))
            .collect()
    }

    /// Starts of a function and of the parts that the compiler split off it.
    pub fn parts_of(&self, start: u64) -> BTreeSet<u64> {
        let mut parts = BTreeSet::from([start]);
        for branch in self.direct_branches() {
            // Another function is entered at its start, a part in its midst.
            if branch.kind != BranchKind::Call
                && self.start_of(branch.from) == Some(start)
                && !self.is_start(branch.to)
            {
                parts.extend(self.start_of(branch.to));
            }
        }
        parts
    }

    /// Addresses of the direct calls of a wanted function, rising.
    pub fn calls_of(&self, wanted: impl Fn(Target) -> bool + Copy) -> Vec<u64> {
        let entries = self.entries(wanted);
        self.direct_branches()
            .filter(|branch| branch.kind == BranchKind::Call && entries.contains(&branch.to))
            .map(|branch| branch.from)
            .collect()
    }

    /// The same, of those calls that stand in a function or in the parts that the compiler split off.
    pub fn calls_within(&self, start: u64, wanted: impl Fn(Target) -> bool + Copy) -> Vec<u64> {
        let parts = self.parts_of(start);
        let is_within = |from: &u64| {
            self.start_of(*from)
                .is_some_and(|part| parts.contains(&part))
        };
        let mut calls = self.calls_of(wanted);
        calls.retain(is_within);
        calls
    }

    /// Every address by which wanted functions are called: their own, or that of a stub.
    fn entries(&self, wanted: impl Fn(Target) -> bool) -> Vec<u64> {
        let jumps = self.slot_users(0x25);
        // Before the jump there may be a prefix, `bnd`, and before that `endbr64`.
        let stubs =
            jumps.flat_map(|(jump, _)| [0, 1, 4, 5].map(|before| jump.wrapping_sub(before)));
        let own = self.exported_at.keys().copied();
        let is_wanted = |address: &u64| wanted(self.resolve(*address));
        own.chain(stubs).filter(is_wanted).collect()
    }

    /// Calls of wanted functions that take the address from its slot, as code compiled without a
    /// procedure linkage table (`-fno-plt`) does.
    fn calls_by_slot(&self, wanted: impl Fn(Target) -> bool) -> impl Iterator<Item = u64> {
        let calls = self.slot_users(0x15);
        calls
            .filter(move |(_, target)| wanted(*target))
            .map(|(address, _)| address)
    }

    /// Places that look like `FF`, this byte, and the distance to a slot.
    fn slot_users(&self, byte: u8) -> impl Iterator<Item = (u64, Target)> {
        let executable = self.segments.iter().filter(|segment| segment.executable);
        executable.flat_map(move |segment| {
            let windows = segment.bytes.windows(6).enumerate();
            windows.filter_map(move |(at, bytes)| {
                if bytes[..2] != [0xff, byte] {
                    return None;
                }
                let relative = i32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
                let address = segment.address.wrapping_add(at as u64);
                let slot = address.wrapping_add(6).wrapping_add_signed(relative.into());
                Some((address, self.slot_target(slot)?))
            })
        })
    }

    fn slot_target(&self, slot: u64) -> Option<Target> {
        let name = self.slots.get(&slot)?;
        Some(name.map_or(Target::Imported, Target::Named))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchKind {
    Call,
    Jump,
    ConditionalJump,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    pub kind: BranchKind,
    pub from: u64,
    pub to: u64,
}

/// The header, once it is certain that it is one of the right kind.
fn parse_header(bytes: &[u8]) -> Result<&Header, InspectError> {
    let ident = bytes.get(..20).ok_or(InspectError::NotElf)?;
    if ident[..4] != elf::ELFMAG {
        return Err(InspectError::NotElf);
    }
    let machine = match (ident[4], ident[5]) {
        (elf::ELFCLASS64, elf::ELFDATA2LSB) => u16::from_le_bytes([ident[18], ident[19]]),
        (elf::ELFCLASS32, _) => return Err(InspectError::Architecture("32 bits")),
        _ => return Err(InspectError::Architecture("big-endian")),
    };
    match machine {
        elf::EM_X86_64 => Header::parse(bytes).map_err(|_| InspectError::Malformed),
        elf::EM_AARCH64 => Err(InspectError::Architecture("aarch64")),
        _ => Err(InspectError::Architecture("neither x86-64 nor aarch64")),
    }
}

/// The name at an offset of a string table, if it is one of [`NAMES`].
fn known_name(strings: &[u8], offset: usize) -> Option<&'static str> {
    let rest = strings.get(offset..)?;
    let rest = &rest[..rest.len().min(NAME_BYTES)];
    let length = rest.iter().position(|byte| *byte == 0)?;
    NAMES
        .into_iter()
        .find(|name| name.as_bytes() == &rest[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_fits_its_bound() {
        assert!(NAMES.iter().all(|name| name.len() < NAME_BYTES));
    }
}
