//! The walk over a schema that checks and rewrites it.
//!
//! Every reference becomes one into `$defs` of the result, so that the compiler never sees a pointer, an anchor or a
//! keyword that it would read in another way.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::problem::{bad, escaped, levels, list, not_enforced, shortened};
use super::property_counts::check_property_counts;
use super::{exclusive, format, keywords, numbers, pattern, reference};
use crate::error::ConstraintError;
use crate::limits::Limits;

/// Patterns of names in one object: each is compared with each.
const MOST_PATTERNS: usize = 32;
const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

pub(super) struct Rewriter<'a> {
    root: &'a Value,
    limits: &'a Limits,
    /// The drafts up to 7: `$ref` stands alone, and `items` may be a list.
    old: bool,
    inner_ids: bool,
    /// Which definition a pointer is.
    numbers: HashMap<String, usize>,
    /// Pointers and schemas of definitions that are still to be rewritten.
    waiting: Vec<(usize, String, &'a Value)>,
    definitions: Map<String, Value>,
    n_schemas: usize,
    steps: numbers::Steps,
}

/// A rewritten schema, and how many alternatives it multiplies into at most.
type Rewritten = (Value, u64);

impl<'a> Rewriter<'a> {
    pub(super) fn new(root: &'a Value, limits: &'a Limits) -> Result<Self, ConstraintError> {
        // a schema lies at most two levels of JSON below the one around it; deeper values are not walked by recursion
        let most_levels = 2 * limits.depth + 8;
        if levels(root, most_levels) > most_levels {
            let (what, found) = ("the depth of the JSON".to_string(), most_levels as u64 + 1);
            let limit = most_levels as u64;
            return Err(ConstraintError::TooMany { path: String::new(), what, found, limit });
        }
        let bytes = root.to_string().len();
        if bytes > limits.bytes {
            return Err(ConstraintError::TooLong { what: "the schema", bytes, limit: limits.bytes });
        }
        let draft = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        Ok(Rewriter {
            root,
            limits,
            old: ["draft-04", "draft-06", "draft-07"].iter().any(|old| draft.contains(old)),
            inner_ids: reference::has_inner_id(root),
            numbers: HashMap::new(),
            waiting: Vec::new(),
            definitions: Map::new(),
            n_schemas: 0,
            steps: numbers::Steps::default(),
        })
    }

    /// Rewrites everything; with `object`, instances have to be objects.
    pub(super) fn finish(mut self, object: bool) -> Result<Value, ConstraintError> {
        let (schema, _) = self.schema(self.root, "", 0)?;
        while let Some((number, path, schema)) = self.waiting.pop() {
            let (schema, _) = self.schema(schema, &path, 0)?;
            self.definitions.insert(number.to_string(), schema);
        }
        let mut result = match schema {
            Value::Bool(true) => json!({}),
            Value::Bool(false) => return Err(bad("", "it is `false`, which nothing satisfies")),
            schema => schema,
        };
        if object {
            result = json!({"type": "object", "allOf": [result]});
        }
        if !self.definitions.is_empty() {
            result["$defs"] = Value::Object(self.definitions);
        }
        Ok(super::with_options(result))
    }

    fn schema(&mut self, schema: &'a Value, path: &str, depth: usize) -> Result<Rewritten, ConstraintError> {
        self.n_schemas += 1;
        self.check_count(path, "the number of schemas", self.n_schemas as u64, self.limits.schemas as u64)?;
        self.check_count(path, "the depth of schemas", depth as u64, self.limits.depth as u64)?;
        match schema {
            Value::Bool(_) => Ok((schema.clone(), 1)),
            Value::Object(fields) => self.object(fields, path, depth + 1),
            other => Err(bad(path, &format!("a schema is an object or a boolean, not {}", shortened(other)))),
        }
    }

