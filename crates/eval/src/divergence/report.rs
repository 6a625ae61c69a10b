//! The figures as text: the three blocks of `llama-perplexity --kl-divergence`, in its words, and a table by depth.

use std::fmt::Write;

use super::{Distribution, Estimate, Summary};
use crate::table::{self, Align, Table, with_error};

/// The three blocks of one setting.
pub fn blocks(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_blocks(&mut text, summary);
    text
}

fn write_blocks(text: &mut String, summary: &Summary) -> std::fmt::Result {
    let wide = |estimate: Estimate| format!("{:10.6} ± {:10.6}", estimate.value, estimate.se);
    writeln!(text, "====== Perplexity statistics ======")?;
    writeln!(text, "Mean PPL(Q)                   : {}", wide(summary.ppl))?;
    writeln!(text, "Mean PPL(base)                : {}", wide(summary.ppl_reference))?;
    writeln!(text, "Cor(ln(PPL(Q)), ln(PPL(base))): {:6.2}%", 100.0 * summary.ln_ppl_correlation)?;
    writeln!(text, "Mean ln(PPL(Q)/PPL(base))     : {}", wide(summary.ln_ppl_ratio))?;
    writeln!(text, "Mean PPL(Q)/PPL(base)         : {}", wide(summary.ppl_ratio))?;
    writeln!(text, "Mean PPL(Q)-PPL(base)         : {}", wide(summary.ppl_difference))?;
    writeln!(text)?;
    writeln!(text, "====== KL divergence statistics ======")?;
    writeln!(text, "Mean    KLD: {}", wide(summary.kl.mean))?;
    for (name, value) in percentiles(&summary.kl) {
        writeln!(text, "{name} KLD: {value:10.6}")?;
    }
    writeln!(text)?;
    writeln!(text, "====== Token probability statistics ======")?;
    writeln!(text, "Mean    Δp: {}", percent(summary.delta_p.mean))?;
    for (name, value) in percentiles(&summary.delta_p) {
        writeln!(text, "{name} Δp: {:6.3}%", 100.0 * value)?;
    }
    writeln!(text, "RMS Δp    : {}", percent(summary.delta_p_rms))?;
    writeln!(text, "Same top p: {}", percent(summary.same_top))
}

fn percent(estimate: Estimate) -> String {
    format!("{:6.3} ± {:5.3} %", 100.0 * estimate.value, 100.0 * estimate.se)
}

fn percentiles(spread: &Distribution) -> [(&'static str, f64); 13] {
    [
        ("Maximum", spread.max),
        ("99.9%  ", spread.p99_9),
        ("99.0%  ", spread.p99),
        ("95.0%  ", spread.p95),
        ("90.0%  ", spread.p90),
        ("75.0%  ", spread.p75),
        ("Median ", spread.median),
        ("25.0%  ", spread.p25),
        ("10.0%  ", spread.p10),
        (" 5.0%  ", spread.p5),
        (" 1.0%  ", spread.p1),
        (" 0.1%  ", spread.p0_1),
        ("Minimum", spread.min),
    ]
}

/// By the length of the context; one row for each setting and range.
pub fn depth_table<'a>(settings: impl Iterator<Item = (&'a str, &'a Summary)>) -> Table {
    const HEADS: &[(&str, Align)] = &[
        ("setting", Align::Left),
        ("context", Align::Right),
        ("predictions", Align::Right),
        ("KL (nats)", Align::Right),
        ("same top", Align::Right),
        ("PPL(base)", Align::Right),
        ("PPL ratio", Align::Right),
    ];
    let mut table = Table::new(HEADS);
    for (name, summary) in settings {
        for depth in &summary.depths {
            table.push([
                name.to_string(),
                format!("{}–{}", depth.range.from, depth.range.to - 1),
                depth.n_scored.to_string(),
                with_error(depth.kl, 5),
                table::percent(depth.same_top.value, 1),
                format!("{:.2}", depth.ppl_reference.value),
                with_error(depth.ln_ppl_ratio.exp(), 4),
            ]);
        }
    }
    table
}
