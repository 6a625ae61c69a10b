//! What each layer loses alone, above the one that loses least, as bars.

use std::fmt::Write;

use super::svg::{self, Anchor, BLUE, LEFT, WIDTH};
use crate::Sensitivity;
use crate::table::escape;

const HEIGHT: f64 = 170.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 40.0;

/// The picture.
pub fn bars(page: &mut String, sensitivity: &Sensitivity) -> std::fmt::Result {
    let least = sensitivity.least();
    let most = sensitivity.layers.first().map_or(0.0, |loss| loss.kl.value) - least;
    if most <= 0.0 {
        return Ok(());
    }
    writeln!(page, "<h3>Where {} loses most</h3>", escape(&sensitivity.setting))?;
    writeln!(
        page,
        "<p class=\"note\">What each layer loses while all others are exact, above the {least:.4} of the one that loses least.</p>"
    )?;
    svg::open(page, WIDTH, HEIGHT, "mean KL of each layer")?;
    let floor = HEIGHT - BOTTOM;
    let y = |kl: f64| floor - kl.max(0.0) / most * (floor - TOP);
    for share in [0.0, 0.5, 1.0] {
        svg::grid_line(page, y(share * most), WIDTH, &format!("{:.4}", share * most))?;
    }
    let n_layers = sensitivity.layers.iter().map(|loss| loss.layer + 1).max().unwrap_or(1);
    let step = (WIDTH - LEFT) / n_layers as f64;
    let label_step = n_layers.div_ceil(20);
    for loss in &sensitivity.layers {
        let (x, top) = (LEFT + step * loss.layer as f64, y(loss.kl.value - least));
        writeln!(
            page,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{BLUE}\"/>",
            x + 0.15 * step,
            0.7 * step,
            floor - top
        )?;
        if loss.layer.is_multiple_of(label_step) {
            svg::text(page, (x + step / 2.0, floor + 16.0), Anchor::Middle, &loss.layer.to_string())?;
        }
    }
    svg::text(page, (4.0, 12.0), Anchor::Start, "mean KL (nats)")?;
    svg::text(page, ((LEFT + WIDTH) / 2.0, HEIGHT - 6.0), Anchor::Middle, "layer")?;
    writeln!(page, "</svg>")
}
