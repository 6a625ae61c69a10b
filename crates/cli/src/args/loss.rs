//! What a KV scheme may cost, and what is said of it.

use clap::Args;
use lossy_eval::Budget;

use crate::loss::When;

/// `--max-loss` and `--probe`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running")]
pub struct LossArgs {
    /// Stores keys and values in the fewest bits that stay within a loss: kl=N, top=N or ppl=N. What is not known of the
    /// model yet is measured first
    #[arg(long, value_name = "BUDGET", conflicts_with_all = ["cache_type_k", "cache_type_v", "calibrate"])]
    pub max_loss: Option<Budget>,

    /// Measures what a lossy KV cache costs on this model when it is used for the first time, for at most a minute, and
    /// says it in a line. Ctrl-C skips it
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::Auto, env = "LOSSY_PROBE")]
    pub probe: When,
}
