//! The report as one page: tables, the curve of bits and loss, and a map of depths and lengths for each task. Style and
//! pictures (SVG) are inside, so that the file can be sent to somebody.

use std::fmt::Write;

use crate::budget::frontier;
use crate::divergence::Estimate;
use crate::tasks::SettingScore;
use crate::{Measurement, Report, SettingFigures};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums;\
font-size:.9rem}th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right}th:first-child,td:first-child{\
text-align:left}p.note{color:#666;font-size:.9rem}code{background:#f3f3f3;padding:.1rem .3rem}svg{max-width:100%;height:auto}\
svg text{font:12px system-ui,sans-serif;fill:#333}";

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = write_page(&mut page, report);
    page
}

fn write_page(page: &mut String, report: &Report) -> std::fmt::Result {
    let title = format!("What do these settings cost? {}", report.model);
    writeln!(page, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")?;
    writeln!(
        page,
        "<meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>",
        escape(&title)
    )?;
    writeln!(page, "<style>{STYLE}</style></head><body>\n<h1>{}</h1>", escape(&title))?;
    for measurement in &report.divergence {
        divergence(page, measurement)?;
    }
    if !report.tasks.is_empty() {
        writeln!(page, "<h2>Tasks</h2>")?;
        writeln!(
            page,
            "<p>Score with its 95 % Wilson interval, and the log-probability of a token of the right answer with its change \
             against the reference, case by case.</p>"
        )?;
        tasks(page, &report.tasks)?;
        maps(page, &report.tasks)?;
    }
    if let Some(choice) = &report.choice {
        writeln!(page, "<h2>Within the budget</h2><p>{}</p>", escape(&choice.text()).replace('\n', "<br>"))?;
    }
    writeln!(
        page,
        "<p class=\"note\">{} · {} · model {} · made by <code>{}</code>{}</p>\n</body></html>",
        escape(&report.version),
        report.date,
        report.model_hash.get(..16).unwrap_or(&report.model_hash),
        escape(&report.command),
        if report.is_complete { "" } else { " · stopped before its end" }
    )
}

fn divergence(page: &mut String, measurement: &Measurement) -> std::fmt::Result {
    writeln!(
        page,
        "<h2>Divergence at {} tokens</h2><p>{}</p>",
        measurement.n_ctx,
        escape(&measurement.heading())
    )?;
    curve(page, &measurement.settings)?;
    row(
        page,
        "th",
        &["setting", "bits", "bytes/token", "KL (nats)", "99 % KL", "same top", "PPL ratio", "tokens/s"]
            .map(str::to_string),
    )?;
    for setting in &measurement.settings {
        let summary = &setting.summary;
        let cells = [
            setting.setting.clone(),
            format!("{:.3}", setting.bits_per_value),
            setting.bytes_per_token.to_string(),
            with_error(summary.kl.mean, 5),
            format!("{:.4}", summary.kl.p99),
            format!("{:.2} %", 100.0 * summary.same_top.value),
            with_error(summary.ppl_ratio, 4),
            format!("{:.1}", setting.tokens_per_s),
        ];
        row(page, "td", &cells)?;
    }
    writeln!(page, "</table>\n<p>By the length of the context:</p>")?;
    row(
        page,
        "th",
        &["setting", "context", "predictions", "KL (nats)", "same top", "PPL ratio"].map(str::to_string),
    )?;
    for setting in &measurement.settings {
        for depth in &setting.summary.depths {
            let cells = [
                setting.setting.clone(),
                format!("{}–{}", depth.range.from, depth.range.to - 1),
                depth.n_scored.to_string(),
                with_error(depth.kl, 5),
                format!("{:.1} %", 100.0 * depth.same_top.value),
                with_error(depth.ln_ppl_ratio.exp(), 4),
            ];
            row(page, "td", &cells)?;
        }
    }
    writeln!(page, "</table>")
}

fn tasks(page: &mut String, scores: &[SettingScore]) -> std::fmt::Result {
    let heads = ["task", "tokens", "setting", "cases", "score", "95 %", "log-prob", "change"];
    row(page, "th", &heads.map(str::to_string))?;
    for score in scores {
        let cells = [
            score.task.clone(),
            score.n_tokens.to_string(),
            score.setting.clone(),
            score.n_cases.to_string(),
            format!("{:.1} %", 100.0 * score.score),
            format!("{:.0}–{:.0} %", 100.0 * score.interval.low, 100.0 * score.interval.high),
            with_error(score.log_prob, 3),
            with_error(score.log_prob_change, 3),
        ];
        row(page, "td", &cells)?;
    }
    writeln!(page, "</table>")
}

/// A head (`th`) opens the table.
fn row(page: &mut String, tag: &str, cells: &[String]) -> std::fmt::Result {
    if tag == "th" {
        write!(page, "<table>")?;
    }
    write!(page, "<tr>")?;
    for cell in cells {
        write!(page, "<{tag}>{}</{tag}>", escape(cell))?;
    }
    writeln!(page, "</tr>")
}

fn with_error(estimate: Estimate, decimals: usize) -> String {
    format!("{:.decimals$} ± {:.decimals$}", estimate.value, estimate.se)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 50.0;
const MARGIN: f64 = 24.0;

/// Bits across, mean KL upwards on a logarithmic scale; bars are two standard errors each way, the line is the frontier.
fn curve(page: &mut String, settings: &[SettingFigures]) -> std::fmt::Result {
    let points: Vec<&SettingFigures> = settings
        .iter()
        .filter(|s| s.summary.kl.mean.value > 0.0 && s.summary.kl.mean.value.is_finite())
        .collect();
    if points.len() < 2 {
        return Ok(());
    }
    let kl = |s: &SettingFigures| s.summary.kl.mean.value;
    let error = |s: &SettingFigures| 2.0 * s.summary.kl_blocked_se.max(s.summary.kl.mean.se);
    let low = points.iter().map(|s| (kl(s) - error(s)).max(kl(s) / 3.0)).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|s| kl(s) + error(s)).fold(0.0, f64::max);
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    let most_bits = points.iter().map(|s| s.bits_per_value).fold(0.0, f64::max).ceil() + 1.0;
    let x = |bits: f64| LEFT + bits / most_bits * (WIDTH - LEFT - MARGIN);
    let y = |value: f64| {
        let share = (value.max(1e-12).log10().clamp(low, high) - low) / (high - low).max(1e-9);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - MARGIN)
    };
    writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"bits and KL\">")?;
    for decade in low as i32..=high as i32 {
        let at = y(10f64.powi(decade));
        writeln!(
            page,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            WIDTH - MARGIN
        )?;
        writeln!(
            page,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            10f64.powi(decade)
        )?;
    }
    let step = if most_bits > 12.0 { 4 } else { 1 };
    for bits in (0..=most_bits as usize).step_by(step) {
        let at = x(bits as f64);
        writeln!(
            page,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{bits}</text>",
            HEIGHT - BOTTOM + 18.0
        )?;
    }
    writeln!(
        page,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">bits of a cached number, all metadata counted</text>",
        x(most_bits / 2.0),
        HEIGHT - 8.0
    )?;
    writeln!(page, "<text x=\"{LEFT}\" y=\"14\">mean KL (nats)</text>")?;
    let line: Vec<String> = frontier(points.iter().copied())
        .iter()
        .map(|s| format!("{:.1},{:.1}", x(s.bits_per_value), y(kl(s))))
        .collect();
    writeln!(
        page,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#7aa6d8\" stroke-width=\"1.5\"/>",
        line.join(" ")
    )?;
    for setting in &points {
        let (at, up) = (x(setting.bits_per_value), y(kl(setting)));
        let (top, bottom) = (y(kl(setting) + error(setting)), y(kl(setting) - error(setting)));
        writeln!(
            page,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\" stroke=\"#1f5fa8\"/>"
        )?;
        writeln!(page, "<circle cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"4\" fill=\"#1f5fa8\"/>")?;
        writeln!(
            page,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            at + 8.0,
            up - 6.0,
            escape(&setting.setting)
        )?;
    }
    writeln!(page, "</svg>")
}

