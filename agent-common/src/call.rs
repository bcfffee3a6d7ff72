//! What the kernel keeps of a thread that drives TLS handshakes, and what it is told of the library.

/// A call that drives a handshake, and the last one of its thread when it is over.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The `SSL*`.
    pub ssl: u64,
    /// CLOCK_MONOTONIC time of the entry, nanoseconds.
    pub entry_ns: u64,
    /// The thread's on-CPU time at the entry, less the monotonic clock, nanoseconds.
    pub account_ns: u64,
    /// The stack pointer at the entry.
    pub stack: u64,
    /// How many calls of the thread have returned.
    pub number: u32,
    /// CPU at the entry.
    pub cpu: u16,
    /// 1 within the call.
    pub is_inside: u8,
    /// `CALL_…` bits.
    pub flags: u8,
}

const _: () = assert!(size_of::<Call>() == 40);

/// [`Call::flags`]: `account_ns` is known.
pub const CALL_TIMED: u8 = 1 << 0;
/// [`Call::flags`]: the call begins its handshake.
pub const CALL_BEGINS: u8 = 1 << 1;
/// [`Call::flags`]: of the end that accepts.
pub const CALL_SERVER: u8 = 1 << 2;

/// Bytes of stack between the entry of the state machine and its end; 184 in OpenSSL 3.5.
pub const MAX_FRAME: u64 = 4096;

/// Words of `OSSL_STATEM` (OpenSSL, ssl/statem/statem.h) that are read: a message flow, the states of
/// writing and reading, and the state of the handshake.
pub const STATE_WORDS: usize = 8;

/// Meaning of those words, the same in OpenSSL 1.1.1 to 3.5.
pub mod state {
    /// Index: `state`, the message flow.
    pub const FLOW: usize = 0;
    /// Index: `hand_state`.
    pub const HAND: usize = 5;
    /// Index: `in_init`.
    pub const IN_INIT: usize = 7;
    /// `MSG_FLOW_UNINITED`: no call yet.
    pub const FLOW_UNINITED: u32 = 0;
    /// `MSG_FLOW_ERROR`: it failed, and every further call is refused.
    pub const FLOW_ERROR: u32 = 1;
    /// `MSG_FLOW_FINISHED`: a handshake, or a message after it, is complete; or it pauses.
    pub const FLOW_FINISHED: u32 = 4;
    /// `TLS_ST_OK`: the handshake is done.
    pub const HAND_OK: u32 = 1;
}

const _: () = assert!(state::FLOW < state::HAND && state::IN_INIT < STATE_WORDS);

/// The attach cookie of the probes in the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineSite {
    /// Offset in `SSL` of `OSSL_STATEM`, bytes.
    pub state_offset: u16,
    /// Offset in `SSL` of the byte whose lowest bit is `SSL_MODE_ASYNC`; `None` for a library that
    /// was built without it.
    pub async_offset: Option<u16>,
    /// It is known where the library has its primitives done.
    pub primitives: bool,
    /// Where the random of the server's hello is, where that is known.
    pub random: Option<RandomPlace>,
}

/// Where a library keeps the random of the server's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomPlace {
    /// Offset in `SSL` of a pointer to what holds it; `None` where that is the `SSL` itself. Below
    /// [`Self::MAX_POINTER`].
    pub pointer: Option<u16>,
    /// Offset in that, bytes; not 0.
    pub offset: u16,
}

impl RandomPlace {
    /// What a cookie has room for.
    pub const MAX_POINTER: u16 = 0x7fff;
}

/// In a cookie, instead of an offset: none.
const NONE: u64 = 0xffff;

impl MachineSite {
    /// As an attach cookie.
    pub const fn to_cookie(self) -> u64 {
        let asynchronous = match self.async_offset {
            Some(offset) => offset as u64,
            None => NONE,
        };
        let (pointer, offset) = match self.random {
            Some(RandomPlace { pointer, offset }) => match pointer {
                Some(pointer) => (pointer as u64, offset as u64),
                None => (0, offset as u64),
            },
            None => (0, 0),
        };
        self.state_offset as u64
            | asynchronous << 16
            | (self.primitives as u64) << 32
            | pointer << 33
            | offset << 48
    }

    const fn random(cookie: u64) -> Option<RandomPlace> {
        let offset = (cookie >> 48) as u16;
        if offset == 0 {
            return None;
        }
        let pointer = (cookie >> 33) as u16 & RandomPlace::MAX_POINTER;
        Some(RandomPlace {
            pointer: if pointer == 0 { None } else { Some(pointer) },
            offset,
        })
    }

    /// From an attach cookie.
    pub const fn from_cookie(cookie: u64) -> Self {
        let asynchronous = cookie >> 16 & NONE;
        Self {
            state_offset: cookie as u16,
            async_offset: if asynchronous == NONE {
                None
            } else {
                Some(asynchronous as u16)
            },
            primitives: cookie >> 32 & 1 == 1,
            random: Self::random(cookie),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_keeps_what_is_in_it() {
        let offset = 0xffff;
        let pointer = Some(RandomPlace::MAX_POINTER);
        for (async_offset, random) in [
            (None, None),
            (Some(0x9f1), Some(RandomPlace { pointer, offset })),
            (
                Some(0),
                Some(RandomPlace {
                    pointer: None,
                    offset: 1,
                }),
            ),
        ] {
            let site = MachineSite {
                state_offset: 0x48,
                async_offset,
                primitives: async_offset.is_some(),
                random,
            };
            assert_eq!(MachineSite::from_cookie(site.to_cookie()), site);
        }
    }
}
