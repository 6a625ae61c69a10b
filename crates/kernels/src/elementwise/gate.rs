//! The gate of an MLP: `out = f(gate) · up`, where `f` is what the model was trained with.
//!
//! | function | formula | `hidden_act` in a Hugging Face `config.json` |
//! | --- | --- | --- |
//! | SiLU | `x / (1 + e^−x)` | `silu`, `swish` |
//! | GELU | `x · (1 + erf(x / √2)) / 2` | `gelu`, `gelu_python` |
//! | GELU by tanh | `x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2` | `gelu_new`, `gelu_pytorch_tanh`, … |
//! | quick GELU | `x / (1 + e^(−1.702 x))` | `quick_gelu` |
//! | ReLU | `max(x, 0)` | `relu` |
//! | ReLU squared | `max(x, 0)²` | `relu2` |
//!
//! Only SiLU has a vector form. The others are computed in float64, one value after the other, with the same bits on every
//! instruction set: a share of a percent of a token's time, spent on few models. NaN gives NaN in all of them.
//!
//! Source: GELU is arXiv 1606.08415; the names are those of the `activations` module of transformers.

use super::{each, silu_mul};
use crate::{Compute, Isa};

/// What an MLP does to its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateFunction {
    /// `x · sigmoid(x)`
    Silu,
    /// with the error function
    Gelu,
    /// with tanh in place of the error function
    GeluTanh,
    /// `x · sigmoid(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²`
    ReluSquared,
}

/// √(2/π), and the weight of the cube in GELU by tanh.
const TANH_SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const TANH_CUBE: f64 = 0.044_715;
/// The slope of quick GELU's sigmoid.
const QUICK: f64 = 1.702;

impl GateFunction {
    /// The function at `x`.
    pub fn value(self, x: f64) -> f64 {
        match self {
            GateFunction::Silu => x / (1.0 + (-x).exp()),
            GateFunction::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            GateFunction::GeluTanh => 0.5 * x * (1.0 + (TANH_SCALE * (x + TANH_CUBE * x * x * x)).tanh()),
            GateFunction::QuickGelu => x / (1.0 + (-QUICK * x).exp()),
            // Not `max`: a comparison lets NaN pass.
            GateFunction::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            GateFunction::ReluSquared => {
                if x < 0.0 {
                    0.0
                } else {
                    x * x
                }
            }
        }
    }

    /// Its derivative at `x`; 0 where ReLU has none.
    pub fn slope(self, x: f64) -> f64 {
        let of_sigmoid = |scale: f64| {
            let sigmoid = 1.0 / (1.0 + (-scale * x).exp());
            sigmoid * (1.0 + scale * x * (1.0 - sigmoid))
        };
        match self {
            GateFunction::Silu => of_sigmoid(1.0),
            GateFunction::Gelu => {
                let density = (-0.5 * x * x).exp() * TANH_SCALE * 0.5;
                0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * density
            }
            GateFunction::GeluTanh => {
                let tanh = (TANH_SCALE * (x + TANH_CUBE * x * x * x)).tanh();
                let inner = TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * x * x);
                0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
            }
            GateFunction::QuickGelu => of_sigmoid(QUICK),
            GateFunction::Relu => f64::from(u8::from(x > 0.0)),
            GateFunction::ReluSquared => {
                if x < 0.0 {
                    0.0
                } else {
                    2.0 * x
                }
            }
        }
    }
}

/// `out = f(gate) · up`: rows of `gate_up` are `[gate | up]`, `[n_tokens, 2 · n_ff]`; `out` is `[n_tokens, n_ff]`.
///
/// # Panics
/// Lengths do not fit.
pub fn gate(cx: &Compute, function: GateFunction, gate_up: &[f32], n_ff: usize, out: &mut [f32]) {
    assert!(n_ff > 0 && gate_up.len() == 2 * out.len() && out.len().is_multiple_of(n_ff));
    let mut rows: Vec<_> = gate_up.chunks_exact(2 * n_ff).zip(out.chunks_exact_mut(n_ff)).collect();
    each(cx, n_ff, &mut rows, |(gate_up, out)| {
        let (gate, up) = gate_up.split_at(n_ff);
        gate_row(cx.isa, function, gate, up, out);
    });
}

