use proptest::prelude::*;
use serde_json::json;

use super::*;

const QWEN_XML: &str = "tools <tool_call><function=x><parameter=y>";

fn tools() -> Vec<Tool> {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": ["array", "string"]}
    }});
    let tool = |name: &str| Tool {
        name: name.to_string(),
        description: None,
        parameters: parameters.clone(),
        strict: false,
    };
    vec![tool("weather"), tool("f")]
}

fn parser(template: &str, opened: Option<bool>) -> PartParser {
    let parser = PartParser::new().with_tools(ToolFormat::of_template(template), &tools());
    match opened {
        Some(opened) => parser.with_thinking(ThinkingFormat::of_template("</think>").unwrap(), opened),
        None => parser,
    }
}

/// The parts of a text, those of one kind together.
fn parts_of(mut parser: PartParser, pieces: &[&str]) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in pieces {
        parser.push(piece).into_iter().for_each(|part| append(&mut parts, part));
    }
    parser.finish().into_iter().for_each(|part| append(&mut parts, part));
    parts
}

/// The parts as one line: thoughts in `(…)`, calls as `name[arguments]`, or `name[arguments` if they never end.
fn told(template: &str, opened: Option<bool>, text: &str) -> String {
    let parts = parts_of(parser(template, opened), &[text]);
    parts
        .iter()
        .map(|part| match part {
            Part::Thinking(text) => format!("({text})"),
            Part::Content(text) => text.clone(),
            Part::CallBegins { index, name } => format!("{index}:{name}["),
            Part::CallArguments { text, .. } => text.clone(),
            Part::CallEnds { .. } => "]".to_string(),
        })
        .collect()
}

const HERMES: &str = "tools <tool_call>";
const LLAMA: &str = "tools <|python_tag|>";
const MISTRAL: &str = "tools [TOOL_CALLS]";
const MISTRAL_ARGUMENTS: &str = "tools [TOOL_CALLS] [ARGS]";

#[test]
fn text_without_markers_is_content() {
    for text in ["", " a\n", "a < b </tool_call> {\"name\": 1}", "<think>a</think>"] {
        assert_eq!(told(HERMES, None, text), text);
    }
    assert_eq!(
        parts_of(PartParser::new(), &["<tool_call>", "x "]),
        [Part::Content("<tool_call>x ".to_string())]
    );
}

