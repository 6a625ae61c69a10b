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

use std::fmt;
use std::str::FromStr;

use lossy_kernels::attention::RANGE_TOKENS;

use super::map::MAX_STRETCH;
use super::{PositionError, PositionMap, Positions, Rope, RopeConfig, RopeScaling, Trained, Yarn};

/// Positions as a user names them. What is `None` follows from the model and the context.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum PositionScheme {
    /// [`Linear`](PositionScheme::Linear) if the context is within the trained one, else
    /// [`Adaptive`](PositionScheme::Adaptive)
    #[default]
    Auto,
    /// the model's own
    Linear,
    /// see [`PositionMap::Adaptive`]
    Adaptive {
        /// neighbours that keep their distances, tokens
        window: Option<usize>,
        /// what the longest distance stays below from then on, tokens
        reach: Option<usize>,
        /// what is added to the reach whenever the text doubles, tokens; with a given reach 0 unless given too
        growth: Option<usize>,
        /// tokens up to which a text has the model's own positions
        exact: Option<usize>,
        /// whether queries beyond that grow with the logarithm of the text
        logn: Option<bool>,
    },
    /// see [`PositionMap::SelfExtend`]
    SelfExtend {
        /// tokens that share a position
        group: Option<usize>,
        /// neighbours that keep their distances, tokens
        window: Option<usize>,
    },
    /// see [`PositionMap::DualChunk`]
    DualChunk {
        /// tokens of a chunk
        chunk: Option<usize>,
    },
    /// YaRN (arXiv 2309.00071) on a model that was not trained with it
    Yarn {
        /// how many times longer
        factor: Option<f64>,
    },
    /// a larger base of the frequencies ("NTK-aware")
    Ntk {
        /// how many times longer
        factor: Option<f64>,
    },
}

// No factor is NaN.
impl Eq for PositionScheme {}

impl FromStr for PositionScheme {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<PositionScheme, PositionError> {
        let (name, parameters) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let mut parameters = Parameters::parse(name, parameters)?;
        let scheme = match name {
            "auto" => PositionScheme::Auto,
            "linear" => PositionScheme::Linear,
            "adaptive" => PositionScheme::Adaptive {
                window: parameters.take("window")?,
                reach: parameters.take("reach")?,
                growth: parameters.take("growth")?,
                exact: parameters.take("exact")?,
                logn: parameters.switch("logn")?,
            },
            "self-extend" => PositionScheme::SelfExtend {
                group: parameters.take("group")?,
                window: parameters.take("window")?,
            },
            "dca" => PositionScheme::DualChunk { chunk: parameters.take("chunk")? },
            "yarn" => PositionScheme::Yarn { factor: parameters.factor()? },
            "ntk" => PositionScheme::Ntk { factor: parameters.factor()? },
            _ => return Err(PositionError::Unknown { name: name.to_owned() }),
        };
        parameters.end()?;
        scheme.check()?;
        Ok(scheme)
    }
}

/// The `key=value` parts that are still to be read.
struct Parameters<'a> {
    name: &'a str,
    parts: Vec<(&'a str, &'a str)>,
}

impl<'a> Parameters<'a> {
    fn parse(name: &'a str, text: &'a str) -> Result<Parameters<'a>, PositionError> {
        let mut parts = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(refused(name, part, "key=value"));
            };
            parts.push((key.trim(), value.trim()));
        }
        Ok(Parameters { name, parts })
    }

    fn value<T: FromStr>(&mut self, key: &str, expected: &str) -> Result<Option<T>, PositionError> {
        let Some(index) = self.parts.iter().position(|(found, _)| *found == key) else { return Ok(None) };
        let (key, value) = self.parts.remove(index);
        let refuse = |_| refused(self.name, &format!("{key}={value}"), expected);
        value.parse().map(Some).map_err(refuse)
    }

    fn take(&mut self, key: &str) -> Result<Option<usize>, PositionError> {
        self.value(key, "a number of tokens")
    }

    fn switch(&mut self, key: &str) -> Result<Option<bool>, PositionError> {
        const EXPECTED: &str = "on or off";
        match self.value::<String>(key, EXPECTED)?.as_deref() {
            None => Ok(None),
            Some("on") => Ok(Some(true)),
            Some("off") => Ok(Some(false)),
            Some(other) => Err(refused(self.name, &format!("{key}={other}"), EXPECTED)),
        }
    }

    fn factor(&mut self) -> Result<Option<f64>, PositionError> {
        let factor: Option<f64> = self.value("factor", "a number above 1")?;
        match factor {
            Some(factor) if !(factor > 1.0 && factor <= 1000.0) => {
                Err(refused(self.name, &format!("factor={factor}"), "a number above 1, at most 1000"))
            }
            factor => Ok(factor),
        }
    }

    fn end(self) -> Result<(), PositionError> {
        match self.parts.first() {
            Some((key, value)) => {
                Err(refused(self.name, &format!("{key}={value}"), "no parameter of this name"))
            }
            None => Ok(()),
        }
    }
}

