//! What this machine can do at most: the yardstick of every speed that is reported.
//!
//! Each figure is the best of a few short runs on all threads of a pool, so that a neighbour's noise does not lower it.

#[cfg(target_arch = "x86_64")]
use crate::isa::Extension;
use crate::{Compute, Isa};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The limits of a machine with a number of threads, for one instruction set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// reading memory that is in no cache
    pub read_gb_per_s: f64,
    /// f32 multiply-add in registers, two operations each
    pub f32_gflop_per_s: f64,
    /// int8 products added to wider sums in registers, two operations each
    pub int8_gop_per_s: f64,
}

/// Measures the threads of `cx` with its instruction set; takes about half a second.
pub fn measure(cx: &Compute) -> Peak {
    Peak {
        read_gb_per_s: read(cx),
        f32_gflop_per_s: rate(cx, f32_block),
        int8_gop_per_s: rate(cx, int8_block),
    }
}

/// Bytes of memory to read: more than caches hold.
const READ_BYTES: usize = 256 << 20;

fn read(cx: &Compute) -> f64 {
    // Written, so that every page is a page of its own.
    let mut memory = vec![1u64; READ_BYTES / 8];
    memory[0] = black_box(2);
    let parts: Vec<&[u64]> = memory.chunks(1 << 17).collect();
    let best = (0..4).map(|_| seconds(|| cx.pool.run(parts.len(), |i| _ = black_box(sum(cx.isa, parts[i])))));
    READ_BYTES as f64 * 1e-9 / best.fold(f64::INFINITY, f64::min)
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn sum(isa: Isa, part: &[u64]) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { avx2::sum(part) },
        Isa::Scalar => part.iter().fold(0, |sum, x| sum.wrapping_add(*x)),
    }
}

/// Operations a nanosecond of all threads together; `block` does some work and says how many operations that were.
fn rate(cx: &Compute, block: fn(Isa) -> u64) -> f64 {
    let n_threads = cx.pool.n_threads();
    let mut best: f64 = 0.0;
    for _ in 0..4 {
        let mut rates = vec![0.0; n_threads];
        // As many tasks as threads, each as long: every thread takes one.
        cx.pool.run_mut(&mut rates, |_, rate| {
            let start = Instant::now();
            let mut n_ops = 0;
            while start.elapsed() < Duration::from_millis(15) {
                n_ops += block(cx.isa);
            }
            *rate = n_ops as f64 / start.elapsed().as_nanos() as f64;
        });
        best = best.max(rates.iter().sum());
    }
    best
}

/// Rounds of a block of work: some microseconds.
const ROUNDS: u64 = 2_000;

fn f32_block(isa: Isa) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(avx2) => unsafe {
            match avx2.extension() {
                Extension::None | Extension::Vnni(_) => avx2::f32_block(ROUNDS),
                Extension::Avx512(_) => avx2::wide_f32_block(ROUNDS),
            }
        },
        Isa::Scalar => {
            let mut sums = black_box([1.0f32; 8]);
            for _ in 0..ROUNDS {
                sums.iter_mut().for_each(|sum| *sum = *sum * 0.999 + 0.001);
            }
            black_box(sums);
            ROUNDS * 16
        }
    }
}

fn int8_block(isa: Isa) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(avx2) => unsafe {
            match avx2.extension() {
                Extension::None => avx2::int8_block(ROUNDS),
                Extension::Vnni(_) => avx2::vnni_block(ROUNDS),
                Extension::Avx512(_) => avx2::wide_int8_block(ROUNDS),
            }
        },
        Isa::Scalar => {
            let mut sums = black_box([1i32; 8]);
            let x = black_box([3i8; 8]);
            for _ in 0..ROUNDS {
                for (sum, x) in sums.iter_mut().zip(black_box(x)) {
                    *sum = sum.wrapping_add(i32::from(x) * i32::from(x));
                }
            }
            black_box(sums);
            ROUNDS * 16
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx2")]
    pub(super) fn sum(part: &[u64]) -> u64 {
        let mut sums = [_mm256_setzero_si256(); 4];
        for line in part.as_chunks::<16>().0 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 4 i + 4 <= 16
                let four = unsafe { _mm256_loadu_si256(line.as_ptr().add(4 * i).cast()) };
                *sum = _mm256_add_epi64(*sum, four);
            }
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(256).cast());
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(264).cast());
        }
        let sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
        _mm256_extract_epi64::<0>(sum) as u64
    }

    /// Twelve independent sums, which hide the latency of an operation, of vectors that begin as `$start`: `$step` is a sum after
    /// an operation with `$x`, which must depend on it, or it would leave the loop. `$n_ops`: operations of a step.
    macro_rules! block {
        ($name:ident, $features:literal, $start:expr, $x:expr, $step:expr, $n_ops:literal) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(rounds: u64) -> u64 {
                let x = black_box($x);
                let mut sums = [$start; 12];
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = $step(*sum, x);
                    }
                }
                black_box(sums);
                rounds * 12 * $n_ops
            }
        };
    }
    block!(
        f32_block,
        "avx2,fma",
        _mm256_set1_ps(1.0),
        (_mm256_set1_ps(0.999), _mm256_set1_ps(0.001)),
        |sum, (x, y)| _mm256_fmadd_ps(sum, x, y),
        16
    );
    block!(
        wide_f32_block,
        "avx512f",
        _mm512_set1_ps(1.0),
        (_mm512_set1_ps(0.999), _mm512_set1_ps(0.001)),
        |sum, (x, y)| _mm512_fmadd_ps(sum, x, y),
        32
    );
    block!(
        int8_block,
        "avx2",
        _mm256_set1_epi8(1),
        _mm256_set1_epi8(3),
        |sum, x| _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, sum)),
        64
    );
    block!(
        vnni_block,
        "avx2,avxvnni",
        _mm256_set1_epi8(1),
        _mm256_set1_epi8(3),
        |sum, x| _mm256_dpbusd_avx_epi32(sum, x, x),
        64
    );
    block!(
        wide_int8_block,
        "avx512f,avx512vnni",
        _mm512_set1_epi8(1),
        _mm512_set1_epi8(3),
        |sum, x| _mm512_dpbusd_epi32(sum, x, x),
        128
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_has_a_peak_above_zero() {
        for isa in Isa::tested() {
            let peak = measure(&Compute::with_isa(1, isa));
            assert!(peak.read_gb_per_s > 0.01 && peak.f32_gflop_per_s > 0.01 && peak.int8_gop_per_s > 0.01);
        }
    }
}
