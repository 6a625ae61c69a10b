//! Who runs in the next round: a function of what each lane needs and of the bytes that are left, and of nothing else.
//!
//! Whoever decodes gets one token, the oldest first. What the round may read of prompts goes, in turns, to the oldest prompt
//! and to the one with the fewest tokens left: a short prompt does not wait for a long one, and a long one gets on. If there
//! is no room for a token of a lane that decodes, the newest lane gives up its pages.
//!
//! What a lane may guess beyond its token comes out of a limit for the round, the oldest first, and only into room that is there:
//! nobody gives way for it. How much of that is worth computing is the engine's affair.

/// What a lane, a generation that runs, needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// tokens of the prompt that are still to be read; 0: it decodes
    pub to_read: usize,
    /// tokens that may be guessed after its next one
    pub to_guess: usize,
    /// smaller came earlier
    pub arrival: u64,
}

/// What a round may spend.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// most tokens of prompts
    pub read: usize,
    /// most guessed tokens
    pub guess: usize,
    /// most bytes of new pages
    pub bytes: usize,
    /// the number of the round: even ones favour the oldest prompt
    pub number: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// run so many tokens of each lane, some of them none
    Run(Vec<usize>),
    /// take the pages of this lane, and plan again
    Suspend(usize),
    /// this lane is alone, and there is no room for its next token
    NoRoom(usize),
}

/// Fewer tokens of a prompt are not worth a share, unless they are its last, or all that the round may read.
const LEAST_READ: usize = 16;