fn refused(name: &str, parameter: &str, expected: &str) -> PositionError {
    PositionError::Parameter {
        name: name.to_owned(),
        parameter: parameter.to_owned(),
        expected: expected.to_owned(),
    }
}

impl PositionScheme {
    /// Whether the numbers can be, whatever the model.
    fn check(&self) -> Result<(), PositionError> {
        let name = self.to_string();
        let whole = |key: &str, value: Option<usize>, group: usize| match value {
            Some(tokens)
                if tokens == 0 || !tokens.is_multiple_of(RANGE_TOKENS) || !tokens.is_multiple_of(group) =>
            {
                let step = least_common_multiple(RANGE_TOKENS, group);
                let nearest = tokens.div_ceil(step).max(1) * step;
                let expected = match group {
                    1 => format!("a multiple of {RANGE_TOKENS}, such as {nearest}"),
                    _ => format!("a multiple of {RANGE_TOKENS} and of the group {group}, such as {nearest}"),
                };
                Err(refused(&name, &format!("{key}={tokens}"), &expected))
            }
            _ => Ok(()),
        };
        match *self {
            PositionScheme::Adaptive { window, .. } => whole("window", window, 1),
            PositionScheme::DualChunk { chunk } => whole("chunk", chunk, 1),
            PositionScheme::SelfExtend { group, window } => {
                if let Some(group) = group.filter(|group| !(2..=MAX_STRETCH).contains(group)) {
                    return Err(refused(
                        &name,
                        &format!("group={group}"),
                        "2 to 64 tokens that share a position",
                    ));
                }
                whole("window", window, group.unwrap_or(1))
            }
            _ => Ok(()),
        }
    }

    /// The positions of a model in a context of `n_ctx` tokens. `beyond` lets them go on past where they are good.
    ///
    /// # Errors
    /// They do not reach that far, or do not fit the model.
    pub fn resolve(
        &self,
        trained: Trained<'_>,
        n_ctx: usize,
        beyond: bool,
    ) -> Result<Positions, PositionError> {
        let n_trained = trained.n_ctx;
        let scheme = self.filled(n_trained, n_ctx)?;
        scheme.check()?;
        let too_long = |longest: usize, fix| {
            let name = scheme.to_string();
            if n_ctx <= longest || beyond {
                Ok(())
            } else {
                Err(PositionError::TooLong { name, longest, n_trained, n_ctx, fix })
            }
        };
        let (rope, longest) = match scheme {
            PositionScheme::Yarn { factor: Some(factor) } | PositionScheme::Ntk { factor: Some(factor) } => {
                let longest = (n_trained as f64 * factor) as usize;
                too_long(longest, "raise the factor")?;
                (scheme.scaled(trained, factor)?, longest)
            }
            _ => (trained.rope.clone(), n_trained),
        };
        let map = match scheme {
            PositionScheme::Adaptive {
                window: Some(window),
                reach: Some(reach),
                growth: Some(growth),
                exact: Some(exact),
                logn: Some(logn),
            } => PositionMap::Adaptive { window, reach, growth, exact, logn },
            PositionScheme::SelfExtend { group: Some(position_group), window: Some(window) } => {
                PositionMap::SelfExtend { position_group, window }
            }
            PositionScheme::DualChunk { chunk: Some(chunk) } => PositionMap::DualChunk { chunk, n_trained },
            PositionScheme::Yarn { .. } | PositionScheme::Ntk { .. } => PositionMap::Linear,
            _ => {
                too_long(n_trained, "choose --positions auto")?;
                PositionMap::Linear
            }
        };
        let longest = map.longest(n_trained).unwrap_or(longest);
        too_long(longest, "take a larger group, another map, or a shorter context")?;
        Ok(Positions::new(map, Rope::new(&rope, trained.head_dim), n_ctx).named(scheme, longest))
    }

    /// Whether it is what [`Auto`](PositionScheme::Auto) becomes beyond the trained context.
    pub(crate) fn is_auto_beyond(&self, n_trained: usize) -> bool {
        PositionScheme::Auto.filled(n_trained, n_trained + 1).is_ok_and(|auto| auto == *self)
    }

