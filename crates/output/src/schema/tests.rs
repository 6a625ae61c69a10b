use serde_json::json;

use super::*;

fn error(schema: Value) -> String {
    prepared(&schema, &Limits::default()).unwrap_err().to_string()
}

/// The rewritten schema, without what is added for the compiler.
fn rewritten(schema: Value) -> Value {
    let mut rewritten = prepared(&schema, &Limits::default()).unwrap();
    rewritten.as_object_mut().unwrap().remove("x-guidance");
    rewritten
}

#[test]
fn a_keyword_that_is_not_enforced_is_named_with_its_path() {
    for keyword in [
        "contains",
        "not",
        "if",
        "then",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "nullable",
        "maxLenght",
    ] {
        let error = error(json!({"properties": {"a/b": {"items": {keyword: {}}}}}));
        let place = format!("the keyword `{keyword}` at `/properties/a~1b/items` cannot be enforced (");
        assert!(error.starts_with(&place), "{error}");
    }
    assert!(error(json!({"uniqueItems": true})).contains("`uniqueItems` at ``"));
    assert!(error(json!({"format": "iri"})).contains("\"iri\" is none of date, time"));
    assert!(error(json!({"pattern": "a(?=b)"})).contains("it looks ahead or back"));
    assert!(error(json!({"patternProperties": {r"\bx": {}}})).contains("word boundaries"));
    assert!(error(json!({"maximum": 9007199254740993i64})).contains("2^53"));
    assert!(error(json!({"const": [{"a": 1e300}]})).contains("2^53"));
    assert!(error(json!({"minProperties": 2})).contains("`minProperties`"));
    assert!(
        error(json!({"oneOf": [{"type": "integer"}, {"minimum": 2}]}))
            .contains("schemas 0 and 1 may both hold")
    );
}

#[test]
fn what_says_nothing_about_the_answer_is_dropped() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://x.y/z", "$comment": "c", "title": "t",
        "description": "d", "default": 1, "examples": [{"not": {}}], "deprecated": true, "readOnly": true,
        "writeOnly": false, "contentEncoding": "base64", "x-order": 3, "$defs": {"unused": {"not": {}}},
        "uniqueItems": false, "type": "string"
    });
    assert_eq!(rewritten(schema), json!({"type": "string"}));
    assert_eq!(rewritten(json!(true)), json!({}));
    // options of the compiler cannot be smuggled in
    let prepared = prepared(&json!({"x-guidance": {"lenient": true}}), &Limits::default()).unwrap();
    assert!(prepared["x-guidance"].get("lenient").is_none());
}

#[test]
fn references_lead_to_definitions_of_the_result() {
    let tree = json!({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"items": {"$ref": "#leaf"}},
                      "x": {"$anchor": "leaf", "type": "null"}}});
    let expected =
        json!({"$ref": "#/$defs/0", "$defs": {"0": {"items": {"$ref": "#/$defs/1"}}, "1": {"type": "null"}}});
    assert_eq!(rewritten(tree), expected);
    assert_eq!(
        rewritten(json!({"$id": "http://x/y", "$ref": "http://x/y#/$defs/a", "$defs": {"a": {}}}))["$ref"],
        "#/$defs/0"
    );
    for reference in ["#/$defs/none", "other.json", "#none", "http://x/y", "#/%GG"] {
        assert!(error(json!({"$ref": reference})).contains("`$ref`"), "{reference}");
    }
    assert!(error(json!({"$ref": "#/a", "a": 3, "x": 1})).contains("`a`"));
    assert!(error(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$id": "b"}}})).contains("$id of its own"));
}

#[test]
fn the_form_of_old_drafts_is_understood() {
    let old = "http://json-schema.org/draft-07/schema#";
    let list = json!({"items": [{"type": "null"}], "additionalItems": false});
    assert_eq!(rewritten(list), json!({"prefixItems": [{"type": "null"}], "items": false}));
    assert_eq!(rewritten(json!({"items": {}, "additionalItems": false})), json!({"items": {}}));
    let alone = json!({"$schema": old, "properties": {"a": {"$ref": "#/definitions/b", "not": {}}}, "definitions": {"b": {}}});
    assert_eq!(rewritten(alone)["properties"]["a"], json!({"$ref": "#/$defs/0"}));
    assert!(error(json!({"$schema": old, "prefixItems": [{}], "items": {}})).contains("`prefixItems`"));
}

#[test]
fn a_schema_that_is_none_is_told_with_its_path() {
    assert!(error(json!({"properties": {"a": 3}})).contains("wrong at `/properties/a`"));
    assert!(error(json!({"type": "text"})).contains("wrong at `/type`: \"text\" is no type"));
    assert!(error(json!({"enum": []})).contains("wrong at `/enum`"));
    assert!(error(json!({"minLength": -1})).contains("`/minLength`"));
    assert!(error(json!({"multipleOf": 0})).contains("not greater than 0"));
    assert!(error(json!({"required": [1]})).contains("no list of names"));
    assert!(error(json!(false)).contains("nothing satisfies"));
    assert!(error(json!([])).contains("an object or a boolean"));
}

#[test]
fn limits_are_told_with_both_numbers() {
    let limits = Limits { bytes: 100, ..Limits::default() };
    let long = prepared(&json!({"const": "x".repeat(200)}), &limits).unwrap_err();
    assert_eq!(long, ConstraintError::TooLong { what: "the schema", bytes: 212, limit: 100 });
    let nested = (0..100).fold(json!(true), |inner, _| json!({"items": inner}));
    assert!(error(nested).contains("the depth of schemas is 65, more than 64"));
    assert!(error(json!({"minLength": 4_000_000_000u64})).contains("more than 100000"));
}
