//! What came out, for people and for programs: `OUT.md` and `OUT.json`.

use std::collections::BTreeMap;
use std::fmt::Write;

use lossy_compress::prices::kind;
use lossy_compress::quantize::Plan;
use lossy_eval::divergence::blocks;
use lossy_eval::{Certificate, Report};
use serde::Serialize;

use super::measured::figures;
use super::speed::Speed;
use super::teach::Training;
use crate::units::{bytes, grouped};

/// Points of the frontier that a report has.
const N_POINTS: usize = 12;

/// A point of the frontier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// of the file
    pub bytes: u64,
    /// bits for each weight
    pub bits_per_weight: f64,
    /// predicted, nats
    pub kl: f64,
}

/// All that there is to say.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// what was typed
    pub command: String,
    /// the file that it was made of
    pub original: String,
    /// of that file
    pub original_bytes: u64,
    /// names of the new files, the first for all where a command wants one
    pub files: Vec<String>,
    /// bytes of all of them
    pub bytes: u64,
    /// bits for each weight
    pub bits_per_weight: f64,
    /// names of the texts that statistics were made of
    pub calibration: Vec<String>,
    /// tokens of them
    pub n_tokens: usize,
    /// matrices that were quantized before: both errors add up
    pub n_requantized: usize,
    /// nats that sensitivities said, and those of layers that were left out
    pub predicted: f64,
    /// by how much whole windows cost more than tokens one by one, by kind of matrix
    pub factors: BTreeMap<String, f64>,
    /// what was measured over what was predicted, without training
    pub scale: f64,
    /// what the cache alone loses, nats
    pub cache_kl: Option<f64>,
    /// types by name
    pub types: BTreeMap<String, String>,
    /// bytes against predicted loss, scaled by what was measured
    pub frontier: Vec<Point>,
    /// of norms, biases and scales, where that was asked for
    pub training: Option<Training>,
    /// how fast it decodes, where that was asked for
    pub speed: Option<Speed>,
    /// what `lossy measure` says
    pub certificates: Vec<Certificate>,
    /// all figures
    pub report: Report,
}

/// Some of many points, the first and the last among them.
pub fn thinned(points: &[Point]) -> Vec<Point> {
    let n = points.len();
    if n <= N_POINTS {
        return points.to_vec();
    }
    (0..N_POINTS).map(|i| points[i * (n - 1) / (N_POINTS - 1)]).collect()
}

/// `attn_q: 20 × Q5_0, 10 × Q8_0`, a row for each kind of matrix.
pub fn types_by_kind(plan: &Plan<'_>) -> Vec<(String, String)> {
    let mut kinds: BTreeMap<&str, BTreeMap<_, usize>> = BTreeMap::new();
    for tensor in plan.tensors().iter().filter(|tensor| tensor.choice.is_quantized) {
        *kinds.entry(kind(tensor.source.name)).or_default().entry(tensor.choice.dtype).or_default() += 1;
    }
    let types = |types: BTreeMap<lossy_quant::DType, usize>| {
        let list: Vec<String> = types.into_iter().map(|(dtype, n)| format!("{n} × {dtype}")).collect();
        list.join(", ")
    };
    kinds.into_iter().map(|(kind, of)| (kind.to_owned(), types(of))).collect()
}

impl Outcome {
    /// The model card, in Markdown; `picture`: the name of the file that has one.
    pub fn card(&self, plan: &Plan<'_>, picture: Option<&str>) -> String {
        let mut card = String::new();
        // Writing to a String does not fail.
        let _ = self.write_card(plan, picture, &mut card);
        card
    }

    fn write_card(&self, plan: &Plan<'_>, picture: Option<&str>, card: &mut String) -> std::fmt::Result {
        writeln!(card, "# {}\n", self.report.model)?;
        writeln!(card, "Made of {} with\n\n```sh\n{}\n```\n", self.original, self.command)?;
        writeln!(card, "| file | bytes | size | bits a weight |\n| --- | ---: | ---: | ---: |")?;
        let original_bits = self.original_bytes as f64 / self.bytes as f64 * self.bits_per_weight;
        for (name, n, bits) in [
            (&self.original, self.original_bytes, original_bits),
            (&self.report.model, self.bytes, self.bits_per_weight),
        ] {
            writeln!(card, "| {name} | {} | {} | {bits:.2} |", grouped(n), bytes(n))?;
        }
        if self.files.len() > 1 {
            writeln!(
                card,
                "\nIts files: {}. Programs that read split models take any of them.",
                self.files.join(", ")
            )?;
        }
        if self.n_requantized > 0 {
            let n = self.n_requantized;
            writeln!(
                card,
                "\n{n} matrices were quantized before, and were read as they are: both errors add up."
            )?;
        }
        writeln!(card, "\n## What it loses beside {}\n", self.original)?;
        for measurement in &self.report.divergence {
            writeln!(card, "{}\n\n{}", measurement.heading(), measurement.table().markdown())?;
        }
        for setting in figures(&self.report) {
            writeln!(
                card,
                "Cache {}:\n\n```text\n{}\n```\n",
                setting.setting,
                blocks(&setting.summary).trim_end()
            )?;
        }
        if let Some(kl) = self.cache_kl {
            writeln!(
                card,
                "The cache alone, with the weights of {}: KL {kl:.5}. Losses add up.\n",
                self.original
            )?;
        }
        writeln!(card, "The same figures: `{}`\n", self.report.command)?;
        if let Some(speed) = &self.speed {
            writeln!(card, "## Speed\n\n{}\n", speed.told(&self.original))?;
        }
        writeln!(card, "## Types\n\n| matrices | types |\n| --- | --- |")?;
        for (kind, types) in types_by_kind(plan) {
            writeln!(card, "| {kind} | {types} |")?;
        }
        let (texts, n) = (self.calibration.join(", "), grouped(self.n_tokens as u64));
        writeln!(
            card,
            "\nChosen by sensitivities and rounded with error feedback, from {n} tokens of text: {texts}.\n"
        )?;
        if let Some(training) = &self.training {
            writeln!(card, "{}\n", training.told(&self.original))?;
        }
        writeln!(card, "## What other sizes would lose\n")?;
        let without = if self.training.is_some() { ", all without training" } else { "" };
        writeln!(
            card,
            "Predicted ({:.4} for this file), times {:.2}, which is what was measured over what was predicted{without}.\n",
            self.predicted, self.scale
        )?;
        if let Some(picture) = picture {
            writeln!(card, "![bytes across, KL upwards](<{picture}>)\n")?;
        }
        writeln!(card, "| size | bits a weight | KL (nats) |\n| ---: | ---: | ---: |")?;
        for point in &self.frontier {
            writeln!(card, "| {} | {:.2} | {:.4} |", bytes(point.bytes), point.bits_per_weight, point.kl)?;
        }
        Ok(())
    }
}
