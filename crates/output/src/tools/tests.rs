use std::slice::from_ref;

use serde_json::json;

use super::*;
use crate::testing::{END, accepts, allowed, n_accepted, toy};

const TEMPLATES: [(&str, &str); 5] = [
    ("hermes", "tools <tool_call>"),
    ("llama", "tools <|python_tag|>"),
    ("mistral", "tools [TOOL_CALLS]"),
    ("mistral-arguments", "tools [TOOL_CALLS][ARGS]"),
    ("qwen-xml", "tools <tool_call><function=a><parameter=b>"),
];

fn format(name: &str) -> ToolFormat {
    let template = TEMPLATES.iter().find(|(found, _)| *found == name).unwrap().1;
    ToolFormat::of_template(template)
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool { name: name.to_string(), description: Some("Does it.".to_string()), parameters, strict: false }
}

fn tools() -> Vec<Tool> {
    vec![
        tool(
            "add",
            json!({"type": "object", "properties": {"a": {"type": "integer"}, "to": {"enum": ["x", "y"]}},
                           "required": ["a"], "additionalProperties": false}),
        ),
        tool(
            "say",
            json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
                           "additionalProperties": false}),
        ),
    ]
}

fn constraint(
    name: &str,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
) -> Result<Option<Constraint>, ConstraintError> {
    format(name).constraint(tools, choice, parallel, &toy(), &Limits::default())
}

/// A call as each format writes it: of `add` with `a`, and of `say` with a text.
fn calls(name: &str) -> [String; 2] {
    match name {
        "hermes" => [
            "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>".to_string(),
            "<tool_call>\n{\"name\": \"say\", \"arguments\": {\"text\":\"é\"}}\n</tool_call>".to_string(),
        ],
        "llama" => [
            "{\"name\": \"add\", \"parameters\": {\"a\": 1}}".to_string(),
            "{\"name\": \"say\", \"parameters\": {\"text\":\"é\"}}".to_string(),
        ],
        "mistral" => [
            "[TOOL_CALLS] [{\"name\": \"add\", \"arguments\": {\"a\": 1}}]".to_string(),
            "[TOOL_CALLS][{\"name\": \"say\", \"arguments\": {\"text\":\"é\"}}]".to_string(),
        ],
        "mistral-arguments" => [
            "[TOOL_CALLS]add[ARGS]{\"a\": 1}".to_string(),
            "[TOOL_CALLS]say[ARGS]{\"text\":\"é\"}".to_string(),
        ],
        _ => [
            "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=to>\ny\n</parameter>\n</function>\n\
             </tool_call>"
                .to_string(),
            "<tool_call>\n<function=say>\n<parameter=text>\nA <b>\n\"é\"\n</parameter>\n</function>\n</tool_call>"
                .to_string(),
        ],
    }
}

#[test]
fn a_template_says_which_format_it_asks_for() {
    for (name, template) in TEMPLATES {
        let format = ToolFormat::of_template(template);
        assert_eq!((format.name(), format.needs_instructions()), (name, false));
    }
    for unknown in ["{{ messages }}", "<tool_call>", "tools <tool_call>f<arg_key>"] {
        let format = ToolFormat::of_template(unknown);
        assert_eq!((format.name(), format.needs_instructions()), ("hermes", true), "{unknown}");
    }
}

#[test]
fn instructions_name_the_tools_and_the_form_of_a_call() {
    let text = ToolFormat::generic().instructions(&tools());
    assert!(
        text.contains("\"name\":\"add\"")
            && text.contains("Does it.")
            && text.contains("<tool_call>\n{\"name\"")
    );
}

#[test]
fn a_required_call_is_a_right_call_and_nothing_else() {
    for (name, _) in TEMPLATES {
        let required = constraint(name, &tools(), &ToolChoice::Required, false).unwrap().unwrap();
        let [add, say] = calls(name);
        for call in [&add, &say] {
            assert!(accepts(&required, call), "{name}: {call}");
        }
        for wrong in ["Hm.", "", &add.replace('1', "x"), &add.replace("add", "sub"), &add[..add.len() - 1]] {
            assert!(!accepts(&required, wrong), "{name}: {wrong}");
        }
        let named =
            constraint(name, &tools(), &ToolChoice::Named("say".to_string()), false).unwrap().unwrap();
        assert!(accepts(&named, &say) && !accepts(&named, &add), "{name}");
    }
}