const CELL: f64 = 54.0;
const N_DEPTHS: usize = 8;

/// For each task and setting: depth downwards, length across, colour by the probability of a token of the right answer.
fn maps(page: &mut String, scores: &[SettingScore]) -> std::fmt::Result {
    let mut tasks: Vec<&str> = scores.iter().map(|score| score.task.as_str()).collect();
    tasks.dedup();
    for task in tasks {
        writeln!(page, "<h2>{} by depth and length</h2>", escape(task))?;
        writeln!(
            page,
            "<p>Numbers are scores in percent; the colour is the probability of a token of the right answer. The beginning of the \
             text is at the top.</p>"
        )?;
        let of_task = || scores.iter().filter(|score| score.task == task);
        let mut settings: Vec<&str> = Vec::new();
        for score in of_task() {
            if !settings.contains(&score.setting.as_str()) {
                settings.push(&score.setting);
            }
        }
        for setting in settings {
            let columns: Vec<&SettingScore> = of_task().filter(|score| score.setting == setting).collect();
            map(page, setting, &columns)?;
        }
    }
    Ok(())
}

fn map(page: &mut String, setting: &str, columns: &[&SettingScore]) -> std::fmt::Result {
    let width = 60.0 + CELL * columns.len() as f64;
    let height = 24.0 + CELL / 2.0 * N_DEPTHS as f64 + 22.0;
    writeln!(
        page,
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"{}\">",
        escape(setting)
    )?;
    writeln!(page, "<text x=\"4\" y=\"15\">{}</text>", escape(setting))?;
    for (column, score) in columns.iter().enumerate() {
        let left = 60.0 + CELL * column as f64;
        for depth in 0..N_DEPTHS {
            let is_here = |at: f64| ((at * N_DEPTHS as f64) as usize).min(N_DEPTHS - 1) == depth;
            let cases = || score.cases.iter().filter(|case| is_here(case.depth));
            if cases().next().is_none() {
                continue;
            }
            let p = Estimate::mean(cases().map(|case| case.log_prob)).value.exp();
            let share = Estimate::mean(cases().map(|case| case.score)).value;
            let top = 24.0 + CELL / 2.0 * depth as f64;
            // From red (0°) to green (120°).
            writeln!(
                page,
                "<rect x=\"{left}\" y=\"{top}\" width=\"{CELL}\" height=\"{}\" fill=\"hsl({:.0} 65% 75%)\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{:.0}</text>",
                CELL / 2.0,
                120.0 * p,
                left + CELL / 2.0,
                top + CELL / 4.0 + 4.0,
                100.0 * share
            )?;
        }
        writeln!(
            page,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            left + CELL / 2.0,
            height - 6.0,
            score.n_tokens
        )?;
    }
    writeln!(page, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
