//! The weight formats: how eight rows of a file's blocks become packed tiles, and what a packed tile means.
//!
//! One file holds a format (or near relatives): the types of its packed bytes, packing, and which of them are planes of
//! codes ([`Planes`]) and which scales ([`Scales`]). That is data, the same for every instruction set; the scalar reading of
//! it in [`quantized`](super::quantized) is the specification. Adding a format is such a file and a line in [`of`].
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
use super::tile::{COLS, Codes, Halves, Planes, ROWS};
use super::{float, strips::Strips};
use bytemuck::{Pod, Zeroable};
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

/// A quantized weight format. A strip is a sequence of its *groups*, one for a block of each of the eight rows.
pub(crate) trait Format: Send + Sync + 'static {
    /// the file's block
    type Block: Block;
    /// what a block of each of eight rows becomes
    type Group: Group;
    /// bits of what the scales multiply: a code, or a level
    const BITS: u32;
    /// codes are indices of these, if there are any
    const LEVELS: Option<[u8; 16]> = None;
    /// what the scales multiply is the code, or the level, less this
    const OFFSET: i16 = 0;
    /// whether each half of 16 columns has its own integer scale
    const HALVES: bool = false;
    /// what is added
    const MIN: Min = Min::None;

    /// Packs a block of each of eight rows.
    fn pack(rows: &[Self::Block; ROWS]) -> Self::Group;

    /// The codes of a tile.
    fn planes(tile: &Tile<Self>) -> Planes<'_>;

    /// The scales of a tile, of the kind that [`HALVES`](Format::HALVES) and [`MIN`](Format::MIN) say.
    fn scales(tile: &Tile<Self>) -> Scales<'_>;
}

/// The packed tile of a format.
pub(crate) type Tile<F> = <<F as Format>::Group as Group>::Tile;

/// What is beside the codes of a tile. `d` and `dmin` that are not here are the group's factors. Each number is that of a row.
#[derive(Clone, Copy)]
pub(crate) enum Scales<'a> {
    /// `d · code`
    Own { d: &'a Halves },
    /// `d · code + m`
    OwnMin { d: &'a Halves, m: &'a Halves },
    /// `(d · scale) · code`
    Signed { scales: &'a [i8; ROWS] },
    /// `(d · scale) · code − dmin · min`
    UnsignedMin { scales: &'a [u8; ROWS], mins: &'a [u8; ROWS] },
    /// `d · (scale · code)`, with a scale for each half
    Halves { scales: &'a [[i8; 2]; ROWS] },
    /// `d · (scale · code) − dmin · min`: for each half a byte with the scale (low nibble) and the minimum (high nibble)
    HalvesMin { nibbles: &'a [[u8; 2]; ROWS] },
}

/// Packed tiles and what they share.
pub(crate) trait Group: Pod {
    type Tile: Pod;
    /// tiles of a group: columns of a block / 32
    const TILES: usize;
    /// Factors of the scales (`d`) and of the minima (`dmin`), as far as the format has them.
    fn factors(&self) -> &[Halves];
    /// The tiles, [`TILES`](Group::TILES) of them.
    fn tiles(&self) -> &[Self::Tile];
}

/// A tile by itself, of formats with blocks of 32 columns.
impl<T: Pod> Group for [T; 1] {
    type Tile = T;
    const TILES: usize = 1;

    #[inline(always)]
    fn factors(&self) -> &[Halves] {
        &[]
    }

    #[inline(always)]
    fn tiles(&self) -> &[T] {
        self
    }
}

/// Eight tiles with `N` common factors, of formats with blocks of 256 columns. It is packed because of its type alone: everything
/// in it is aligned to bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed)]
pub(crate) struct Shared<T, const N: usize>
where
    T: Copy,
{
    factors: [Halves; N],
    tiles: [T; 8],
}

impl<T: Pod, const N: usize> Shared<T, N> {
    /// A group from the factors of eight rows, and its tiles by their index.
    fn new(factors: [[f16; ROWS]; N], tile: impl FnMut(usize) -> T) -> Self {
        Shared { factors: factors.map(Halves::pack), tiles: std::array::from_fn(tile) }
    }
}

impl<T: Pod, const N: usize> Group for Shared<T, N> {
    type Tile = T;
    const TILES: usize = 8;

    #[inline(always)]
    fn factors(&self) -> &[Halves] {
        bytemuck::cast_slice(&bytemuck::bytes_of(self)[..N * size_of::<Halves>()])
    }

    #[inline(always)]
    fn tiles(&self) -> &[T] {
        bytemuck::cast_slice(&bytemuck::bytes_of(self)[N * size_of::<Halves>()..])
    }
}

/// The groups of a strip.
pub(crate) fn groups<F: Format>(strip: &[u8]) -> &[F::Group] {
    bytemuck::cast_slice(strip)
}

/// The codes of tile `index` of blocks of 256 columns, each plus `offset`.
fn columns<T: Copy + Into<i16>>(rows: &[[T; 256]; ROWS], index: usize, offset: i16) -> Codes {
    rows.each_ref().map(|codes| std::array::from_fn(|col| (codes[COLS * index + col].into() + offset) as u8))
}

/// The kernels of a format, if there are any.
pub(crate) fn of(dtype: DType) -> Option<&'static dyn Strips> {
    Some(match dtype {
        DType::F32 => &float::FloatStrips::<f32>::NEW,
        DType::F16 => &float::FloatStrips::<f16>::NEW,
        DType::BF16 => &float::FloatStrips::<bf16>::NEW,
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