#[test]
fn free_text_may_end_or_call_and_a_call_is_right() {
    for (name, _) in TEMPLATES {
        let auto = constraint(name, &tools(), &ToolChoice::Auto, false).unwrap().unwrap();
        let [add, say] = calls(name);
        for text in ["", "Hm. < [ {", "<tool", &add, &say] {
            assert!(accepts(&auto, text), "{name}: {text}");
        }
        assert!(!accepts(&auto, &add.replace("add", "sub")), "{name}");
        assert!(!accepts(&auto, &add.replace('1', "x")), "{name}");
        if name != "llama" {
            assert!(accepts(&auto, &format!("Hm.\n{add}")), "{name}");
            assert!(!accepts(&auto, &format!("Hm.\n{}", add.replace('1', "x"))), "{name}");
        } else {
            assert!(accepts(&auto, "Hm. {\"name\": 3}") && accepts(&auto, &format!("<|python_tag|>{add}")));
        }
    }
}

#[test]
fn several_calls_are_only_made_if_that_is_allowed() {
    let several = |name: &str| {
        let [add, say] = calls(name);
        match name {
            "mistral" => format!("{}, {}", &add[..add.len() - 1], &say["[TOOL_CALLS][".len()..]),
            "mistral-arguments" => format!("{add}{say}"),
            _ => format!("{add}\n{say}"),
        }
    };
    for (name, _) in TEMPLATES.into_iter().filter(|(name, _)| *name != "llama") {
        for choice in [ToolChoice::Required, ToolChoice::Auto] {
            let text = several(name);
            assert!(
                accepts(&constraint(name, &tools(), &choice, true).unwrap().unwrap(), &text),
                "{name}: {text}"
            );
            assert!(
                !accepts(&constraint(name, &tools(), &choice, false).unwrap().unwrap(), &text),
                "{name}: {text}"
            );
        }
    }
}

#[test]
fn a_token_that_would_run_past_the_marker_is_forbidden() {
    let auto = constraint("hermes", &tools(), &ToolChoice::Auto, false).unwrap().unwrap();
    let mut mask = auto.mask();
    // spelled in letters; the toy vocabulary has tokens `l>{` and `>\n`
    for byte in "Hm. <tool_cal".bytes() {
        assert!(allowed(&mut *mask).contains(&byte.into()));
        mask.accept(byte.into()).unwrap();
    }
    let long = |text: &str| toy().tokenizer().token_id(text).unwrap();
    assert!(!allowed(&mut *mask).contains(&long("l>{")));
    mask.accept(u32::from(b'l')).unwrap();
    assert!(!allowed(&mut *mask).contains(&long(">Ċ")) && allowed(&mut *mask).contains(&u32::from(b'>')));
    mask.accept(u32::from(b'>')).unwrap();
    assert!(!allowed(&mut *mask).contains(&END));
    assert_eq!(n_accepted(&mut *mask, "\n{\"name\": \"no"), "\n{\"name\": \"".len());
}

#[test]
fn no_tools_mean_no_constraint_unless_a_call_is_required() {
    assert!(constraint("hermes", &[], &ToolChoice::Auto, true).unwrap().is_none());
    assert!(constraint("hermes", &tools(), &ToolChoice::None, true).unwrap().is_none());
    assert_eq!(constraint("hermes", &[], &ToolChoice::Required, true).unwrap_err(), ConstraintError::NoTools);
    let error = constraint("hermes", &tools(), &ToolChoice::Named("x".into()), true).unwrap_err().to_string();
    assert_eq!(error, "a call of the tool `x` is required, but it is not among the tools: add, say");
}

