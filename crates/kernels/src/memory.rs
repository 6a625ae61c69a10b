//! Memory in huge pages, where the system has them: for packed weights, and for keys and values.
//!
//! A token reads every weight and all keys and values once. Pages of 4 KiB are then one translation miss for every few dozen
//! lines, and prefetches stop at their ends. Most matrices of small models, and packed pages of a cache, are smaller than a
//! huge page, so that they share *slabs*.

use memmap2::MmapMut;
#[cfg(all(target_os = "linux", not(miri)))]
use memmap2::UncheckedAdvice;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Vectors are loaded from multiples of 16 bytes, and lines are 64.
const ALIGN: usize = 64;
/// What x86-64 and most kernels for 64-bit ARM call a huge page.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes of the first slab.
const FIRST_SLAB: usize = 8 << 20;
/// What memory is given back by: a multiple of the system's own pages.
#[cfg(all(target_os = "linux", not(miri)))]
const SMALL_PAGE: usize = 64 << 10;

/// Hands out memory from slabs. A part that is dropped goes back to the system (on Linux, elsewhere with its whole slab); its
/// addresses are not handed out again.
#[derive(Debug)]
pub struct Slabs {
    /// of a slab, at most
    slab_bytes: usize,
    open: Mutex<OpenSlab>,
}

/// The slab that is handed out next. It lives as long as one of its parts.
#[derive(Debug)]
struct OpenSlab {
    slab: Weak<MmapMut>,
    /// what has not been handed out of it: where that begins and ends
    first: usize,
    end: usize,
    /// bytes that were handed out, of this slab and of all before it
    n_given: usize,
}

/// Bytes of a slab, at an address that is a multiple of 64.
#[derive(Debug)]
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    /// what `start` points into, unless there are no bytes
    #[cfg_attr(
        all(any(not(target_os = "linux"), miri), not(test)),
        expect(dead_code, reason = "it is held, so that its memory stays")
    )]
    slab: Option<Arc<MmapMut>>,
}

// SAFETY: its bytes are no other's, as those of a `Vec<u8>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl Slabs {
    /// Slabs of up to `slab_bytes` bytes of address space, or of one part that needs more. Memory is taken only where something is
    /// written, by whole huge pages: a slab takes up to one more than its parts have bytes for. So slabs of many huge pages
    /// waste least. But limits on a process's data (`RLIMIT_DATA`) count addresses, written or not. So a slab has as many bytes as
    /// all before it have handed out.
    pub const fn new(slab_bytes: usize) -> Slabs {
        Slabs { slab_bytes, open: Mutex::new(OpenSlab { slab: Weak::new(), first: 0, end: 0, n_given: 0 }) }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// The system's, if it has no memory.
    pub fn zeroed(&self, len: usize) -> io::Result<AlignedBytes> {
        if len == 0 {
            return Ok(AlignedBytes { start: NonNull::dangling(), len, slab: None });
        }
        // What is in there is right at every point where a panic could happen.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slab = match open.slab.upgrade() {
            Some(slab) if open.end.saturating_sub(open.first) >= len => slab,
            _ => {
                let wanted = open.n_given.max(FIRST_SLAB).min(self.slab_bytes);
                let (opened, slab) = OpenSlab::new(len.max(wanted))?;
                *open = OpenSlab { n_given: open.n_given, ..opened };
                slab
            }
        };
        // SAFETY: inside the slab, which has `len` bytes from `first` on.
        let start = unsafe { NonNull::new_unchecked(slab.as_ptr().cast_mut().add(open.first)) };
        // Parts of a slab are handed out once, so these are the zeros that the system gave.
        open.first = (open.first + len).next_multiple_of(ALIGN);
        open.n_given += len;
        Ok(AlignedBytes { start, len, slab: Some(slab) })
    }
}

