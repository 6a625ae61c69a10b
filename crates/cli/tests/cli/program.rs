//! The program in an environment of its own: no variable, cache or history of the machine's user takes part.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use assert_cmd::Command;
use tempfile::TempDir;

/// A home directory that is gone at the end of the test.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Home {
        Home { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The Hugging Face cache.
    pub fn hub_cache(&self) -> PathBuf {
        self.path().join(".cache/huggingface/hub")
    }

    /// `lossy ARGS`, with an unreachable hub and at most 120 seconds.
    pub fn lossy(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lossy"));
        command.env_clear().timeout(std::time::Duration::from_secs(120));
        for (name, value) in self.variables() {
            command.env(name, value);
        }
        command.current_dir(self.path()).args(args);
        command
    }

    /// A run that is not waited for, and that is not heard.
    pub fn spawn(&self, args: &[&str]) -> Child {
        std::process::Command::new(env!("CARGO_BIN_EXE_lossy"))
            .env_clear()
            .envs(self.variables())
            .current_dir(self.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The variables of the program, for tests that start it in another way.
    pub fn variables(&self) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let isa = std::env::var("LOSSY_ISA").ok().map(|isa| ("LOSSY_ISA".to_string(), isa));
        let mut variables = vec![
            ("PATH".to_string(), path),
            ("HOME".to_string(), self.path().display().to_string()),
            // Nothing listens on port 9 (discard).
            ("HF_ENDPOINT".to_string(), "http://127.0.0.1:9".to_string()),
        ];
        variables.extend(isa);
        variables
    }
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program prints UTF-8")
}

/// The only line of an error, with exit code 1.
#[track_caller]
pub fn error_line(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let stderr = text(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default().to_string();
    assert!(last.starts_with("error: "), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    last
}
