//! The weight formats: how eight rows of a file's blocks become a packed tile, and what a packed tile means.
//!
//! One file holds a format (or near relatives) whole: the packed layout, packing, the scalar unpacking that specifies
//! it, and the unpacking of each instruction set. Adding one is such a file and a line in [`of`].
//!
//! Packed bytes per weight equal the file's up to 4 % (Q4_K 4.625 bits for 4.5, Q5_K 5.625 for 5.5, Q3_K 3.5625 for
//! 3.4375; all others equal), since the few-token kernels run at the speed of memory.

mod iq4;
mod q23k;
mod q4;
mod q45k;
mod q5;
mod q6k;
mod q8;

use super::quantized::Quantized;
use super::{float, strips::Strips, tile::ROWS, tile::Tile};
use half::{bf16, f16};
use lossy_quant::{Block, DType};

/// What a format adds to scaled codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Min {
    None,
    /// one minimum for 32 columns
    Block,
    /// integer minima for 16 columns with a common factor
    Halves,
}

/// A quantized weight format.
///
/// A strip is a sequence of *groups*, one per block of the file: a header of [`HEADER_BYTES`](Format::HEADER_BYTES), then
/// [`TILES`](Format::TILES) tiles of [`TILE_BYTES`](Format::TILE_BYTES).
pub(crate) trait Format: Send + Sync + 'static {
    /// the file's block
    type Block: Block;
    /// tiles of a group: columns of a block / 32
    const TILES: usize;
    const HEADER_BYTES: usize;
    const TILE_BYTES: usize;
    /// what the scales multiply is the stored code less this
    const OFFSET: i16;
    const MIN: Min;

    /// Packs a block of each of eight rows.
    fn pack(rows: &[Self::Block; ROWS], header: &mut [u8], tiles: &mut [u8]);

    /// Unpacks one tile.
    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile);
}

/// Bytes of a group of `F`.
pub(crate) const fn group_bytes<F: Format>() -> usize {
    F::HEADER_BYTES + F::TILES * F::TILE_BYTES
}

/// The kernels of a format, if there are any.
pub(crate) fn of(dtype: DType) -> Option<&'static dyn Strips> {
    Some(match dtype {
        DType::F32 => &float::Floats::<f32>::NEW,
        DType::F16 => &float::Floats::<f16>::NEW,
        DType::BF16 => &float::Floats::<bf16>::NEW,
        DType::Q4_0 => &Quantized::<q4::Q4_0>::NEW,
        DType::Q4_1 => &Quantized::<q4::Q4_1>::NEW,
        DType::Q5_0 => &Quantized::<q5::Q5_0>::NEW,
        DType::Q5_1 => &Quantized::<q5::Q5_1>::NEW,
        DType::Q8_0 => &Quantized::<q8::Q8_0>::NEW,
        DType::Q2K => &Quantized::<q23k::Q2K>::NEW,
        DType::Q3K => &Quantized::<q23k::Q3K>::NEW,
        DType::Q4K => &Quantized::<q45k::Q4K>::NEW,
        DType::Q5K => &Quantized::<q45k::Q5K>::NEW,
        DType::Q6K => &Quantized::<q6k::Q6K>::NEW,
        DType::IQ4NL => &Quantized::<iq4::IQ4NL>::NEW,
        DType::IQ4XS => &Quantized::<iq4::IQ4XS>::NEW,
        _ => return None,
    })
}

/// Every format that [`of`] knows.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|dtype| of(*dtype).is_some())
}
