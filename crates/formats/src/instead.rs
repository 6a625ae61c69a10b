//! What lies where a model's file should be: what a download or a clone left there.

use std::fmt;

/// Something that is no model file, but often lies in the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// the few lines that Git keeps of a large file, after a clone without Git LFS
    LfsPointer {
        /// length of the file that it stands for, if it says so
        bytes: Option<u64>,
    },
    /// an error page, or the page about a file
    WebPage,
}

impl Instead {
    /// What `bytes`, the beginning of a file or all of it, are known to be instead of a model's file.
    pub fn of(bytes: &[u8]) -> Option<Instead> {
        const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
        /// no pointer is longer, says its specification
        const MAX_POINTER_BYTES: usize = 1024;
        let bytes = without_bom(bytes);
        if bytes.starts_with(POINTER) {
            let text = str::from_utf8(&bytes[..bytes.len().min(MAX_POINTER_BYTES)]).unwrap_or_default();
            let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
            return Some(Instead::LfsPointer { bytes: size });
        }
        let text = bytes.trim_ascii_start();
        let starts_with =
            |start: &[u8]| text.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start));
        let is_page =
            [&b"<!doctype html"[..], b"<html", b"<head", b"<body"].iter().any(|start| starts_with(start));
        is_page.then_some(Instead::WebPage)
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instead::LfsPointer { bytes } => {
                write!(f, "is a Git LFS pointer")?;
                if let Some(bytes) = bytes {
                    write!(f, " to a file of {bytes} bytes")?;
                }
                write!(
                    f,
                    ", not the file itself: run `git lfs pull` where it was cloned, or download the file"
                )
            }
            Instead::WebPage => {
                write!(f, "is a web page (HTML), not the file itself: download the file again")
            }
        }
    }
}

/// Text without the byte order mark that some editors put before it.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_known_by_their_beginning() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4966157032\n";
        assert_eq!(Instead::of(pointer), Some(Instead::LfsPointer { bytes: Some(4_966_157_032) }));
        assert_eq!(Instead::of(&pointer[..50]), Some(Instead::LfsPointer { bytes: None }));
        assert_eq!(
            Instead::of(&[&pointer[..44], &[0xff; 9]].concat()),
            Some(Instead::LfsPointer { bytes: None })
        );
        for page in ["<!DOCTYPE html>", "\n <html lang=en>", "\u{feff}<!doctype HTML><head>", "<HEAD>"] {
            assert_eq!(Instead::of(page.as_bytes()), Some(Instead::WebPage), "{page}");
        }
        for file in
            [&b"GGUF\x03\0\0\0"[..], b"{\"a\": 1}", b"", b"\xef\xbb\xbf{}", b"<|im_start|>", b"version 2"]
        {
            assert_eq!(Instead::of(file), None);
        }
    }

    #[test]
    fn a_message_says_what_to_do() {
        let message = Instead::LfsPointer { bytes: Some(7) }.to_string();
        assert!(message.contains("7 bytes") && message.contains("git lfs pull"), "{message}");
        assert!(Instead::WebPage.to_string().contains("download"));
    }
}