/// Plans a round. `bytes_of(lane, n)` are those of new pages that `n` more tokens of a lane need.
pub fn plan(lanes: &[Lane], round: Round, bytes_of: &dyn Fn(usize, usize) -> usize) -> Plan {
    let mut shares = vec![0; lanes.len()];
    let mut bytes = round.bytes;
    let mut is_starved = false;
    let by_arrival = |decodes: bool| {
        let mut indices: Vec<usize> =
            (0..lanes.len()).filter(|&i| (lanes[i].to_read == 0) == decodes).collect();
        indices.sort_by_key(|&i| lanes[i].arrival);
        indices
    };
    for index in by_arrival(true) {
        match bytes.checked_sub(bytes_of(index, 1)) {
            Some(left) => (bytes, shares[index]) = (left, 1),
            None => is_starved = true,
        }
    }
    let mut guess = round.guess;
    for index in by_arrival(true).into_iter().filter(|_| !is_starved) {
        let more = lanes[index].to_guess.min(guess);
        let cost = |n: usize| bytes_of(index, 1 + n).saturating_sub(bytes_of(index, 1));
        let fits = (1..=more).rev().find(|n| cost(*n) <= bytes);
        if let Some(n) = fits.filter(|_| shares[index] > 0) {
            bytes -= cost(n);
            guess -= n;
            shares[index] += n;
        }
    }
    let mut readers = by_arrival(false);
    if !round.number.is_multiple_of(2) {
        readers.sort_by_key(|&i| (lanes[i].to_read, lanes[i].arrival));
    }
    let mut read = round.read;
    for index in readers {
        let mut share = read.min(lanes[index].to_read);
        if share < LEAST_READ.min(lanes[index].to_read).min(round.read) {
            continue;
        }
        while share > 0 && bytes_of(index, share) > bytes {
            share = if share > LEAST_READ { share / 2 } else { 0 };
        }
        if share > 0 {
            bytes -= bytes_of(index, share);
            read -= share;
            shares[index] = share;
        }
    }
    let is_idle = shares.iter().all(|share| *share == 0);
    let wants = |index: &usize| lanes[*index].to_read == 0 || round.read > 0;
    let is_stuck = is_starved || is_idle && (0..lanes.len()).any(|index| wants(&index));
    if !is_stuck {
        return Plan::Run(shares);
    }
    match (0..lanes.len()).max_by_key(|&i| lanes[i].arrival) {
        Some(newest) if lanes.len() > 1 => Plan::Suspend(newest),
        Some(only) => Plan::NoRoom(only),
        None => Plan::Run(shares),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(to_read: &[usize]) -> Vec<Lane> {
        let lane = |(&to_read, arrival)| Lane { to_read, to_guess: 0, arrival };
        to_read.iter().zip(0..).map(lane).collect()
    }

    fn round(read: usize, bytes: usize, number: u64) -> Round {
        Round { read, guess: 0, bytes, number }
    }

    /// One byte a token.
    fn by_token(_: usize, n: usize) -> usize {
        n
    }

    #[test]
    fn who_decodes_gets_a_token_and_prompts_share_the_rest() {
        let plan_of = |number| plan(&lanes(&[0, 3000, 40, 0]), round(128, usize::MAX, number), &by_token);
        assert_eq!(plan_of(0), Plan::Run(vec![1, 128, 0, 1]));
        assert_eq!(plan_of(1), Plan::Run(vec![1, 88, 40, 1]));
    }

    #[test]
    fn a_round_that_reads_nothing_still_decodes() {
        assert_eq!(plan(&lanes(&[0, 500]), round(0, 99, 0), &by_token), Plan::Run(vec![1, 0]));
        assert_eq!(plan(&lanes(&[500]), round(0, 99, 0), &by_token), Plan::Run(vec![0]));
        assert_eq!(plan(&[], round(0, 0, 0), &by_token), Plan::Run(vec![]));
    }

    #[test]
    fn a_share_that_has_no_room_becomes_smaller() {
        assert_eq!(plan(&lanes(&[0, 500]), round(512, 130, 0), &by_token), Plan::Run(vec![1, 125]));
        assert_eq!(plan(&lanes(&[0, 500]), round(512, 10, 0), &by_token), Plan::Run(vec![1, 0]));
    }

    #[test]
    fn the_last_tokens_of_a_prompt_are_read_however_few_they_are() {
        assert_eq!(plan(&lanes(&[3, 100]), round(12, 99, 0), &by_token), Plan::Run(vec![3, 0]));
    }

    #[test]
    fn a_round_that_may_read_few_tokens_reads_them() {
        assert_eq!(plan(&lanes(&[500]), round(8, 99, 0), &by_token), Plan::Run(vec![8]));
        assert_eq!(plan(&lanes(&[500, 500]), round(8, 99, 1), &by_token), Plan::Run(vec![8, 0]));
    }

    #[test]
    fn without_room_for_a_token_the_newest_gives_way() {
        assert_eq!(plan(&lanes(&[0, 0, 0]), round(0, 2, 0), &by_token), Plan::Suspend(2));
        assert_eq!(plan(&lanes(&[0, 700]), round(512, 0, 0), &by_token), Plan::Suspend(1));
        assert_eq!(plan(&lanes(&[700, 700]), round(512, 3, 0), &by_token), Plan::Suspend(1));
        assert_eq!(plan(&lanes(&[0]), round(0, 0, 0), &by_token), Plan::NoRoom(0));
        assert_eq!(plan(&lanes(&[700]), round(512, 3, 0), &by_token), Plan::NoRoom(0));
    }

    #[test]
    fn the_oldest_guess_first_and_nobody_gives_way_for_a_guess() {
        let guessing = |guesses: [usize; 3]| {
            let lane = |(to_guess, arrival)| Lane { to_read: 0, to_guess, arrival };
            guesses.into_iter().zip(0..).map(lane).collect::<Vec<Lane>>()
        };
        let round = |guess, bytes| Round { guess, ..round(0, bytes, 0) };
        let plan_of = |guesses, guess, bytes| plan(&guessing(guesses), round(guess, bytes), &by_token);
        assert_eq!(plan_of([5, 0, 7], 20, 99), Plan::Run(vec![6, 1, 8]));
        assert_eq!(plan_of([5, 0, 7], 8, 99), Plan::Run(vec![6, 1, 4]));
        assert_eq!(plan_of([5, 0, 7], 20, 5), Plan::Run(vec![3, 1, 1]), "tokens come before guesses");
        assert_eq!(plan_of([5, 0, 7], 20, 2), Plan::Suspend(2), "for want of tokens, not of guesses");
    }

    #[test]
    fn nobody_gets_more_than_there_is() {
        let mut random = 1u64;
        let mut next = |n: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((random >> 33) % n) as usize
        };
        for number in 0..2000 {
            let mut lanes = lanes(&(0..next(6)).map(|_| next(2) * next(400)).collect::<Vec<_>>());
            lanes.iter_mut().for_each(|lane| lane.to_guess = next(2) * next(16));
            let round = Round { guess: next(2) * next(40), ..round(next(600), next(700), number) };
            // Pages of 128 tokens.
            let bytes_of = |index: usize, n: usize| (index * 37 % 128 + n).div_ceil(128) * 50;
            match plan(&lanes, round, &bytes_of) {
                Plan::Run(shares) => {
                    let bytes: usize =
                        shares.iter().enumerate().map(|(i, &n)| if n > 0 { bytes_of(i, n) } else { 0 }).sum();
                    let read: usize =
                        shares.iter().zip(&lanes).filter(|(_, lane)| lane.to_read > 0).map(|(n, _)| n).sum();
                    assert!(bytes <= round.bytes && read <= round.read);
                    let decoding = || lanes.iter().zip(&shares).filter(|(lane, _)| lane.to_read == 0);
                    assert!(decoding().all(|(lane, &n)| (1..=1 + lane.to_guess).contains(&n)));
                    assert!(decoding().map(|(_, n)| n - 1).sum::<usize>() <= round.guess);
                }
                Plan::Suspend(index) => assert_eq!(index + 1, lanes.len()),
                Plan::NoRoom(index) => assert_eq!((index, lanes.len()), (0, 1)),
            }
        }
    }
}
