//! Tiles of AMX: eight registers of up to 16 rows of 64 bytes, and products of them.
//!
//! `C[m][n] += Σ_k Σ_z A[m][4k + z] · B[k][4n + z]`, with bytes in A and B, signed or not, and sums of 32 bits that wrap. One
//! instruction multiplies 16,384 pairs of bytes, in as many cycles as A has rows.
//!
//! Stable Rust has no intrinsics for them, so they are assembled here, one instruction at a time. The compiler has no instruction
//! for tiles of its own; so what one of these functions leaves in them is there for the next. In tests a [`Tiles`] can also be
//! emulated, on any CPU.

use crate::isa::Amx;
use std::arch::asm;
use std::marker::PhantomData;

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Bytes of a row of a tile.
pub(crate) const ROW_BYTES: usize = 64;
/// Tiles.
const N_TILES: usize = 8;

/// A whole tile as integers of 32 bits: sums, or four bytes in each. Rows that begin at multiples of 64 bytes are faster.
pub(crate) type TileIntegers = [[i32; 16]; TILE_ROWS];

/// How many rows a tile has, and bytes in each. All of them are there, or the tile is not in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub rows: usize,
    pub bytes: usize,
}

/// What `ldtilecfg` reads.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

const _: () = assert!(size_of::<Configuration>() == 64);

/// The tiles of this thread in certain shapes, until it is dropped.
pub(crate) struct Tiles {
    #[cfg(test)]
    emulated: Option<Box<emulated::Tiles>>,
    /// tiles belong to a thread
    not_send: PhantomData<*const ()>,
}

impl Tiles {
    /// Tiles of these shapes.
    pub fn new(amx: Amx, shapes: [Shape; N_TILES]) -> Tiles {
        #[cfg(test)]
        if amx.is_emulated() {
            return Tiles { emulated: Some(Box::new(emulated::Tiles::new(shapes))), not_send: PhantomData };
        }
        let _ = amx;
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        for (index, shape) in shapes.into_iter().enumerate() {
            debug_assert!(shape.rows <= TILE_ROWS && shape.bytes <= ROW_BYTES);
            configuration.rows[index] = shape.rows as u8;
            configuration.bytes[index] = shape.bytes as u16;
        }
        // SAFETY: an `Amx` exists only if this CPU has tiles and the system lets this process use them.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, preserves_flags, readonly));
        }
        Tiles {
            #[cfg(test)]
            emulated: None,
            not_send: PhantomData,
        }
    }

    /// Tile `T` from rows that begin `stride` bytes apart.
    ///
    /// # Safety
    /// The rows of its shape lie there.
    #[inline(always)]
    pub unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        #[cfg(test)]
        if let Some(tiles) = &mut self.emulated {
            // SAFETY: the caller's promise.
            return unsafe { tiles.load(T, from, stride) };
        }
        // SAFETY: `self` exists, so tiles have shapes; the rows are there by the caller's promise.
        unsafe {
            asm!("tileloadd tmm{tile}, [{from} + {stride}*1]", tile = const T, from = in(reg) from,
                stride = in(reg) stride, options(nostack, preserves_flags, readonly));
        }
    }

    /// Tile `T`, which is a whole one.
    #[inline(always)]
    pub fn load_rows<const T: usize>(&mut self, from: &TileIntegers) {
        // SAFETY: sixteen rows of 64 bytes are the largest shape.
        unsafe { self.load::<T>(from.as_ptr().cast(), ROW_BYTES) };
    }

    /// All of tile `T` becomes 0.
    #[inline(always)]
    pub fn zero<const T: usize>(&mut self) {
        #[cfg(test)]
        if let Some(tiles) = &mut self.emulated {
            return tiles.zero(T);
        }
        // SAFETY: `self` exists, so tiles have shapes.
        unsafe { asm!("tilezero tmm{tile}", tile = const T, options(nomem, nostack, preserves_flags)) };
    }

    /// Writes the rows of tile `T`, which has 64 bytes in each.
    #[inline(always)]
    pub fn store<const T: usize>(&mut self, to: &mut TileIntegers) {
        #[cfg(test)]
        if let Some(tiles) = &mut self.emulated {
            return tiles.store(T, to);
        }
        // SAFETY: `self` exists, so tiles have shapes; 16 rows of 64 bytes are the largest.
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{tile}", tile = const T, to = in(reg) to,
                stride = in(reg) ROW_BYTES, options(nostack, preserves_flags));
        }
    }
}