impl OpenSlab {
    /// A slab with room for `len` bytes, from the beginning of a huge page on.
    fn new(len: usize) -> io::Result<(OpenSlab, Arc<MmapMut>)> {
        let room = len.checked_next_multiple_of(HUGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        // The system aligns to small pages only.
        let slab = MmapMut::map_anon(room.checked_add(HUGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?)?;
        // Where there are no huge pages, small ones do.
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = slab.advise(memmap2::Advice::HugePage);
        let first = slab.as_ptr().align_offset(HUGE_PAGE);
        let slab = Arc::new(slab);
        Ok((OpenSlab { slab: Arc::downgrade(&slab), first, end: first + room, n_given: 0 }, slab))
    }
}

// Miri knows memory, but no advice about it.
#[cfg(all(target_os = "linux", not(miri)))]
impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // The last part takes the slab with it.
        let Some(slab) = self.slab.as_ref().filter(|slab| Arc::strong_count(slab) > 1) else { return };
        let first = self.start.addr().get() - slab.as_ptr().addr();
        let small_pages = first.next_multiple_of(SMALL_PAGE)..(first + self.len) / SMALL_PAGE * SMALL_PAGE;
        if !small_pages.is_empty() {
            // Memory that the system does not want now is given back with the slab.
            // SAFETY: these small pages lie in this part as a whole, and nobody reads them any more.
            let _ = unsafe {
                slab.unchecked_advise_range(UncheckedAdvice::DontNeed, small_pages.start, small_pages.len())
            };
        }
    }
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

/// Gives the system back what was freed and is only kept for the next time, where the allocator is one that keeps much (glibc's). Worth it
/// where a step has ended that took far more than the next one, which takes its memory elsewhere: [`Slabs`].
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it takes a number, locks what it touches, and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB_BYTES: usize = if cfg!(miri) { 4 << 10 } else { 4 << 20 };

    #[test]
    fn parts_are_aligned_zeros_that_do_not_overlap_and_outlive_each_other() {
        let sizes =
            [1, 64, 65, 0, SLAB_BYTES / 14, SLAB_BYTES + 1, 7, 3 * SLAB_BYTES / 4, 3 * SLAB_BYTES / 4];
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

    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    #[test]
    fn a_part_gives_its_memory_back_though_its_slab_lives() {
        use std::fs::File;
        use std::io::{Read, Seek, SeekFrom};
        use std::ops::Range;

        const PAGE: usize = 4096;
        // Page by page: the system joins mappings that touch, so that figures of a mapping have other tests' slabs in them.
        let resident_bytes = |part: &Range<usize>| -> usize {
            let mut map = File::open("/proc/self/pagemap").expect("this process's pages");
            map.seek(SeekFrom::Start((part.start / PAGE * 8) as u64)).expect("an entry for every page");
            let mut entries = vec![0; part.len() / PAGE * 8];
            map.read_exact(&mut entries).expect("entries of all pages");
            let is_present = |entry: &&[u8; 8]| u64::from_le_bytes(**entry) >> 63 == 1;
            entries.as_chunks().0.iter().filter(is_present).count() * PAGE
        };
        let slabs = Slabs::new(64 << 20);
        // The slab behind it is as large as slabs become.
        let _before = slabs.zeroed(64 << 20).expect("memory");
        let mut parts: Vec<AlignedBytes> = (0..5).map(|_| slabs.zeroed(9_000_000).expect("memory")).collect();
        for (value, part) in (1..).zip(&mut parts) {
            part.fill(value);
        }
        let dropped = parts[1].as_ptr().addr()..parts[4].as_ptr().addr();
        let before = resident_bytes(&dropped);
        parts.drain(1..4);
        let after = resident_bytes(&dropped);
        assert!(before - after > 3 * (9_000_000 - 2 * SMALL_PAGE), "{before} bytes, then {after}");
        assert!(parts[0].iter().all(|byte| *byte == 1) && parts[1].iter().all(|byte| *byte == 5));
    }

    #[test]
    fn addresses_are_at_most_twice_what_is_handed_out_and_slabs_few() {
        let slabs = Slabs::new(64 << 20);
        let mut parts: Vec<AlignedBytes> = Vec::new();
        let mut n_slabs = 0;
        for n in 1..=64 {
            parts.push(slabs.zeroed(3 << 20).expect("memory"));
            let mut mapped: Vec<(usize, usize)> = Vec::new();
            for slab in parts.iter().filter_map(|part| part.slab.as_ref()) {
                mapped.push((slab.as_ptr().addr(), slab.len()));
            }
            mapped.dedup();
            n_slabs = mapped.len();
            let bytes: usize = mapped.iter().map(|(_, len)| len - HUGE_PAGE).sum();
            let handed_out = n * (3 << 20);
            assert!(bytes <= FIRST_SLAB + 2 * handed_out, "{bytes} for {handed_out}");
        }
        // 8, 8, 12, 24, 48 and 64 MiB, twice that.
        assert!(n_slabs <= 7, "{n_slabs} slabs");
    }

    #[test]
    fn what_no_machine_has_is_an_error() {
        assert!(Slabs::new(64).zeroed(usize::MAX - 5).is_err());
        assert!(Slabs::new(64).zeroed(1 << 60).is_err());
    }
}
