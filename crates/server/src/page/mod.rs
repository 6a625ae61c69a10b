//! The page at `/`: a chat, questions about a document, and what the server knows of itself.
//!
//! The files in `web` are part of the program, as they are: hand-written modules without a build step, and two libraries of other
//! people (`web/vendor`). The page holds nothing secret, so it is served without a key; what it asks of the other endpoints needs
//! one as ever. The browser is told to run nothing but these files, and to speak with nobody but this server.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// Where the files are, besides the page itself.
const FOLDER: &str = "/page/";

/// A file: its name below [`FOLDER`], and its bytes.
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(File { name: $name, bytes: include_bytes!(concat!("web/", $name)) }),*]
    };
}

/// What the page consists of; the first is the page itself.
static FILES: [File; 39] = files![
    "index.html",
    "api.js",
    "chat.css",
    "chat.js",
    "composer.js",
    "conversation.js",
    "csv.js",
    "decide.js",
    "dialogs.js",
    "documents.js",
    "dom.js",
    "estimate.js",
    "format.js",
    "frame.css",
    "icon.svg",
    "keyboard.js",
    "main.js",
    "markdown.js",
    "message-view.js",
    "panel.js",
    "question-row.js",
    "questions-view.js",
    "questions.css",
    "questions.js",
    "request.js",
    "rich-text.js",
    "run.js",
    "segments.js",
    "server.js",
    "settings.js",
    "sidebar.js",
    "sse.js",
    "store.js",
    "theme.js",
    "transfer.js",
    "vendor/dompurify.LICENSE",
    "vendor/marked.LICENSE",
    "vendor/marked.esm.js",
    "vendor/purify.es.mjs",
];

/// What a browser may do with the page: run its own scripts, and speak with this server. Nothing is written into the page as
/// markup unless it went through the sanitizer (`trusted-types`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types dompurify";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // A browser asks each time, and is told that nothing has changed: a new program never meets an old page.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The routes of the page and its files.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(|headers: HeaderMap| async move { respond(&FILES[0], &headers) })).route(
        "/page/{*name}",
        get(|Path(name): Path<String>, headers: HeaderMap| async move {
            match FILES.iter().find(|file| file.name == name) {
                Some(file) => respond(file, &headers),
                None => ApiError::not_found(format!("the page has no file `{name}`")).into_response(),
            }
        }),
    )
}

/// Whether a path is one of the page's.
pub fn has(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

fn respond(file: &File, request: &HeaderMap) -> Response {
    let tag = tag(file.bytes);
    let is_known = request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, kind(file.name))], file.bytes).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// What a browser remembers a file by.
fn tag(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let start: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{start}\"")
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn web() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/web")
    }

    fn names_in(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            match path.is_dir() {
                true => names_in(&path, &format!("{name}/"), names),
                false => {
                    names.insert(name);
                }
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let mut names = BTreeSet::new();
        names_in(&web(), "", &mut names);
        // What people read who look at the source.
        names.remove("vendor/README.md");
        assert_eq!(names, FILES.iter().map(|file| file.name.to_string()).collect());
    }

    #[test]
    fn other_peoples_files_are_what_the_table_says() {
        let table = std::fs::read_to_string(web().join("vendor/README.md")).unwrap();
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| {
                line.starts_with("| ") && !line.starts_with("| ---") && !line.starts_with("| file")
            })
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let mut named = BTreeSet::new();
        for row in &rows {
            let [file, package, version, _, licence, wanted] = row[..] else { panic!("{row:?}") };
            let name = format!("vendor/{file}");
            let bytes = FILES.iter().find(|known| known.name == name).expect(&name).bytes;
            let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, wanted, "{package} {version}");
            let head = String::from_utf8_lossy(&bytes[..200]);
            assert!(head.contains(version), "{package}: {head}");
            let licence = licence.trim_start_matches('[').split(']').next().unwrap();
            named.extend([name, format!("vendor/{licence}")]);
        }
        let vendored = FILES.iter().filter(|file| file.name.starts_with("vendor/"));
        assert_eq!(named, vendored.map(|file| file.name.to_string()).collect());
    }

    #[test]
    fn no_file_has_scripts_or_styles_that_the_policy_forbids() {
        let page = String::from_utf8(FILES[0].bytes.to_vec()).unwrap();
        for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for script in page.split("<script").skip(1) {
            assert!(script.starts_with(" type=\"module\" src=\"page/"), "{script}");
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let first = respond(&FILES[0], &HeaderMap::new());
        assert_eq!(
            (first.status(), &first.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static("text/html; charset=utf-8"))
        );
        let mut asks = HeaderMap::new();
        asks.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(respond(&FILES[0], &asks).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(respond(&FILES[1], &asks).status(), StatusCode::OK);
    }
}
