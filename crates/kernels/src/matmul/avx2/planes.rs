//! Codes out of the planes of a tile, in vectors of 256 bits, or of two tiles side by side, in vectors of 512.

/// The functions for one size of vectors. `$or_and` is `a | b & c`.
macro_rules! unpackers {
    (
        $name:ident, $features:literal, $vector:ty, $set1:ident, $and:ident, $srl:ident, $sll:ident, $add:ident,
        or_and: $or_and:expr, table: $table:expr, $shuffle:ident
    ) => {
        pub(super) mod $name {
            use std::arch::x86_64::*;

            /// High and low nibbles of bytes.
            #[target_feature(enable = $features)]
            #[inline]
            fn split(bytes: $vector) -> [$vector; 2] {
                let mask = $set1(15);
                [$and($srl::<4>(bytes), mask), $and(bytes, mask)]
            }

            /// `codes | bits & mask`
            #[target_feature(enable = $features)]
            #[inline]
            fn with(codes: $vector, bits: $vector, mask: $vector) -> $vector {
                $or_and(codes, bits, mask)
            }

            /// What a table has at each index.
            #[target_feature(enable = $features)]
            #[inline]
            pub fn look_up(table: [u8; 16], indices: $vector) -> $vector {
                let bytes = u128::from_le_bytes(table);
                $shuffle($table(bytes as i64, (bytes >> 64) as i64), indices)
            }

            #[target_feature(enable = $features)]
            #[inline]
            pub fn two_bits(pairs: [$vector; 2]) -> [$vector; 8] {
                let three = $set1(3);
                let mut quads = [pairs[0]; 8];
                for half in 0..2 {
                    let plane = pairs[half];
                    quads[4 * half] = $and(plane, three);
                    quads[4 * half + 1] = $and($srl::<2>(plane), three);
                    quads[4 * half + 2] = $and($srl::<4>(plane), three);
                    quads[4 * half + 3] = $and($srl::<6>(plane), three);
                }
                quads
            }

            #[target_feature(enable = $features)]
            #[inline]
            pub fn three_bits(pairs: [$vector; 2], bits: $vector) -> [$vector; 8] {
                let mut quads = two_bits(pairs);
                let four = $set1(4);
                let chains = [
                    ($add(bits, bits), [1, 0].as_slice()),
                    ($srl::<2>(bits), &[4, 3, 2]),
                    ($srl::<5>(bits), &[7, 6, 5]),
                ];
                for (mut doubled, places) in chains {
                    for j in places.iter().copied() {
                        quads[j] = with(quads[j], doubled, four);
                        doubled = $add(doubled, doubled);
                    }
                }
                quads
            }

            #[target_feature(enable = $features)]
            #[inline]
            pub fn four_bits(nibbles: [$vector; 4]) -> [$vector; 8] {
                let mut quads = [nibbles[0]; 8];
                for j in 0..4 {
                    [quads[j + 4], quads[j]] = split(nibbles[j]);
                }
                quads
            }

            #[target_feature(enable = $features)]
            #[inline]
            pub fn five_bits(nibbles: [$vector; 4], bits: $vector) -> [$vector; 8] {
                let mut quads = four_bits(nibbles);
                let sixteen = $set1(16);
                // Bit j comes to bit 4 by a shift, or by doubling, which other ports than the shifter's can do.
                let mut doubled = bits;
                for j in (0..=4).rev() {
                    quads[j] = with(quads[j], doubled, sixteen);
                    doubled = $add(doubled, doubled);
                }
                let mut doubled = $srl::<3>(bits);
                for j in (5..8).rev() {
                    quads[j] = with(quads[j], doubled, sixteen);
                    doubled = $add(doubled, doubled);
                }
                quads
            }

            #[target_feature(enable = $features)]
            #[inline]
            pub fn six_bits(nibbles: [$vector; 4], pairs: [$vector; 2]) -> [$vector; 8] {
                let mut quads = four_bits(nibbles);
                for half in 0..2 {
                    let plane = pairs[half];
                    let places = [$sll::<4>(plane), $sll::<2>(plane), plane, $srl::<2>(plane)];
                    for (j, place) in places.into_iter().enumerate() {
                        quads[4 * half + j] = with(quads[4 * half + j], place, $set1(0x30));
                    }
                }
                quads
            }
        }
    };
}

unpackers!(
    narrow, "avx2,fma,f16c", __m256i, _mm256_set1_epi8, _mm256_and_si256, _mm256_srli_epi16, _mm256_slli_epi16,
    _mm256_add_epi8,
    or_and: |a, b, c| _mm256_or_si256(a, _mm256_and_si256(b, c)),
    table: |low, high| _mm256_set_epi64x(high, low, high, low), _mm256_shuffle_epi8
);
unpackers!(
    wide, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni", __m512i, _mm512_set1_epi8,
    _mm512_and_si512, _mm512_srli_epi16, _mm512_slli_epi16, _mm512_add_epi8,
    or_and: |a, b, c| _mm512_ternarylogic_epi64::<0b1111_1000>(a, b, c),
    table: |low, high| _mm512_set_epi64(high, low, high, low, high, low, high, low), _mm512_shuffle_epi8
);
