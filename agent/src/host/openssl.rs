//! Where and how to observe OpenSSL in a library file as distributions ship it, without debug
//! symbols: the places to probe and the offsets of fields, read out of the machine code.
//!
//! A pure function of the file's bytes. What cannot be proved from them is not returned; the
//! reason is.

mod accessor;
mod image;
mod lookup;
mod machine;
mod primitives;
mod random;
mod state;
mod tickets;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use agent_common::call::MachineSite;
use agent_common::site::{Register, TicketSite};
use object::LittleEndian;
use object::read::elf::ElfFile64;
use object::read::{Object as _, ObjectSymbol as _, ReadCache};
use thiserror::Error;

pub use accessor::{Field, FieldError, Unit};
pub use lookup::LookupError;
pub use machine::{Machine, MachineError};
pub use primitives::{PrimitivePlace, PrimitivesError};
pub use tickets::TicketsError;

use image::{Image, MAX_ENTRIES};

/// Larger files are not read: libssl has 1 MiB, and Node, with OpenSSL inside, 100 MiB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The function whose calls make handshakes, in OpenSSL and its kin.
pub const HANDSHAKE: &str = "SSL_do_handshake";

/// Why nothing can be said about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InspectError {
    #[error("it is no ELF file")]
    NotElf,
    #[error("it is built for another architecture ({0}) than x86-64")]
    Architecture(&'static str),
    #[error("its ELF structure is damaged")]
    Malformed,
    #[error("it has no dynamic symbols")]
    NoSymbols,
    #[error("it has no table of functions (.eh_frame_hdr)")]
    NoFunctionTable,
    #[error("it is {0}, not OpenSSL")]
    OtherLibrary(&'static str),
    #[error("it does not define OpenSSL's functions")]
    NotTls,
}

/// What was found out about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where tickets are decided.
    pub tickets: Result<Tickets, TicketsError>,
    /// Where sessions are looked up in the server's cache.
    pub lookup: Result<LookupProbe, LookupError>,
    /// Where the handshake's state machine begins and ends, as offsets in the file.
    pub machine: Result<Machine, MachineError>,
    /// Where it has cryptography done, as offsets in the file.
    pub primitives: Result<Vec<PrimitivePlace>, PrimitivesError>,
    pub session: SessionFields,
    pub ssl: SslFields,
}

/// The places that every ticket comes by once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    /// To be probed all of them, in order of offset.
    pub probes: Vec<TicketProbe>,
    /// Offsets in the file where the function is left without coming by any of them.
    pub other_exits: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketProbe {
    /// Of the instruction, in the file.
    pub offset: u64,
    /// For the attach cookie.
    pub site: TicketSite,
    /// The kernel emulates the probed instruction instead of stepping through it, which costs
    /// many times as much.
    pub emulated: bool,
}

/// Where a function begins that returns the session of the cache, or null; to be probed at its
/// return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupProbe {
    /// Of the function's first instruction that is cheap to probe, in the file.
    pub offset: u64,
    /// For the attach cookie.
    pub site: TicketSite,
}

/// Of `SSL_SESSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFields {
    /// Such as 0x0304.
    pub version: Result<Field, FieldError>,
    /// Of issue, since the epoch.
    pub time: Result<Field, FieldError>,
    pub timeout: Result<Field, FieldError>,
}

/// Of `SSL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SslFields {
    pub version: Result<Field, FieldError>,
    pub session_reused: Result<Field, FieldError>,
    /// Pointer to the `SSL_SESSION`.
    pub session: Result<Field, FieldError>,
    pub server: Result<Field, FieldError>,
}

/// Why a file could not be inspected.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is no regular file")]
    NoFile,
    #[error("it is larger than {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge,
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

/// Reads and inspects a file.
///
/// # Errors
/// When it cannot be read, or [`inspect`] fails.
pub fn inspect_file(path: &Path) -> Result<Layout, ReadError> {
    // Before it is opened: opening a pipe would wait for somebody to write.
    if !fs::metadata(path)?.is_file() {
        return Err(ReadError::NoFile);
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge);
    }
    Ok(inspect(&bytes)?)
}

/// Whether a program exports the function that makes handshakes, and so holds a library of the kind. Of the
/// file no more is read than its tables of symbols.
pub fn exports_handshake(file: &File) -> bool {
    let cache = ReadCache::new(file);
    let Ok(file) = ElfFile64::<LittleEndian, _>::parse(&cache) else {
        return false;
    };
    file.dynamic_symbols().take(MAX_ENTRIES).any(|symbol| {
        symbol.is_definition()
            && symbol
                .name_bytes()
                .is_ok_and(|name| name == HANDSHAKE.as_bytes())
    })
}