    /// The same with all numbers.
    fn filled(&self, n_trained: usize, n_ctx: usize) -> Result<PositionScheme, PositionError> {
        let short = |least: usize| {
            if n_trained >= least {
                return Ok(());
            }
            let reason = format!("it was trained for {n_trained} tokens, and {least} are the least");
            Err(PositionError::Model { name: self.to_string(), reason })
        };
        Ok(match *self {
            PositionScheme::Auto if n_ctx <= n_trained => PositionScheme::Linear,
            PositionScheme::Auto => {
                PositionScheme::Adaptive { window: None, reach: None, growth: None, exact: None, logn: None }
                    .filled(n_trained, n_ctx)?
            }
            PositionScheme::Linear => PositionScheme::Linear,
            PositionScheme::Adaptive { window, reach, growth, exact, logn } => {
                let growth = growth.unwrap_or(if reach.is_some() { 0 } else { n_trained / 16 });
                let reach = reach.unwrap_or_else(|| default_reach(n_trained));
                let window = window.unwrap_or_else(|| default_window(reach));
                short(window + 2 * RANGE_TOKENS)?;
                if !(window + 2 * RANGE_TOKENS..=n_trained).contains(&reach) {
                    let expected = format!(
                        "at least the window and {} more, {}, and at most the trained context, {n_trained}",
                        2 * RANGE_TOKENS,
                        window + 2 * RANGE_TOKENS
                    );
                    return Err(refused(&self.to_string(), &format!("reach={reach}"), &expected));
                }
                if growth > n_trained {
                    let expected = format!("at most the trained context, {n_trained}");
                    return Err(refused(&self.to_string(), &format!("growth={growth}"), &expected));
                }
                let exact = exact.unwrap_or(n_trained);
                if !(reach..=n_trained).contains(&exact) {
                    let expected = format!("from the reach, {reach}, to the trained context, {n_trained}");
                    return Err(refused(&self.to_string(), &format!("exact={exact}"), &expected));
                }
                PositionScheme::Adaptive {
                    window: Some(window),
                    reach: Some(reach),
                    growth: Some(growth),
                    exact: Some(exact),
                    logn: Some(logn.unwrap_or(true)),
                }
            }
            PositionScheme::SelfExtend { group, window } => {
                let (group, window) = group_and_window(group, window, n_trained, n_ctx);
                short(window + RANGE_TOKENS)?;
                PositionScheme::SelfExtend { group: Some(group), window: Some(window) }
            }
            PositionScheme::DualChunk { chunk } => {
                let chunk =
                    chunk.unwrap_or(n_trained * 3 / 4 / RANGE_TOKENS * RANGE_TOKENS).max(RANGE_TOKENS);
                short(chunk + RANGE_TOKENS)?;
                PositionScheme::DualChunk { chunk: Some(chunk) }
            }
            PositionScheme::Yarn { factor } => {
                PositionScheme::Yarn { factor: Some(factor.unwrap_or_else(|| needed(n_trained, n_ctx))) }
            }
            PositionScheme::Ntk { factor } => {
                PositionScheme::Ntk { factor: Some(factor.unwrap_or_else(|| needed(n_trained, n_ctx))) }
            }
        })
    }

    /// The model's rotation, scaled.
    fn scaled(&self, trained: Trained<'_>, factor: f64) -> Result<RopeConfig, PositionError> {
        let RopeConfig { base, scaling } = trained.rope;
        if *scaling != RopeScaling::None {
            let reason = "it has a scaling of its own; use linear or adaptive".to_owned();
            return Err(PositionError::Model { name: self.to_string(), reason });
        }
        Ok(match self {
            PositionScheme::Ntk { .. } => {
                let d = trained.head_dim as f64;
                RopeConfig { base: base * factor.powf(d / (d - 2.0)), scaling: RopeScaling::None }
            }
            _ => RopeConfig {
                base: *base,
                scaling: RopeScaling::Yarn(Yarn {
                    factor,
                    original_context: trained.n_ctx as f64,
                    beta_fast: 32.0,
                    beta_slow: 1.0,
                    attention_factor: None,
                }),
            },
        })
    }
}

/// How many times longer a context is than the trained one.
fn needed(n_trained: usize, n_ctx: usize) -> f64 {
    (n_ctx as f64 / n_trained as f64).max(1.0)
}

