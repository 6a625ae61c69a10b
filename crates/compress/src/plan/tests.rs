use super::*;
use proptest::prelude::*;

fn item(name: &str, candidates: &[(u64, f64)]) -> Item {
    let candidates =
        candidates.iter().map(|&(bytes, loss)| Candidate { dtype: DType::Q8_0, bytes, loss }).collect();
    Item { name: name.to_owned(), candidates }
}

/// Every assignment that there is.
fn all(items: &[Item]) -> Vec<Assignment> {
    items.iter().fold(vec![Assignment { picks: Vec::new() }], |all, item| {
        let with = |found: &Assignment, candidate: &Candidate| Assignment {
            picks: found.picks.iter().chain([candidate]).copied().collect(),
        };
        all.iter().flat_map(|found| item.candidates.iter().map(move |c| with(found, c))).collect()
    })
}

fn least_loss(items: &[Item], most: u64) -> f64 {
    let fits = all(items).into_iter().filter(|found| found.bytes() <= most);
    fits.map(|found| found.loss()).fold(f64::INFINITY, f64::min)
}

fn least_bytes(items: &[Item], most: f64) -> Option<u64> {
    all(items).into_iter().filter(|found| found.loss() <= most).map(|found| found.bytes()).min()
}

/// As types are: more bytes lose less, mostly.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let candidate = (1u64..60, 0u32..1000).prop_map(|(bytes, loss)| (bytes, f64::from(loss) / 64.0));
    let item = proptest::collection::vec(candidate, 1..5).prop_map(|list| item("x", &list));
    proptest::collection::vec(item, 1..5)
}

fn largest_gain(items: &[Item]) -> f64 {
    items
        .iter()
        .flat_map(|item| {
            paying(&item.candidates).windows(2).map(|pair| pair[0].loss - pair[1].loss).collect::<Vec<_>>()
        })
        .fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn nothing_within_the_bytes_loses_less_than_by_one_step(items in items(), most in 1u64..240) {
        match assign(&items, Limit::Bytes(most)) {
            Ok(found) => {
                prop_assert!(found.bytes() <= most);
                let best = least_loss(&items, most);
                prop_assert!(found.loss() <= best + largest_gain(&items), "{} of {best}", found.loss());
            }
            Err(OutOfReach::Bytes { least }) => {
                prop_assert!(least > most);
                prop_assert_eq!(least_loss(&items, most), f64::INFINITY);
                prop_assert!(least_loss(&items, least).is_finite());
                prop_assert_eq!(least_loss(&items, least - 1), f64::INFINITY);
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn where_a_step_ends_it_is_the_optimum(items in items()) {
        for (bytes, loss) in frontier(&items) {
            let found = assign(&items, Limit::Bytes(bytes)).unwrap();
            let best = least_loss(&items, bytes);
            prop_assert!((found.loss() - best).abs() < 1e-9, "{} of {best}", found.loss());
            prop_assert!((loss - best).abs() < 1e-9);
        }
    }

    #[test]
    fn a_limit_of_loss_is_kept_with_bytes_that_one_step_at_most_is_too_many(items in items(), most in 0u32..3000) {
        let most = f64::from(most) / 64.0;
        let largest = items.iter().flat_map(|item| paying(&item.candidates)
            .windows(2).map(|pair| pair[1].bytes - pair[0].bytes).collect::<Vec<_>>()).max().unwrap_or(0);
        match assign(&items, Limit::Loss(most)) {
            Ok(found) => {
                prop_assert!(found.loss() <= most);
                let best = least_bytes(&items, most).unwrap();
                prop_assert!(found.bytes() <= best + largest, "{} of {best}", found.bytes());
            }
            Err(OutOfReach::Loss { least }) => {
                prop_assert!(least > most);
                prop_assert_eq!(least_bytes(&items, most), None);
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn bytes_go_where_a_nat_is_cheapest() {
    let items = [item("cheap", &[(10, 1.0), (12, 0.1)]), item("dear", &[(10, 1.0), (20, 0.9)])];
    let picks = |most| assign(&items, Limit::Bytes(most)).unwrap().picks.map_bytes();
    assert_eq!(
        (picks(20), picks(22), picks(31), picks(32)),
        (vec![10, 10], vec![12, 10], vec![12, 10], vec![12, 20])
    );
    assert_eq!(assign(&items, Limit::Bytes(19)), Err(OutOfReach::Bytes { least: 20 }));
    assert_eq!(assign(&items, Limit::Loss(1.2)).unwrap().picks.map_bytes(), [12, 10]);
    assert_eq!(assign(&items, Limit::Loss(0.9)), Err(OutOfReach::Loss { least: 1.0 }));
}

trait MapBytes {
    fn map_bytes(&self) -> Vec<u64>;
}

impl MapBytes for Vec<Candidate> {
    fn map_bytes(&self) -> Vec<u64> {
        self.iter().map(|pick| pick.bytes).collect()
    }
}

#[test]
fn what_is_left_buys_a_type_that_is_not_on_the_hull() {
    let items = [item("only", &[(10, 1.0), (14, 0.9), (20, 0.0)])];
    assert_eq!(assign(&items, Limit::Bytes(15)).unwrap().picks.map_bytes(), [14]);
    assert_eq!(assign(&items, Limit::Bytes(20)).unwrap().picks.map_bytes(), [20]);
    assert_eq!(frontier(&items), [(10, 1.0), (20, 0.0)]);
}
