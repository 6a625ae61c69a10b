//! The table of tensor types as ggml numbers them.
//!
//! Source: the `ggml_type` enumeration, as the Python package `gguf` 0.19.0 lists it (`GGML_QUANT_SIZES`). Numbers 4, 5
//! (Q4_2, Q4_3), 31–33 (Q4_0_4_4 …) and 36–38 (IQ4_NL_4_4 …) were removed from ggml and belong to no type. Q8_1 has
//! 36 bytes, as ggml computes with it; the package says 40, which is an older layout; no file holds either.

macro_rules! dtypes {
    ($($(#[doc = $doc:literal])* $variant:ident = $number:literal, $name:literal, $len:literal, $bytes:literal;)*) => {
        /// A tensor type of ggml: how many values a block has and how many bytes it takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DType {
            $($(#[doc = $doc])* $variant = $number,)*
        }

        impl DType {
            /// Every type, in the order of ggml's numbers.
            pub const ALL: &[DType] = &[$(DType::$variant,)*];

            /// The type with ggml's number, if ggml (still) has it.
            pub const fn from_ggml(number: u32) -> Option<DType> {
                match number {
                    $($number => Some(DType::$variant),)*
                    _ => None,
                }
            }

            /// The name as ggml spells it, such as `Q4_1`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DType::$variant => $name,)*
                }
            }

            /// Values in one block.
            pub const fn block_len(self) -> usize {
                match self {
                    $(DType::$variant => $len,)*
                }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self {
                    $(DType::$variant => $bytes,)*
                }
            }
        }
    };
}

dtypes! {
    /// IEEE single precision.
    F32 = 0, "F32", 1, 4;
    /// IEEE half precision.
    F16 = 1, "F16", 1, 2;
    /// 4 bits, scale.
    Q4_0 = 2, "Q4_0", 32, 18;
    /// 4 bits, scale and minimum.
    Q4_1 = 3, "Q4_1", 32, 20;
    /// 5 bits, scale.
    Q5_0 = 6, "Q5_0", 32, 22;
    /// 5 bits, scale and minimum.
    Q5_1 = 7, "Q5_1", 32, 24;
    /// 8 bits, scale.
    Q8_0 = 8, "Q8_0", 32, 34;
    /// 8 bits, scale and sum; an operand inside ggml, never in a file.
    Q8_1 = 9, "Q8_1", 32, 36;
    /// 2 bits, 16 sub-blocks with 4-bit scales and minima.
    Q2K = 10, "Q2_K", 256, 84;
    /// 3 bits, 16 sub-blocks with 6-bit scales.
    Q3K = 11, "Q3_K", 256, 110;
    /// 4 bits, 8 sub-blocks with 6-bit scales and minima.
    Q4K = 12, "Q4_K", 256, 144;
    /// 5 bits, 8 sub-blocks with 6-bit scales and minima.
    Q5K = 13, "Q5_K", 256, 176;
    /// 6 bits, 16 sub-blocks with 8-bit scales.
    Q6K = 14, "Q6_K", 256, 210;
    /// 8 bits, f32 scale and sums; an operand inside ggml, never in a file.
    Q8K = 15, "Q8_K", 256, 292;
    /// 2.06 bits, codebook.
    IQ2XXS = 16, "IQ2_XXS", 256, 66;
    /// 2.31 bits, codebook.
    IQ2XS = 17, "IQ2_XS", 256, 74;
    /// 3.06 bits, codebook.
    IQ3XXS = 18, "IQ3_XXS", 256, 98;
    /// 1.56 bits, codebook.
    IQ1S = 19, "IQ1_S", 256, 50;
    /// 4 bits, 16 levels unevenly spaced, scale.
    IQ4NL = 20, "IQ4_NL", 32, 18;
    /// 3.44 bits, codebook.
    IQ3S = 21, "IQ3_S", 256, 110;
    /// 2.56 bits, codebook.
    IQ2S = 22, "IQ2_S", 256, 82;
    /// 4 bits, the levels of IQ4_NL, 8 sub-blocks with 6-bit scales.
    IQ4XS = 23, "IQ4_XS", 256, 136;
    /// Signed byte.
    I8 = 24, "I8", 1, 1;
    /// Signed 16-bit integer.
    I16 = 25, "I16", 1, 2;
    /// Signed 32-bit integer.
    I32 = 26, "I32", 1, 4;
    /// Signed 64-bit integer.
    I64 = 27, "I64", 1, 8;
    /// IEEE double precision.
    F64 = 28, "F64", 1, 8;
    /// 1.75 bits, codebook.
    IQ1M = 29, "IQ1_M", 256, 56;
    /// The upper half of an IEEE single.
    BF16 = 30, "BF16", 1, 2;
    /// Ternary, 1.69 bits.
    TQ1_0 = 34, "TQ1_0", 256, 54;
    /// Ternary, 2.06 bits.
    TQ2_0 = 35, "TQ2_0", 256, 66;
    /// OCP microscaling FP4, 32 values to an 8-bit exponent.
    MXFP4 = 39, "MXFP4", 32, 17;
    /// FP4 with FP8 scales of 16 values.
    NVFP4 = 40, "NVFP4", 64, 36;
    /// 1 bit, scale.
    Q1_0 = 41, "Q1_0", 128, 18;
}

impl DType {
    /// ggml's number of the type.
    pub const fn to_ggml(self) -> u32 {
        self as u32
    }

    /// Whether [`crate::dequantize`] can compute it.
    pub fn is_computable(self) -> bool {
        crate::registry::is_computable(self)
    }

    /// Whether [`crate::scale`] can change the values of its blocks: it has half-precision scales, and can be computed.
    pub fn has_scales(self) -> bool {
        !crate::registry::factors(self).is_empty()
    }

    /// Bytes that `n_values` values take; `None` when they are not whole blocks or the product overflows.
    pub const fn bytes_for(self, n_values: usize) -> Option<usize> {
        if !n_values.is_multiple_of(self.block_len()) {
            return None;
        }
        (n_values / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::DType;

    #[test]
    fn every_number_leads_back_to_its_type() {
        for &dtype in DType::ALL {
            assert_eq!(DType::from_ggml(dtype.to_ggml()), Some(dtype));
        }
        assert_eq!(DType::ALL.len(), (0..1000).filter_map(DType::from_ggml).count());
    }

    #[test]
    fn removed_types_belong_to_nothing() {
        for number in [4, 5, 31, 32, 33, 36, 37, 38, 42, u32::MAX] {
            assert_eq!(DType::from_ggml(number), None);
        }
    }

    #[test]
    fn bytes_are_those_of_whole_blocks_only() {
        assert_eq!(DType::Q4_0.bytes_for(64), Some(36));
        assert_eq!(DType::Q4_0.bytes_for(33), None);
        assert_eq!(DType::Q6K.bytes_for(0), Some(0));
        assert_eq!(DType::F64.bytes_for(usize::MAX), None);
    }
}
