use lossy_tokenizer::EncodeOptions;
use serde_json::json;

use super::*;
use crate::constraint::Constraint;
use crate::limits::Limits;
use crate::testing::{END, allowed, ids, toy};

fn thinking() -> Thinking {
    Thinking::new(&toy(), ThinkingFormat::of_template("{{ '</think>' }}").unwrap())
}

fn answer() -> Option<Box<dyn Mask>> {
    let constraint = Constraint::json_schema(&toy(), &json!({"const": true}), &Limits::default()).unwrap();
    Some(constraint.mask())
}

fn accept(mask: &mut dyn Mask, text: &str) {
    for id in ids(text) {
        assert!(allowed(mask).contains(&id), "{text}: {id}");
        mask.accept(id).unwrap();
    }
}

fn byte(text: &str) -> u32 {
    u32::from(text.as_bytes()[0])
}

#[test]
fn a_template_says_how_thoughts_are_marked() {
    let format = ThinkingFormat::of_template("x {% if '</think>' in content %}").unwrap();
    assert_eq!((format.open(), format.close()), ("<think>", "</think>"));
    assert!(
        format.is_opened_by("<|im_start|>assistant\n<think>\n")
            && !format.is_opened_by("<think>\n\n</think>\n\n")
    );
    assert_eq!(ThinkingFormat::of_template("[THINK][/THINK]").unwrap().open(), "[THINK]");
    assert_eq!(ThinkingFormat::of_template("<tool_call>"), None);
}

#[test]
fn a_constraint_holds_for_what_follows_the_thoughts() {
    let mut mask = thinking().mask(true, None, answer());
    assert!(!allowed(&mut *mask).contains(&END), "the thoughts cannot be the end");
    accept(&mut *mask, "Hm. [1</think>\n");
    let breaks_or_answer = allowed(&mut *mask);
    assert!(breaks_or_answer.contains(&byte("\n")) && breaks_or_answer.contains(&byte("t")));
    assert!(!breaks_or_answer.contains(&byte("H")));
    accept(&mut *mask, "\ntrue");
    assert_eq!(allowed(&mut *mask), [END]);
}

#[test]
fn thoughts_may_be_opened_by_their_token_or_left_out() {
    let mut mask = thinking().mask(false, None, answer());
    accept(&mut *mask, "<think>x</think>true");
    assert_eq!(allowed(&mut *mask), [END]);
    let mut mask = thinking().mask(false, None, answer());
    accept(&mut *mask, "true");
    assert_eq!(allowed(&mut *mask), [END]);
    let mut free = thinking().mask(false, Some(1), None);
    for letter in "<think>x".bytes() {
        free.accept(letter.into()).unwrap();
    }
    assert_eq!(allowed(&mut *free), [byte("\n")], "letters open the thoughts too, and the budget counts");
}

#[test]
fn thoughts_end_when_their_budget_is_spent() {
    let mut mask = thinking().mask(true, Some(3), answer());
    accept(&mut *mask, "abc");
    let options = EncodeOptions { add_special: false, parse_special: true };
    for id in toy().tokenizer().encode("\n</think>\n\n", options).unwrap() {
        assert_eq!(allowed(&mut *mask), [id]);
        mask.accept(id).unwrap();
    }
    accept(&mut *mask, "true");
    let mut none = thinking().mask(true, Some(0), None);
    assert_eq!(allowed(&mut *none), [byte("\n")]);
    assert!(none.accept(byte("x")).is_err());
}

#[test]
fn a_character_is_completed_before_the_thoughts_are_ended() {
    let mut mask = thinking().mask(true, Some(1), None);
    mask.accept(0xc3).unwrap();
    assert!(allowed(&mut *mask).len() > 1);
    mask.accept(0xa9).unwrap();
    assert_eq!(allowed(&mut *mask), [byte("\n")]);
}

#[test]
fn a_budget_that_is_not_spent_changes_nothing() {
    let mut mask = thinking().mask(true, Some(10), None);
    accept(&mut *mask, "a</think>");
    accept(&mut *mask, "anything <think>, of any length");
    assert!(allowed(&mut *mask).contains(&END));
}