/// Finds out about a file from its bytes.
///
/// # Errors
/// When it is not a library or program for x86-64 that defines OpenSSL's functions.
pub fn inspect(bytes: &[u8]) -> Result<Layout, InspectError> {
    let image = Image::parse(bytes)?;
    reject_other_libraries(&image)?;
    let session = session_fields(&image);
    let int = |function| accessor::sized(&image, function, 4, u16::MAX);
    let ssl = SslFields {
        version: int("SSL_version"),
        session_reused: int("SSL_session_reused"),
        session: accessor::sized(&image, "SSL_get_session", 8, u16::MAX),
        server: int("SSL_is_server"),
    };
    let ends = tickets::find(&image);
    let primitives = primitives::find(&image, ends.as_ref().ok()).map(|found| {
        let offsets = |place: PrimitivePlace| {
            let ends = place.ends.iter().map(|end| image.file_offset(*end));
            Some(PrimitivePlace {
                begin: image.file_offset(place.begin)?,
                ends: ends.collect::<Option<_>>()?,
                cookie: place.cookie,
            })
        };
        found.into_iter().filter_map(offsets).collect()
    });
    let tickets = ends.map(|ends| ticket_probes(&image, &ends, &session));
    let lookup = lookup::find(&image).and_then(|start| {
        Ok(LookupProbe {
            offset: image.file_offset(start).ok_or(LookupError::NotFound)?,
            site: session.site(None),
        })
    });
    let machine = machine::find(&image).and_then(|machine| {
        let offset = |address| image.file_offset(address).ok_or(MachineError::NotFound);
        Ok(Machine {
            begin: offset(machine.begin)?,
            ends: machine
                .ends
                .iter()
                .map(|end| offset(*end))
                .collect::<Result<_, _>>()?,
            site: MachineSite {
                primitives: primitives.is_ok(),
                ..machine.site
            },
        })
    });
    Ok(Layout {
        tickets,
        lookup,
        machine,
        primitives,
        session,
        ssl,
    })
}

/// Names that only one of OpenSSL's descendants defines.
fn reject_other_libraries(image: &Image<'_>) -> Result<(), InspectError> {
    let defines = |name| image.export(name).is_some();
    if defines("SSL_SESSION_from_bytes") {
        return Err(InspectError::OtherLibrary("BoringSSL or AWS-LC"));
    }
    if defines("SSL_CTX_use_certificate_chain_mem") {
        return Err(InspectError::OtherLibrary("LibreSSL"));
    }
    if !defines("d2i_SSL_SESSION") {
        return Err(InspectError::NotTls);
    }
    Ok(())
}

fn session_fields(image: &Image<'_>) -> SessionFields {
    const TIME: &str = "SSL_SESSION_get_time";
    const TIMEOUT: &str = "SSL_SESSION_get_timeout";
    // The attach cookie has room for these offsets; all ones stand for none.
    let version = accessor::sized(image, "SSL_SESSION_get_protocol_version", 4, 0xfe);
    let mut time = accessor::sized(image, TIME, 8, 0xfffe);
    let mut timeout = accessor::sized(image, TIMEOUT, 8, 0xfffe);
    // It has one unit for both, and they never differed.
    if let (Ok(one), Ok(other)) = (time, timeout)
        && one.unit != other.unit
    {
        time = Err(FieldError::Units(TIME, TIMEOUT));
        timeout = time;
    }
    SessionFields {
        version,
        time,
        timeout,
    }
}

fn ticket_probes(image: &Image<'_>, ends: &tickets::Ends, session: &SessionFields) -> Tickets {
    let offset = |address: &u64| image.file_offset(*address);
    let probes = ends.ends.iter().filter_map(|end| {
        Some(TicketProbe {
            offset: offset(&end.address)?,
            site: session.site(end.session),
            emulated: end.direct,
        })
    });
    Tickets {
        probes: probes.collect(),
        other_exits: ends.other_exits.iter().filter_map(offset).collect(),
    }
}

impl SessionFields {
    fn site(&self, session: Option<Register>) -> TicketSite {
        let offset = |field: Result<Field, FieldError>| Some(field.ok()?.offset);
        let timed = self.time.or(self.timeout);
        TicketSite {
            session,
            version_offset: offset(self.version).and_then(|offset| u8::try_from(offset).ok()),
            time_offset: offset(self.time),
            timeout_offset: offset(self.timeout),
            nanoseconds: timed.is_ok_and(|field| field.unit == Unit::Nanoseconds),
        }
    }
}
