//! Where is a nat cheapest? Bytes across, KL upwards on a logarithmic scale, a line for each way of saving bytes.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::curve::{BOTTOM, HEIGHT, Label, RIGHT, Scale, TOP, number, ticks};
use super::svg::{self, Anchor, LEFT, WIDTH};
use crate::table::escape;

/// A way of saving bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// "types of weights"
    pub name: String,
    /// from few bytes to many, or the other way
    pub points: Vec<Spent>,
}

/// What is left, and what that loses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// of weights and cache together
    pub bytes: u64,
    /// nats
    pub kl: f64,
    /// standard error; none: predicted and not measured
    #[serde(default)]
    pub se: Option<f64>,
    /// beside the point
    #[serde(default)]
    pub label: String,
}

/// Of lines and points, for white pages and for dark ones.
const COLOURS: [(&str, &str); 5] = [
    ("#1f5fa8", "#79b8ff"),
    ("#b3541e", "#ff9f6b"),
    ("#2d7a3a", "#6fd08c"),
    ("#7b3fa0", "#c99cf0"),
    ("#555555", "#b0b0b0"),
];
/// Of the line above, which says what was measured.
const HEAD: f64 = 28.0;
/// Of a line of the legend.
const ROW: f64 = 18.0;
const MIB: f64 = 1024.0 * 1024.0;

/// The picture as a file; `None` where there is nothing to draw. `bytes` says what is counted, `remark` what is to be known.
pub fn frontier(title: &str, bytes: &str, ways: &[Way], remark: &str) -> Option<String> {
    let drawn: Vec<Way> = ways.iter().map(without_zeros).filter(|way| !way.points.is_empty()).collect();
    if drawn.is_empty() {
        return None;
    }
    let mut file = String::new();
    // Writing to a String does not fail.
    let _ = write_picture(&mut file, [title, bytes, remark], &drawn);
    Some(file)
}

/// What loses nothing has no place on the scale.
fn without_zeros(way: &Way) -> Way {
    let is_drawn = |point: &&Spent| point.kl > 0.0 && point.kl.is_finite();
    Way { name: way.name.clone(), points: way.points.iter().filter(is_drawn).cloned().collect() }
}

/// Places of the picture.
struct Places {
    kl: Scale,
    most: f64,
}

impl Places {
    fn new(ways: &[Way]) -> Places {
        let points = || ways.iter().flat_map(|way| &way.points);
        let losses = points().map(|point| (point.kl, 2.0 * point.se.unwrap_or(0.0)));
        let most = points().map(|point| point.bytes as f64 / MIB).fold(0.0, f64::max);
        Places { kl: Scale::around(losses), most: 1.08 * most }
    }

    fn x(&self, bytes: u64) -> f64 {
        LEFT + bytes as f64 / MIB / self.most * (WIDTH - LEFT - RIGHT)
    }

    fn place(&self, point: &Spent) -> (f64, f64) {
        (self.x(point.bytes), self.kl.y(point.kl))
    }
}

fn write_picture(file: &mut String, [title, bytes, remark]: [&str; 3], ways: &[Way]) -> std::fmt::Result {
    let height = HEAD + HEIGHT + ROW * (ways.len() + 1) as f64 + 8.0;
    writeln!(
        file,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">"
    )?;
    writeln!(file, "<title>{}</title>\n<style>{}{}</style>", escape(title), svg::STYLE, style())?;
    writeln!(file, "<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>")?;
    writeln!(file, "<text class=\"head\" x=\"4\" y=\"18\">{}</text>", escape(title))?;
    writeln!(file, "<g transform=\"translate(0 {HEAD})\">")?;
    let places = Places::new(ways);
    axes(file, &places, bytes)?;
    let all: Vec<(f64, f64)> =
        ways.iter().flat_map(|way| &way.points).map(|point| places.place(point)).collect();
    let mut taken = Vec::new();
    for (at, way) in ways.iter().enumerate() {
        draw(file, &places, at, way, &all, &mut taken)?;
    }
    for (at, way) in ways.iter().enumerate() {
        let y = HEIGHT + ROW * at as f64 + 12.0;
        let class = at % COLOURS.len();
        writeln!(file, "<path class=\"line way{class}\" d=\"M8 {:.1}h24\"/>", y - 4.0)?;
        svg::text(file, (40.0, y), Anchor::Start, &way.name)?;
    }
    svg::text(file, (4.0, HEIGHT + ROW * ways.len() as f64 + 12.0), Anchor::Start, remark)?;
    writeln!(file, "</g>\n</svg>")
}

