//! Whether two schemas of a `oneOf` surely never hold at once.
//!
//! If so for all pairs, `oneOf` means `anyOf`. Three things make two schemas exclusive: types without a common one,
//! values (`const`, `enum`) without a common one, and a property that one of them requires and whose schemas are
//! exclusive. The last is how unions are told apart by a `kind`.

use serde_json::Value;

use super::reference::resolved;

/// Pairs of schemas that are compared at most.
const BUDGET: usize = 200_000;
/// References, `allOf` and properties are followed so deep.
const DEPTH: usize = 6;

const NUMBER: u8 = 4;
const OBJECT: u8 = 32;

/// The first two schemas that may hold at once.
pub(super) fn overlap(root: &Value, schemas: &[Value]) -> Option<(usize, usize)> {
    let mut comparison = Comparison { root, budget: BUDGET };
    let facts: Vec<Facts> = schemas.iter().map(|schema| comparison.facts(schema)).collect();
    for (i, a) in facts.iter().enumerate() {
        for (j, b) in facts.iter().enumerate().skip(i + 1) {
            if !comparison.exclusive(a, b, DEPTH) {
                return Some((i, j));
            }
        }
    }
    None
}

/// What is certain of all instances of a schema.
struct Facts<'a> {
    /// a bit for each type
    types: u8,
    /// the instance is one of each of these
    values: Vec<Vec<&'a Value>>,
    required: Vec<&'a str>,
    properties: Vec<(&'a str, &'a Value)>,
    /// one of each of these holds
    options: Vec<&'a [Value]>,
}

struct Comparison<'a> {
    root: &'a Value,
    budget: usize,
}

impl<'a> Comparison<'a> {
    fn facts(&self, schema: &'a Value) -> Facts<'a> {
        let mut facts =
            Facts { types: 63, values: vec![], required: vec![], properties: vec![], options: vec![] };
        self.collect(schema, &mut facts, DEPTH);
        facts
    }

    fn collect(&self, schema: &'a Value, facts: &mut Facts<'a>, depth: usize) {
        let Some(fields) = schema.as_object().filter(|_| depth > 0) else {
            if schema == &Value::Bool(false) {
                facts.types = 0;
            }
            return;
        };
        for (keyword, value) in fields {
            match (keyword.as_str(), value) {
                ("type", Value::String(name)) => facts.types &= bit(name),
                ("type", Value::Array(names)) => {
                    facts.types &=
                        names.iter().filter_map(Value::as_str).fold(0, |bits, name| bits | bit(name));
                }
                ("const", value) => facts.one_of(std::slice::from_ref(value)),
                ("enum", Value::Array(values)) => facts.one_of(values),
                ("required", Value::Array(names)) => {
                    facts.required.extend(names.iter().filter_map(Value::as_str))
                }
                ("properties", Value::Object(fields)) => {
                    facts.properties.extend(fields.iter().map(|(name, schema)| (name.as_str(), schema)));
                }
                ("anyOf" | "oneOf", Value::Array(options)) => facts.options.push(options),
                ("allOf", Value::Array(all)) => {
                    all.iter().for_each(|one| self.collect(one, facts, depth - 1))
                }
                ("$ref", Value::String(reference)) => {
                    if let Ok((_, target)) = resolved(self.root, reference) {
                        self.collect(target, facts, depth - 1);
                    }
                }
                _ => {}
            }
        }
    }

    fn exclusive(&mut self, a: &Facts<'a>, b: &Facts<'a>, depth: usize) -> bool {
        if a.types & b.types == 0 || a.excludes_values_of(b) {
            return true;
        }
        if depth == 0 || self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        (a.types & b.types == OBJECT && self.exclusive_property(a, b, depth))
            || self.exclusive_options(a, b, depth)
            || self.exclusive_options(b, a, depth)
    }

    fn exclusive_property(&mut self, a: &Facts<'a>, b: &Facts<'a>, depth: usize) -> bool {
        let names: Vec<&str> = a.required.iter().chain(&b.required).copied().collect();
        names.iter().any(|&name| {
            let of = |facts: &Facts<'a>| {
                facts.properties.iter().find(|(found, _)| *found == name).map(|found| found.1)
            };
            let (Some(of_a), Some(of_b)) = (of(a), of(b)) else { return false };
            let (of_a, of_b) = (self.facts(of_a), self.facts(of_b));
            self.exclusive(&of_a, &of_b, depth - 1)
        })
    }

