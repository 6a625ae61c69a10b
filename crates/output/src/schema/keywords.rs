//! Which keywords say nothing about an answer, and why others cannot be enforced.

/// Keywords that only describe.
const ANNOTATIONS: [&str; 20] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
    "$recursiveAnchor",
];

/// Whether a keyword says nothing about an answer. What begins with `x-` is an extension for somebody else.
pub(super) fn is_annotation(keyword: &str) -> bool {
    ANNOTATIONS.contains(&keyword) || keyword.starts_with("x-")
}

/// Why a keyword that the rewriter does not know cannot be enforced.
pub(super) fn why_not(keyword: &str) -> &'static str {
    match keyword {
        "contains" | "minContains" | "maxContains" => "the items of an array are decided one after another",
        "not" | "if" | "then" | "else" => "there is no negation of a schema",
        "dependentRequired" | "dependentSchemas" | "dependencies" => "properties do not depend on each other",
        "propertyNames" => "use patternProperties",
        "unevaluatedProperties" => "use additionalProperties",
        "unevaluatedItems" => "use items",
        "$dynamicRef" | "$recursiveRef" => "use $ref",
        "nullable" => "use a list of types with null",
        "$id" | "id" => "references would be resolved against it",
        _ => "it is not known",
    }
}