fn draw(
    file: &mut String,
    places: &Places,
    at: usize,
    way: &Way,
    all: &[(f64, f64)],
    taken: &mut Vec<Label>,
) -> std::fmt::Result {
    let class = at % COLOURS.len();
    let line: Vec<String> =
        way.points.iter().map(|point| places.place(point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(file, "<polyline class=\"line way{class}\" points=\"{}\"/>", line.join(" "))?;
    for point in &way.points {
        let (x, y) = places.place(point);
        if let Some(se) = point.se {
            let (top, bottom) = (places.kl.y(point.kl + 2.0 * se), places.kl.y(point.kl - 2.0 * se));
            writeln!(file, "<path class=\"line way{class}\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>")?;
            writeln!(file, "<circle class=\"dot way{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")?;
        }
        if !point.label.is_empty() {
            let label = Label::place(&point.label, (x, y), all, taken);
            svg::text(file, (label.left, label.bottom), Anchor::Start, &point.label)?;
            taken.push(label);
        }
    }
    Ok(())
}

fn axes(file: &mut String, places: &Places, bytes: &str) -> std::fmt::Result {
    for tick in ticks(&places.kl) {
        svg::grid_line(file, places.kl.y(tick), WIDTH - RIGHT, &number(tick))?;
    }
    let floor = HEIGHT - BOTTOM;
    writeln!(file, "<path class=\"axis\" d=\"M{LEFT} {floor}H{:.1}\"/>", WIDTH - RIGHT)?;
    // A round step that makes five to twelve of them.
    let power = 10f64.powf((places.most / 5.0).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|n| n * power).into_iter().find(|step| places.most / step >= 5.0);
    let step = step.unwrap_or(power);
    let mut mib = 0.0;
    while mib <= places.most {
        let x = LEFT + mib / places.most * (WIDTH - LEFT - RIGHT);
        writeln!(file, "<path class=\"axis\" d=\"M{x:.1} {floor}v5\"/>")?;
        svg::text(file, (x, floor + 18.0), Anchor::Middle, &number(mib))?;
        mib += step;
    }
    svg::text(
        file,
        ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0),
        Anchor::Middle,
        &format!("MiB of {bytes}"),
    )?;
    svg::text(file, (4.0, TOP - 16.0), Anchor::Start, "mean KL (nats)")
}

fn style() -> String {
    let mut style =
        String::from("\n.paper{fill:#fff}\n.head{font-weight:600}\n.line{fill:none;stroke-width:1.5}\n");
    let of = |light: bool| -> String {
        let colour = |(at, (on_light, on_dark)): (usize, &(&str, &str))| {
            let colour = if light { on_light } else { on_dark };
            format!(".line.way{at}{{stroke:{colour}}}\n.dot.way{at}{{fill:{colour}}}\n")
        };
        COLOURS.iter().enumerate().map(colour).collect()
    };
    style += &of(true);
    style += "@media (prefers-color-scheme:dark){\n.paper{fill:#0d1117}\nsvg text{fill:#d1d7e0}\n.grid{stroke:#30363d}\n";
    style += ".axis{stroke:#8b949e}\n";
    style += &of(false);
    style + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(bytes: u64, kl: f64, label: &str) -> Spent {
        Spent { bytes, kl, se: Some(kl / 10.0), label: label.to_string() }
    }

    #[test]
    fn every_way_has_its_line_and_what_loses_nothing_is_left_out() {
        let ways = [
            Way {
                name: "types of <weights>".to_string(),
                points: vec![
                    spent(100 << 20, 0.01, "q5"),
                    spent(70 << 20, 0.05, "q4"),
                    spent(200 << 20, 0.0, "f16"),
                ],
            },
            Way {
                name: "layers".to_string(),
                points: vec![Spent { se: None, ..spent(190 << 20, 0.2, "29") }],
            },
        ];
        let file = frontier("Where?", "weights", &ways, "a remark").unwrap();
        assert_eq!(file.matches("<polyline").count(), 2);
        // What was only predicted has no dot.
        assert_eq!(file.matches("<circle").count(), 2);
        assert!(
            file.contains("types of &lt;weights&gt;") && !file.contains(">f16<") && file.contains("a remark")
        );
        let x = |label: &str| {
            let dot = file.split(&format!(">{label}<")).next().unwrap();
            dot.rsplit("cx=\"").next().unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        };
        // Bytes are in one scale from 0 on.
        assert!(((x("q5") - LEFT) / (x("q4") - LEFT) - 100.0 / 70.0).abs() < 1e-2);
        assert_eq!(frontier("Where?", "weights", &[], ""), None);
    }
}
