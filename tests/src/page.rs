//! Pages of `docs` that tests write from what they saw.

use std::path::Path;

/// Writes the page `docs/NAME` where `RESUMETRY_WRITE` is set; else holds it against the one that
/// is kept.
///
/// # Panics
/// When the page that is kept says something else.
pub fn keep(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    if std::env::var_os("RESUMETRY_WRITE").is_some() {
        if let Err(error) = std::fs::write(&path, page) {
            panic!("cannot write {}: {error}", path.display());
        }
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, page, "{} is out of date", path.display());
}
