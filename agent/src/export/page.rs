//! The built-in page: files that are part of the binary, so that it needs no other service, no build
//! step and no network. What they show they ask of `/api/v1`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::LazyLock;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::compression;

/// Nothing from elsewhere, nothing inline: whatever a ClientHello brings onto the page cannot run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Made when the file is first asked for.
    made: LazyLock<Made, Box<dyn FnOnce() -> Made + Send>>,
}

/// What is made of a file once.
struct Made {
    /// Compressed; empty where that failed, and then it is served as it is.
    packed: Vec<u8>,
    /// `ETag`. It is weak, as one tag stands for the file in either form.
    tag: String,
}

impl File {
    fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        let content_type = match name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "html")) => "text/html; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        };
        Self {
            name,
            content_type,
            bytes,
            made: LazyLock::new(Box::new(|| Made::of(bytes))),
        }
    }
}

impl Made {
    fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self {
            packed: compression::gzip(|out| out.write_all(bytes)).unwrap_or_default(),
            tag: format!("W/\"{:016x}\"", hasher.finish()),
        }
    }
}

/// The files of these names.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        vec![$(File::new($name, include_bytes!(concat!("../../assets/page/", $name)))),*]
    };
}

static INDEX: LazyLock<File> =
    LazyLock::new(|| File::new("index.html", include_bytes!("../../assets/page/index.html")));

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    files![
        "api.js",
        "chart.js",
        "costs.js",
        "dom.js",
        "findings.js",
        "format.js",
        "health.js",
        "history.js",
        "keys.js",
        "lifetimes.js",
        "live.js",
        "main.js",
        "name.js",
        "names.js",
        "overview.js",
        "page.css",
        "reasons.js",
        "table.js",
        "uplot.LICENSE",
        "uplot.css",
        "uplot.js",
        "words.js",
    ]
});

/// `/`.
pub(super) fn index(headers: &HeaderMap) -> Response {
    let policy = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (policy, respond(&INDEX, headers)).into_response()
}

/// `/assets/NAME`.
pub(super) fn asset(name: &str, headers: &HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => respond(file, headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(file: &'static File, headers: &HeaderMap) -> Response {
    let made = &*file.made;
    let common = [
        // Kept, but asked for each time: another version of the agent has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, made.tag.as_str()),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if is_known(&made.tag, headers) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, file.content_type)];
    if compression::is_accepted(headers) && !made.packed.is_empty() {
        let encoding = [(header::CONTENT_ENCODING, "gzip")];
        return (common, encoding, content_type, &made.packed[..]).into_response();
    }
    (common, content_type, file.bytes).into_response()
}

/// Whether `If-None-Match` names this tag (RFC 9110, 13.1.2).
fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == tag || known.trim() == "*")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use std::fs;

    use super::*;

    /// Of the 200 kB that a browser may load before it shows something, the rest is for the figures.
    const MOST_BYTES: usize = 160_000;

    fn text(file: &File) -> &'static str {
        std::str::from_utf8(file.bytes).unwrap()
    }

    #[test]
    fn all_files_together_are_small() {
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes + INDEX.bytes.len() < MOST_BYTES, "{bytes}");
    }

    #[test]
    fn every_file_of_the_directory_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page");
        for entry in fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_served = name == INDEX.name || FILES.iter().any(|file| file.name == name);
            assert!(is_served, "{name}");
        }
    }

    #[test]
    fn what_files_ask_for_is_there() {
        let has = |name: &str| FILES.iter().any(|file| file.name == name);
        for file in FILES.iter().filter(|file| file.name.ends_with(".js")) {
            for import in text(file).split(" from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(has(name), "{}: {name}", file.name);
            }
        }
        for link in text(&INDEX).split("\"assets/").skip(1) {
            let name = link.split('"').next().unwrap();
            assert!(has(name), "{name}");
        }
    }

    #[test]
    fn nothing_is_inline_or_parsed_as_markup() {
        let index = text(&INDEX);
        for inline in ["<style", " style=", "<script>", " onclick="] {
            assert!(!index.contains(inline), "{inline}");
        }
        for file in FILES.iter().filter(|file| file.name != "uplot.js") {
            for parser in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text(file).contains(parser), "{}: {parser}", file.name);
            }
        }
    }

    #[test]
    fn a_tag_is_known_in_a_list_and_by_a_star() {
        let asks = |value: &str| {
            is_known(
                "W/\"1\"",
                &HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())]),
            )
        };
        assert!(asks("W/\"0\", W/\"1\""));
        assert!(asks("*"));
        assert!(!asks("W/\"2\""));
        assert!(!is_known("W/\"1\"", &HeaderMap::new()));
    }
}
