use super::*;
use lossy_testkit::noise;

/// Moments of correlated inputs, `[n_tokens, n]`, whose channels have different sizes.
fn moments(n: usize, n_tokens: usize, seed: u64) -> InputMoments {
    let (base, own) = (noise(seed, n_tokens * 4), noise(seed + 1, n_tokens * n));
    let mix = noise(seed + 2, 4 * n);
    let input = |token: usize, channel: usize| {
        let shared: f32 = (0..4).map(|i| base[token * 4 + i] * mix[i * n + channel]).sum();
        (shared + 0.5 * own[token * n + channel]) * (0.2 + (channel * 7 % n) as f32 / n as f32)
    };
    let mut sums = vec![0.0f32; n * n];
    for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
        sums[a * n + b] = (0..n_tokens).map(|t| input(t, a) * input(t, b)).sum();
    }
    InputMoments { input: Input::Down, n_tokens, sums, n }
}

/// `Σ ΔW H ΔWᵀ` over rows, for columns that stay and 0 for the others.
fn error(moments: &InputMoments, old: &[f32], keep: &[usize], new: &[f32]) -> f64 {
    let n = moments.n;
    let mut sum = 0.0;
    for (old, new) in old.chunks(n).zip(new.chunks(keep.len())) {
        let mut delta: Vec<f64> = old.iter().map(|&w| -f64::from(w)).collect();
        for (&channel, &w) in keep.iter().zip(new) {
            delta[channel] += f64::from(w);
        }
        for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
            sum += delta[a] * f64::from(moments.sums[a * n + b]) * delta[b];
        }
    }
    sum
}

fn unchanged(old: &[f32], n: usize, keep: &[usize]) -> Vec<f32> {
    old.chunks(n).flat_map(|row| keep.iter().map(|&channel| row[channel])).collect()
}

/// Solves `x A = b` for symmetric `A` by elimination, in float64.
fn solve(a: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let n = b.len();
    let mut rows: Vec<Vec<f64>> = a.iter().zip(b).map(|(row, &b)| [&row[..], &[b]].concat()).collect();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| rows[p][i].abs().total_cmp(&rows[q][i].abs())).unwrap();
        rows.swap(i, pivot);
        for r in (0..n).filter(|&r| r != i) {
            let part = rows[r][i] / rows[i][i];
            let pivot = rows[i].clone();
            rows[r].iter_mut().zip(&pivot).for_each(|(x, pivot)| *x -= part * pivot);
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}

#[test]
fn the_refit_is_that_of_least_squares_solved_by_elimination() {
    let (n, n_out, width) = (24, 5, 17);
    let (moments, down) = (moments(n, 200, 3), noise(9, n_out * n));
    let found = Refit::of(&moments, &down, width).unwrap();
    assert_eq!(found.keep.len(), width);
    assert!(found.keep.windows(2).all(|pair| pair[0] < pair[1]));
    let mean = (0..n).map(|i| f64::from(moments.sums[i * n + i])).sum::<f64>() / n as f64;
    let h = |a: usize, b: usize| f64::from(moments.sums[a * n + b]);
    let kept: Vec<Vec<f64>> = found
        .keep
        .iter()
        .map(|&a| found.keep.iter().map(|&b| h(a, b) + if a == b { DAMPING * mean } else { 0.0 }).collect())
        .collect();
    let gone: Vec<usize> = (0..n).filter(|channel| !found.keep.contains(channel)).collect();
    for (old, new) in down.chunks(n).zip(found.down.chunks(width)) {
        let b: Vec<f64> =
            found.keep.iter().map(|&k| gone.iter().map(|&q| f64::from(old[q]) * h(q, k)).sum()).collect();
        for ((&channel, delta), &new) in found.keep.iter().zip(solve(&kept, &b)).zip(new) {
            let wanted = f64::from(old[channel]) + delta;
            assert!(
                (f64::from(new) - wanted).abs() < 1e-5 * (1.0 + wanted.abs()),
                "{channel}: {new} {wanted}"
            );
        }
    }
}

