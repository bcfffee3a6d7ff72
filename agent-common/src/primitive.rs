//! Cryptographic primitives whose CPU time is told apart, and the functions of libcrypto that do them.

/// A signature: the server's CertificateVerify or ServerKeyExchange, or a client's.
pub const SIGN: usize = 0;
/// A key pair for the key exchange.
pub const KEY_GENERATION: usize = 1;
/// Key agreement: Diffie-Hellman, encapsulation to a KEM, a key exchange by RSA.
pub const KEY_AGREEMENT: usize = 2;
/// Verification of the peer's signature; not of those in its certificates.
pub const VERIFY: usize = 3;
/// A session ticket made, or an offered one decrypted and parsed.
pub const TICKET: usize = 4;
/// Number of primitives.
pub const COUNT: usize = 5;

/// An exported function of libcrypto that does a primitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    pub primitive: usize,
    /// It may only tell the length of what it would give: then its second argument is null.
    pub tells_length: bool,
}

const fn function(name: &'static str, primitive: usize, tells_length: bool) -> Function {
    Function {
        name,
        primitive,
        tells_length,
    }
}

/// The functions that OpenSSL's handshake calls (1.1.1 to 3.5).
pub const FUNCTIONS: [Function; 8] = [
    function("EVP_DigestSign", SIGN, true),
    function("EVP_PKEY_keygen", KEY_GENERATION, false),
    function("EVP_PKEY_derive", KEY_AGREEMENT, true),
    function("EVP_PKEY_encapsulate", KEY_AGREEMENT, true),
    function("EVP_PKEY_decapsulate", KEY_AGREEMENT, true),
    function("EVP_PKEY_decrypt", KEY_AGREEMENT, true),
    function("EVP_PKEY_encrypt", KEY_AGREEMENT, true),
    function("EVP_DigestVerify", VERIFY, false),
];

/// As an attach cookie.
pub const fn to_cookie(primitive: usize, tells_length: bool) -> u64 {
    primitive as u64 | (tells_length as u64) << 8
}

/// The primitive of an attach cookie, and whether it may only tell a length.
pub const fn from_cookie(cookie: u64) -> (u32, bool) {
    ((cookie & 0xff) as u32, cookie >> 8 & 1 == 1)
}
