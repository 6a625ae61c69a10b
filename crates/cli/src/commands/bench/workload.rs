//! What is measured: a prompt, a generation, or both, in a cache that already holds some tokens.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;

/// `n_prompt` new tokens at once, then `n_gen` one by one, after `n_depth` tokens whose time does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    pub n_prompt: usize,
    pub n_gen: usize,
    pub n_depth: usize,
}

impl Workload {
    /// Tokens that the measured time is spent on.
    pub fn n_measured(&self) -> usize {
        self.n_prompt + self.n_gen
    }

    /// Tokens in the cache at the end.
    pub fn n_tokens(&self) -> usize {
        self.n_depth + self.n_measured()
    }
}

/// As llama-bench spells it: `pp512`, `tg128 @ d8192`, `pp512+tg128`.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.n_prompt, self.n_gen) {
            (n_prompt, 0) => write!(f, "pp{n_prompt}")?,
            (0, n_gen) => write!(f, "tg{n_gen}")?,
            (n_prompt, n_gen) => write!(f, "pp{n_prompt}+tg{n_gen}")?,
        }
        match self.n_depth {
            0 => Ok(()),
            n_depth => write!(f, " @ d{n_depth}"),
        }
    }
}

/// How the cache is brought to the depth that a workload asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DepthFill {
    /// all tokens are read
    Prefill,
    /// the first 2,048 are read; the pages behind them are copies of theirs
    Copies,
}

impl DepthFill {
    /// Tokens of a cache of `n_depth` that are read.
    pub fn n_read(self, n_depth: usize) -> usize {
        match self {
            DepthFill::Prefill => n_depth,
            DepthFill::Copies => n_depth.min(2048),
        }
    }
}

/// Numbers as llama-bench takes them: `512`, `1,2,4`, `first-last`, `first-last+step`, `first-last*factor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub Vec<usize>);

/// Far more than anybody measures; a range that is mistyped ends here.
const MAX_NUMBERS: usize = 1000;
const MAX_NUMBER: usize = 1 << 27;

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Numbers, String> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            range(part.trim(), &mut numbers)?;
        }
        Ok(Numbers(numbers))
    }
}

fn range(text: &str, numbers: &mut Vec<usize>) -> Result<(), String> {
    let expected = || "expected numbers such as 512, 1,2,4, 0-4096+1024 or 1-8*2".to_string();
    let number = |text: &str| text.parse().ok().filter(|&n| n <= MAX_NUMBER).ok_or_else(expected);
    let Some((first, rest)) = text.split_once('-') else {
        numbers.push(number(text)?);
        return Ok(());
    };
    let (last, next): (_, Box<dyn Fn(usize) -> usize>) = if let Some((last, step)) = rest.split_once('+') {
        let step: usize = number(step)?;
        (last, Box::new(move |n| n + step))
    } else if let Some((last, factor)) = rest.split_once('*') {
        let factor: usize = number(factor)?;
        (last, Box::new(move |n| n.saturating_mul(factor)))
    } else {
        (rest, Box::new(|n| n + 1))
    };
    let (mut at, last) = (number(first)?, number(last)?);
    while at <= last {
        if numbers.len() == MAX_NUMBERS {
            return Err(format!("more than {MAX_NUMBERS} numbers"));
        }
        numbers.push(at);
        let following = next(at);
        if following <= at {
            return Err("the range never ends".to_string());
        }
        at = following;
    }
    Ok(())
}

/// `PP,TG`: a prompt and a generation after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub n_prompt: usize,
    pub n_gen: usize,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Pair, String> {
        match text.parse::<Numbers>()?.0[..] {
            [n_prompt, n_gen] if n_prompt > 0 && n_gen > 0 => Ok(Pair { n_prompt, n_gen }),
            _ => Err("expected two numbers such as 512,128".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Result<Vec<usize>, String> {
        text.parse().map(|Numbers(numbers)| numbers)
    }

    #[test]
    fn lists_and_ranges_are_those_of_llama_bench() {
        assert_eq!(numbers("512"), Ok(vec![512]));
        assert_eq!(numbers("0,8192"), Ok(vec![0, 8192]));
        assert_eq!(numbers("1-3"), Ok(vec![1, 2, 3]));
        assert_eq!(numbers("0-4096+2048,7"), Ok(vec![0, 2048, 4096, 7]));
        assert_eq!(numbers("1-8*2"), Ok(vec![1, 2, 4, 8]));
    }

    #[test]
    fn endless_and_huge_ranges_are_refused() {
        for text in ["", "x", "1,,2", "-1", "0-8*2", "1-8*1", "1-8+0", "0-99999", "999999999999", "1-"] {
            assert!(numbers(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn names_are_those_of_llama_bench() {
        let name = |n_prompt, n_gen, n_depth| Workload { n_prompt, n_gen, n_depth }.to_string();
        assert_eq!(name(512, 0, 0), "pp512");
        assert_eq!(name(0, 128, 8192), "tg128 @ d8192");
        assert_eq!(name(512, 128, 0), "pp512+tg128");
    }
}