#[test]
fn calls_between_tags_are_told_with_their_arguments() {
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}\"]}}\n</tool_call>";
    assert_eq!(
        told(HERMES, None, &format!("Hm. \n{call}\n{call}\n")),
        "Hm.0:f[{\"a\": [1, \"}\"]}]1:f[{\"a\": [1, \"}\"]}]"
    );
    assert_eq!(told(HERMES, None, &format!("{call} and?")), "0:f[{\"a\": [1, \"}\"]}] and?");
    // the arguments first, as a string, absent, or null; no closing tag; a second name
    for (object, arguments) in [
        (r#"{"arguments": {"a": 1}, "name": "f"}"#, r#"{"a": 1}"#),
        (r#"{"name": "f", "arguments": "{\"a\": 1}"}"#, r#"{"a": 1}"#),
        (r#"{"name": "f"}"#, "{}"),
        (r#"{"id": -1.5e3, "name": "f", "arguments": null}"#, "{}"),
        (r#"{"name": "f", "parameters": {}, "name": "g", "arguments": {"b": 2}}"#, "{}"),
    ] {
        assert_eq!(
            told(HERMES, None, &format!("<tool_call>{object}")),
            format!("0:f[{arguments}]"),
            "{object}"
        );
    }
}

#[test]
fn what_only_begins_like_a_call_is_content() {
    for text in [
        "<tool_call>",
        "<tool_call>\n{\"na",
        "<tool_call>no",
        "a<tool_call>{}",
        "<tool_call>{\"name\": 3}",
        "<tool_call>{\"name\": \"\"}",
        "<tool_call>{\"arguments\": {\"a\": 1}}",
        "<tool_call>{\"arguments\": [1], \"name\": \"f\"}",
        "<tool_call",
    ] {
        assert_eq!(told(HERMES, None, text), text);
    }
    let inner = "<tool_call>x <tool_call>{\"name\": \"f\"}</tool_call>";
    assert_eq!(told(HERMES, None, inner), "<tool_call>x0:f[{}]");
    for text in ["[TOOL_CALLS]", "[TOOL_CALLS]x", "[TOOL_CALLS] [{\"name\"", "[TOOL_CALLS][1]"] {
        assert_eq!(told(MISTRAL, None, text), text);
    }
    for text in ["<tool_call>\n<func", "<function=", "<function=a b>", "<function=>", "<tool_call>x"] {
        assert_eq!(told(QWEN_XML, None, text), text);
    }
}

#[test]
fn a_call_that_breaks_off_never_ends() {
    assert_eq!(told(HERMES, None, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a"), "0:f[{\"a");
    assert_eq!(told(HERMES, None, "<tool_call>{\"name\": \"f\", \"arguments\": {a} b"), "0:f[{a} b");
    assert_eq!(
        told(QWEN_XML, None, "<function=f>\n<parameter=city>\nA\n</param"),
        "0:f[{\"city\": \"A\\n</param"
    );
    assert_eq!(told(QWEN_XML, None, "<function=f>\n<parameter=days>\n1"), "0:f[{\"days\": 1");
}

#[test]
fn an_object_is_a_call_if_it_is_the_answer_and_names_a_tool() {
    assert_eq!(told(LLAMA, None, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}"), "0:f[{\"a\": 1}]");
    assert_eq!(
        told(LLAMA, None, "<|python_tag|>{\"name\": \"f\"}; {\"name\": \"weather\"}"),
        "0:f[{}]1:weather[{}]"
    );
    for text in
        ["{\"name\": \"Ann\", \"age\": 3}", "{\"x\": 1}", "So: {\"name\": \"f\"}", "{", "<{\"name\": \"f\"}"]
    {
        assert_eq!(told(LLAMA, None, text), text);
    }
}

#[test]
fn calls_in_a_list_or_with_a_separator_are_told() {
    let list =
        "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {\"a\": 1}}]";
    assert_eq!(told(MISTRAL, None, list), "0:f[{}]1:g[{\"a\": 1}]");
    let text = "Hm.[TOOL_CALLS]f[ARGS]{\"a\": {}}[TOOL_CALLS]g{}";
    assert_eq!(told(MISTRAL_ARGUMENTS, None, text), "Hm.0:f[{\"a\": {}}]1:g[{}]");
    assert_eq!(told(MISTRAL_ARGUMENTS, None, "[TOOL_CALLS]f[ARGS"), "[TOOL_CALLS]f[ARGS");
}

#[test]
fn parameters_in_tags_become_json() {
    let call = "<tool_call>\n<function=weather>\n<parameter=city>\nA \"B\"\n</x\n</parameter>\n<parameter=days>\n3\n\
                </parameter>\n<parameter=tags>\n[1, 2]\n</parameter>\n<parameter=other>\nno json\n</parameter>\n\
                </function>\n</tool_call>";
    let arguments = r#"{"city": "A \"B\"\n</x", "days": 3, "tags": [1, 2], "other": "no json"}"#;
    assert_eq!(told(QWEN_XML, None, call), format!("0:weather[{arguments}]"));
    assert!(serde_json::from_str::<serde_json::Value>(arguments).is_ok());
    assert_eq!(told(QWEN_XML, None, "Hm.\n<function=f>\n</function>"), "Hm.0:f[{}]");
}

#[test]
fn thoughts_come_first_and_line_breaks_around_them_are_dropped() {
    let text = "<think>\na\n<tool_call>\nb\n</think>\n\n c\n";
    assert_eq!(told(HERMES, Some(false), text), "(a\n<tool_call>\nb) c\n");
    assert_eq!(told(HERMES, Some(true), "\na </think>b"), "(a)b");
    assert_eq!(told(HERMES, Some(true), "\n\n</think>\n\nb"), "b");
    assert_eq!(told(HERMES, Some(true), "a </thin"), "(a </thin)");
    assert_eq!(told(HERMES, Some(false), " <thinx>"), " <thinx>");
    assert_eq!(told(HERMES, Some(false), "b<think>a</think>"), "b<think>a</think>");
    assert_eq!(told(LLAMA, Some(true), "a</think>\n{\"name\": \"f\"}"), "(a)0:f[{}]");
}

/// Pieces of which a text is made that is hard to read.
fn fragment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "<function=",
        "weather",
        "f",
        ">",
        "\n",
        "<parameter=",
        "city",
        "days",
        "</parameter>",
        "</function>",
        "{\"name\": \"f\"",
        ", \"arguments\": ",
        "{\"a\": 1}",
        "}",
        "{",
        "[",
        "]",
        "\"",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        " ",
        "<",
        "</",
        "think>",
        "<think>",
        "</think>",
        "é",
        "x",
        ",",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
        "<function=f>\n<parameter=city>\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_do_not_depend_on_how_the_text_is_cut(
        fragments in prop::collection::vec(fragment(), 0..12),
        format in 0usize..5,
        opened in prop::option::of(any::<bool>()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let template = [HERMES, LLAMA, MISTRAL, MISTRAL_ARGUMENTS, QWEN_XML][format];
        let text = fragments.concat();
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut at: Vec<usize> = cuts.iter().map(|cut| boundaries[cut.index(boundaries.len())]).collect();
        at.sort_unstable();
        let mut pieces = Vec::new();
        let mut begin = 0;
        for end in at.into_iter().chain([text.len()]) {
            pieces.push(&text[begin..end]);
            begin = end;
        }
        let whole = parts_of(parser(template, opened), &[&text]);
        prop_assert_eq!(parts_of(parser(template, opened), &pieces), whole.clone());
        let is_text = |part: &Part| matches!(part, Part::Content(_) | Part::Thinking(_));
        if whole.iter().all(is_text) && opened.is_none() {
            let content: String = whole.iter().map(|part| match part { Part::Content(text) => text.as_str(), _ => "" }).collect();
            prop_assert_eq!(content, text);
        }
    }
}
