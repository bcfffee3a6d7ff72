//! What is found out about the libraries that Debian ships.
//!
//! The expected figures were seen in the libraries' disassembly, and at run time: probes at these
//! places were hit once by each ticket that a client offered, with a session in that register for
//! a good one, and with none for one of another key or with a flipped bit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_common::call::{MachineSite, RandomPlace};
use agent_common::primitive;
use proptest::prelude::*;
use resumetry::host::openssl::{
    Field, InspectError, Layout, Machine, ReadError, Unit, inspect, inspect_file,
};

/// DWARF numbers.
const R11: u8 = 11;
const R13: u8 = 13;
const R15: u8 = 15;

fn library(release: &str, name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target
        .join("foreign")
        .join(release)
        .join("root/usr/lib/x86_64-linux-gnu")
        .join(name)
}

fn read(release: &str, name: &str) -> Vec<u8> {
    let path = library(release, name);
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask setup --tests` fetches it",
            path.display()
        )
    })
}

fn bookworm() -> Vec<u8> {
    read("bookworm", "libssl.so.3")
}

fn layout(release: &str, name: &str) -> Layout {
    inspect(&read(release, name)).unwrap()
}

/// The register of each probe, in order of address.
fn registers(layout: &Layout) -> Vec<Option<u8>> {
    let tickets = layout.tickets.as_ref().unwrap();
    assert_eq!(tickets.other_exits, [0; 0]);
    assert!(tickets.probes.iter().all(|probe| probe.emulated));
    let registers = tickets.probes.iter().map(|probe| probe.site.session);
    registers.collect()
}

fn field(offset: u16, bytes: u8) -> Field {
    Field {
        offset,
        bytes,
        unit: Unit::AsReturned,
        tagged: false,
    }
}

/// Seen in the disassembly: what both `ossl_statem_accept` and `ossl_statem_connect` jump to, its
/// only call of `BUF_MEM_free`, the fields that it and `SSL_do_handshake` ask for, and what
/// `SSL_get_server_random` copies.
#[test]
fn finds_the_state_machine_of_each_release() {
    for (release, name, begin, end, state_offset, async_offset, random) in [
        (
            "bullseye",
            "libssl.so.1.1",
            0x4e360,
            0x4e4b8,
            0x48,
            0x5d9,
            (Some(0xa8), 0x98),
        ),
        (
            "bookworm",
            "libssl.so.3",
            0x65ee0,
            0x66028,
            0x48,
            0x9f1,
            (None, 0x140),
        ),
        (
            "trixie",
            "libssl.so.3",
            0xb4830,
            0xb4a86,
            0x98,
            0x9b9,
            (None, 0x168),
        ),
    ] {
        let machine = Machine {
            begin,
            ends: vec![end],
            site: MachineSite {
                state_offset,
                async_offset: Some(async_offset),
                primitives: true,
                random: Some(RandomPlace {
                    pointer: random.0,
                    offset: random.1,
                }),
            },
        };
        assert_eq!(layout(release, name).machine, Ok(machine), "{release}");
    }
}

/// As many places as there are calls in the disassembly: signatures, key generation, key agreement,
/// verification; and a maker and a decrypter of tickets.
#[test]
fn finds_where_handshakes_have_cryptography_done() {
    for (release, name, places) in [
        ("bullseye", "libssl.so.1.1", [4, 2, 9, 2, 2]),
        ("bookworm", "libssl.so.3", [6, 2, 14, 2, 2]),
        ("trixie", "libssl.so.3", [6, 2, 14, 2, 2]),
    ] {
        let bytes = read(release, name);
        let mut found = [0; primitive::COUNT];
        for place in layout(release, name).primitives.unwrap() {
            let (kind, _) = primitive::from_cookie(place.cookie);
            found[kind as usize] += 1;
            if kind as usize != primitive::TICKET {
                // call rel32, and a jump: both are cheap to probe.
                assert_eq!(bytes[place.begin as usize], 0xe8, "{release} {place:x?}");
                let end = &bytes[place.ends[0] as usize..][..2];
                assert!(
                    matches!(
                        end,
                        [0x70..=0x7f | 0xeb | 0xe8 | 0xe9, _] | [0x0f, 0x80..=0x8f]
                    ),
                    "{release} {place:x?} {end:x?}"
                );
            }
        }
        assert_eq!(found, places, "{release}");
    }
}

/// Fixed addresses, and OpenSSL among much else; where Node was not built to use the system's.
#[test]
fn finds_the_state_machine_inside_of_node() {
    let layout = match inspect_file(Path::new("/usr/bin/node")) {
        Ok(layout) => layout,
        Err(ReadError::Inspect(InspectError::NotTls)) => return,
        Err(error) => panic!("{error}"),
    };
    let machine = layout.machine.unwrap();
    assert_eq!(machine.site.state_offset, 0x48);
    assert_eq!(machine.ends.len(), 1);
}

#[test]
fn finds_tickets_and_fields_of_openssl_1_1_1() {
    let layout = layout("bullseye", "libssl.so.1.1");
    assert_eq!(registers(&layout), [None, Some(R11), None]);
    assert_eq!(layout.session.version, Ok(field(0, 4)));
    assert_eq!(layout.session.time, Ok(field(0x1e0, 8)));
    assert_eq!(layout.session.timeout, Ok(field(0x1d8, 8)));
    assert_eq!(layout.ssl.version, Ok(field(0, 4)));
    assert_eq!(layout.ssl.session_reused, Ok(field(0xc8, 4)));
    assert_eq!(layout.ssl.session, Ok(field(0x510, 8)));
    assert_eq!(layout.ssl.server, Ok(field(0x38, 4)));
}

#[test]
fn finds_tickets_and_fields_of_openssl_3_0() {
    let layout = layout("bookworm", "libssl.so.3");
    assert_eq!(registers(&layout), [Some(R13), None]);
    assert_eq!(layout.session.version, Ok(field(0, 4)));
    assert_eq!(layout.session.time, Ok(field(0x2e0, 8)));
    assert_eq!(layout.session.timeout, Ok(field(0x2d8, 8)));
    assert_eq!(layout.ssl.version, Ok(field(0, 4)));
    assert_eq!(layout.ssl.session_reused, Ok(field(0x4d0, 4)));
    assert_eq!(layout.ssl.session, Ok(field(0x918, 8)));
    assert_eq!(layout.ssl.server, Ok(field(0x38, 4)));
    let probe = layout.tickets.unwrap().probes[0];
    assert_eq!(probe.site.version_offset, Some(0));
    assert_eq!(probe.site.time_offset, Some(0x2e0));
    assert_eq!(probe.site.timeout_offset, Some(0x2d8));
    assert!(!probe.site.nanoseconds);
}

/// Its times are nanoseconds, and its `SSL` has them only where its type is that of TLS.
#[test]
fn finds_tickets_and_fields_of_openssl_3_5() {
    let nanoseconds = |offset| Field {
        unit: Unit::Nanoseconds,
        ..field(offset, 8)
    };
    let tagged = |offset, bytes| Field {
        tagged: true,
        ..field(offset, bytes)
    };
    let layout = layout("trixie", "libssl.so.3");
    assert_eq!(registers(&layout), [Some(R15), None]);
    assert_eq!(layout.session.version, Ok(field(0, 4)));
    assert_eq!(layout.session.time, Ok(nanoseconds(0x2e0)));
    assert_eq!(layout.session.timeout, Ok(nanoseconds(0x2d8)));
    assert_eq!(layout.ssl.version, Ok(tagged(0x48, 4)));
    assert_eq!(layout.ssl.session_reused, Ok(tagged(0x508, 4)));
    assert_eq!(layout.ssl.session, Ok(tagged(0x900, 8)));
    assert_eq!(layout.ssl.server, Ok(tagged(0x78, 4)));
    let probe = layout.tickets.unwrap().probes[0];
    assert!(probe.site.nanoseconds);
}

#[test]
fn finds_where_sessions_are_looked_up() {
    for (release, name) in [
        ("bullseye", "libssl.so.1.1"),
        ("bookworm", "libssl.so.3"),
        ("trixie", "libssl.so.3"),
    ] {
        let bytes = read(release, name);
        let probe = inspect(&bytes).unwrap().lookup.unwrap();
        // push r64, with or without REX: cheap to probe, and the first that a function does.
        let code = &bytes[probe.offset as usize..][..2];
        assert!(
            matches!(code, [0x50..=0x57, _] | [0x41, 0x50..=0x57]),
            "{release}: {code:x?}"
        );
        assert!(probe.site.time_offset.is_some());
    }
}

/// A probe in the middle of an instruction would break the process.
#[test]
fn probes_are_at_calls() {
    for (release, name) in [
        ("bullseye", "libssl.so.1.1"),
        ("bookworm", "libssl.so.3"),
        ("trixie", "libssl.so.3"),
    ] {
        let bytes = read(release, name);
        let probes = inspect(&bytes).unwrap().tickets.unwrap().probes;
        for probe in probes {
            // call rel32
            assert_eq!(bytes[probe.offset as usize], 0xe8, "{release} {probe:x?}");
        }
    }
}

#[test]
fn rejects_what_is_no_library_for_this_processor() {
    let with = |at: usize, value: u8| {
        let mut bytes = bookworm();
        bytes[at] = value;
        inspect(&bytes).map(drop)
    };
    assert_eq!(with(0, b'x'), Err(InspectError::NotElf));
    assert_eq!(with(4, 1), Err(InspectError::Architecture("32 bits")));
    assert_eq!(with(5, 2), Err(InspectError::Architecture("big-endian")));
    assert_eq!(with(18, 183), Err(InspectError::Architecture("aarch64")));
    for text in ["", "\x7fELF", "#!/bin/sh\necho a script of some length"] {
        assert_eq!(inspect(text.as_bytes()), Err(InspectError::NotElf));
    }
}

#[test]
fn rejects_libraries_without_openssls_functions() {
    let crypto = read("bookworm", "libcrypto.so.3");
    assert_eq!(inspect(&crypto), Err(InspectError::NotTls));
}

#[test]
fn an_accessor_that_is_missing_costs_its_field_only() {
    let mut bytes = bookworm();
    rename(&mut bytes, "SSL_SESSION_get_time", "SSL_SESSION_got_time");
    let layout = inspect(&bytes).unwrap();
    let error = layout.session.time.unwrap_err().to_string();
    assert_eq!(error, "SSL_SESSION_get_time is not exported");
    let site = layout.tickets.unwrap().probes[0].site;
    assert_eq!(site.time_offset, None);
    assert_eq!(site.timeout_offset, Some(0x2d8));
}

/// Replaces a symbol's name by another of the same length.
fn rename(bytes: &mut [u8], name: &str, other: &str) {
    let name = format!("\0{name}\0");
    let at = bytes
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .unwrap();
    bytes[at + 1..][..other.len()].copy_from_slice(other.as_bytes());
}

#[test]
fn takes_every_truncation() {
    let bytes = bookworm();
    for length in (0..2048).chain((2048..bytes.len()).step_by(9973)) {
        // The section headers are at the end, so that nothing is found without it.
        assert!(inspect(&bytes[..length]).is_err(), "{length}");
    }
}

/// Parts of the file where a change of one byte means most.
fn parts(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let layout = inspect(bytes).unwrap();
    let end = layout.tickets.unwrap().probes[0].offset as usize;
    vec![
        0..1024,
        // .dynsym, .dynstr and relocations
        1024..0x1f000,
        end - 0x200..end + 0x700,
        bytes.len() - 4096..bytes.len(),
        0..bytes.len(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// It neither panics nor takes long, and what it returns is inside the file.
    #[test]
    fn takes_any_change(
        part in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let mut bytes = bookworm();
        let parts = parts(&bytes);
        let part = part.get(&parts).clone();
        for (at, value) in changes {
            bytes[part.start + at.index(part.len())] = value;
        }
        let start = Instant::now();
        let layout = inspect(&bytes);
        prop_assert!(start.elapsed() < Duration::from_secs(10));
        if let Ok(Layout { tickets: Ok(tickets), .. }) = layout {
            prop_assert!(!tickets.probes.is_empty());
            for probe in tickets.probes {
                prop_assert!(probe.offset < bytes.len() as u64);
            }
        }
    }

    #[test]
    fn takes_any_bytes_after_a_header(noise in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut bytes = bookworm()[..64].to_vec();
        bytes.extend(noise);
        let _ = inspect(&bytes);
    }
}