/// Nine sixteenths of the trained context, which grow by a sixteenth with every doubling: models find things there that they
/// do not find at the far end of what they were trained for (docs/self-extend.md has the figures).
fn default_reach(n_trained: usize) -> usize {
    (n_trained / 16 * 9).max(3 * RANGE_TOKENS).min(n_trained)
}

/// Two ninths of the reach: an eighth of the trained context.
fn default_window(reach: usize) -> usize {
    (reach * 2 / 9 / RANGE_TOKENS).max(1) * RANGE_TOKENS
}

/// The smallest group that reaches `n_ctx`, and for it the largest window up to a quarter of the trained context; at least
/// an eighth, since fewer neighbours cost more than a larger group.
fn group_and_window(
    group: Option<usize>,
    window: Option<usize>,
    n_trained: usize,
    n_ctx: usize,
) -> (usize, usize) {
    let reaches =
        |group: usize, window: usize| window < n_trained && (n_trained - window) * group + window >= n_ctx;
    let groups = group.map_or(2..=MAX_STRETCH, |group| group..=group);
    for group in groups {
        let step = least_common_multiple(RANGE_TOKENS, group);
        let windows: Vec<usize> = match window {
            Some(window) if window.is_multiple_of(step) => vec![window],
            Some(_) => Vec::new(),
            None => (1..=n_trained / 4 / step).rev().map(|n| n * step).collect(),
        };
        let fits = |window: &&usize| reaches(group, **window) && 8 * **window >= n_trained;
        if let Some(window) = windows.iter().find(|w| fits(w) || (window.is_some() && reaches(group, **w))) {
            return (group, *window);
        }
    }
    let group = group.unwrap_or(MAX_STRETCH);
    let step = least_common_multiple(RANGE_TOKENS, group);
    (group, window.unwrap_or((n_trained / 8).div_ceil(step).max(1) * step))
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b.max(1));
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b.max(1)
}

impl fmt::Display for PositionScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = |key: &'static str, value: &Option<usize>| value.map(|n| (key, n.to_string()));
        let times = |value: &Option<f64>| value.map(|x| ("factor", x.to_string()));
        let (name, parameters) = match self {
            PositionScheme::Auto => ("auto", Vec::new()),
            PositionScheme::Linear => ("linear", Vec::new()),
            PositionScheme::Adaptive { window, reach, growth, exact, logn } => (
                "adaptive",
                vec![
                    tokens("window", window),
                    tokens("reach", reach),
                    tokens("growth", growth),
                    tokens("exact", exact),
                    logn.map(|logn| ("logn", if logn { "on" } else { "off" }.to_owned())),
                ],
            ),
            PositionScheme::SelfExtend { group, window } => {
                ("self-extend", vec![tokens("group", group), tokens("window", window)])
            }
            PositionScheme::DualChunk { chunk } => ("dca", vec![tokens("chunk", chunk)]),
            PositionScheme::Yarn { factor } => ("yarn", vec![times(factor)]),
            PositionScheme::Ntk { factor } => ("ntk", vec![times(factor)]),
        };
        f.write_str(name)?;
        for (index, (key, value)) in parameters.into_iter().flatten().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PositionScheme {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        text.parse::<PositionScheme>().expect_err(text).to_string()
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
    fn what_cannot_be_says_what_can() {
        assert!(refusal("rope").contains("self-extend"));
        assert!(refusal("adaptive:window=100").contains("such as 128"));
        assert!(refusal("self-extend:group=5,window=1024").contains("such as 1280"));
        assert!(refusal("self-extend:group=1").contains("2 to 64"));
        assert!(refusal("yarn:factor=0.5").contains("above 1"));
        assert!(refusal("linear:window=128").contains("no parameter"));
        assert!(refusal("dca:chunk").contains("key=value"));
        assert!(refusal("adaptive:logn=1").contains("on or off"));
    }

    #[test]
    fn the_smallest_group_with_a_generous_window_is_chosen() {
        assert_eq!(group_and_window(None, None, 8192, 16_384), (3, 1920));
        assert_eq!(group_and_window(None, None, 8192, 32_768), (5, 1920));
        assert_eq!(group_and_window(None, None, 8192, 65_536), (10, 1280));
        assert_eq!(group_and_window(Some(8), None, 8192, 32_768), (8, 2048));
        assert_eq!(group_and_window(None, Some(1024), 8192, 16_384), (4, 1024));
        for (n_ctx, most) in [(16_384, 3), (32_768, 5), (65_536, 10)] {
            let (group, window) = group_and_window(None, None, 8192, n_ctx);
            assert!(group <= most && (8192 - window) * group + window >= n_ctx);
        }
    }
}
