//! The program as its users see it: arguments in, output, exit codes and files out.
#![forbid(unsafe_code)]

mod ask;
#[cfg(unix)]
mod chat;
mod compress;
mod directories;
mod distill;
mod hostile;
mod hub;
mod kv_cache;
mod loss;
mod measure;
#[cfg(target_os = "linux")]
mod memory;
mod mock_hub;
mod no_model;
mod package;
mod positions;
mod program;
mod prompt_cache;
mod prune;
mod quantize;
mod real_model;
mod reference_model;
#[cfg(unix)]
mod routers;
#[cfg(unix)]
mod serve;
mod templates;
#[cfg(unix)]
mod terminal;
mod usage;
