use super::error::GgufError;

/// A place in a file, from which numbers and strings are read; it never leaves the file.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Where the next read starts.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that follow.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: u64, what: &'static str) -> Result<&'a [u8], GgufError> {
        let taken = usize::try_from(n).ok().and_then(|n| self.bytes[self.at..].get(..n));
        let Some(taken) = taken else {
            return Err(GgufError::Truncated { what, at: self.at, needs: n, file_bytes: self.bytes.len() });
        };
        self.at += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        match self.bytes[self.at..].first_chunk() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => {
                Err(GgufError::Truncated { what, at: self.at, needs: N as u64, file_bytes: self.bytes.len() })
            }
        }
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The bytes of a string: a length of 64 bits, then as many bytes.
    pub(crate) fn string(&mut self, what: &'static str) -> Result<&'a [u8], GgufError> {
        let bytes = self.u64(what)?;
        self.take(bytes, what)
    }

    /// A count of things of which each takes at least `each` bytes, checked against the bytes that follow.
    pub(crate) fn checked_count(
        &self,
        count: u64,
        each: u64,
        what: &'static str,
    ) -> Result<usize, GgufError> {
        let left = self.left();
        match usize::try_from(count) {
            Ok(n) if count.checked_mul(each).is_some_and(|needs| needs <= left as u64) => Ok(n),
            _ => Err(GgufError::Count { what, count, each, at: self.at, left }),
        }
    }
}
