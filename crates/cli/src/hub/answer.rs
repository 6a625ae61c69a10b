//! What a hub's answer says about itself, read without trust.
//!
//! These and [`Listing::parse`](super::listing::Listing::parse) are all that reads what a hub sends, and none of them
//! needs a connection: a fuzzer calls them as the program does.

use std::time::Duration;

use lossy_formats::Instead;

/// Which bytes of a file a body has: `Content-Range: bytes 10-56/57`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// first byte
    pub first: u64,
    /// last byte
    pub last: u64,
    /// of the whole file; `None` if the server does not know
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads the header (RFC 9110, section 14.4); `None` if it is no range of a file.
    pub fn parse(header: &str) -> Option<ContentRange> {
        let (unit, rest) = header.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total = match total {
            "*" => None,
            total => Some(number(total)?),
        };
        let range = ContentRange { first: number(first)?, last: number(last)?, total };
        let is_range = range.first <= range.last && range.total.is_none_or(|total| range.last < total);
        (unit.eq_ignore_ascii_case("bytes") && is_range).then_some(range)
    }
}

/// Reads `Retry-After` in seconds. A date, which the header may have too, is `None`.
pub fn retry_after(header: &str) -> Option<Duration> {
    number(header.trim()).map(Duration::from_secs)
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// What some servers send in place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Substitute {
    /// a page for people
    #[error(
        "an HTML page came instead of the file: perhaps a login or an error page of the network or a proxy"
    )]
    Html,
    /// three lines that name the file
    #[error("a Git LFS pointer came instead of the file: this server does not have the file itself")]
    LfsPointer,
}

impl Substitute {
    /// Bytes at the beginning of a file that are looked at.
    pub const HEAD_BYTES: usize = 512;

    /// Looks at the beginning of what came; `None` if it may be the file.
    pub fn of(head: &[u8]) -> Option<Substitute> {
        match Instead::of(&head[..head.len().min(Self::HEAD_BYTES)])? {
            Instead::WebPage => Some(Substitute::Html),
            Instead::LfsPointer { .. } => Some(Substitute::LfsPointer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::listing::Listing;
    use super::*;

    #[test]
    fn a_range_has_its_first_and_last_byte_within_the_total() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(ContentRange::parse("bytes 10-56/57"), range(10, 56, Some(57)));
        assert_eq!(ContentRange::parse(" Bytes 0-0/*"), range(0, 0, None));
        for wrong in [
            "",
            "bytes",
            "bytes */57",
            "bytes 10-9/57",
            "bytes 10-57/57",
            "bytes -5/57",
            "bytes +1-5/57",
            "lines 1-5/57",
            "bytes 1-99999999999999999999/*",
        ] {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pause_is_a_number_of_seconds() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("-7"), None);
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }

    #[test]
    fn pages_and_pointers_are_recognized_and_models_are_not() {
        assert_eq!(Substitute::of(b"\n <!DOCTYPE html><title>x"), Some(Substitute::Html));
        assert_eq!(Substitute::of(b"<HTML lang=en>"), Some(Substitute::Html));
        assert_eq!(
            Substitute::of(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n"),
            Some(Substitute::LfsPointer)
        );
        for file in [&b"GGUF\x03\0\0\0"[..], b"<|im_start|>", b"{\"a\": \"<html\"}", b"<\0\0\0\0\0\0\0{", b""]
        {
            assert_eq!(Substitute::of(file), None, "{}", file.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            crate::read_hub_answer(&bytes);
        }

        #[test]
        fn no_text_like_a_header_makes_a_parser_panic(text in "(bytes )?[-0-9*/ +]{0,60}") {
            if let Some(range) = ContentRange::parse(&text) {
                prop_assert!(range.first <= range.last);
            }
            let _ = retry_after(&text);
        }

        #[test]
        fn whatever_files_a_listing_names_those_that_are_read_stay_inside(
            names in proptest::collection::vec("[a-z./\\\\: \u{0}-\u{1f}\u{202e}]{0,20}", 0..5),
            size in any::<i64>(),
        ) {
            let file = |name: &String| serde_json::json!({"rfilename": name, "size": size, "blobId": null});
            let siblings: Vec<_> = names.iter().map(file).collect();
            let text = serde_json::json!({"sha": "ab".repeat(20), "siblings": siblings}).to_string();
            if let Ok(listing) = Listing::parse(&text) {
                for file in &listing.files {
                    let joined = std::path::Path::new("/folder").join(&file.path);
                    prop_assert!(joined.starts_with("/folder"));
                    prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
                }
            }
        }
    }
}
