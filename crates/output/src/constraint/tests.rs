use std::time::Instant;

use serde_json::json;

use super::*;
use crate::testing::{END, accepts, allowed, n_accepted, toy};

fn schema(schema: Value) -> Result<Constraint, ConstraintError> {
    Constraint::json_schema(&toy(), &schema, &Limits::default())
}

#[test]
fn an_answer_that_the_schema_allows_is_allowed() {
    let constraint = schema(json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 3}, "n": {"type": "integer", "minimum": 2}},
        "required": ["name"],
        "additionalProperties": false
    }))
    .unwrap();
    for text in [r#"{"name":"ab"}"#, r#"{ "name": "é\n", "n": 12 }"#, "{\n  \"name\": \"\"\n}"] {
        assert!(accepts(&constraint, text), "{text}");
    }
    for text in
        [r#"{"name":"abcd"}"#, r#"{"n":2}"#, r#"{"name":"a","n":1}"#, r#"{"name":"a","x":1}"#, "[]", ""]
    {
        assert!(!accepts(&constraint, text), "{text}");
    }
}

#[test]
fn a_complete_text_only_ends_and_tokens_without_text_never_come() {
    let constraint = schema(json!({"const": true})).unwrap();
    let mut mask = constraint.mask();
    assert_eq!(n_accepted(&mut *mask, "true"), 5);
    assert_eq!(allowed(&mut *mask), [END]);
    mask.accept(END).unwrap();
    assert_eq!(allowed(&mut *mask), [END]);
    let any = schema(json!({})).unwrap();
    assert!(allowed(&mut *any.mask()).iter().all(|id| !(256..=265).contains(id)));
}

#[test]
fn a_token_that_is_not_allowed_is_an_error_with_a_reason() {
    let mut mask = schema(json!({"type": "null"})).unwrap().mask();
    let error = mask.accept(u32::from(b'x')).unwrap_err().to_string();
    assert!(error.starts_with("the constraint on the text failed: ") && !error.contains('<'), "{error}");
    assert!(mask.accept(99_999).is_err());
}

#[test]
fn a_guess_is_cut_where_it_is_not_allowed_and_spends_nothing() {
    let mut mask = schema(json!({"const": {"a": [1, 2]}})).unwrap().mask();
    assert_eq!(n_accepted(&mut *mask, "{\"a\":"), 5);
    let before = allowed(&mut *mask);
    let guess: Vec<u32> = "[1,2]}x".bytes().map(u32::from).collect();
    for _ in 0..1000 {
        assert_eq!(mask.n_allowed(&guess), 6);
        assert_eq!(mask.n_allowed(&guess[1..]), 0);
    }
    assert_eq!(mask.n_allowed(&[&guess[..6], &[END]].concat()), 7);
    assert_eq!((mask.n_allowed(&[]), mask.n_allowed(&[99_999])), (0, 0));
    assert_eq!(allowed(&mut *mask), before);
    assert_eq!(n_accepted(&mut *mask, "[1,2]}"), 7);
}