#[test]
fn the_refit_never_raises_the_squared_error_and_helps_where_channels_are_correlated() {
    for seed in 0..12 {
        let (n, n_out) = (20, 4);
        // Fewer tokens than channels: H is singular.
        let moments = moments(n, [8, 200][seed as usize % 2], 100 + 3 * seed);
        let down = noise(seed, n_out * n);
        for width in [1, 10, 16, 19] {
            let found = Refit::of(&moments, &down, width).unwrap();
            let [before, after] = [unchanged(&down, n, &found.keep), found.down.clone()]
                .map(|new| error(&moments, &down, &found.keep, &new));
            assert!(after <= before * (1.0 + 1e-6), "{seed} {width}: {before} {after}");
            assert!(width != 16 || after < 0.8 * before, "{seed}: {before} {after}");
        }
    }
}

/// All sets of channels are tried.
#[test]
fn the_choice_is_near_the_best_of_all() {
    let (n, n_out, width) = (10, 3, 6);
    for seed in 0..6 {
        let (moments, down) = (moments(n, 60, 40 + 3 * seed), noise(70 + seed, n_out * n));
        let chosen = Refit::of(&moments, &down, width).unwrap();
        let found = error(&moments, &down, &chosen.keep, &chosen.down);
        let all = (0..1usize << n).filter(|set| set.count_ones() as usize == width);
        let errors: Vec<f64> = all
            .map(|set| {
                let keep: Vec<usize> = (0..n).filter(|channel| set >> channel & 1 == 1).collect();
                // The refit of a set that is given: the others cost nothing to lose.
                let mut only = moments.clone();
                let mut scaled = down.clone();
                best_of(&mut only, &mut scaled, &keep);
                error(&moments, &down, &keep, &scaled)
            })
            .collect();
        let best = errors.iter().copied().fold(f64::INFINITY, f64::min);
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(found <= 1.5 * best && found < 0.5 * mean, "{seed}: {found}, best {best}, mean {mean}");
    }
}

/// Replaces `down` by the least squares of the columns `keep` alone.
fn best_of(moments: &mut InputMoments, down: &mut Vec<f32>, keep: &[usize]) {
    let n = moments.n;
    let mean = (0..n).map(|i| f64::from(moments.sums[i * n + i])).sum::<f64>() / n as f64;
    let h = |a: usize, b: usize| f64::from(moments.sums[a * n + b]);
    let kept: Vec<Vec<f64>> = keep
        .iter()
        .map(|&a| keep.iter().map(|&b| h(a, b) + if a == b { DAMPING * mean } else { 0.0 }).collect())
        .collect();
    *down = down
        .chunks(n)
        .flat_map(|old| {
            let gone = (0..n).filter(|channel| !keep.contains(channel));
            let gone: Vec<usize> = gone.collect();
            let b: Vec<f64> =
                keep.iter().map(|&k| gone.iter().map(|&q| f64::from(old[q]) * h(q, k)).sum()).collect();
            let delta = solve(&kept, &b);
            keep.iter().zip(delta).map(|(&k, delta)| (f64::from(old[k]) + delta) as f32).collect::<Vec<_>>()
        })
        .collect();
}

#[test]
fn a_channel_that_says_what_another_says_goes_first_and_only_one_of_them() {
    let (n, n_tokens) = (6, 100);
    let values = noise(5, n_tokens * n);
    // Channel 4 is channel 1.
    let input = |token: usize, channel: usize| values[token * n + if channel == 4 { 1 } else { channel }];
    let mut sums = vec![0.0f32; n * n];
    for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
        sums[a * n + b] = (0..n_tokens).map(|t| input(t, a) * input(t, b)).sum();
    }
    let moments = InputMoments { input: Input::Down, n_tokens, sums, n };
    let down = vec![1.0; n];
    let five = Refit::of(&moments, &down, 5).unwrap();
    assert!(five.keep.contains(&1) != five.keep.contains(&4), "{five:?}");
    let left = five.keep.iter().position(|&channel| channel == 1 || channel == 4).unwrap();
    assert!((five.down[left] - 2.0).abs() < 0.02, "{five:?}");
    let four = Refit::of(&moments, &down, 4).unwrap();
    assert!(four.keep.contains(&1) || four.keep.contains(&4), "{four:?}");
}

#[test]
fn moments_of_nothing_are_refused() {
    let mut moments = moments(4, 10, 1);
    moments.sums.fill(0.0);
    assert!(Refit::of(&moments, &[1.0; 8], 2).is_none());
    moments.sums.fill(f32::NAN);
    assert!(Refit::of(&moments, &[1.0; 8], 2).is_none());
}
