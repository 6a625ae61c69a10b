//! Bits across, mean KL upwards on a logarithmic scale; bars are two standard errors each way, the line is the frontier.

use std::fmt::Write;

use super::svg::{self, Anchor, LEFT, WIDTH};
use crate::budget::frontier;
use crate::table::escape;
use crate::{Loss, SettingFigures};

/// Of the picture.
pub const HEIGHT: f64 = 360.0;
pub const RIGHT: f64 = 24.0;
pub const TOP: f64 = 30.0;
pub const BOTTOM: f64 = 50.0;
/// Of a label.
const LINE_HEIGHT: f64 = 14.0;
const CHAR_WIDTH: f64 = 6.8;
/// Longer names are in the table only.
const MAX_LABEL: usize = 20;

/// Of nats, by powers of ten.
pub struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// With round ends, around losses and the bars on both sides of them.
    pub fn around(losses: impl Iterator<Item = (f64, f64)> + Clone) -> Scale {
        // A bar that reaches 0 would have no end on this scale.
        let lows = losses.clone().map(|(kl, bar)| (kl - bar).max(kl / 2.0));
        let low = lows.fold(f64::INFINITY, f64::min);
        let high = losses.map(|(kl, bar)| kl + bar).fold(0.0, f64::max);
        let (low, high) = (round_down(low).log10(), round_up(high).log10());
        Scale { low, high: high.max(low + 0.3) }
    }

    /// Where a loss is drawn.
    pub fn y(&self, kl: f64) -> f64 {
        let share = (kl.max(1e-30).log10().clamp(self.low, self.high) - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }
}

struct Scales {
    most_bits: f64,
    kl: Scale,
}

impl Scales {
    fn new(points: &[&SettingFigures]) -> Scales {
        let most_bits = points.iter().map(|point| point.bits_per_value).fold(0.0, f64::max);
        let losses = points.iter().map(|point| (kl(point), bar(point)));
        Scales { most_bits: (most_bits * 1.12).ceil(), kl: Scale::around(losses) }
    }

    fn x(&self, bits: f64) -> f64 {
        LEFT + bits / self.most_bits * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, kl: f64) -> f64 {
        self.kl.y(kl)
    }
}

fn kl(setting: &SettingFigures) -> f64 {
    setting.summary.kl.mean.value
}

/// Two standard errors.
fn bar(setting: &SettingFigures) -> f64 {
    2.0 * Loss::of(&setting.summary).kl.se
}

/// The largest of 1, 2, 5, 10, … times a power of ten that is not above `x`.
fn round_down(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    [5.0, 2.0].iter().map(|digit| digit * power).find(|round| *round <= x).unwrap_or(power)
}

fn round_up(x: f64) -> f64 {
    let down = round_down(x);
    if down >= x {
        down
    } else {
        [1.0, 2.0, 5.0, 10.0]
            .map(|digit| digit * 10f64.powf(x.log10().floor()))
            .into_iter()
            .find(|round| *round >= x)
            .unwrap_or(x)
    }
}

/// 1, 2 and 5 times powers of ten within the scale; only powers where these are many.
pub fn ticks(scale: &Scale) -> Vec<f64> {
    let digits: &[f64] = if scale.high - scale.low > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let (first, last) = (scale.low.floor() as i32, scale.high.ceil() as i32);
    let all = (first..=last).flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
    all.filter(|tick| (scale.low - 1e-9..=scale.high + 1e-9).contains(&tick.log10())).collect()
}

/// The settings that lose something, the cheapest first; `None` where these are fewer than two, which make no curve.
pub fn points(settings: &[SettingFigures]) -> Option<Vec<&SettingFigures>> {
    let is_drawn = |setting: &&SettingFigures| kl(setting) > 0.0 && kl(setting).is_finite();
    let mut points: Vec<&SettingFigures> = settings.iter().filter(is_drawn).collect();
    points.sort_by(|a, b| a.bits_per_value.total_cmp(&b.bits_per_value));
    (points.len() >= 2).then_some(points)
}

/// The picture in a page, and what has to be said of it.
pub fn curve(page: &mut String, settings: &[SettingFigures]) -> std::fmt::Result {
    let Some(points) = points(settings) else { return Ok(()) };
    svg::open(page, WIDTH, HEIGHT, "mean KL over bits per value")?;
    draw(page, &points)?;
    writeln!(page, "</svg>")?;
    for remark in remarks(settings) {
        writeln!(page, "<p class=\"note\">{}</p>", escape(&remark))?;
    }
    Ok(())
}

/// What the picture does not show.
pub fn remarks(settings: &[SettingFigures]) -> Vec<String> {
    let is_lossless = |setting: &&SettingFigures| kl(setting) == 0.0 && setting.summary.n_scored > 0;
    let lossless: Vec<&str> = settings.iter().filter(is_lossless).map(|s| s.setting.as_str()).collect();
    let mut remarks = Vec::new();
    if !lossless.is_empty() {
        remarks.push(format!("Not drawn, since it loses nothing: {}.", lossless.join(", ")));
    }
    let has_hollow = settings.iter().any(|setting| kl(setting) > 0.0 && !is_named(setting));
    let hollow = if has_hollow { " The names of hollow points are in the table." } else { "" };
    remarks.push(format!(
        "Bars are two standard errors each way. No setting on the line is beaten in both.{hollow}"
    ));
    remarks
}

fn is_named(setting: &SettingFigures) -> bool {
    setting.setting.chars().count() <= MAX_LABEL
}

