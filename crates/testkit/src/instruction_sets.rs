//! Which instruction sets a parity test runs, and which it must.

/// All of `available`, said on standard output (`cargo test -- --nocapture` shows it). `name` is how the environment spells
/// one of them.
///
/// # Panics
/// The environment variable `LOSSY_REQUIRE_ISA`, names with commas between, asks for one that is not among them.
pub fn instruction_sets<I>(available: Vec<I>, name: impl Fn(&I) -> &'static str) -> Vec<I> {
    let names: Vec<&str> = available.iter().map(name).collect();
    println!("instruction sets: {}", names.join(", "));
    let required = std::env::var("LOSSY_REQUIRE_ISA").unwrap_or_default();
    if let Some(complaint) = complaint(&required, &names) {
        panic!("{complaint}");
    }
    available
}

/// What is wrong if not all of `required` are there.
fn complaint(required: &str, names: &[&str]) -> Option<String> {
    let required = required.split(',').map(str::trim).filter(|name| !name.is_empty());
    let missing: Vec<&str> = required.filter(|name| !names.contains(name)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "LOSSY_REQUIRE_ISA asks for {}, but this CPU has {}: run the tests on a CPU that has all of them, or leave \
             out what is missing",
            missing.join(", "),
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_missing_is_named_beside_what_there_is() {
        let complaint = complaint("avx2, avx512,avx9", &["scalar", "avx2"]).unwrap();
        assert!(complaint.contains("asks for avx512, avx9,"), "{complaint}");
        assert!(complaint.contains("this CPU has scalar, avx2:"), "{complaint}");
    }

    #[test]
    fn nothing_is_wrong_if_all_are_there_or_none_is_required() {
        assert_eq!(complaint("avx2,scalar", &["scalar", "avx2"]), None);
        assert_eq!(complaint("", &["scalar"]), None);
        assert_eq!(complaint(" , ", &["scalar"]), None);
    }
}