#[test]
fn any_object_is_an_object() {
    let constraint = Constraint::json_object(&toy(), &Limits::default()).unwrap();
    assert!(accepts(&constraint, r#"{"a":[1,{"b":null}],"c":"d"}"#));
    assert!(!accepts(&constraint, "[1]"));
}

#[test]
fn a_regular_expression_holds_for_the_whole_text() {
    for regex in ["[a-c]{2}/x?", "^[a-c]{2}/x?$"] {
        let constraint = Constraint::regex(&toy(), regex, &Limits::default()).unwrap();
        assert!(accepts(&constraint, "ab/") && accepts(&constraint, "cc/x"), "{regex}");
        assert!(!accepts(&constraint, "ab") && !accepts(&constraint, "xab/"), "{regex}");
    }
    assert!(accepts(&Constraint::regex(&toy(), "", &Limits::default()).unwrap(), ""));
    for wrong in ["(", "a(?=b)", r"\bx", "[z-a]", "a{2,1}"] {
        assert!(Constraint::regex(&toy(), wrong, &Limits::default()).is_err(), "{wrong}");
    }
}

#[test]
fn a_choice_is_one_of_its_texts() {
    let texts = ["yes", "yes, but", "", "\"\u{1}\u{7f}\n</s>", "né"].map(str::to_string);
    let constraint = Constraint::choice(&toy(), &texts, &Limits::default()).unwrap();
    for text in ["yes", "yes, but", "", "\"\u{1}\u{7f}\n", "né"] {
        assert_eq!(accepts(&constraint, text), text != "\"\u{1}\u{7f}\n", "{text}");
    }
    assert!(!accepts(&constraint, "no"));
    assert_eq!(Constraint::choice(&toy(), &[], &Limits::default()).unwrap_err(), ConstraintError::NoChoice);
}

#[test]
fn a_grammar_is_gbnf_or_lark() {
    let json = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;
    let constraint = Constraint::grammar(&toy(), json, &Limits::default()).unwrap();
    assert!(accepts(&constraint, "{\"a\": [1.5, {\"b\":\"\\u00e9é\"}, true ]}\n"));
    assert!(!accepts(&constraint, "{\"a\":01}") && !accepts(&constraint, "[1]"));
    let list = "root ::= (\"- \" [^\\n]+ \"\\n\")+";
    assert!(accepts(&Constraint::grammar(&toy(), list, &Limits::default()).unwrap(), "- a\n- b/c\n"));
    let lark = Constraint::grammar(&toy(), "start: \"a\" B\nB: /[0-9]+/", &Limits::default()).unwrap();
    assert!(accepts(&lark, "a12") && !accepts(&lark, "12"));
    let error = Constraint::grammar(&toy(), "start: \"a", &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("1("), "{error}");
}

/// What strangers may send. Each ends within seconds also without optimization, as an error or as a constraint.
#[test]
fn hostile_constraints_end_quickly() {
    let nested = |n: usize| (0..n).fold(json!(true), |inner, _| json!({"items": inner}));
    let optional: serde_json::Map<String, Value> =
        (0..900).map(|i| (format!("p{i}"), json!({"type": "integer"}))).collect();
    let wide = |n: usize| json!((0..n).map(|i| json!({"const": format!("value {i}")})).collect::<Vec<_>>());
    let schemas = [
        nested(60),
        nested(1_000),
        json!({"properties": optional}),
        json!({"enum": (0..2_000).map(|i| format!("value number {i}")).collect::<Vec<_>>()}),
        json!({"anyOf": wide(2_000)}),
        json!({"allOf": [{"anyOf": wide(300)}, {"anyOf": wide(300)}, {"anyOf": wide(300)}]}),
        json!({"type": "string", "minLength": 100_000}),
        json!({"type": "string", "minLength": 4_000_000_000u64}),
        json!({"type": "array", "items": {"type": "array", "minItems": 100_000}, "minItems": 100_000}),
        json!({"type": "array", "maxItems": 100_000, "items": {"type": "string", "maxLength": 100_000}}),
        json!({"$ref": "#"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"pattern": "^(((a*)*)*)*b$"}),
        json!({"pattern": "^((((a{1,100}){1,100}){1,100}){1,100})$"}),
        json!({"pattern": "(a|aa)+$", "minLength": 50_000}),
        json!({"pattern": format!("{}a{}", "(".repeat(2_000), ")".repeat(2_000))}),
        json!({"type": "number", "multipleOf": 1e-7, "minimum": 123456.789, "maximum": 123456.7891}),
        json!({"type": "integer", "multipleOf": 4294967291u64}),
        json!({"allOf": (0..60).map(|i| json!({"pattern": format!("{i}.*x")})).collect::<Vec<_>>()}),
        json!({"patternProperties": (0..200).map(|i| (format!("^a{i}$"), json!({}))).collect::<serde_json::Map<_, _>>()}),
    ];
    for (i, hostile) in schemas.into_iter().enumerate() {
        let begin = Instant::now();
        let made = schema(hostile);
        if let Ok(constraint) = &made {
            let mut mask = constraint.mask();
            let mut logits = vec![0.0; 300];
            let _ = mask.apply(&mut logits);
        }
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{i}: {seconds:.2} s: {}",
            made.err().map_or("fine".into(), |error| error.to_string().chars().take(150).collect::<String>())
        );
        assert!(seconds < 60.0, "schema {i} took {seconds} s");
    }
}

#[test]
fn hostile_grammars_end_quickly() {
    let deep = |open: &str, close: &str| format!("start: {}\"a\"{}", open.repeat(3_000), close.repeat(3_000));
    let grammars = [
        "root ::= root root | \"a\" | \"\"".to_string(),
        "root ::= root".to_string(),
        "root ::= a\na ::= b\nb ::= a".to_string(),
        "root ::= ((\"a\"*)*)*".to_string(),
        "root ::= (x{0,1000}){0,1000}\nx ::= (\"a\" | \"b\" root){0,1000}".to_string(),
        format!("root ::= {}", (0..2_000).map(|i| format!("\"{i}\" root")).collect::<Vec<_>>().join(" | ")),
        "start: \"a\"{1,100000000}".to_string(),
        "start: (start | \"a\")*".to_string(),
        "start: A\nA: A".to_string(),
        "start: A{2000000000}\nA: /(a|b)*abb/".to_string(),
        deep("(", ")"),
        deep("%lark { start: ", "}"),
        format!("start: %json {}true{}", "{\"items\":".repeat(100_000), "}".repeat(100_000)),
    ];
    for (i, hostile) in grammars.iter().enumerate() {
        let begin = Instant::now();
        let made = Constraint::grammar(&toy(), hostile, &Limits::default());
        if let Ok(constraint) = &made {
            let mut mask = constraint.mask();
            for _ in 0..20 {
                let mut logits = vec![0.0; 300];
                if mask.apply(&mut logits).is_err() || mask.accept(u32::from(b'a')).is_err() {
                    break;
                }
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{i}: {seconds:.2} s: {}",
            made.err().map_or("fine".into(), |error| error.to_string().chars().take(150).collect::<String>())
        );
        assert!(seconds < 60.0, "grammar {i} took {seconds} s");
    }
}
