//! `resumetry pcap` against tshark on the same generated capture, in turns: time, memory, and whether
//! memory grows with the file.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use resumetry_tests::agent;
use resumetry_tests::repository;

/// Recorded handshakes that the capture repeats, of all kinds alike.
const KINDS: [&str; 6] = [
    "tls13_full",
    "tls13_psk",
    "tls13_retry_psk",
    "tls12_full",
    "tls12_ticket",
    "tls12_session_id",
];

/// What tshark is asked for: the fields from which a record's verdict follows.
const FIELDS: [&str; 13] = [
    "frame.time_epoch",
    "ip.src",
    "tcp.srcport",
    "ip.dst",
    "tcp.dstport",
    "tls.handshake.type",
    "tls.handshake.version",
    "tls.handshake.ciphersuite",
    "tls.handshake.session_id",
    "tls.handshake.extension.type",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tls.resumed",
];

const SEGMENT: usize = 1_400;

#[derive(Parser)]
struct Arguments {
    /// Handshakes in the capture
    #[arg(long, default_value_t = 200_000)]
    handshakes: u32,
    /// Turns of both
    #[arg(long, default_value_t = 2)]
    turns: u32,
}

/// One run.
struct Run {
    time: Duration,
    /// Most memory, mebibytes.
    memory: f64,
    lines: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let large = directory.path().join("large.pcap");
    let small = directory.path().join("small.pcap");
    let tenth = arguments.handshakes / 10;
    generate(&small, tenth)?;
    generate(&large, arguments.handshakes)?;
    let bytes = fs::metadata(&large)?.len();
    println!(
        "{} handshakes of {} kinds in {:.0} MB; {} turns each\n",
        arguments.handshakes,
        KINDS.len(),
        bytes as f64 / 1e6,
        arguments.turns
    );
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..arguments.turns {
        ours.push(run(resumetry(&large))?);
        theirs.push(run(tshark(&large))?);
    }
    ensure!(
        ours.iter()
            .all(|run| run.lines == arguments.handshakes as usize),
        "resumetry told of {} handshakes",
        ours[0].lines
    );
    let little = run(resumetry(&small))?;
    println!("| | time, s | handshakes/s | memory, MiB |\n|---|---:|---:|---:|");
    for (name, runs) in [("resumetry pcap", &ours), ("tshark", &theirs)] {
        let best = seconds(runs);
        println!(
            "| {name} | {} | {:.0} | {:.0} |",
            runs.iter()
                .map(|run| format!("{:.2}", run.time.as_secs_f64()))
                .collect::<Vec<_>>()
                .join(", "),
            f64::from(arguments.handshakes) / best,
            memory(runs)
        );
    }
    println!(
        "\nFaster than tshark: {:.0} times (least time of each). Memory with {tenth} handshakes: \
         {:.0} MiB, with {}: {:.0} MiB.",
        seconds(&theirs) / seconds(&ours),
        little.memory,
        arguments.handshakes,
        memory(&ours)
    );
    Ok(())
}

fn seconds(runs: &[Run]) -> f64 {
    let times = runs.iter().map(|run| run.time.as_secs_f64());
    times.fold(f64::INFINITY, f64::min)
}

fn memory(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.memory).fold(0.0, f64::max)
}

fn resumetry(file: &Path) -> Command {
    let mut command = Command::new(agent::binary());
    command.args(["pcap", "--format", "json"]).arg(file);
    command
}

fn tshark(file: &Path) -> Command {
    let mut command = Command::new("tshark");
    command
        .args([
            "-n",
            "-Y",
            "tls.handshake.type == 1 || tls.handshake.type == 2",
        ])
        .args(["-T", "fields"])
        .args(FIELDS.iter().flat_map(|field| ["-e", field]))
        .arg("-r")
        .arg(file);
    command
}