/// Functions that add products of bytes of two tiles to a third one.
macro_rules! dot {
    ($(#[$doc:meta])* $name:ident, $instruction:literal, $a:ty, $b:ty) => {
        impl Tiles {
            $(#[$doc])*
            #[inline(always)]
            pub fn $name<const C: usize, const A: usize, const B: usize>(&mut self) {
                #[cfg(test)]
                if let Some(tiles) = &mut self.emulated {
                    return tiles.dot(C, A, B, |a| i32::from(a as $a), |b| i32::from(b as $b));
                }
                // SAFETY: `self` exists, so tiles have shapes.
                unsafe {
                    asm!(concat!($instruction, " tmm{c}, tmm{a}, tmm{b}"), c = const C, a = const A, b = const B,
                        options(nomem, nostack, preserves_flags));
                }
            }
        }
    };
}
dot!(
    /// Adds products of the signed bytes of tiles `A` and `B` to tile `C`.
    dot_signed, "tdpbssd", i8, i8);
dot!(
    /// Adds products of the unsigned bytes of tile `A` and the signed ones of `B` to tile `C`.
    dot_unsigned_signed, "tdpbusd", u8, i8);
dot!(
    /// Adds products of the unsigned bytes of tiles `A` and `B` to tile `C`.
    dot_unsigned, "tdpbuud", u8, u8);

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.emulated.is_some() {
            return;
        }
        // SAFETY: `self` exists, so the CPU has tiles.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// What the instructions do, written plainly.
#[cfg(test)]
mod emulated {
    use super::{N_TILES, ROW_BYTES, Shape, TILE_ROWS, TileIntegers};

    pub(super) struct Tiles {
        shapes: [Shape; N_TILES],
        bytes: [[[u8; ROW_BYTES]; TILE_ROWS]; N_TILES],
    }

    impl Tiles {
        pub fn new(shapes: [Shape; N_TILES]) -> Tiles {
            Tiles { shapes, bytes: [[[0; ROW_BYTES]; TILE_ROWS]; N_TILES] }
        }

        /// # Safety
        /// As for [`super::Tiles::load`].
        pub unsafe fn load(&mut self, tile: usize, from: *const u8, stride: usize) {
            self.zero(tile);
            let Shape { rows, bytes } = self.shapes[tile];
            for (index, row) in self.bytes[tile][..rows].iter_mut().enumerate() {
                // SAFETY: the caller promises that the rows of the shape are there.
                unsafe { from.add(index * stride).copy_to_nonoverlapping(row.as_mut_ptr(), bytes) };
            }
        }

        pub fn zero(&mut self, tile: usize) {
            self.bytes[tile] = [[0; ROW_BYTES]; TILE_ROWS];
        }

        pub fn store(&self, tile: usize, to: &mut TileIntegers) {
            let Shape { rows, bytes } = self.shapes[tile];
            assert_eq!(bytes, ROW_BYTES);
            for (row, to) in self.bytes[tile][..rows].iter().zip(to) {
                *to = bytemuck::cast(*row);
            }
        }

        pub fn dot(
            &mut self,
            c: usize,
            a: usize,
            b: usize,
            of_a: impl Fn(u8) -> i32,
            of_b: impl Fn(u8) -> i32,
        ) {
            let [sums, left, right] = [c, a, b].map(|tile| self.shapes[tile]);
            assert!(c != a && c != b && a != b, "tiles {c}, {a} and {b} differ");
            assert_eq!((sums.rows, sums.bytes), (left.rows, right.bytes), "rows and columns of tile {c}");
            assert_eq!(left.bytes, 4 * right.rows, "what tiles {a} and {b} sum over");
            for m in 0..sums.rows {
                let row: &mut [i32; 16] = &mut bytemuck::cast(self.bytes[c][m]);
                for (n, sum) in row[..sums.bytes / 4].iter_mut().enumerate() {
                    for k in 0..left.bytes {
                        let (x, y) = (self.bytes[a][m][k], self.bytes[b][k / 4][4 * n + k % 4]);
                        *sum = sum.wrapping_add(of_a(x) * of_b(y));
                    }
                }
                self.bytes[c][m] = bytemuck::cast(*row);
            }
        }
    }
}
