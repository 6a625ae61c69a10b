//! The curves of bits and loss as one SVG file, for a document. It has a background of its own, light or dark as the
//! reader's system is, so that it can be read wherever it is shown.

use std::fmt::Write;

use super::curve;
use super::svg::{self, Anchor, WIDTH};
use crate::table::escape;
use crate::{Report, SettingFigures};

/// Of the line above a curve, which says what was measured.
const HEAD: f64 = 28.0;
/// Of a line below it.
const REMARK: f64 = 18.0;
/// Below the last remark of a curve.
const GAP: f64 = 12.0;

const STYLE: &str = "
.paper{fill:#fff}
.head{font-weight:600}
@media (prefers-color-scheme:dark){
.paper,.hollow{fill:#0d1117}
svg text{fill:#d1d7e0}
.grid{stroke:#30363d}
.axis{stroke:#8b949e}
.frontier{stroke:#4d7fb8}
.mark{stroke:#79b8ff}
.mark:not(.hollow){fill:#79b8ff}
}
";

/// The curve at one context length.
struct Panel<'a> {
    head: String,
    points: Vec<&'a SettingFigures>,
    remarks: Vec<String>,
}

impl Panel<'_> {
    fn height(&self) -> f64 {
        HEAD + curve::HEIGHT + REMARK * self.remarks.len() as f64 + GAP
    }
}

/// The curve of each context length, one below the other; `None` where none has two settings that lose something.
pub fn picture(report: &Report) -> Option<String> {
    let panels: Vec<Panel<'_>> = report
        .divergence
        .iter()
        .filter_map(|measurement| {
            let head =
                format!("{}, {} tokens, activations {}", report.model, measurement.n_ctx, report.activations);
            let remarks = curve::remarks(&measurement.settings);
            Some(Panel { head, points: curve::points(&measurement.settings)?, remarks })
        })
        .collect();
    if panels.is_empty() {
        return None;
    }
    let mut file = String::new();
    // Writing to a String does not fail.
    let _ = write_picture(&mut file, report, &panels);
    Some(file)
}

fn write_picture(file: &mut String, report: &Report, panels: &[Panel<'_>]) -> std::fmt::Result {
    let height: f64 = panels.iter().map(Panel::height).sum();
    let title = format!("What lossy settings cost: {}", report.model);
    writeln!(
        file,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">"
    )?;
    writeln!(file, "<title>{}</title>\n<style>{}{STYLE}</style>", escape(&title), svg::STYLE)?;
    writeln!(file, "<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>")?;
    let mut top = 0.0;
    for panel in panels {
        writeln!(
            file,
            "<text class=\"head\" x=\"4\" y=\"{:.1}\">{}</text>",
            top + 18.0,
            escape(&panel.head)
        )?;
        writeln!(file, "<g transform=\"translate(0 {:.1})\">", top + HEAD)?;
        curve::draw(file, &panel.points)?;
        for (n, remark) in panel.remarks.iter().enumerate() {
            let y = curve::HEIGHT + REMARK * n as f64 + 12.0;
            svg::text(file, (4.0, y), Anchor::Start, remark)?;
        }
        writeln!(file, "</g>")?;
        top += panel.height();
    }
    writeln!(file, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::divergence::{Distribution, Estimate, Summary};
    use crate::{Measurement, ReferenceFigures};

    fn setting(name: &str, bits_per_value: f64, kl: f64, se: f64) -> SettingFigures {
        let kl = Distribution { mean: Estimate { value: kl, se }, ..Distribution::default() };
        SettingFigures {
            setting: name.to_string(),
            bits_per_value,
            bytes_per_token: 0,
            tokens_per_s: 0.0,
            failure: None,
            summary: Summary { n_scored: 100, kl, ..Summary::default() },
        }
    }

    fn report(settings: Vec<Vec<SettingFigures>>) -> Report {
        let measurement = |settings| Measurement {
            texts: Vec::new(),
            text_hash: String::new(),
            n_ctx: 2048,
            n_windows: 1,
            n_scored_per_window: 100,
            is_complete: true,
            reference: ReferenceFigures {
                setting: "f32".to_string(),
                bytes_per_token: 1,
                tokens_per_s: None,
            },
            settings,
        };
        Report {
            version: String::new(),
            command: String::new(),
            date: String::new(),
            model: "a<b".to_string(),
            model_hash: String::new(),
            reference_model: None,
            activations: "f32".to_string(),
            chunk: 512,
            n_threads: 2,
            divergence: settings.into_iter().map(measurement).collect(),
            tasks: Vec::new(),
            choice: None,
            is_complete: true,
        }
    }

    #[test]
    fn each_length_has_its_curve_and_what_is_not_drawn_is_said() {
        let curve = || vec![setting("k2v2", 2.25, 0.01, 0.001), setting("q8", 8.5, 0.001, 0.0)];
        let with_f16 = [curve(), vec![setting("f16", 16.0, 0.0, 0.0)]].concat();
        let file = report(vec![curve(), with_f16]).svg().unwrap();
        assert!(file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\""), "{file}");
        assert_eq!(file.matches("</svg>").count(), 1);
        assert_eq!(file.matches("a&lt;b, 2048 tokens, activations f32").count(), 2);
        assert_eq!(file.matches(">k2v2</text>").count(), 2);
        assert_eq!(file.matches("Not drawn, since it loses nothing: f16.").count(), 1);
    }

    #[test]
    fn one_setting_that_loses_something_makes_no_curve() {
        let settings = vec![setting("k2v2", 2.25, 0.01, 0.001), setting("f16", 16.0, 0.0, 0.0)];
        assert_eq!(report(vec![settings]).svg(), None);
        assert_eq!(report(Vec::new()).svg(), None);
    }
}
