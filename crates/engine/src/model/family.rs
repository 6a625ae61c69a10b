//! The registry of model families: what a name in a file means for the computation.
//!
//! All families here are the Llama block (RMSNorm, rotary attention with grouped heads, SwiGLU); they differ in the
//! properties of [`Family`]. One more such family is one more row. Defaults of Hugging Face classes are those of transformers
//! 5.24.

/// A family of models that this engine computes.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// `general.architecture` in GGUF
    pub gguf: &'static str,
    /// its classes in transformers
    pub hf: &'static [HfClass],
    /// the GGUF's rows of Q and K are in the order of interleaved rotary pairs (2i, 2i+1)
    pub interleaved_in_gguf: bool,
    /// Q, K and V have biases
    pub qkv_bias: BiasRule,
    /// queries and keys are RMS-normalized per head before the rotation
    pub qk_norm: bool,
}

/// A configuration class of transformers: what a `config.json` means that does not say.
#[derive(Debug, PartialEq)]
pub struct HfClass {
    /// `model_type` in `config.json`
    pub model_type: &'static str,
    /// key/value heads; `None`: as many as query heads
    pub n_kv_heads: Option<u64>,
    /// channels of a head; `None`: the width divided by the query heads
    pub head_dim: Option<u64>,
    /// when a sliding window is in use
    pub sliding_window: SlidingWindow,
    /// those of the keys `attention_bias` and `mlp_bias` that the class has
    pub bias_keys: &'static [&'static str],
}

/// When a class uses the `sliding_window` of its configuration.
#[derive(Debug, PartialEq, Clone, Copy)]
pub enum SlidingWindow {
    /// whenever it is a number; this one where the key is absent
    Always(Option<u64>),
    /// with `use_sliding_window`, in the layers that `layer_types` or `max_window_layers` name
    InLayers,
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
        hf: &[
            HfClass {
                model_type: "llama",
                n_kv_heads: None,
                head_dim: None,
                sliding_window: SlidingWindow::Always(None),
                bias_keys: &["attention_bias", "mlp_bias"],
            },
            HfClass {
                model_type: "mistral",
                n_kv_heads: Some(8),
                head_dim: None,
                sliding_window: SlidingWindow::Always(Some(4096)),
                bias_keys: &[],
            },
        ],
        interleaved_in_gguf: true,
        qkv_bias: BiasRule::Optional,
        qk_norm: false,
    },
    Family {
        gguf: "qwen2",
        hf: &[HfClass {
            model_type: "qwen2",
            n_kv_heads: Some(32),
            head_dim: None,
            sliding_window: SlidingWindow::InLayers,
            bias_keys: &[],
        }],
        interleaved_in_gguf: false,
        qkv_bias: BiasRule::Required,
        qk_norm: false,
    },
    Family {
        gguf: "qwen3",
        hf: &[HfClass {
            model_type: "qwen3",
            n_kv_heads: Some(32),
            head_dim: Some(128),
            sliding_window: SlidingWindow::InLayers,
            bias_keys: &["attention_bias"],
        }],
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

    /// The family of a `config.json`'s `model_type`, and its class.
    pub fn of_hf(model_type: &str) -> Option<(&'static Family, &'static HfClass)> {
        let classes = FAMILIES.iter().flat_map(|family| family.hf.iter().map(move |class| (family, class)));
        classes.into_iter().find(|(_, class)| class.model_type == model_type)
    }

    /// The known names of GGUF, for an error message.
    pub fn known_names() -> String {
        FAMILIES.iter().map(|family| family.gguf).collect::<Vec<_>>().join(", ")
    }

    /// The known names of Hugging Face, for an error message.
    pub fn known_model_types() -> String {
        let classes = FAMILIES.iter().flat_map(|family| family.hf);
        classes.map(|class| class.model_type).collect::<Vec<_>>().join(", ")
    }
}