    /// Whether `b` excludes every option of one choice in `a`.
    fn exclusive_options(&mut self, a: &Facts<'a>, b: &Facts<'a>, depth: usize) -> bool {
        a.options.iter().any(|options| {
            options.iter().all(|option| {
                let option = self.facts(option);
                self.exclusive(&option, b, depth - 1)
            })
        })
    }
}

impl<'a> Facts<'a> {
    fn one_of(&mut self, values: &'a [Value]) {
        self.types &= values.iter().fold(0, |bits, value| bits | type_of(value));
        self.values.push(values.iter().collect());
    }

    fn excludes_values_of(&self, other: &Facts) -> bool {
        let differ = |ours: &Vec<&Value>, theirs: &Vec<&Value>| {
            ours.iter().all(|a| theirs.iter().all(|b| surely_differ(a, b)))
        };
        self.values.iter().any(|ours| other.values.iter().any(|theirs| differ(ours, theirs)))
    }
}

/// Whether two values differ. 1 and 1.0 are equal, which may hide inside of arrays and objects.
fn surely_differ(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() != b.as_f64(),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => false,
        _ => a != b,
    }
}

fn bit(name: &str) -> u8 {
    match name {
        "null" => 1,
        "boolean" => 2,
        "number" | "integer" => NUMBER,
        "string" => 8,
        "array" => 16,
        "object" => OBJECT,
        _ => 63,
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => 1,
        Value::Bool(_) => 2,
        Value::Number(_) => NUMBER,
        Value::String(_) => 8,
        Value::Array(_) => 16,
        Value::Object(_) => OBJECT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn exclusive(schemas: Value) -> bool {
        overlap(&Value::Null, schemas.as_array().unwrap()).is_none()
    }

    #[test]
    fn types_and_values_tell_schemas_apart() {
        assert!(exclusive(json!([{"type": "string"}, {"type": ["null", "array"]}])));
        assert!(exclusive(json!([{"const": 1}, {"enum": [2, "1"]}])));
        assert!(exclusive(json!([{"type": "string", "enum": ["a"]}, {"type": "string", "const": "b"}])));
        assert!(exclusive(json!([{"anyOf": [{"type": "null"}, {"const": 3}]}, {"type": "string"}])));
    }

    #[test]
    fn a_property_tells_objects_apart_if_one_requires_it() {
        let kind = |kind: &str, required: &[&str]| json!({"type": "object", "properties": {"kind": {"const": kind}}, "required": required});
        assert!(exclusive(json!([kind("a", &["kind"]), kind("b", &["kind"]), kind("c", &[])])));
        assert!(!exclusive(json!([kind("a", &[]), kind("b", &[])])));
        assert!(!exclusive(json!([{"properties": {"kind": {"const": 1}}, "required": ["kind"]},
                                  {"properties": {"kind": {"const": 2}}, "required": ["kind"]}])));
    }

    #[test]
    fn schemas_that_may_both_hold_are_not_exclusive() {
        assert!(!exclusive(json!([{"type": "integer"}, {"type": "number"}])));
        assert!(!exclusive(json!([{"const": 1}, {"const": 1.0}])));
        assert!(!exclusive(json!([{"const": [1]}, {"const": [1.0]}])));
        assert!(!exclusive(json!([true, {"type": "null"}])));
        assert!(!exclusive(json!([{"minimum": 2}, {"maximum": 1}])));
        assert!(exclusive(json!([false, {}])));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let root = json!({"$ref": "#", "oneOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert_eq!(overlap(&root, root["oneOf"].as_array().unwrap()), Some((0, 1)));
    }
}
