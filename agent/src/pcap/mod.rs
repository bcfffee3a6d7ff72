//! Capture files: the same records without a kernel to ask.
//!
//! [`file`] reads packets of any capture file, [`link`] finds the IP packet in each, [`connections`]
//! follows TCP as the kernel half does and says which segments the tracker is to see. Only files are
//! read here; what is made of the records is others' business.

pub mod connections;
pub mod file;
pub mod link;

use std::io::Read;

use self::connections::Connections;
use self::file::{Damage, FileError};
use crate::core::fingerprint::Fingerprinter;
use crate::core::inference::Inference;
use crate::core::record::{Handshake, Process, Role};
use crate::core::tracker::{Limits, Tracker, TrackerStats};

/// How often flows that ended are looked for, packets.
const TICK_PACKETS: u64 = 1_024;

/// What a file held, besides records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub packets: u64,
    /// Of link layers, network protocols or transports that are not read here.
    pub foreign: u64,
    /// Pieces of IP packets; they are not put together.
    pub fragments: u64,
    pub tcp_segments: u64,
    /// What became of what may have been TLS.
    pub flows: TrackerStats,
    /// Where the file ended before its end, or made no sense.
    pub damage: Option<Damage>,
}

/// Reads one capture file and hands over a record of each handshake in it, in the order in which they
/// were over. Memory does not grow with the file.
///
/// # Errors
/// When it is no capture file, or cannot be read. A file that is damaged further on is read until there.
pub fn read(
    file: impl Read + Send,
    fingerprinter: Fingerprinter,
    mut record: impl FnMut(Handshake),
) -> Result<Contents, FileError> {
    let mut contents = Contents::default();
    let mut tracker = Tracker::new(Limits::default(), fingerprinter);
    let mut inference = Inference::default();
    let mut connections = Connections::default();
    let mut sink = |mut handshake: Handshake| {
        // It is seen as the server sees it, and each server remembers for itself.
        let server = Process {
            pid: 0,
            executable: None,
            service: Some(handshake.server.to_string()),
            container_id: None,
            pod: None,
        };
        inference.complete(&mut handshake, Some(&server));
        handshake.role = Role::Observer;
        record(handshake);
    };
    let damage = file::packets(file, &mut |packet| {
        contents.packets += 1;
        if contents.packets.is_multiple_of(TICK_PACKETS) {
            tracker.tick(packet.time_ns, 0, &mut sink);
        }
        match link::tcp(&packet) {
            Ok(segment) => {
                contents.tcp_segments += 1;
                if let Some(event) = connections.take(&segment) {
                    tracker.on_event(&event, &mut sink);
                }
            }
            Err(link::Unread::Foreign) => contents.foreign += 1,
            Err(link::Unread::Fragment) => contents.fragments += 1,
        }
    })?;
    tracker.finish(&mut sink);
    contents.damage = damage;
    contents.flows = tracker.stats();
    Ok(contents)
}