/// Runs a command to its end. Its output goes to a file, as it would for who uses it.
fn run(mut command: Command) -> Result<Run> {
    let output = tempfile::NamedTempFile::new()?;
    let begin = Instant::now();
    let mut child = command
        .stdout(Stdio::from(output.reopen()?))
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {command:?}; is it installed?"))?;
    let status_file = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut memory = 0.0_f64;
    let status = loop {
        // The high-water mark of its memory; gone with the process.
        if let Ok(text) = fs::read_to_string(&status_file) {
            let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kibibytes = mark.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            memory = memory.max(kibibytes.unwrap_or(0.0) / 1024.0);
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let time = begin.elapsed();
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    let lines = fs::read(output.path())?;
    Ok(Run {
        time,
        memory,
        lines: lines.iter().filter(|byte| **byte == b'\n').count(),
    })
}

/// Writes a capture of connections, one after the other.
fn generate(path: &Path, handshakes: u32) -> Result<()> {
    let kinds = KINDS
        .iter()
        .map(|kind| flights(kind))
        .collect::<Result<Vec<_>>>()?;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    // Magic, version 2.4, zone, accuracy, largest packet, Ethernet.
    file.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    file.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    file.write_all(&65_535_u32.to_le_bytes())?;
    file.write_all(&1_u32.to_le_bytes())?;
    let mut time = 1_700_000_000_000_000_u64;
    for number in 0..handshakes {
        connection(
            &mut file,
            &mut time,
            number,
            &kinds[number as usize % kinds.len()],
        )?;
    }
    Ok(file.flush()?)
}

/// Who sent what: true for the client.
fn flights(kind: &str) -> Result<Vec<(bool, Vec<u8>)>> {
    let path = repository().join(format!("agent/tests/data/{kind}.txt"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines()
        .map(|line| {
            let (from, hex) = line.split_once(' ').context("no flight")?;
            let bytes =
                (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16));
            Ok((from == "C", bytes.collect::<Result<_, _>>()?))
        })
        .collect()
}

fn connection(
    file: &mut impl Write,
    time: &mut u64,
    number: u32,
    flights: &[(bool, Vec<u8>)],
) -> Result<()> {
    const SYN: u8 = 0x02;
    const FIN: u8 = 0x01;
    const ACK: u8 = 0x10;
    let mut sequence = [number.wrapping_mul(77_777), number.wrapping_mul(99_991)];
    let mut packet = |from_client: bool, sequence: [u32; 2], flags: u8, data: &[u8]| {
        *time += 20;
        write_packet(file, *time, number, from_client, sequence, flags, data)
    };
    packet(true, sequence, SYN, &[])?;
    sequence[0] = sequence[0].wrapping_add(1);
    packet(false, sequence, SYN | ACK, &[])?;
    sequence[1] = sequence[1].wrapping_add(1);
    packet(true, sequence, ACK, &[])?;
    for (from_client, data) in flights {
        for piece in data.chunks(SEGMENT) {
            packet(*from_client, sequence, ACK, piece)?;
            let own = usize::from(!from_client);
            sequence[own] = sequence[own].wrapping_add(piece.len() as u32);
        }
    }
    packet(true, sequence, ACK | FIN, &[])?;
    packet(false, sequence, ACK | FIN, &[])
}

fn write_packet(
    file: &mut impl Write,
    time: u64,
    number: u32,
    from_client: bool,
    sequence: [u32; 2],
    flags: u8,
    data: &[u8],
) -> Result<()> {
    const HEADERS: usize = 14 + 20 + 20;
    let client = [10, (number >> 21) as u8, (number >> 13) as u8, 1];
    let client_port = 20_000 + (number & 0x1fff) as u16;
    let server = [192, 0, 2, 1];
    let length = (HEADERS + data.len()) as u32;
    let mut bytes = Vec::with_capacity(16 + length as usize);
    for value in [
        (time / 1_000_000) as u32,
        (time % 1_000_000) as u32,
        length,
        length,
    ] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([2; 12]);
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend((40 + data.len() as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let (own, other) = (usize::from(!from_client), usize::from(from_client));
    let ends = [(client, client_port), (server, 443)];
    bytes.extend(ends[own].0);
    bytes.extend(ends[other].0);
    bytes.extend(ends[own].1.to_be_bytes());
    bytes.extend(ends[other].1.to_be_bytes());
    bytes.extend(sequence[own].to_be_bytes());
    bytes.extend(sequence[other].to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(data);
    file.write_all(&bytes)?;
    Ok(())
}
