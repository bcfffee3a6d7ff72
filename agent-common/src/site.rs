//! Where a TLS library decides on a ticket: what user space finds out about a library file, and the
//! probe at the place needs to know, in the 64 bits of an attach cookie (`bpf_get_attach_cookie`,
//! 5.15).

/// The general register that holds a value at a probed address, by its DWARF number (System V ABI
/// for x86-64, figure 3.36): 0 rax, 1 rdx, 2 rcx, 3 rbx, 4 rsi, 5 rdi, 6 rbp, 7 rsp, 8 to 15.
pub type Register = u8;

/// The probed place and the layout of its library's `SSL_SESSION`.
///
/// The place is the call of `EVP_CIPHER_CTX_free` at the end of ticket decryption, whose first
/// argument, the cipher context, has a cipher exactly when the key was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketSite {
    /// Holds the decrypted `SSL_SESSION*`, or null. `None`: whoever comes by this place has no
    /// session, and no register says so.
    pub session: Option<Register>,
    /// Offsets in `SSL_SESSION`, bytes; `None` where they are not known.
    pub version_offset: Option<u8>,
    pub time_offset: Option<u16>,
    pub timeout_offset: Option<u16>,
    /// Unit of time and timeout: nanoseconds instead of seconds.
    pub nanoseconds: bool,
}

/// In a cookie, instead of a register: rsp, which cannot hold a session.
const NO_REGISTER: u64 = 7;
/// In a cookie, instead of an offset: an offset that is not known.
const NO_BYTE: u64 = 0xff;
const NO_WORD: u64 = 0xffff;

impl TicketSite {
    /// As an attach cookie.
    pub const fn to_cookie(self) -> u64 {
        let session = match self.session {
            Some(register) => register as u64 & 0xf,
            None => NO_REGISTER,
        };
        let version = match self.version_offset {
            Some(offset) => offset as u64,
            None => NO_BYTE,
        };
        session
            | (self.nanoseconds as u64) << 4
            | version << 8
            | word(self.time_offset) << 16
            | word(self.timeout_offset) << 32
    }

    /// From an attach cookie.
    pub const fn from_cookie(cookie: u64) -> Self {
        let session = cookie & 0xf;
        let version = cookie >> 8 & 0xff;
        Self {
            session: if session == NO_REGISTER {
                None
            } else {
                Some(session as Register)
            },
            nanoseconds: cookie & 1 << 4 != 0,
            version_offset: if version == NO_BYTE {
                None
            } else {
                Some(version as u8)
            },
            time_offset: offset(cookie >> 16),
            timeout_offset: offset(cookie >> 32),
        }
    }
}

const fn word(offset: Option<u16>) -> u64 {
    match offset {
        Some(offset) => offset as u64,
        None => NO_WORD,
    }
}

const fn offset(word: u64) -> Option<u16> {
    if word & 0xffff == NO_WORD {
        None
    } else {
        Some(word as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_keeps_what_is_known_and_what_is_not() {
        for session in [None, Some(0), Some(3), Some(15)] {
            for (version_offset, time_offset, timeout_offset) in [
                (Some(0), Some(0x2e0), Some(0x2d8)),
                (Some(0xfe), Some(0xfffe), None),
                (None, None, Some(0)),
            ] {
                for nanoseconds in [false, true] {
                    let site = TicketSite {
                        session,
                        version_offset,
                        time_offset,
                        timeout_offset,
                        nanoseconds,
                    };
                    assert_eq!(TicketSite::from_cookie(site.to_cookie()), site);
                }
            }
        }
    }
}
