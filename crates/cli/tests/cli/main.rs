//! The program as its users see it: arguments in, output, exit codes and files out.
#![forbid(unsafe_code)]

mod hub;
mod kv_cache;
mod loss;
mod measure;
mod mock_hub;
mod package;
mod positions;
mod program;
mod real_model;
mod tiny_model;
mod usage;
mod without_template;
