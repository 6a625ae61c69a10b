//! Memory in huge pages, where the system has them: for packed weights, and for keys and values.
//!
//! A token reads every weight and all keys and values once. Pages of 4 KiB are then one translation miss for every few dozen
//! lines, and prefetches stop at their ends. Most matrices of small models, and packed pages of a cache, are smaller than a
//! huge page, so that they share *slabs*.

use memmap2::MmapMut;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Vectors are loaded from multiples of 16 bytes, and lines are 64.
const ALIGN: usize = 64;
/// What x86-64 and most kernels for 64-bit ARM call a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Hands out memory from slabs. A slab goes back to the system when all that was handed out from it has been dropped;
/// until then none of it is handed out again.
#[derive(Debug)]
pub struct Slabs {
    slab_bytes: usize,
    /// the slab that is handed out next, and how much of it is taken; it lives as long as one of its parts
    open: Mutex<(Weak<MmapMut>, usize)>,
}

/// Bytes of a slab, at an address that is a multiple of 64.
#[derive(Debug)]
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    /// what `start` points into
    _slab: Option<Arc<MmapMut>>,
}

// SAFETY: its bytes are no other's, as those of a `Vec<u8>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl Slabs {
    /// Slabs of `slab_bytes` bytes of address space, or of one part that needs more. Memory is taken only where something is
    /// written.
    pub const fn new(slab_bytes: usize) -> Slabs {
        Slabs { slab_bytes, open: Mutex::new((Weak::new(), 0)) }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// The system's, if it has no memory.
    pub fn zeroed(&self, len: usize) -> io::Result<AlignedBytes> {
        if len == 0 {
            return Ok(AlignedBytes { start: NonNull::dangling(), len, _slab: None });
        }
        // What is in there is right at every point where a panic could happen.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (slab, first) = match open.0.upgrade() {
            Some(slab) if slab.len() - open.1 >= len => (slab, open.1),
            _ => new_slab(len.max(self.slab_bytes))?,
        };
        // SAFETY: inside the slab, which has `len` bytes from `first` on.
        let start = unsafe { NonNull::new_unchecked(slab.as_ptr().cast_mut().add(first)) };
        // Parts of a slab are handed out once, so these are the zeros that the system gave.
        *open = (Arc::downgrade(&slab), (first + len).next_multiple_of(ALIGN).min(slab.len()));
        Ok(AlignedBytes { start, len, _slab: Some(slab) })
    }
}

/// A slab with room for `len` bytes, and where its first huge page begins.
fn new_slab(len: usize) -> io::Result<(Arc<MmapMut>, usize)> {
    let bytes = len.checked_next_multiple_of(HUGE_PAGE).and_then(|bytes| bytes.checked_add(HUGE_PAGE));
    let slab = MmapMut::map_anon(bytes.ok_or(io::ErrorKind::OutOfMemory)?)?;
    // Where there are no huge pages, small ones do.
    #[cfg(target_os = "linux")]
    let _ = slab.advise(memmap2::Advice::HugePage);
    let first = slab.as_ptr().align_offset(HUGE_PAGE);
    Ok((Arc::new(slab), first))
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialized bytes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `self` is borrowed exclusively, and no other `AlignedBytes` has these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB_BYTES: usize = 4 << 20;

    #[test]
    fn parts_are_aligned_zeros_that_do_not_overlap_and_outlive_each_other() {
        let sizes = [1, 64, 65, 0, 300_000, SLAB_BYTES + 1, 7, 3 * SLAB_BYTES / 4, 3 * SLAB_BYTES / 4];
        let slabs = Slabs::new(SLAB_BYTES);
        let mut parts = Vec::new();
        for (index, len) in sizes.into_iter().enumerate() {
            let mut part = slabs.zeroed(len).expect("memory");
            assert!(part.len() == len && part.as_ptr().addr().is_multiple_of(ALIGN) || len == 0);
            assert!(part.iter().all(|byte| *byte == 0));
            part.fill(index as u8 + 1);
            parts.push((index as u8 + 1, part));
            if index % 3 == 2 {
                parts.remove(0);
            }
        }
        for (value, part) in &parts {
            assert!(part.iter().all(|byte| byte == value));
        }
    }

    #[test]
    fn what_no_machine_has_is_an_error() {
        assert!(Slabs::new(64).zeroed(usize::MAX - 5).is_err());
        assert!(Slabs::new(64).zeroed(1 << 60).is_err());
    }
}
