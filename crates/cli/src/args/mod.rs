//! Options that several subcommands share, with the spellings of llama.cpp.

mod engine;
mod escape;
mod list;
mod loss;
mod model;
mod prompt;
mod sampling;
mod spelling;
mod template;
mod text;
mod threads;
mod value;

pub use engine::{Activations, CacheArgs, CalibrationArgs, EngineArgs, UnreadArgs};
pub use list::{Lengths, Listed};
pub use loss::LossArgs;
pub use model::ModelArgs;
pub use prompt::PromptArgs;
pub use sampling::SamplingArgs;
pub use spelling::with_long_spellings;
pub use template::TemplateArgs;
pub use text::{CalibrationText, NamedTokens};
pub use threads::Threads;
pub use value::TokenIds;