fn gate_row(isa: Isa, function: GateFunction, gate: &[f32], up: &[f32], out: &mut [f32]) {
    if function == GateFunction::Silu {
        return silu_mul(isa, gate, up, out);
    }
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = function.value(f64::from(*gate)) as f32 * up;
    }
}

/// The error function, to a few units in the last place of float64.
///
/// `erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1 · 3 · … · (2n+1))`, whose terms are all positive (Abramowitz and Stegun
/// 7.1.6). From 6 on it is 1 in float64.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut odd) = (size, size, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= 2.0 * size * size / odd;
        sum += term;
    }
    // NaN makes no step above, and is what comes out.
    (std::f64::consts::FRAC_2_SQRT_PI * (-size * size).exp() * sum).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the error function to 16 digits, from Abramowitz and Stegun, table 7.1.
    #[test]
    fn the_error_function_has_the_values_of_its_table() {
        let table = [
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (1.5, 0.966_105_146_475_310_8),
            (2.0, 0.995_322_265_018_952_7),
        ];
        for (x, wanted) in table {
            assert!((erf(x) - wanted).abs() < 1e-15, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert_eq!((erf(0.0), erf(7.0), erf(f64::NEG_INFINITY)), (0.0, 1.0, -1.0));
        assert!((erf(5.999) - 1.0).abs() < 1e-15);
        assert!(erf(f64::NAN).is_nan());
    }

    const ALL: [GateFunction; 6] = [
        GateFunction::Silu,
        GateFunction::Gelu,
        GateFunction::GeluTanh,
        GateFunction::QuickGelu,
        GateFunction::Relu,
        GateFunction::ReluSquared,
    ];

    fn of(function: GateFunction, x: f32) -> f32 {
        let mut out = [0.0];
        gate(&Compute::with_isa(1, Isa::best()), function, &[x, 1.0], 1, &mut out);
        out[0]
    }

    /// What `ACT2FN` of transformers 5.24 (torch 2.15) gives in float64.
    #[test]
    fn every_function_has_the_values_of_the_field() {
        let wanted = [
            [-0.238_405_844, 0.311_229_665_6, 1.652_793_898_7],
            [-0.045_500_263_9, 0.345_731_230_6, 1.845_438_536_3],
            [-0.045_402_305_9, 0.345_714_009_8, 1.845_451_234_5],
            [-0.064_341_376_9, 0.350_388_365_4, 1.827_964_55],
            [0.0, 0.5, 1.9],
            [0.0, 0.25, 3.61],
        ];
        for (function, wanted) in ALL.into_iter().zip(wanted) {
            for (x, wanted) in [-2.0f32, 0.5, 1.9].into_iter().zip(wanted) {
                let found = of(function, x);
                assert!(
                    (f64::from(found) - wanted).abs() < 3e-7,
                    "{function:?}({x}) = {found}, not {wanted}"
                );
            }
        }
    }

    #[test]
    fn slopes_are_those_of_central_differences() {
        for function in ALL {
            for step in -60..60 {
                let (x, h) = (f64::from(step) / 10.0 + 0.03, 1e-5);
                let wanted = (function.value(x + h) - function.value(x - h)) / (2.0 * h);
                assert!((function.slope(x) - wanted).abs() < 1e-8, "{function:?} at {x}");
            }
        }
    }

    #[test]
    fn no_function_hides_a_nan() {
        for function in ALL {
            assert!(of(function, f32::NAN).is_nan(), "{function:?}");
        }
    }

    #[test]
    fn rows_are_gate_then_up_and_threads_change_nothing() {
        let (n_tokens, n_ff) = (40, 1000);
        let gate_up: Vec<f32> = (0..n_tokens * 2 * n_ff).map(|i| (i % 977) as f32 / 100.0 - 4.0).collect();
        for function in ALL {
            let run = |n_threads| {
                let mut out = vec![0.0; n_tokens * n_ff];
                gate(&Compute::with_isa(n_threads, Isa::best()), function, &gate_up, n_ff, &mut out);
                out
            };
            let one = run(1);
            assert_eq!(one, run(3));
            let at = 7 * n_ff + 5;
            assert_eq!(
                one[at],
                of(function, gate_up[14 * n_ff + 5]) * gate_up[15 * n_ff + 5],
                "{function:?}"
            );
        }
    }
}
