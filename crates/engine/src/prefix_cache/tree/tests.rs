use super::*;

const ROOT_SETTING: [u8; 32] = [0; 32];

fn root() -> Key {
    Key::root(&ROOT_SETTING, &scope())
}

fn scope() -> Scope {
    Scope::new(&[b"one"])
}

/// The page that `path` leads to.
fn key(path: &[u32]) -> Key {
    path.iter().fold(root(), |parent, id| parent.child(&[*id]))
}

fn place(path: &[u32], n_tokens: u32) -> Place {
    let parent = key(&path[..path.len() - 1]);
    Place { key: key(path), parent, scope: scope(), depth: path.len() as u32 - 1, n_tokens }
}

/// Removes everything in order.
fn drain(tree: &mut Tree<u32>) -> Vec<u32> {
    let mut values = Vec::new();
    while let Some(rank) = tree.oldest(None) {
        values.extend(tree.remove(&rank.key, rank.part).0.into_iter().map(|(_, value)| value));
    }
    assert_eq!((tree.len(), tree.bytes()), (0, 0));
    assert!(tree.children.is_empty() && tree.order.is_empty());
    values
}

#[test]
fn leaves_go_before_what_they_follow_and_the_least_recent_first() {
    let mut tree = Tree::default();
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 1);
    tree.insert(place(&[1, 2], 128), Part::Page, 12, 10, 2);
    tree.insert(place(&[1, 2, 3], 128), Part::Page, 123, 10, 3);
    tree.insert(place(&[1, 4], 128), Part::Page, 14, 10, 4);
    tree.insert(place(&[5], 128), Part::Page, 5, 10, 5);
    assert_eq!((tree.len(), tree.bytes()), (5, 50));
    tree.touch(&key(&[1, 2]), Part::Page, 9);
    assert_eq!(drain(&mut tree), [123, 14, 5, 12, 1]);
}

#[test]
fn a_page_is_as_recent_as_what_followed_it() {
    let mut tree = Tree::default();
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 1);
    tree.insert(place(&[1, 2], 128), Part::Page, 12, 10, 7);
    tree.insert(place(&[3], 128), Part::Page, 3, 10, 5);
    assert_eq!(drain(&mut tree), [3, 12, 1]);
}

#[test]
fn of_one_age_twins_and_tails_go_first_and_late_pages_before_early_ones() {
    let mut tree = Tree::default();
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 4);
    tree.insert(place(&[1], 128), Part::Twin, 101, 70, 4);
    tree.insert(place(&[1, 2], 128), Part::Page, 12, 10, 4);
    tree.insert(place(&[1, 2], 128), Part::Twin, 112, 70, 4);
    tree.insert(place(&[1, 2, 3], 57), Part::Page, 123, 70, 4);
    assert_eq!(drain(&mut tree), [123, 112, 101, 12, 1]);
}

#[test]
fn a_twin_goes_with_its_page_and_may_go_alone() {
    let mut tree = Tree::default();
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 1);
    tree.insert(place(&[1], 128), Part::Twin, 101, 70, 1);
    assert_eq!(tree.remove(&key(&[1]), Part::Twin), (vec![(Part::Twin, 101)], 70));
    assert_eq!(tree.get(&key(&[1]), Part::Page), Some(&1));
    tree.insert(place(&[1], 128), Part::Twin, 101, 70, 1);
    assert_eq!(tree.remove(&key(&[1]), Part::Page), (vec![(Part::Twin, 101), (Part::Page, 1)], 80));
    assert_eq!(tree.len(), 0);
}

#[test]
fn pages_whose_parent_is_missing_go_in_their_turn_and_are_found_again_with_it() {
    let mut tree = Tree::default();
    tree.insert(place(&[1, 2], 128), Part::Page, 12, 10, 3);
    tree.insert(place(&[4], 128), Part::Page, 4, 10, 5);
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 1);
    assert_eq!(tree.children(&key(&[1])).collect::<Vec<_>>(), [&key(&[1, 2])]);
    assert_eq!(drain(&mut tree), [12, 1, 4]);
}

#[test]
fn inserting_again_replaces() {
    let mut tree = Tree::default();
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 1);
    tree.insert(place(&[1], 128), Part::Page, 2, 30, 2);
    assert_eq!((tree.len(), tree.bytes(), tree.get(&key(&[1]), Part::Page)), (1, 30, Some(&2)));
    assert_eq!(drain(&mut tree), [2]);
}

#[test]
fn a_scope_can_be_listed() {
    let mut tree = Tree::default();
    tree.insert(place(&[1], 128), Part::Page, 1, 10, 1);
    let other = Scope::new(&[b"other"]);
    tree.insert(Place { scope: other, ..place(&[2], 128) }, Part::Page, 2, 10, 1);
    assert_eq!(tree.keys(Some(&other)), [key(&[2])]);
    assert_eq!(tree.keys(None).len(), 2);
}
