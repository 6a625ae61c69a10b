//! Memory of packed weights: matrices side by side, in huge pages where the system has them.
//!
//! A token reads every weight once. Pages of 4 KiB are then one translation miss for every few dozen lines, and prefetches
//! stop at their ends; most matrices of small models are smaller than a huge page, so that they share *slabs*.

use memmap2::MmapMut;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, Weak};

/// Vectors are loaded from multiples of 16 bytes, and lines are 64.
const ALIGN: usize = 64;
/// What x86-64 and most kernels for 64-bit ARM call a huge page.
const HUGE_PAGE: usize = 2 << 20;
/// Address space of a slab, at least. Memory is taken only where something was written.
const SLAB_BYTES: usize = 32 << 20;

/// The slab that the next matrix goes to, and how much of it is taken; it lives as long as one of its matrices.
static OPEN: Mutex<(Weak<MmapMut>, usize)> = Mutex::new((Weak::new(), 0));

/// Bytes at an address that is a multiple of 64.
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    /// what `start` points into
    _slab: Option<Arc<MmapMut>>,
}

// SAFETY: its bytes are no other's, as those of a `Vec<u8>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zeros.
    ///
    /// # Panics
    /// There is no memory.
    pub fn zeroed(len: usize) -> AlignedBytes {
        if len == 0 {
            return AlignedBytes { start: NonNull::dangling(), len, _slab: None };
        }
        let mut open = OPEN.lock().expect("nothing panics under this lock but want of memory");
        let (slab, first) = match open.0.upgrade() {
            Some(slab) if slab.len() - open.1 >= len => (slab, open.1),
            _ => new_slab(len),
        };
        // SAFETY: inside the slab, which has `len` bytes from `first` on.
        let start = unsafe { NonNull::new_unchecked(slab.as_ptr().cast_mut().add(first)) };
        // Parts of a slab are handed out once, so these are the zeros that the system gave.
        *open = (Arc::downgrade(&slab), (first + len).next_multiple_of(ALIGN).min(slab.len()));
        AlignedBytes { start, len, _slab: Some(slab) }
    }
}

/// A slab with room for `len` bytes, and where its first huge page begins.
fn new_slab(len: usize) -> (Arc<MmapMut>, usize) {
    let bytes = len.next_multiple_of(HUGE_PAGE).max(SLAB_BYTES) + HUGE_PAGE;
    let slab = MmapMut::map_anon(bytes).unwrap_or_else(|error| panic!("{bytes} bytes for weights: {error}"));
    // Where there are no huge pages, small ones do.
    #[cfg(target_os = "linux")]
    let _ = slab.advise(memmap2::Advice::HugePage);
    let first = slab.as_ptr().align_offset(HUGE_PAGE);
    (Arc::new(slab), first)
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

    #[test]
    fn parts_are_aligned_zeros_that_do_not_overlap_and_outlive_each_other() {
        let sizes = [1, 64, 65, 0, 300_000, SLAB_BYTES + 1, 7, 3 * SLAB_BYTES / 4, 3 * SLAB_BYTES / 4];
        let mut parts = Vec::new();
        for (index, len) in sizes.into_iter().enumerate() {
            let mut part = AlignedBytes::zeroed(len);
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
}
