//! For each task and setting a map: depth downwards, length across, colour by the probability of a token of the right
//! answer.

use std::fmt::Write;

use super::svg::{self, Anchor};
use crate::divergence::Estimate;
use crate::table::escape;
use crate::tasks::SettingScore;

const CELL_WIDTH: f64 = 56.0;
const CELL_HEIGHT: f64 = 26.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 38.0;
/// Where there are more cases, several share a row.
const MAX_DEPTHS: usize = 8;

/// One picture for each task and setting.
pub fn maps(page: &mut String, scores: &[SettingScore]) -> std::fmt::Result {
    writeln!(page, "<h3>By depth and length</h3>")?;
    writeln!(
        page,
        "<p class=\"note\">Numbers are scores in percent; the colour is the probability of a token of the right answer, from {} \
         to {}. The beginning of the text is at the top.</p>",
        swatch(0.0),
        swatch(1.0)
    )?;
    for task in different(scores.iter().map(|score| score.task.as_str())) {
        let of_task: Vec<&SettingScore> = scores.iter().filter(|score| score.task == task).collect();
        writeln!(page, "<h4>{}</h4>\n<div class=\"maps\">", escape(task))?;
        for setting in different(of_task.iter().map(|score| score.setting.as_str())) {
            let columns: Vec<&SettingScore> =
                of_task.iter().filter(|score| score.setting == setting).copied().collect();
            map(page, setting, &columns)?;
        }
        writeln!(page, "</div>")?;
    }
    Ok(())
}

/// Each once, in the order in which they come first.
fn different<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn swatch(p: f64) -> String {
    format!("<span style=\"background:{};padding:0 .5em\">{p}</span>", colour(p))
}

/// From orange over near-white to blue, which nobody confuses.
fn colour(p: f64) -> String {
    const ENDS: [[f64; 3]; 3] = [[236.0, 139.0, 70.0], [247.0, 244.0, 238.0], [110.0, 165.0, 218.0]];
    let (from, to, part) = if p < 0.5 { (0, 1, 2.0 * p) } else { (1, 2, 2.0 * p - 1.0) };
    let part = part.clamp(0.0, 1.0);
    let mix =
        |channel: usize| (ENDS[from][channel] + part * (ENDS[to][channel] - ENDS[from][channel])).round();
    format!("rgb({},{},{})", mix(0), mix(1), mix(2))
}

fn map(page: &mut String, setting: &str, columns: &[&SettingScore]) -> std::fmt::Result {
    // Wide enough for the name, too.
    let width = (LEFT + CELL_WIDTH * columns.len() as f64).max(10.0 + 7.0 * setting.chars().count() as f64);
    let n_depths = columns.iter().map(|score| score.cases.len()).max().unwrap_or(0).clamp(1, MAX_DEPTHS);
    let height = TOP + CELL_HEIGHT * n_depths as f64 + BOTTOM;
    svg::open(page, width, height, setting)?;
    writeln!(page, "<text x=\"0\" y=\"14\" font-weight=\"bold\">{}</text>", escape(setting))?;
    let floor = height - BOTTOM;
    let ends = [("beginning", TOP + 17.0), ("end", floor - 9.0)];
    for (name, y) in ends.into_iter().filter(|_| n_depths > 1) {
        svg::text(page, (LEFT - 6.0, y), Anchor::End, name)?;
    }
    for (column, score) in columns.iter().enumerate() {
        let left = LEFT + CELL_WIDTH * column as f64;
        let middle = left + CELL_WIDTH / 2.0;
        for depth in 0..n_depths {
            let is_here = |at: f64| ((at * n_depths as f64) as usize).min(n_depths - 1) == depth;
            let cases = || score.cases.iter().filter(|case| is_here(case.depth));
            let top = TOP + CELL_HEIGHT * depth as f64;
            let (fill, text) = match cases().next() {
                Some(_) => {
                    let p = Estimate::mean(cases().map(|case| case.log_prob_per_token)).value.exp();
                    let share = Estimate::mean(cases().map(|case| case.score)).value;
                    (colour(p), format!("{:.0}", 100.0 * share))
                }
                None => ("#f3f3f3".to_string(), String::new()),
            };
            writeln!(
                page,
                "<rect x=\"{left}\" y=\"{top}\" width=\"{CELL_WIDTH}\" height=\"{CELL_HEIGHT}\" fill=\"{fill}\" stroke=\"#fff\"/>"
            )?;
            svg::text(page, (middle, top + 17.0), Anchor::Middle, &text)?;
        }
        svg::text(page, (middle, floor + 15.0), Anchor::Middle, &score.n_tokens.to_string())?;
    }
    let middle = LEFT + CELL_WIDTH * columns.len() as f64 / 2.0;
    svg::text(page, (middle, floor + 31.0), Anchor::Middle, "tokens")?;
    writeln!(page, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_from_orange_to_blue() {
        assert_eq!([0.0, 0.5, 1.0].map(colour), ["rgb(236,139,70)", "rgb(247,244,238)", "rgb(110,165,218)"]);
    }

    #[test]
    fn names_come_once_in_their_order() {
        assert_eq!(different(["b", "a", "b"].into_iter()), ["b", "a"]);
    }
}
