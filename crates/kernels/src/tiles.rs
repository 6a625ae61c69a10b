//! Tiles of AMX: eight registers of up to 16 rows of 64 bytes, and products of them.
//!
//! `C[m][n] += Σ_k Σ_z A[m][4k + z] · B[k][4n + z]`, with bytes in A and B, signed or not, and sums of 32 bits that wrap. One
//! instruction multiplies 16,384 pairs of bytes, in as many cycles as A has rows.
//!
//! Stable Rust has no intrinsics for them, so they are assembled here, one instruction at a time. The compiler has no instruction
//! for tiles of its own; so what one of these functions leaves in them is there for the next. In tests a [`Tiles`] can also be
//! emulated, on any CPU.

use crate::isa::Amx;
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

/// The instructions.
mod instruction {
    use super::{Configuration, ROW_BYTES, TileIntegers};
    use std::arch::asm;

    /// # Safety
    /// This CPU has tiles, and the system lets this process use them.
    #[inline(always)]
    pub unsafe fn configure(configuration: &Configuration) {
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, preserves_flags, readonly));
        }
    }

    /// # Safety
    /// Tiles have shapes.
    #[inline(always)]
    pub unsafe fn release() {
        // SAFETY: the caller's promise.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }

    /// # Safety
    /// Tiles have shapes, and the rows of that of tile `T` lie there.
    #[inline(always)]
    pub unsafe fn load<const T: usize>(from: *const u8, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!("tileloadd tmm{tile}, [{from} + {stride}*1]", tile = const T, from = in(reg) from,
                stride = in(reg) stride, options(nostack, preserves_flags, readonly));
        }
    }

    /// # Safety
    /// Tiles have shapes.
    #[inline(always)]
    pub unsafe fn zero<const T: usize>() {
        // SAFETY: the caller's promise.
        unsafe { asm!("tilezero tmm{tile}", tile = const T, options(nomem, nostack, preserves_flags)) };
    }

    /// # Safety
    /// Tiles have shapes.
    #[inline(always)]
    pub unsafe fn store<const T: usize>(to: &mut TileIntegers) {
        // SAFETY: the caller's promise; sixteen rows of 64 bytes are the largest shape.
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{tile}", tile = const T, to = in(reg) to,
                stride = in(reg) ROW_BYTES, options(nostack, preserves_flags));
        }
    }

    /// Functions that add products of bytes of tiles `A` and `B` to tile `C`.
    macro_rules! dots {
        ($($name:ident)*) => {$(
            /// # Safety
            /// Tiles have shapes that fit.
            #[inline(always)]
            pub unsafe fn $name<const C: usize, const A: usize, const B: usize>() {
                // SAFETY: the caller's promise.
                unsafe {
                    asm!(concat!(stringify!($name), " tmm{c}, tmm{a}, tmm{b}"), c = const C, a = const A,
                        b = const B, options(nomem, nostack, preserves_flags));
                }
            }
        )*};
    }
    dots!(tdpbssd tdpbusd tdpbuud);
}

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
        unsafe { instruction::configure(&configuration) };
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
        unsafe { instruction::load::<T>(from, stride) };
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
        unsafe { instruction::zero::<T>() };
    }

    /// Writes the rows of tile `T`, which has 64 bytes in each.
    #[inline(always)]
    pub fn store<const T: usize>(&mut self, to: &mut TileIntegers) {
        #[cfg(test)]
        if let Some(tiles) = &mut self.emulated {
            return tiles.store(T, to);
        }
        // SAFETY: `self` exists, so tiles have shapes.
        unsafe { instruction::store::<T>(to) };
    }
}

