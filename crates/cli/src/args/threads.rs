//! `--threads` of commands that compute without an engine.

use clap::Args;

/// `-t`
#[derive(Args, Clone, Copy, Debug)]
pub struct Threads {
    /// Threads; they change no byte of the result [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Threads {
    /// How many.
    pub fn count(self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores, usize::from)
    }
}
