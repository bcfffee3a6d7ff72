//! Packets of capture files: pcap in either byte order, with micro- or nanoseconds, and pcapng with
//! any number of sections and interfaces; gzipped or not.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Bytes that are read at a time.
const BUFFER: usize = 256 * 1024;
/// The longest block that is read; the format sets no limit.
const MOST_BLOCK: usize = 64 << 20;

const SECOND_NS: u64 = 1_000_000_000;

/// One packet as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Unix time; 0 where the file has none.
    pub time_ns: u64,
    pub link: Linktype,
    pub data: &'a [u8],
}

/// Why a file was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It ends in the middle of a packet.
    Truncated,
    /// What follows is no block of the format.
    Garbled,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("this is no capture file: neither pcap nor pcapng, gzipped or not")]
    NoCapture,
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
}

/// Fills what it is given as far as the file goes: the parser takes a short read for the end.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What came before it is still to be read; gzip ends so where it is cut off.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// How a pcapng interface counts.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    /// Units a second.
    resolution: u64,
    /// Seconds.
    offset: i64,
}

/// Hands over all packets of a file; why it was not read to its end.
///
/// # Errors
/// When it does not begin like a capture, or cannot be read at all.
pub fn packets(
    file: impl Read + Send,
    take: &mut dyn FnMut(Packet<'_>),
) -> Result<Option<Damage>, FileError> {
    let mut file = BufReader::new(file);
    let is_gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let file: Box<dyn Read + Send + '_> = match is_gzip {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut reader = create_reader(BUFFER, Whole(file)).map_err(|error| match error {
        PcapError::ReadError => io::Error::from(io::ErrorKind::InvalidData).into(),
        _ => FileError::NoCapture,
    })?;
    Ok(blocks(reader.as_mut(), take))
}

fn blocks(reader: &mut dyn PcapReaderIterator, take: &mut dyn FnMut(Packet<'_>)) -> Option<Damage> {
    let mut link = Linktype::NULL;
    let mut fraction_ns = 1_000;
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut size = BUFFER;
    loop {
        match reader.next() {
            Ok((length, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        link = header.network;
                        fraction_ns = if header.is_nanosecond_precision() {
                            1
                        } else {
                            1_000
                        };
                    }
                    PcapBlockOwned::Legacy(packet) => take(Packet {
                        time_ns: u64::from(packet.ts_sec) * SECOND_NS
                            + u64::from(packet.ts_usec) * fraction_ns,
                        link,
                        data: packet
                            .data
                            .get(..packet.caplen as usize)
                            .unwrap_or(packet.data),
                    }),
                    PcapBlockOwned::NG(block) => next_generation(&block, &mut interfaces, take),
                }
                reader.consume(length);
            }
            Err(PcapError::Eof) => return None,
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => {
                let before = reader.data().len();
                if before >= size {
                    size *= 2;
                    if size > MOST_BLOCK || !reader.grow(size) {
                        return Some(Damage::Garbled);
                    }
                }
                if reader.refill().is_err() || reader.data().len() == before {
                    // Nothing left over is the end as it should be.
                    return (before > 0).then_some(Damage::Truncated);
                }
            }
            Err(PcapError::UnexpectedEof | PcapError::ReadError) => {
                return Some(Damage::Truncated);
            }
            Err(_) => return Some(Damage::Garbled),
        }
    }
}

fn next_generation(
    block: &Block<'_>,
    interfaces: &mut Vec<Interface>,
    take: &mut dyn FnMut(Packet<'_>),
) {
    match block {
        // Interfaces are numbered anew.
        Block::SectionHeader(_) => interfaces.clear(),
        Block::InterfaceDescription(interface) => interfaces.push(Interface {
            link: interface.linktype,
            resolution: interface.ts_resolution().unwrap_or(1_000_000).max(1),
            offset: interface.ts_offset(),
        }),
        Block::EnhancedPacket(packet) => {
            let Some(interface) = interfaces.get(packet.if_id as usize) else {
                return;
            };
            let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            take(Packet {
                time_ns: nanoseconds(units, interface),
                link: interface.link,
                data: packet
                    .data
                    .get(..packet.caplen as usize)
                    .unwrap_or(packet.data),
            });
        }
        Block::SimplePacket(packet) => {
            if let Some(interface) = interfaces.first() {
                take(Packet {
                    time_ns: 0,
                    link: interface.link,
                    data: packet
                        .data
                        .get(..packet.origlen as usize)
                        .unwrap_or(packet.data),
                });
            }
        }
        _ => {}
    }
}

fn nanoseconds(units: u64, interface: &Interface) -> u64 {
    let fine = u128::from(units) * u128::from(SECOND_NS) / u128::from(interface.resolution);
    let offset = i128::from(interface.offset) * i128::from(SECOND_NS);
    u64::try_from(fine.cast_signed() + offset).unwrap_or(0)
}