/// Functions that add products of bytes of two tiles to a third one.
macro_rules! dot {
    ($(#[$doc:meta])* $name:ident, $instruction:ident, $a:ty, $b:ty) => {
        impl Tiles {
            $(#[$doc])*
            #[inline(always)]
            pub fn $name<const C: usize, const A: usize, const B: usize>(&mut self) {
                #[cfg(test)]
                if let Some(tiles) = &mut self.emulated {
                    return tiles.dot([C, A, B], |a| i32::from(a as $a), |b| i32::from(b as $b));
                }
                // SAFETY: `self` exists, so tiles have shapes.
                unsafe { instruction::$instruction::<C, A, B>() };
            }
        }
    };
}
dot!(
    /// Adds products of the signed bytes of tiles `A` and `B` to tile `C`.
    dot_signed, tdpbssd, i8, i8);
dot!(
    /// Adds products of the unsigned bytes of tile `A` and the signed ones of `B` to tile `C`.
    dot_unsigned_signed, tdpbusd, u8, i8);
dot!(
    /// Adds products of the unsigned bytes of tiles `A` and `B` to tile `C`.
    dot_unsigned, tdpbuud, u8, u8);

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.emulated.is_some() {
            return;
        }
        // SAFETY: `self` exists, so tiles have shapes.
        unsafe { instruction::release() };
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

        pub fn dot(&mut self, [c, a, b]: [usize; 3], of_a: impl Fn(u8) -> i32, of_b: impl Fn(u8) -> i32) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Decoder, DecoderOptions, Register};
    use lossy_testkit::noise;

    /// Each instruction once.
    ///
    /// # Safety
    /// This CPU has tiles.
    #[inline(never)]
    unsafe fn each_instruction(configuration: &Configuration, from: *const u8, to: &mut TileIntegers) {
        use instruction::*;
        // SAFETY: never called.
        unsafe {
            configure(configuration);
            load::<5>(from, 64);
            zero::<3>();
            tdpbssd::<0, 1, 2>();
            tdpbusd::<3, 4, 5>();
            tdpbuud::<2, 6, 7>();
            store::<4>(to);
            release();
        }
    }

    /// No CPU is needed for it: a decoder reads what was assembled.
    #[test]
    fn what_was_assembled_are_the_instructions_that_are_meant() {
        use Register::{TMM0, TMM1, TMM2, TMM3, TMM4, TMM5, TMM6, TMM7};
        let at = each_instruction as *const () as *const u8;
        // SAFETY: a function of some ten instructions, and others behind it.
        let code = unsafe { std::slice::from_raw_parts(at, 160) };
        let found: Vec<(Code, Vec<Register>)> = Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
            .iter()
            .map(|instruction| {
                let operands = (0..instruction.op_count()).map(|i| instruction.op_register(i));
                (instruction.code(), operands.filter(|of| (TMM0..=TMM7).contains(of)).collect())
            })
            .filter(|(code, _)| format!("{code:?}").contains("_T") || format!("{code:?}").contains("tilecfg"))
            .take(8)
            .collect();
        let wanted = [
            (Code::VEX_Ldtilecfg_m512, vec![]),
            (Code::VEX_Tileloadd_tmm_sibmem, vec![TMM5]),
            (Code::VEX_Tilezero_tmm, vec![TMM3]),
            (Code::VEX_Tdpbssd_tmm_tmm_tmm, vec![TMM0, TMM1, TMM2]),
            (Code::VEX_Tdpbusd_tmm_tmm_tmm, vec![TMM3, TMM4, TMM5]),
            (Code::VEX_Tdpbuud_tmm_tmm_tmm, vec![TMM2, TMM6, TMM7]),
            (Code::VEX_Tilestored_sibmem_tmm, vec![TMM4]),
            (Code::VEX_Tilerelease, vec![]),
        ];
        assert_eq!(found, wanted);
    }

    /// A product of two tiles, and what it was added to.
    fn product(
        amx: Amx,
        rows: usize,
        bytes: usize,
        first: &[[u8; 64]; 16],
        second: &[[u8; 64]; 16],
    ) -> [TileIntegers; 3] {
        let sums = Shape { rows, bytes: ROW_BYTES };
        let (a, b) = (Shape { rows, bytes }, Shape { rows: bytes / 4, bytes: ROW_BYTES });
        let mut tiles = Tiles::new(amx, [sums, sums, sums, a, b, b, b, b]);
        let mut out = [[[7; 16]; 16]; 3];
        // SAFETY: sixteen rows of 64 bytes.
        unsafe {
            tiles.load::<3>(first.as_ptr().cast(), ROW_BYTES);
            tiles.load::<4>(second.as_ptr().cast(), ROW_BYTES);
        }
        tiles.zero::<0>();
        tiles.load_rows::<1>(&[[i32::MAX; 16]; 16]);
        tiles.zero::<2>();
        tiles.dot_signed::<0, 3, 4>();
        tiles.dot_unsigned_signed::<1, 3, 4>();
        tiles.dot_unsigned::<2, 3, 4>();
        let [x, y, z] = &mut out;
        tiles.store::<0>(x);
        tiles.store::<1>(y);
        tiles.store::<2>(z);
        out
    }

    /// Emulated ones on every CPU, and those of this CPU if it has them.
    #[test]
    fn tiles_multiply_as_their_formula_says() {
        let bytes: Vec<u8> = noise(3, 2048).into_iter().map(|x| (x * 1e4) as i32 as u8).collect();
        let tile = |at: usize| -> [[u8; 64]; 16] {
            std::array::from_fn(|row| bytes[1024 * at + 64 * row..][..64].try_into().unwrap())
        };
        let extreme = [[0x80; 64]; 16];
        for (first, second) in [(tile(0), tile(1)), (extreme, extreme), ([[0xFF; 64]; 16], extreme)] {
            for (rows, bytes) in [(16, 64), (1, 4), (5, 32), (16, 16), (9, 60)] {
                let naive = |m: usize, n: usize, of: fn(u8, u8) -> i32| -> i32 {
                    (0..bytes).map(|k| of(first[m][k], second[k / 4][4 * n + k % 4])).sum()
                };
                let wanted = |index: usize, m: usize, n: usize| match index {
                    _ if m >= rows => 7,
                    0 => naive(m, n, |a, b| i32::from(a as i8) * i32::from(b as i8)),
                    1 => naive(m, n, |a, b| i32::from(a) * i32::from(b as i8)).wrapping_add(i32::MAX),
                    _ => naive(m, n, |a, b| i32::from(a) * i32::from(b)),
                };
                for amx in [Some(Amx::EMULATED), Amx::detect()].into_iter().flatten() {
                    let got = product(amx, rows, bytes, &first, &second);
                    for (index, got) in got.iter().enumerate() {
                        for (m, row) in got.iter().enumerate() {
                            let wanted: Vec<i32> = (0..16).map(|n| wanted(index, m, n)).collect();
                            assert_eq!(
                                row[..],
                                wanted,
                                "{amx:?}, {rows} rows of {bytes}: product {index}, row {m}"
                            );
                        }
                    }
                }
            }
        }
    }
}