/// Axes, frontier, points and their names, in `WIDTH` × `HEIGHT`.
pub fn draw(page: &mut String, points: &[&SettingFigures]) -> std::fmt::Result {
    let scale = Scales::new(points);
    axes(page, &scale)?;
    let line: Vec<String> = frontier(points.iter().copied())
        .iter()
        .map(|point| format!("{:.1},{:.1}", scale.x(point.bits_per_value), scale.y(kl(point))))
        .collect();
    writeln!(
        page,
        "<polyline class=\"frontier\" points=\"{}\" fill=\"none\" stroke-width=\"1.5\"/>",
        line.join(" ")
    )?;
    let places: Vec<(f64, f64)> =
        points.iter().map(|point| (scale.x(point.bits_per_value), scale.y(kl(point)))).collect();
    let mut taken: Vec<Label> = Vec::new();
    for (point, &(x, y)) in points.iter().zip(&places) {
        let (top, bottom) = (scale.y(kl(point) + bar(point)), scale.y(kl(point) - bar(point)));
        let ends = format!("M{:.1} {top:.1}h8M{:.1} {bottom:.1}h8", x - 4.0, x - 4.0);
        writeln!(
            page,
            "<path class=\"mark\" d=\"M{x:.1} {top:.1}V{bottom:.1}{ends}\" stroke-width=\"1.5\"/>"
        )?;
        let class = if is_named(point) { "mark" } else { "mark hollow" };
        writeln!(page, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")?;
        if is_named(point) {
            let label = Label::place(&point.setting, (x, y), &places, &taken);
            svg::text(page, (label.left, label.bottom), Anchor::Start, &point.setting)?;
            taken.push(label);
        }
    }
    Ok(())
}

fn axes(page: &mut String, scale: &Scales) -> std::fmt::Result {
    for tick in ticks(&scale.kl) {
        svg::grid_line(page, scale.y(tick), WIDTH - RIGHT, &number(tick))?;
    }
    let floor = HEIGHT - BOTTOM;
    writeln!(page, "<path class=\"axis\" d=\"M{LEFT} {floor}H{:.1}\"/>", WIDTH - RIGHT)?;
    let step = if scale.most_bits > 20.0 {
        4
    } else if scale.most_bits > 10.0 {
        2
    } else {
        1
    };
    for bits in (0..=scale.most_bits as usize).step_by(step) {
        let x = scale.x(bits as f64);
        writeln!(page, "<path class=\"axis\" d=\"M{x:.1} {floor}v5\"/>")?;
        svg::text(page, (x, floor + 18.0), Anchor::Middle, &bits.to_string())?;
    }
    let middle = scale.x(scale.most_bits / 2.0);
    svg::text(page, (middle, HEIGHT - 10.0), Anchor::Middle, "bits per value")?;
    svg::text(page, (4.0, 14.0), Anchor::Start, "mean KL (nats)")
}

/// Without the noise of binary fractions: 0.0002, 5e-7.
pub fn number(x: f64) -> String {
    if x < 1e-4 {
        format!("{x:.0e}")
    } else {
        format!("{:.4}", x).trim_end_matches('0').trim_end_matches('.').to_string()
    }
}

/// Where a point's name stands.
pub struct Label {
    pub left: f64,
    pub bottom: f64,
    width: f64,
}

impl Label {
    /// The first of some places around the point at which no other label, no point and no edge is in the way.
    pub fn place(text: &str, (x, y): (f64, f64), points: &[(f64, f64)], taken: &[Label]) -> Label {
        let width = CHAR_WIDTH * text.chars().count() as f64;
        let places = [
            (x + 8.0, y - 6.0),
            (x + 8.0, y + 16.0),
            (x - 8.0 - width, y - 6.0),
            (x - 8.0 - width, y + 16.0),
        ];
        let label = |(left, bottom): (f64, f64)| Label { left, bottom, width };
        let further = (1..8).map(|n| (x + 8.0, y - 6.0 - LINE_HEIGHT * f64::from(n)));
        let free = places.into_iter().chain(further).map(label).find(|label| {
            let is_inside = label.left > LEFT && label.left + width < WIDTH && label.bottom > TOP - 4.0;
            is_inside
                && label.bottom < HEIGHT - BOTTOM
                && !points.iter().any(|point| label.covers(point))
                && !taken.iter().any(|other| label.touches(other))
        });
        free.unwrap_or(label(((x + 8.0).min(WIDTH - width), y - 6.0)))
    }

    fn covers(&self, (x, y): &(f64, f64)) -> bool {
        const RADIUS: f64 = 4.0;
        (self.left - RADIUS..self.left + self.width + RADIUS).contains(x)
            && (self.bottom - LINE_HEIGHT..self.bottom + RADIUS).contains(y)
    }

    fn touches(&self, other: &Label) -> bool {
        self.left < other.left + other.width
            && other.left < self.left + self.width
            && (self.bottom - other.bottom).abs() < LINE_HEIGHT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_round() {
        assert_eq!([0.0034, 0.0051, 0.001].map(round_down), [0.002, 0.005, 0.001]);
        assert_eq!([0.0034, 0.0051, 0.002].map(round_up), [0.005, 0.01, 0.002]);
        assert_eq!([0.0002, 0.5, 10.0, 5e-7].map(number), ["0.0002", "0.5", "10", "5e-7"]);
    }

    #[test]
    fn labels_of_points_that_are_near_do_not_touch_and_cover_no_point() {
        let mut taken = Vec::new();
        let points: Vec<(f64, f64)> = (0..6).map(|n| (300.0 + 9.0 * f64::from(n), 150.0)).collect();
        for point in &points {
            let label = Label::place("k2v2:first=1:f16", *point, &points, &taken);
            assert!(!points.iter().any(|other| label.covers(other)), "{point:?}");
            assert!(!taken.iter().any(|other| label.touches(other)), "{point:?}");
            taken.push(label);
        }
    }
}
