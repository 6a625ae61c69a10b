//! Variable tracking (RULER): a value that is handed from variable to variable, four times.

use super::words::number;
use super::{Request, Sample, Task, share_contained};
use crate::Random;

const N_VARIABLES: usize = 5;
const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/// `size` is sentences between the assignments; the answer must name all five variables.
pub const TRACKING: Task = Task {
    name: "vt",
    about: "five variables that get one value from each other",
    max_answer_tokens: 48,
    stop: Some("\n"),
    make,
    score: share_contained,
};

fn make(request: &Request, random: &mut Random) -> Sample {
    let mut names: Vec<String> = Vec::new();
    while names.len() < N_VARIABLES {
        let name: String = (0..5).map(|_| char::from(b'A' + random.below(26) as u8)).collect();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = number(random);
    let mut lines = vec![NOISE.to_string(); request.size];
    // The chain begins at the depth that was asked for and goes on to the end.
    let first = request.depth * request.size as f64;
    let step = (request.size as f64 - first) / N_VARIABLES as f64;
    for index in (0..N_VARIABLES).rev() {
        let right = if index == 0 { value.clone() } else { format!("VAR {}", names[index - 1]) };
        let place = (first + step * index as f64) as usize;
        lines.insert(place.min(lines.len()), format!("VAR {} = {right}", names[index]));
    }
    Sample {
        prompt: format!(
            "Follow the assignments of variables that are hidden in the following text.\n{}\nWhich variables have the value \
             {value}? The {N_VARIABLES} variables with the value {value} are:",
            lines.join("\n")
        ),
        continuation: format!(" {}", names.join(", ")),
        answers: names,
    }
}
