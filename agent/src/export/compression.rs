//! Gzip for those who ask for it: metrics shrink to a twentieth.

use std::io;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether `Accept-Encoding` names gzip, with a quality that is not 0 (RFC 9110, 12.5.3).
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter();
    let codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings
        .map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let quality = parameters.trim().strip_prefix("q=").unwrap_or("1");
            (name.trim(), quality.trim().parse().unwrap_or(0.0_f32))
        })
        .any(|(name, quality)| name.eq_ignore_ascii_case("gzip") && quality > 0.0)
}

/// Compresses what `write` writes, as it comes.
///
/// # Errors
/// Those of `write`.
pub(super) fn gzip(
    write: impl FnOnce(&mut GzEncoder<Vec<u8>>) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    write(&mut encoder)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    fn accepts(value: &str) -> bool {
        is_accepted(&HeaderMap::from_iter([(
            ACCEPT_ENCODING,
            value.parse().unwrap(),
        )]))
    }

    #[test]
    fn compresses_only_for_those_who_ask() {
        assert!(accepts("gzip"));
        assert!(accepts("zstd, GZIP;q=0.5"));
        assert!(!accepts("gzip;q=0"));
        assert!(!accepts("gzip;q=no"));
        assert!(!accepts("identity, deflate"));
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