    fn object(
        &mut self,
        fields: &'a Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Rewritten, ConstraintError> {
        let mut out = Map::new();
        let mut all = Vec::new();
        let mut combinations = 1u64;
        if let Some(target) = fields.get("$ref").filter(|_| self.old) {
            return Ok((self.reference(target, path)?, 1));
        }
        for (keyword, value) in fields {
            let at = || format!("{path}/{}", escaped(keyword));
            match keyword.as_str() {
                "type" => self.types(value, &mut out, path)?,
                "enum" | "const" => {
                    combinations = combinations.saturating_mul(self.values(keyword, value, path)?)
                }
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                    self.bound(keyword, value, &mut out, path)?;
                }
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                    out.insert(keyword.clone(), self.count(value, &at())?.into());
                }
                "pattern" => {
                    out.insert(keyword.clone(), self.pattern(keyword, value, path)?.into());
                }
                "format" => all.push(self.format(value, path)?),
                "properties" | "patternProperties" => {
                    let members = self.members(keyword, value, path, depth)?;
                    out.insert(keyword.clone(), members);
                }
                "additionalProperties" => {
                    out.insert(keyword.clone(), self.schema(value, &at(), depth)?.0);
                }
                "required" => {
                    let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
                    let names = names.ok_or_else(|| bad(&at(), "it is no list of names"))?;
                    self.check_count(
                        &at(),
                        "the number of names",
                        names.len() as u64,
                        self.limits.members as u64,
                    )?;
                    out.insert(keyword.clone(), value.clone());
                }
                "items" | "prefixItems" | "additionalItems" | "uniqueItems" => {}
                "allOf" => {
                    for (i, schema) in list(value, &at())?.iter().enumerate() {
                        let (schema, more) = self.schema(schema, &format!("{path}/allOf/{i}"), depth)?;
                        combinations = combinations.saturating_mul(more);
                        all.push(schema);
                    }
                }
                "anyOf" | "oneOf" => {
                    let (schema, more) = self.options(keyword, value, path, depth)?;
                    combinations = combinations.saturating_mul(more);
                    all.push(schema);
                }
                "$ref" => all.push(self.reference(value, path)?),
                "$id" | "id" if path.is_empty() => {}
                "$defs" | "definitions" if !value.is_object() => return Err(bad(&at(), "it is no object")),
                "contentEncoding" | "contentMediaType" if self.old => {
                    return Err(not_enforced(keyword, path, "the text would have to be decoded"));
                }
                _ if keywords::is_annotation(keyword) => {}
                _ => return Err(not_enforced(keyword, path, keywords::why_not(keyword))),
            }
        }
        self.check_count(path, "the number of combinations", combinations, self.limits.combinations as u64)?;
        self.items(fields, &mut out, path, depth)?;
        self.unique(fields, path)?;
        check_property_counts(&mut out, path)?;
        // after everything else: the compiler reads keywords in order
        for keyword in ["enum", "const"] {
            if let Some(value) = fields.get(keyword) {
                out.insert(keyword.to_string(), value.clone());
            }
        }
        if out.is_empty() && all.len() == 1 {
            return Ok((all.remove(0), combinations));
        }
        if !all.is_empty() {
            out.insert("allOf".to_string(), all.into());
        }
        Ok((Value::Object(out), combinations))
    }

    fn types(&self, value: &Value, out: &mut Map<String, Value>, path: &str) -> Result<(), ConstraintError> {
        let names = match value {
            Value::Array(names) if !names.is_empty() => names.as_slice(),
            one => std::slice::from_ref(one),
        };
        let unknown = names.iter().find(|name| !name.as_str().is_some_and(|name| TYPES.contains(&name)));
        if let Some(unknown) = unknown {
            return Err(bad(&format!("{path}/type"), &format!("{} is no type", shortened(unknown))));
        }
        out.insert("type".to_string(), value.clone());
        Ok(())
    }

    /// Checks `enum` and `const`; gives the number of values.
    fn values(&self, keyword: &str, value: &Value, path: &str) -> Result<u64, ConstraintError> {
        if let Some(why) = numbers::inexact_in(value) {
            return Err(not_enforced(keyword, path, &why));
        }
        if pattern::has_unwritable(value) {
            return Err(not_enforced(keyword, path, pattern::UNWRITABLE));
        }
        if keyword == "const" {
            return Ok(1);
        }
        Ok(list(value, &format!("{path}/enum"))?.len() as u64)
    }

    fn bound(
        &mut self,
        keyword: &str,
        value: &Value,
        out: &mut Map<String, Value>,
        path: &str,
    ) -> Result<(), ConstraintError> {
        let at = format!("{path}/{keyword}");
        let Value::Number(number) = value else {
            return Err(bad(&at, &format!("it is {}, not a number", shortened(value))));
        };
        if let Some(why) = numbers::inexact(number) {
            return Err(not_enforced(keyword, path, &why));
        }
        if keyword == "multipleOf" {
            let step = number.as_f64().filter(|step| *step > 0.0);
            let step = step.ok_or_else(|| bad(&at, "it is not greater than 0"))?;
            self.steps.add(step).map_err(|why| not_enforced(keyword, path, &why))?;
        }
        out.insert(keyword.to_string(), value.clone());
        Ok(())
    }

    fn count(&self, value: &Value, at: &str) -> Result<u64, ConstraintError> {
        let count = numbers::count(value)
            .ok_or_else(|| bad(at, &format!("it is {}, not a count", shortened(value))))?;
        self.check_count(at, "the count", count, self.limits.repetitions)?;
        Ok(count)
    }

    fn pattern(&self, keyword: &str, value: &Value, path: &str) -> Result<String, ConstraintError> {
        let text = value.as_str().ok_or_else(|| bad(&format!("{path}/{keyword}"), "it is no text"))?;
        self.translated(keyword, text, path)
    }

    fn translated(&self, keyword: &str, text: &str, path: &str) -> Result<String, ConstraintError> {
        let (bytes, limit) = (text.len(), self.limits.regex_bytes);
        if bytes > limit {
            return Err(ConstraintError::TooLong { what: "a pattern", bytes, limit });
        }
        let deepest = pattern::group_depth(text) as u64;
        self.check_count(path, "the depth of groups in a pattern", deepest, self.limits.depth as u64)?;
        pattern::translated(text, self.limits.repetitions)
            .map_err(|why| not_enforced(keyword, path, &format!("the pattern {text:?}: {why}")))
    }

    fn format(&self, value: &Value, path: &str) -> Result<Value, ConstraintError> {
        let name = value.as_str().ok_or_else(|| bad(&format!("{path}/format"), "it is no text"))?;
        let format = format::format(name).ok_or_else(|| {
            not_enforced("format", path, &format!("{name:?} is none of {}", format::names()))
        })?;
        let mut schema = json!({"pattern": format!("^(?:{})$", format.regex)});
        if let Some(max_length) = format.max_length {
            schema["maxLength"] = max_length.into();
        }
        Ok(schema)
    }

    fn members(
        &mut self,
        keyword: &str,
        value: &'a Value,
        path: &str,
        depth: usize,
    ) -> Result<Value, ConstraintError> {
        let at = format!("{path}/{keyword}");
        let members = value.as_object().ok_or_else(|| bad(&at, "it is no object"))?;
        let most = if keyword == "properties" { self.limits.members } else { MOST_PATTERNS };
        self.check_count(&at, "the number of properties", members.len() as u64, most as u64)?;
        let mut out = Map::new();
        for (name, schema) in members {
            let (schema, _) = self.schema(schema, &format!("{at}/{}", escaped(name)), depth)?;
            let name = match keyword {
                "properties" => name.clone(),
                _ => self.translated(keyword, name, path)?,
            };
            if out.insert(name, schema).is_some() {
                return Err(not_enforced(keyword, path, "two patterns mean the same"));
            }
        }
        Ok(Value::Object(out))
    }

    /// `items` and what belongs to it, in the form of the newest draft.
    fn items(
        &mut self,
        fields: &'a Map<String, Value>,
        out: &mut Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), ConstraintError> {
        let (prefix, rest) = match (fields.get("prefixItems"), fields.get("items")) {
            (None, Some(Value::Array(prefix))) => {
                (Some((prefix, "items")), fields.get("additionalItems").map(|rest| (rest, "additionalItems")))
            }
            (Some(_), _) if self.old => {
                return Err(not_enforced(
                    "prefixItems",
                    path,
                    "the draft that `$schema` names does not have it",
                ));
            }
            (Some(prefix), rest) => {
                let at = format!("{path}/prefixItems");
                (Some((list(prefix, &at)?, "prefixItems")), rest.map(|rest| (rest, "items")))
            }
            (None, rest) => (None, rest.map(|rest| (rest, "items"))),
        };
        if let Some((prefix, name)) = prefix {
            let at = format!("{path}/{name}");
            self.check_count(&at, "the number of items", prefix.len() as u64, self.limits.members as u64)?;
            let schemas: Result<Vec<Value>, _> = (prefix.iter().enumerate())
                .map(|(i, item)| self.schema(item, &format!("{at}/{i}"), depth).map(|(schema, _)| schema))
                .collect();
            out.insert("prefixItems".to_string(), schemas?.into());
        }
        if let Some((rest, name)) = rest {
            let (schema, _) = self.schema(rest, &format!("{path}/{name}"), depth)?;
            out.insert("items".to_string(), schema);
        }
        Ok(())
    }

    fn unique(&self, fields: &Map<String, Value>, path: &str) -> Result<(), ConstraintError> {
        let at_most_one = || fields.get("maxItems").and_then(numbers::count).is_some_and(|most| most <= 1);
        match fields.get("uniqueItems") {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Bool(true)) if at_most_one() => Ok(()),
            Some(Value::Bool(true)) => {
                Err(not_enforced("uniqueItems", path, "items are not compared with each other"))
            }
            Some(_) => Err(bad(&format!("{path}/uniqueItems"), "it is no boolean")),
        }
    }

    fn options(
        &mut self,
        keyword: &str,
        value: &'a Value,
        path: &str,
        depth: usize,
    ) -> Result<Rewritten, ConstraintError> {
        let at = format!("{path}/{keyword}");
        let options = list(value, &at)?;
        let mut out = Vec::new();
        let mut combinations = 0u64;
        for (i, option) in options.iter().enumerate() {
            let (option, more) = self.schema(option, &format!("{at}/{i}"), depth)?;
            combinations = combinations.saturating_add(more);
            out.push(option);
        }
        if keyword == "oneOf"
            && let Some((first, second)) = exclusive::overlap(self.root, options)
        {
            let why = format!("schemas {first} and {second} may both hold; anyOf allows that");
            return Err(not_enforced(keyword, path, &why));
        }
        Ok((json!({"anyOf": out}), combinations))
    }

    fn reference(&mut self, value: &'a Value, path: &str) -> Result<Value, ConstraintError> {
        let text = value.as_str().ok_or_else(|| bad(&format!("{path}/$ref"), "it is no text"))?;
        if self.inner_ids {
            return Err(not_enforced("$ref", path, "a schema inside has an $id of its own"));
        }
        let (pointer, schema) = reference::resolved(self.root, text)
            .map_err(|why| not_enforced("$ref", path, &format!("{text:?}: {why}")))?;
        let next = self.numbers.len();
        let number = *self.numbers.entry(pointer.clone()).or_insert(next);
        if number == next {
            self.waiting.push((number, pointer, schema));
        }
        Ok(json!({"$ref": format!("#/$defs/{number}")}))
    }

    fn check_count(&self, path: &str, what: &str, found: u64, limit: u64) -> Result<(), ConstraintError> {
        if found <= limit {
            return Ok(());
        }
        Err(ConstraintError::TooMany { path: path.to_string(), what: what.to_string(), found, limit })
    }
}
