//! Which positions to use, as one string.
//!
//! ```text
//! auto                               linear as far as the model was trained, adaptive beyond
//! linear                             the model's own
//! adaptive[:window=N,reach=N,growth=N,exact=N,logn=on]
//!                                    frames move together as far as the text's length needs
//! self-extend[:group=G,window=N]     far tokens share positions, G each
//! dca[:chunk=N]                      Dual Chunk Attention
//! yarn[:factor=F], ntk[:factor=F]    slow channels turn more slowly, for all positions alike
//! ```
//! A name belongs to a [`Family`]: one file, one line in [`FAMILIES`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::error::PositionError;
use super::family::{Choice, Family, Resolved};
use super::rope::Trained;
use super::{adaptive, auto, dual_chunk, linear, ntk, self_extend, yarn};
use crate::parameters::{ParameterError, Parameters, split};

/// All positions that there are.
const FAMILIES: [&Family; 7] = [
    &auto::FAMILY,
    &linear::FAMILY,
    &adaptive::FAMILY,
    &self_extend::FAMILY,
    &dual_chunk::FAMILY,
    &yarn::FAMILY,
    &ntk::FAMILY,
];

/// Positions as a user names them. Numbers that are left out follow from the model and the context.
#[derive(Clone, Debug)]
pub struct PositionScheme(Arc<dyn Choice>);

impl PositionScheme {
    /// The model's own positions if the context is within the trained one, else `adaptive`.
    pub fn auto() -> PositionScheme {
        PositionScheme(Arc::new(auto::Auto))
    }

    /// The model's own positions.
    pub fn linear() -> PositionScheme {
        PositionScheme(Arc::new(linear::Linear))
    }

    pub(super) fn new(choice: Arc<dyn Choice>) -> PositionScheme {
        PositionScheme(choice)
    }

    /// Names of all positions, for messages.
    pub fn known() -> String {
        FAMILIES.map(|family| family.name).join(", ")
    }

    /// What it is for a model in a context of `n_ctx` tokens, which may be longer than it is good for.
    pub(super) fn resolved(&self, trained: Trained<'_>, n_ctx: usize) -> Result<Resolved, PositionError> {
        self.0.resolve(trained, n_ctx)
    }

    /// Whether, with all numbers, it is what [`auto`](PositionScheme::auto) becomes in some context of the model.
    pub(crate) fn is_auto(&self, trained: Trained<'_>) -> bool {
        [trained.n_ctx, trained.n_ctx + 1].into_iter().any(|n_ctx| {
            let auto = PositionScheme::auto().resolved(trained, n_ctx);
            auto.is_ok_and(|auto| auto.choice.spelled() == self.0.spelled())
        })
    }
}

impl Default for PositionScheme {
    fn default() -> PositionScheme {
        PositionScheme::auto()
    }
}

impl FromStr for PositionScheme {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<PositionScheme, PositionError> {
        let (name, parameters) = split(text);
        let Some(family) = FAMILIES.iter().find(|family| family.name == name) else {
            return Err(PositionError::Unknown { name: name.to_owned(), known: PositionScheme::known() });
        };
        let parse = || -> Result<Arc<dyn Choice>, ParameterError> {
            let mut parameters = Parameters::parse(parameters)?;
            let choice = (family.parse)(&mut parameters)?;
            parameters.end()?;
            Ok(choice)
        };
        match parse() {
            Ok(choice) => Ok(PositionScheme(choice)),
            Err(error) => Err(PositionError::Parameter { name: name.to_owned(), error }),
        }
    }
}

impl fmt::Display for PositionScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.spelled())
    }
}

impl PartialEq for PositionScheme {
    fn eq(&self, other: &PositionScheme) -> bool {
        self.0.spelled() == other.0.spelled()
    }
}

impl Eq for PositionScheme {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::{RopeConfig, RopeScaling};

    fn parse(text: &str) -> PositionScheme {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        text.parse::<PositionScheme>().expect_err(text).to_string()
    }

    const ROPE: RopeConfig = RopeConfig { base: 10_000.0, scaling: RopeScaling::None };
    const TRAINED: Trained<'_> = Trained { rope: &ROPE, head_dim: 64, n_ctx: 8192 };

    /// Of a model trained for 8,192 tokens, in a context of 16,384.
    fn with_all_numbers(text: &str) -> Result<String, String> {
        let resolved = parse(text).resolved(TRAINED, 16_384).map_err(|error| error.to_string())?;
        Ok(resolved.choice.spelled())
    }

    #[test]
    fn every_scheme_is_spelled_as_it_is_read() {
        for text in [
            "auto",
            "linear",
            "adaptive",
            "adaptive:window=1024,reach=4096",
            "adaptive:reach=4096,exact=6000",
            "adaptive:reach=4096,growth=512,logn=off",
            "self-extend:group=8,window=1024",
            "self-extend",
            "dca:chunk=6144",
            "yarn:factor=4",
            "ntk:factor=2.5",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_left_out_follows_from_model_and_context() {
        for (text, all) in [
            ("auto", "adaptive:window=1024,reach=4608,growth=512,exact=8192,logn=on"),
            ("linear", "linear"),
            ("adaptive:reach=4096", "adaptive:window=896,reach=4096,growth=0,exact=8192,logn=on"),
            ("self-extend", "self-extend:group=3,window=1920"),
            ("dca", "dca:chunk=6144"),
            ("yarn", "yarn:factor=2"),
            ("ntk", "ntk:factor=2"),
        ] {
            assert_eq!(with_all_numbers(text).as_deref(), Ok(all));
            let again = parse(all).resolved(TRAINED, 16_384).expect(all);
            assert_eq!(again.choice.spelled(), all, "all numbers are the same again");
        }
        assert!(parse("adaptive:window=1024,reach=4608,growth=512,exact=8192,logn=on").is_auto(TRAINED));
        assert!(parse("linear").is_auto(TRAINED));
        assert!(!parse("dca:chunk=6144").is_auto(TRAINED));
    }

    #[test]
    fn what_is_refused_says_what_is_possible() {
        assert!(refusal("rope").contains("self-extend"));
        assert!(refusal("adaptive:window=100").contains("such as 128"));
        assert!(refusal("self-extend:group=5,window=1024").contains("such as 1280"));
        assert!(refusal("self-extend:group=1").contains("2 to 64"));
        assert!(refusal("yarn:factor=0.5").contains("above 1"));
        assert!(refusal("linear:window=128").contains("no parameter `window`; there are none"));
        assert!(refusal("dca:size=128").contains("no parameter `size`; there is chunk"));
        assert!(refusal("dca:chunk").contains("key=value"));
        assert!(refusal("adaptive:logn=1").contains("on or off"));
        let unfit = |text: &str| with_all_numbers(text).expect_err(text);
        assert!(unfit("adaptive:reach=9000").contains("at most the trained context, 8192"));
        assert!(unfit("adaptive:exact=128").contains("from the reach, 4608"));
        assert!(unfit("adaptive:growth=9000").contains("at most the trained context"));
        assert!(unfit("dca:chunk=8192").contains("8320 are the least"));
        assert!(unfit("self-extend:window=8192").contains("8320 are the least"));
    }
}
