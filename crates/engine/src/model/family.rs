//! The registry of model families: what a name in a file means for the computation.
//!
//! All families here are the Llama block (RMSNorm, rotary attention with grouped heads, SwiGLU); they differ in the
//! properties of [`Family`]. One more such family is one more row.

/// A family of models that this engine computes.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// `general.architecture` in GGUF
    pub gguf: &'static str,
    /// `model_type` in a Hugging Face `config.json`
    pub hf: &'static [&'static str],
    /// the GGUF's rows of Q and K are in the order of interleaved rotary pairs (2i, 2i+1)
    pub interleaved_in_gguf: bool,
    /// Q, K and V have biases
    pub qkv_bias: BiasRule,
    /// queries and keys are RMS-normalized per head before the rotation
    pub qk_norm: bool,
}

/// Whether a family's Q, K and V have biases.
#[derive(Debug, PartialEq, Clone, Copy)]
pub enum BiasRule {
    /// used where the file has them
    Optional,
    /// a file without them is broken
    Required,
}

/// Every family, by its GGUF name.
pub const FAMILIES: &[Family] = &[
    Family {
        gguf: "llama",
        hf: &["llama", "mistral"],
        interleaved_in_gguf: true,
        qkv_bias: BiasRule::Optional,
        qk_norm: false,
    },
    Family {
        gguf: "qwen2",
        hf: &["qwen2"],
        interleaved_in_gguf: false,
        qkv_bias: BiasRule::Required,
        qk_norm: false,
    },
    Family {
        gguf: "qwen3",
        hf: &["qwen3"],
        interleaved_in_gguf: false,
        qkv_bias: BiasRule::Optional,
        qk_norm: true,
    },
];

impl Family {
    /// The family of a GGUF's `general.architecture`.
    pub fn of_gguf(architecture: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.gguf == architecture)
    }

    /// The family of a `config.json`'s `model_type`.
    pub fn of_hf(model_type: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.hf.contains(&model_type))
    }

    /// The known names, for an error message.
    pub fn known_names() -> String {
        FAMILIES.iter().map(|family| family.gguf).collect::<Vec<_>>().join(", ")
    }
}
