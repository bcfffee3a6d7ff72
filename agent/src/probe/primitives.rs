//! Probes on the cryptographic primitives of a library's handshakes, for a window of time.

use std::thread;

use aya::programs::{
    UProbe,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
};

use super::{
    libraries::{Link, attach_one},
    load::KernelHalf,
};
use crate::{
    explain::explain,
    host::{libraries::LibraryFile, openssl::PrimitivePlace},
    tap::Tap,
};

/// The programs at both ends of a primitive.
pub(super) const BEGIN: &str = "primitive_begin";
pub(super) const END: &str = "primitive_end";

/// Probes all places or, as a part of them would pass for all that was done, none.
pub(super) fn attach(
    half: &mut KernelHalf,
    file: &LibraryFile,
    places: &[PrimitivePlace],
    scopes: &[UProbeScope],
) -> Vec<Link> {
    let ends = places
        .iter()
        .flat_map(|place| place.ends.iter().map(|end| (END, *end, place.cookie)));
    let begins = places
        .iter()
        .map(|place| (BEGIN, place.begin, place.cookie));
    let mut links = Vec::new();
    for (program, offset, cookie) in ends.chain(begins) {
        for &scope in scopes {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(offset),
                cookie: Some(cookie),
            };
            match attach_one(half, program, point, &file.path, scope) {
                Ok(link) => links.push(link),
                Err(error) => {
                    log::debug!("{}: {}", file.path_in_process.display(), explain(&error));
                    detach(half, links);
                    return Vec::new();
                }
            }
        }
    }
    links
}

/// Takes them out, beginnings first. The kernel waits for all of its own threads for each (some 90 ms),
/// and one after the other; nobody else waits for that.
pub(super) fn detach(half: &mut KernelHalf, links: Vec<Link>) {
    let mut taken = Vec::new();
    for (program, link) in links.into_iter().rev() {
        let link = half
            .program(Tap::Library, program)
            .map(|probe: &mut UProbe| probe.take_link(link));
        if let Ok(Ok(link)) = link {
            taken.push(link);
        }
    }
    if !taken.is_empty() {
        thread::spawn(move || taken.into_iter().for_each(drop));
    }
}
