//! Prometheus' protocol buffers: each family a message behind its length.

use prometheus_client::encoding::prometheus_protobuf::{encode, encode_to_vec};
use prost::{Message as _, encode_length_delimiter};
use std::io;
use std::sync::Arc;

use super::tls::{PARTS, Part};
use super::{Form, NAMES_AT_A_TIME, Scrape};
use crate::export::State;

/// Writes out everything in `state`.
///
/// A family is built of some server names after the others: as objects they take ten times the
/// memory of their bytes. The bytes follow each other in the same message: messages of a type that
/// are joined are one message, with the last of each single field and all of each repeated one
/// (Protocol Buffers, "Encoding", Last One Wins).
pub(super) fn write(state: &Arc<State>, out: &mut impl io::Write) -> io::Result<()> {
    let scrape = Scrape::of(state, Form::Objects);
    for part in PARTS {
        // In pieces: where all of it were in one, it would move to grow.
        let mut families: Vec<Vec<Vec<u8>>> = Vec::new();
        let names = match part {
            Part::OfNames(_) => NAMES_AT_A_TIME,
            Part::OfServices(_) => scrape.names.len(),
        };
        for names in scrape.names.chunks(names) {
            let some = Arc::new(Scrape {
                state: Arc::clone(state),
                names: names.to_vec(),
                ..*scrape
            });
            let messages = encode(&some.registry(part)).map_err(io::Error::other)?;
            families.resize_with(messages.len(), Vec::new);
            for (family, message) in families.iter_mut().zip(messages) {
                family.push(message.encode_to_vec());
            }
        }
        for family in families {
            let mut length = Vec::new();
            encode_length_delimiter(family.iter().map(Vec::len).sum(), &mut length)?;
            out.write_all(&length)?;
            for piece in family {
                out.write_all(&piece)?;
            }
        }
    }
    let own = encode_to_vec(&scrape.own_registry()).map_err(io::Error::other)?;
    out.write_all(&own)
}
