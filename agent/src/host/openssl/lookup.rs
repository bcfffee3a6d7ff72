//! Finds where a session is looked up in the server's cache.
//!
//! `lookup_sess_in_cache` (OpenSSL, ssl/ssl_sess.c) has no symbol. It is the one function without
//! one that both locks for reading and retrieves from a hash table, and it is called for session
//! IDs and for stateful tickets. It returns the session, from the built-in cache or the server's
//! own callback, or null; so it is probed where it returns, and nothing inside it matters.

use thiserror::Error;

use super::image::{BranchKind, Image, Target};

/// Functions that may call it: one for session IDs, one for stateful tickets (OpenSSL 1.1.1 to
/// 3.5).
const CALLERS: usize = 2;

/// Why lookups in the cache cannot be observed in a file. Addresses are the file's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    #[error("no function in it looks sessions up")]
    NotFound,
    #[error("several functions in it may look sessions up, such as those at {0:#x} and {1:#x}")]
    Ambiguous(u64, u64),
    #[error("what may look sessions up at {0:#x} is called {1} times instead of {CALLERS}")]
    Calls(u64, usize),
}

/// Where to probe it for its return: at its first instruction, or the second where the first is
/// `endbr64`, which the kernel's uprobes step through instead of emulating it, at many times the
/// cost.
///
/// # Errors
/// When not exactly one function comes into question.
pub fn find(image: &Image<'_>) -> Result<u64, LookupError> {
    let locks = image.callers(|target| target == Target::Named("CRYPTO_THREAD_read_lock"));
    let retrieves = image.callers(|target| target == Target::Named("OPENSSL_LH_retrieve"));
    let mut both = locks
        .intersection(&retrieves)
        .filter(|start| !image.is_exported(**start));
    let start = *both.next().ok_or(LookupError::NotFound)?;
    if let Some(other) = both.next() {
        return Err(LookupError::Ambiguous(start, *other));
    }
    let calls = image
        .direct_branches()
        .filter(|branch| branch.kind == BranchKind::Call && branch.to == start)
        .count();
    if calls != CALLERS {
        return Err(LookupError::Calls(start, calls));
    }
    Ok(image.behind_endbr(start))
}
