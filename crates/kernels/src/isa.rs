//! Which instruction set the kernels use.
//!
//! An [`Isa`] is chosen once, at run time, and handed down in [`Compute`](crate::Compute). Its variants carry a token
//! ([`Avx2`]) that only detection can make, so holding one is the proof that the CPU has the instructions:
//!
//! ```text
//! match isa {
//!     // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
//!     Isa::Avx2(_) => unsafe { avx2::kernel(..) },
//!     Isa::Scalar => scalar::kernel(..),
//! }
//! ```
//!
//! One more instruction set is one more variant here and one more file beside each `avx2.rs`.

use std::fmt;

/// What detection looks for before it makes a proof: the features that `#[target_feature]` may list where a kernel is called with
/// that proof. Those of AVX2 go without saying beside the others.
#[cfg(target_arch = "x86_64")]
macro_rules! promises {
    ($proof:ident: $($feature:tt),*) => {
        impl $proof {
            #[cfg(test)]
            const FEATURES: &'static [&'static str] = &[$($feature),*];

            /// Whether this CPU has all of them.
            fn is_there() -> bool {
                $(is_x86_feature_detected!($feature))&&*
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
promises!(Avx2: "avx2", "fma", "f16c");
#[cfg(target_arch = "x86_64")]
promises!(Vnni: "avxvnni");
#[cfg(target_arch = "x86_64")]
promises!(Avx512: "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni");

/// Proof that the CPU has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Avx2 {
    extension: Extension,
}

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The proof, if this CPU has all three.
    pub fn detect() -> Option<Avx2> {
        Avx2::is_there().then_some(Avx2 { extension: Extension::None })
    }

    /// The same with dot products of bytes, if the CPU has them.
    fn with_vnni(self) -> Option<Avx2> {
        Vnni::is_there().then_some(Avx2 { extension: Extension::Vnni(Vnni(())) })
    }

    /// The same with vectors of 512 bits, if the CPU has them and dot products of bytes in them.
    fn with_avx512(self) -> Option<Avx2> {
        Avx512::is_there().then_some(Avx2 { extension: Extension::Avx512(Avx512 { amx: None }) })
    }

    /// The same with vectors of 512 bits and with tiles.
    fn with_amx(self, amx: Amx) -> Option<Avx2> {
        Avx512::is_there().then_some(Avx2 { extension: Extension::Avx512(Avx512 { amx: Some(amx) }) })
    }

    /// Whether kernels may use tiles of AMX.
    pub(crate) fn has_tiles(self) -> bool {
        matches!(self.extension, Extension::Avx512(Avx512 { amx: Some(_) }))
    }

    /// What kernels may use beyond AVX2.
    pub(crate) fn extension(self) -> Extension {
        self.extension
    }
}

/// What some kernels use beyond AVX2, FMA and F16C. It changes no bit of any result.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Extension {
    /// nothing
    None,
    /// dot products of bytes
    Vnni(Vnni),
    /// vectors of 512 bits, and dot products of bytes in vectors of any size
    Avx512(Avx512),
}

/// Proof that the CPU has AVX-VNNI: four products of bytes and their sum in one instruction.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Vnni(());

/// Proof that the CPU has AVX-512 F, BW, DQ, VL, VBMI and VNNI, as Ice Lake and Zen 4 and what came after them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Avx512 {
    amx: Option<Amx>,
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// Tiles, if kernels may use them too.
    pub fn amx(self) -> Option<Amx> {
        self.amx
    }
}

/// Proof that the CPU has AMX with products of bytes, as Xeons since Sapphire Rapids, and that the system lets this process use it.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Amx {
    #[cfg(test)]
    is_emulated: bool,
}

#[cfg(target_arch = "x86_64")]
impl Amx {
    /// The proof, if this CPU has tiles and the system allows them.
    pub fn detect() -> Option<Amx> {
        (!cfg!(miri) && Amx::is_there() && Amx::is_permitted()).then_some(Amx {
            #[cfg(test)]
            is_emulated: false,
        })
    }

    /// Whether the CPU says so: leaf 7 of CPUID, bits 24 and 25 of EDX.
    fn is_there() -> bool {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const TILES_AND_BYTES: u32 = 1 << 24 | 1 << 25;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES_AND_BYTES == TILES_AND_BYTES
    }

    /// Asks Linux for room for tiles wherever it keeps registers of this process: of all threads, once and for all.
    #[cfg(target_os = "linux")]
    fn is_permitted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers, and changes nothing but what the system saves.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }

    /// How other systems are asked is not known here.
    #[cfg(not(target_os = "linux"))]
    fn is_permitted() -> bool {
        false
    }

    /// Tiles that are computed plainly, see [`Tiles`](crate::tiles::Tiles).
    #[cfg(test)]
    pub const EMULATED: Amx = Amx { is_emulated: true };

    #[cfg(test)]
    pub fn is_emulated(self) -> bool {
        self.is_emulated
    }
}

/// The instruction set that every kernel of one [`Compute`](crate::Compute) uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// portable code: the specification of every kernel
    Scalar,
    /// 256-bit vectors with FMA, and where it says so with dot products of bytes, 512-bit vectors or tiles, which give the
    /// same bits
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