#[test]
fn a_schema_that_cannot_be_enforced_is_any_object_or_an_error_if_the_tool_is_strict() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}});
    let mut loose = tool("f", schema);
    for (name, _) in TEMPLATES {
        let required = constraint(name, &[loose.clone()], &ToolChoice::Required, false).unwrap().unwrap();
        let call = calls(name)[0].replace("add", "f");
        assert!(accepts(&required, &call), "{name}: {call}");
    }
    loose.strict = true;
    let error = constraint("hermes", &[loose], &ToolChoice::Auto, false).unwrap_err().to_string();
    assert!(
        error.starts_with("tool `f`: the keyword `uniqueItems` at `/properties/a` cannot be enforced"),
        "{error}"
    );
    let mut text =
        tool("f", json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}));
    text.strict = true;
    assert!(constraint("hermes", &[text.clone()], &ToolChoice::Auto, false).is_ok());
    let error = constraint("qwen-xml", &[text], &ToolChoice::Auto, false).unwrap_err().to_string();
    assert!(error.contains("`maxLength` at `/properties/a`"), "{error}");
}

#[test]
fn parameters_that_share_definitions_are_enforced_one_by_one() {
    let schema = json!({"type": "object", "$defs": {"size": {"enum": [1, 2]}, "kind": {"type": "string", "enum": ["k"]}},
        "properties": {"size": {"$ref": "#/$defs/size"}, "kind": {"$ref": "#/$defs/kind"}}, "required": ["size", "kind"]});
    let mut strict = tool("f", schema);
    strict.strict = true;
    let required = constraint("qwen-xml", &[strict], &ToolChoice::Required, false).unwrap().unwrap();
    let call = |size: &str, kind: &str| {
        format!(
            "<tool_call>\n<function=f>\n<parameter=size>\n{size}\n</parameter>\n<parameter=kind>\n{kind}\n</parameter>\n\
             </function>\n</tool_call>"
        )
    };
    assert!(accepts(&required, &call("2", "k")));
    assert!(!accepts(&required, &call("3", "k")) && !accepts(&required, &call("2", "x")));
}

#[test]
fn names_that_cannot_be_written_or_come_twice_are_errors() {
    let any = json!({});
    let twice = [tool("f", any.clone()), tool("f", any.clone())];
    for (name, _) in TEMPLATES {
        let error =
            |tools: &[Tool]| constraint(name, tools, &ToolChoice::Auto, true).unwrap_err().to_string();
        assert!(error(&twice).contains("two tools of this name"));
        assert!(error(&[tool("", any.clone())]).contains("no name"));
    }
    let quoted = tool("a\"\n\u{7f}{b", any.clone());
    let hermes = constraint("hermes", from_ref(&quoted), &ToolChoice::Required, false).unwrap().unwrap();
    let call = "<tool_call>\n{\"name\": \"a\\\"\\n\u{7f}{b\", \"arguments\": {}}\n</tool_call>";
    assert!(accepts(&hermes, call));
    assert!(constraint("qwen-xml", from_ref(&quoted), &ToolChoice::Auto, false).is_err());
    assert!(constraint("mistral-arguments", &[quoted], &ToolChoice::Auto, false).is_err());
    let parameter = tool("f", json!({"type": "object", "properties": {"a>b": {}}}));
    assert!(
        constraint("qwen-xml", &[parameter], &ToolChoice::Auto, false)
            .unwrap_err()
            .to_string()
            .contains("a>b")
    );
}

#[test]
fn tools_are_read_in_the_shapes_of_openai() {
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true});
    let tool = Tool::from_openai(&json!({"type": "function", "function": function})).unwrap();
    assert!(tool.name == "f" && tool.description.as_deref() == Some("d") && tool.strict);
    assert_eq!(Tool::from_openai(&function).unwrap(), tool);
    assert!(
        Tool::from_openai(&json!({"type": "web_search"})).unwrap_err().to_string().contains("web_search")
    );
    assert!(Tool::from_openai(&json!({"type": "function", "function": {}})).is_err());
    assert!(Tool::from_openai(&json!({"name": "f", "parameters": 3})).is_err());
}
