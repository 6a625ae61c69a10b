//! What is drafted, and how probable it is said to be. What guesses cost where they are wrong, and gain where they are right: answers
//! that are known, on machines that are formulas.

use super::*;

/// Seconds of a pass by its rows.
type Machine = fn(usize) -> f64;

/// Weights are read once for all rows, and products take four rows at once.
fn reads_weights(rows: usize) -> f64 {
    1e-3 * (14.0 + 6.0 * rows.div_ceil(4) as f64 + 0.5 * rows as f64)
}

/// Each row costs as much as the first.
fn computes(rows: usize) -> f64 {
    1e-3 * rows as f64
}

/// The time of an answer, in that of one without guesses, and the share of its tokens that were guessed.
fn relative_time(text: &[u32], n_prompt: usize, machine: Machine) -> (f64, f64) {
    let (mut drafter, mut costs) = (Drafter::default(), PassCosts::default());
    let (mut seconds, mut n_right) = (0.0, 0);
    let mut len = n_prompt + 1;
    while len < text.len() {
        drafter.follow(&text[..len], n_prompt);
        let (draft, chances) = drafter.draft(&text[..len], Speculation::MOST.min(text.len() - len));
        let n = costs.choose(1, &[chances])[0];
        seconds += machine(1 + n);
        costs.observe(1 + n, machine(1 + n));
        let right = draft[..n].iter().zip(&text[len..]).take_while(|(a, b)| a == b).count();
        n_right += right;
        len += 1 + right;
    }
    let n_answer = (text.len() - n_prompt - 1) as f64;
    (seconds / (n_answer * machine(1)), n_right as f64 / n_answer)
}

/// Random numbers below `n`.
fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    }
}

/// Words of which some are much more frequent than others, so that pairs and triples of them come again by chance.
fn words(seed: u64, len: usize) -> Vec<u32> {
    let mut next = random(seed);
    (0..len).map(|_| (next(40) * next(40) / (1 + next(30))) as u32).collect()
}

/// A prompt of 1000 words, and an answer that copies `copied` of its tokens at a time, then says `own` others.
fn quoting(seed: u64, n_answer: usize, copied: usize, own: usize) -> Vec<u32> {
    let (mut next, mut text) = (random(seed), (0..1000).collect::<Vec<u32>>());
    while text.len() < 1000 + n_answer {
        let start = next(1000 - copied);
        text.extend_from_within(start..start + copied);
        text.extend((0..own).map(|_| 5000 + next(5000) as u32));
    }
    text.truncate(1000 + n_answer);
    text
}

#[test]
fn where_guesses_are_wrong_an_answer_takes_three_percent_longer_at_most() {
    for machine in [reads_weights as Machine, computes] {
        for seed in 1..6 {
            let texts = [
                ("words", words(seed, 1300)),
                ("pairs that go on differently", (0..1300).flat_map(|n| [1, 2, 9000 + n]).collect()),
                ("quotes of two tokens", quoting(seed, 300, 2, 3)),
                ("quotes of three tokens", quoting(seed, 300, 3, 4)),
                ("quotes of nine tokens", quoting(seed, 300, 9, 3)),
            ];
            for (name, text) in texts {
                let (time, _) = relative_time(&text, 1000, machine);
                assert!(time < 1.03, "{name}, seed {seed}: {time:.3} times as long");
            }
        }
    }
}

#[test]
fn where_an_answer_quotes_it_takes_less_than_half_the_time() {
    for (copied, own, least) in [(300, 3, 0.9), (60, 5, 0.7), (25, 5, 0.5)] {
        let text = quoting(3, 600, copied, own);
        let (time, guessed) = relative_time(&text, 1000, reads_weights);
        assert!(guessed > least - 0.3, "{copied} tokens at a time: {guessed:.2} were guessed");
        assert!(time < 1.35 - least, "{copied} tokens at a time: {time:.2} times as long");
        let (time, _) = relative_time(&text, 1000, computes);
        assert!(time < 1.03, "where rows cost as much as passes, nothing is gained: {time:.3}");
    }
}

fn followed(tokens: &[u32], n_prompt: usize) -> Drafter {
    let mut drafter = Drafter::default();
    drafter.follow(tokens, n_prompt);
    drafter
}

#[test]
fn kinds_have_names() {
    for name in ["auto", "off", "1", "15"] {
        assert_eq!(name.parse::<Speculation>().unwrap().to_string(), name);
    }
    for name in ["", "on", "0", "16", "-1"] {
        let error = name.parse::<Speculation>().unwrap_err();
        assert!(error.contains(&format!("`{name}`")) && error.contains("from 1 to 15"), "{error}");
    }
}

#[test]
fn what_followed_before_is_drafted_and_a_repetition_goes_on() {
    let text = [1, 2, 3, 4, 5, 6, 9, 2, 3];
    assert_eq!(followed(&text, 9).draft(&text, 4).0, [4, 5, 6, 9]);
    let text = [5, 1, 2, 3, 1, 2, 3];
    assert_eq!(followed(&text, 7).draft(&text, 7).0, [1, 2, 3, 1, 2, 3, 1]);
    let text = [1, 2, 3];
    assert!(followed(&text, 3).draft(&text, 7).0.is_empty());
}

#[test]
fn who_quotes_stays_at_one_place() {
    // The passage 20 21 22 23 24 has another end where it stands alone.
    let mut text: Vec<u32> = (10..40).chain([7, 22, 23, 99, 8]).chain(15..24).collect();
    let n_prompt = text.len();
    text.push(24);
    assert_eq!(followed(&text, n_prompt).draft(&text, 3).0, [25, 26, 27]);
}

#[test]
fn chances_follow_what_was_right_lately() {
    let quoted: Vec<u32> = (0..200).collect();
    let text: Vec<u32> = quoted.iter().chain(&quoted[..100]).copied().collect();
    let good = followed(&text, 202);
    let (draft, chances) = good.draft(&text, 8);
    assert_eq!(draft, (100..108).collect::<Vec<u32>>());
    assert!(chances[7] > 0.7 && chances.is_sorted_by(|a, b| a >= b), "{chances:?}");
    // Pairs that go on in another way each time.
    let pairs: Vec<u32> = (0..300).flat_map(|n| [1, 2, 1000 + n]).collect();
    let bad = followed(&pairs[..899], 3);
    let (_, chances) = bad.draft(&pairs[..899], 8);
    assert!(chances[0] < 0.05, "{chances:?}");
}

#[test]
fn a_text_is_followed_alike_in_steps_and_at_once() {
    let text: Vec<u32> = (0..400u32).map(|n| n * n % 23).collect();
    let mut in_steps = Drafter::default();
    for end in (100..=400).step_by(3) {
        in_steps.follow(&text[..end], 100);
    }
    assert_eq!(in_steps.draft(&text, 15), followed(&text, 100).draft(&text, 15));
}
