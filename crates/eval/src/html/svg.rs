//! Pieces that the pictures share.

use std::fmt::Write;

use crate::table::escape;

/// Of a picture with a scale of nats at its left.
pub const WIDTH: f64 = 760.0;
/// Where its lines begin.
pub const LEFT: f64 = 64.0;
/// Of what was measured.
pub const BLUE: &str = "#1f5fa8";
/// How pictures look on a white page.
pub const STYLE: &str = "
svg text{font:12px system-ui,sans-serif;fill:#333}
.grid{stroke:#e0e0e0}
.axis{stroke:#888}
.frontier{stroke:#7aa6d8}
.mark{stroke:#1f5fa8;fill:#1f5fa8}
.hollow{fill:#fff}
";

/// Which part of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// its beginning
    Start,
    /// its middle
    Middle,
    /// its end
    End,
}

/// Begins a picture of this size; `label` is read to those who do not see it.
pub fn open(page: &mut String, width: f64, height: f64, label: &str) -> std::fmt::Result {
    let label = escape(label);
    writeln!(
        page,
        "<svg width=\"{width}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">"
    )
}

/// A text.
pub fn text(page: &mut String, (x, y): (f64, f64), anchor: Anchor, text: &str) -> std::fmt::Result {
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    writeln!(page, "<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{}</text>", escape(text))
}

/// A pale line across, with its value at the left.
pub fn grid_line(page: &mut String, y: f64, right: f64, value: &str) -> std::fmt::Result {
    writeln!(page, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right:.1}\"/>")?;
    text(page, (LEFT - 8.0, y + 4.0), Anchor::End, value)
}
