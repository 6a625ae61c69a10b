//! The report as one page: figures first, then the curve of bits and loss, tables, a map of depths and lengths for each
//! task. Style and pictures (SVG) are inside, so that the file can be sent to somebody.

mod curve;
mod frontier;
mod layers;
mod map;
mod picture;
mod svg;

use std::fmt::Write;

pub use frontier::{Spent, Way, frontier};
pub use picture::picture;

use crate::budget::Choice;
use crate::table::escape;
use crate::tasks;
use crate::{Measurement, Report};

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.6rem;line-height:1.25;margin-bottom:.2rem}
h2{font-size:1.2rem;margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}
h3{font-size:1rem;margin-top:1.5rem}
h4{font-size:.9rem;margin:1.2rem 0 .4rem}
.note{color:#555;font-size:.9rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem}
th,td{padding:.25rem .5rem;border-bottom:1px solid #e4e4e4;text-align:right;white-space:nowrap}
th{color:#555;font-weight:600;border-bottom-color:#999}
.name{text-align:left}
td.name{font-weight:600;white-space:normal;overflow-wrap:anywhere;min-width:9rem;max-width:16rem}
code{background:#f3f3f3;padding:.1rem .3rem;overflow-wrap:anywhere}
svg{max-width:100%;height:auto}
.maps{display:flex;flex-wrap:wrap;gap:1.5rem}
dt{font-weight:600}
dd{margin:0 0 .5rem 0}
";

const HOW_TO_READ: &str = "<h2>How to read this</h2>\n<dl>\
<dt>KL</dt><dd>Kullback–Leibler divergence of the setting's predictions from the reference's, in nats, over every next \
token of a text that both are shown. 0 is no loss; 0.01 is hardly seen; at 0.1 the text is a different one after a few words. \
± is one standard error.</dd>\
<dt>99 % KL</dt><dd>99 of 100 predictions lose less.</dd>\
<dt>same top</dt><dd>How often both have the same most likely token.</dd>\
<dt>PPL ratio</dt><dd>Perplexity of the setting divided by that of the reference.</dd>\
<dt>bits</dt><dd>Bits per value of the cache, scales and everything else included.</dd></dl>\n";

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = write_page(&mut page, report);
    page
}

fn write_page(page: &mut String, report: &Report) -> std::fmt::Result {
    let title = format!("What lossy settings cost: {}", report.model);
    writeln!(page, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")?;
    writeln!(page, "<meta name=\"viewport\" content=\"width=device-width\">")?;
    writeln!(page, "<title>{}</title>\n<style>{STYLE}{}</style></head><body>", escape(&title), svg::STYLE)?;
    writeln!(page, "<h1>{}</h1>", escape(&title))?;
    writeln!(
        page,
        "<p class=\"note\">{} · {} · activations {}, prefill in chunks of {} tokens{}</p>",
        escape(&report.date),
        escape(&report.version),
        escape(&report.activations),
        report.chunk,
        if report.is_complete { "" } else { " · <strong>not everything was measured</strong>" }
    )?;
    if let Some(choice) = &report.choice {
        budget(page, choice)?;
    }
    for measurement in &report.divergence {
        divergence(page, measurement)?;
    }
    if !report.tasks.is_empty() {
        writeln!(page, "<h2>Tasks</h2>")?;
        writeln!(
            page,
            "<p>Questions whose answers are known, asked of the reference and of the setting. Score with its 95 % interval; \
             mean log-probability of the tokens of the right answer, and its change against the reference, case by \
             case.</p>"
        )?;
        page.push_str(&tasks::table(&report.tasks).html());
        map::maps(page, &report.tasks)?;
    }
    if !report.divergence.is_empty() {
        page.push_str(HOW_TO_READ);
    }
    writeln!(page, "<h2>Where it comes from</h2>\n<p>Made by <code>{}</code></p>", escape(&report.command))?;
    let short = |hash: &str| escape(hash.get(..16).unwrap_or(hash));
    write!(page, "<p class=\"note\">Model {} ({})", escape(&report.model), short(&report.model_hash))?;
    for measurement in &report.divergence {
        write!(page, "; text at {} tokens {}", measurement.n_ctx, short(&measurement.text_hash))?;
    }
    writeln!(page, "</p>\n</body></html>")
}

fn budget(page: &mut String, choice: &Choice) -> std::fmt::Result {
    writeln!(page, "<h2>Within the budget {}</h2>", escape(&choice.budget.to_string()))?;
    match (&choice.setting, choice.bits_per_value) {
        (Some(setting), Some(bits)) => writeln!(
            page,
            "<p>The cheapest setting within it: <strong>{}</strong>, {bits:.3} bits a cached number.</p>",
            escape(setting)
        )?,
        _ => writeln!(page, "<p>No setting that was measured stays within it.</p>")?,
    }
    match &choice.sensitivity {
        Some(sensitivity) => layers::bars(page, sensitivity),
        None => Ok(()),
    }
}

fn divergence(page: &mut String, measurement: &Measurement) -> std::fmt::Result {
    writeln!(page, "<h2>Divergence at {} tokens</h2>", measurement.n_ctx)?;
    // More of them are read in the table.
    if measurement.settings.len() <= 2 {
        for setting in measurement.settings.iter().filter(|setting| setting.summary.n_scored > 0) {
            let saving = escape(&measurement.saving(setting));
            writeln!(page, "<p><strong>{}</strong>: {saving}.</p>", escape(&setting.setting))?;
        }
    }
    curve::curve(page, &measurement.settings)?;
    page.push_str(&measurement.table().html());
    writeln!(page, "<p class=\"note\">{}</p>", escape(&measurement.heading()).replace('\n', "<br>"))?;
    for remark in measurement.remarks() {
        writeln!(page, "<p class=\"note\">{}</p>", escape(&remark))?;
    }
    writeln!(page, "<h3>By the length of the context</h3>")?;
    page.push_str(&measurement.depth_table().html());
    Ok(())
}