/// An instruction set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// no instruction set has this name
    #[error("unknown instruction set `{0}`: this machine has {1}")]
    Unknown(String, String),
    /// the CPU does not have it
    #[error("instruction set `{0}` is not available: this machine has {1}")]
    Missing(&'static str, String),
}

impl Isa {
    /// Names of all instruction sets that there is code for on any machine.
    const NAMES: [&'static str; 5] = ["scalar", "avx2", "avx2-vnni", "avx512", "amx"];

    /// Every instruction set that this CPU has, slowest first; `Scalar` is always there.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "other architectures add nothing yet")]
        let mut all = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::detect() {
            all.push(Isa::Avx2(avx2));
            all.extend(avx2.with_vnni().map(Isa::Avx2));
            all.extend(avx2.with_avx512().map(Isa::Avx2));
            all.extend(Amx::detect().and_then(|amx| avx2.with_amx(amx)).map(Isa::Avx2));
        }
        all
    }

    /// What parity tests run, see [`lossy_testkit::instruction_sets`]; also the kernels for tiles, with tiles that are emulated.
    #[cfg(test)]
    pub(crate) fn tested() -> Vec<Isa> {
        #[allow(unused_mut, reason = "other architectures add nothing")]
        let mut all = lossy_testkit::instruction_sets(Isa::available(), Isa::name);
        #[cfg(target_arch = "x86_64")]
        all.extend(Avx2::detect().and_then(|avx2| avx2.with_amx(Amx::EMULATED)).map(Isa::Avx2));
        all
    }

    /// The best instruction set of this CPU.
    pub fn best() -> Isa {
        Isa::available().pop().unwrap_or(Isa::Scalar)
    }

    /// The instruction set called `name`: `scalar`, `avx2`, `avx2-vnni`, `avx512` or `amx`.
    ///
    /// # Errors
    /// The name is unknown, or the CPU does not have it.
    pub fn by_name(name: &str) -> Result<Isa, IsaError> {
        let available = Isa::available();
        let listed = || available.iter().map(Isa::to_string).collect::<Vec<_>>().join(", ");
        if let Some(isa) = available.iter().find(|isa| isa.name() == name) {
            return Ok(*isa);
        }
        match Isa::NAMES.iter().find(|known| **known == name) {
            Some(known) => Err(IsaError::Missing(known, listed())),
            None => Err(IsaError::Unknown(name.to_owned(), listed())),
        }
    }

    /// Its name, as [`by_name`](Isa::by_name) takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(avx2) => match avx2.extension {
                Extension::None => "avx2",
                Extension::Vnni(_) => "avx2-vnni",
                #[cfg(test)]
                Extension::Avx512(Avx512 { amx: Some(Amx { is_emulated: true }) }) => "amx-emulated",
                Extension::Avx512(Avx512 { amx: Some(_) }) => "amx",
                Extension::Avx512(Avx512 { amx: None }) => "avx512",
            },
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_is_always_said_which_instruction_sets_the_parity_tests_run() {
        let tested: Vec<&str> = Isa::tested().iter().map(Isa::name).collect();
        let absent: Vec<&str> = Isa::NAMES.into_iter().filter(|name| !tested.contains(name)).collect();
        let absent = if absent.is_empty() { "none".to_owned() } else { absent.join(", ") };
        let tested = tested.join(", ");
        // Not `eprintln!`, which is shown only if the test fails.
        writeln!(std::io::stderr(), "parity tests run {tested}; this CPU lacks: {absent}").unwrap();
    }

    #[test]
    fn every_available_isa_is_found_by_its_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::by_name(isa.name()), Ok(isa));
            assert!(Isa::NAMES.contains(&isa.name()));
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_what_there_is() {
        let error = Isa::by_name("avx9").unwrap_err().to_string();
        assert!(error.contains("avx9") && error.contains("scalar"), "{error}");
    }
    /// The strings of this crate's code that are lists of features, with the file they are in: what stands behind `enable = `,
    /// and what macros pass on to there.
    #[cfg(target_arch = "x86_64")]
    fn feature_lists(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                feature_lists(&path, found);
                continue;
            }
            // Here are the names themselves.
            if path.file_name().is_some_and(|name| name == "isa.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let mut strings = line.split('"');
                while let (Some(before), Some(string)) = (strings.next(), strings.next()) {
                    if before.ends_with("enable = ") || string.starts_with("avx") {
                        found.push((path.display().to_string(), string.to_owned()));
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn kernels_enable_only_features_that_one_proof_promises() {
        let mut lists = Vec::new();
        feature_lists(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut lists);
        assert!(lists.len() > 100, "{lists:?}");
        for (file, list) in lists {
            let promised = |proof: &[&str]| {
                list.split(',').all(|one| Avx2::FEATURES.contains(&one) || proof.contains(&one))
            };
            assert!(
                promised(Vnni::FEATURES) || promised(Avx512::FEATURES),
                "{file}: \"{list}\" has no proof"
            );
        }
    }
}
