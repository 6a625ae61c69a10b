use super::*;

fn lark(source: &str) -> String {
    to_lark(source, &Limits::default()).unwrap()
}

fn error(source: &str) -> String {
    to_lark(source, &Limits::default()).unwrap_err().to_string()
}

#[test]
fn a_regular_grammar_is_one_regular_expression() {
    let lark = lark("root ::= \"a\" digit* # end\ndigit ::= [0-9] | \"\\x41\" .{2,3}");
    assert_eq!(lark, "T0: R0\nstart: T0\nR0: \"a\" (R1)*\nR1: (/[0-9]/ | \"A\" (/(?s:.)/){2,3})\n");
}

#[test]
fn regular_parts_of_a_recursive_rule_are_as_long_as_possible() {
    let lark = lark("root ::= \"[\" ws (root (\",\" ws root)*)? \"]\" ws\nws ::= [ \\t\\n]*");
    assert!(lark.contains("T0: \"[\" R1\n"), "{lark}");
    assert!(lark.contains("start: r0\n") && lark.contains("R1: (/[\\x{20}\\x{9}\\x{a}]/)*\n"), "{lark}");
}

#[test]
fn a_mistake_is_told_with_its_place() {
    assert!(error("root ::= \"a\n").starts_with("the grammar is wrong in line 1, column 10: "));
    assert!(error("root ::= x\n\nx := 1").contains("line 3, column 3"));
    assert!(error("root ::= missing").contains("there is no rule `missing`"));
    assert!(error("a ::= \"b\"").contains("there is no rule `root`"));
    assert!(error("root ::= \"a\"\nroot ::= \"b\"").contains("two rules `root`"));
    assert!(error("root ::= [z-a]").contains("goes backwards"));
    assert!(error("root ::= []").contains("a class has a character"));
    assert!(error("root ::= (\"a\"").contains("a group ends"));
    assert!(error("root ::= \"a\"{3,2}").contains("must rise"));
    assert!(error("root ::= \"a\"{1,x}").contains("is no repetition"));
    assert!(error("root ::= \"\\q\"").contains("no such escape"));
    assert!(error("root ::= \"\\uD800\"").contains("no code point"));
    assert!(error("root ::= <think>").contains("tokens"));
    assert!(error("root ::= \"a\" )").contains("not expected"));
}

#[test]
fn nothing_makes_it_panic_or_take_long() {
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(error(&deep).contains("nested more than"));
    assert!(error("root ::= \"a\"{99999999}").contains("at most"));
    for source in [
        "",
        "::=",
        "root",
        "root ::=",
        "root ::= |",
        "root ::= {",
        "root ::= \"\\",
        "root ::= [\\",
        "é ::= a",
    ] {
        let _ = to_lark(source, &Limits::default());
    }
}
