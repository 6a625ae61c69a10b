//! What holds for any template and any message: bounded work, and no control token that the template did not write.

mod hostile;

use std::time::{Duration, Instant};

use hostile::{Outcome, run};
use lossy_tokenizer::{ChatTemplate, Message, RenderOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The error of a template that is too large in some way; it names a limit and a line.
fn limit(template: &str) -> String {
    let start = Instant::now();
    let options = RenderOptions::default();
    let messages = [Message::user("content with a few words, 100% of them here")];
    let error = match ChatTemplate::new(template, &[]) {
        Ok(parsed) => parsed.render(&messages, &options).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(start.elapsed() < Duration::from_secs(20), "{:.60}: {:?}", template, start.elapsed());
    let shown = &template[..template.len().min(80)];
    assert!(error.contains("limit") && error.starts_with("chat template, line "), "{shown}: {error}");
    error
}

fn rendered(template: &str) -> String {
    ChatTemplate::new(template, &[]).unwrap().render(&[], &RenderOptions::default()).unwrap()
}

#[test]
fn long_chains_of_operators_are_rendered() {
    let chain = |operand: &str, operator: &str| {
        format!("{{{{ {}{operand} }}}}", format!("{operand} {operator} ").repeat(20_000))
    };
    assert_eq!(rendered(&chain("1", "+")), "20001");
    assert_eq!(rendered(&chain("'a'", "~")).len(), 20_001);
    assert_eq!(rendered(&chain("1", "and")), "1");
    assert_eq!(rendered(&chain("1", "==")), "True");
    assert_eq!(rendered(&"{% if true %}x{% endif %}".repeat(20_000)).len(), 20_000);
    let branches = format!("{{% if false %}}{}{{% endif %}}", "{% elif false %}x".repeat(20_000));
    assert_eq!(rendered(&branches), "");
}

#[test]
fn what_is_nested_too_deep_is_an_error_with_its_line() {
    for (start, open, close, end) in [
        ("{{ ", "[", "]", " }}"),
        ("{{ ", "(", ")", " }}"),
        ("{{ ", "{1: ", "}", " }}"),
        ("{{ ", "-", "", " }}"),
        ("{{ ", "not ", "", " }}"),
        ("{{ ", "1 if 1 else ", "", " }}"),
        ("{{ ", "x[", "]", " }}"),
        ("{{ ", "f(", ")", " }}"),
        ("{{ ", "x|default(", ")", " }}"),
        ("{{ ", "x is eq(", ")", " }}"),
        ("{{ x is eq ", "[", "]", " }}"),
        ("{% set ", "(", ")", " = 1 %}"),
    ] {
        let deep = format!("\n{start}{}1{}{end}", open.repeat(50_000), close.repeat(50_000));
        assert!(limit(&deep).contains("nested deeper than 200, the limit"), "{open}");
    }
    // Each level copies the names of those below it, so that many of them run out of steps before they run out of levels.
    let maps = |n: usize| format!("{{{{ 'a'|map({}'upper')|list }}}}", "'map', ".repeat(n));
    assert!(limit(&maps(1_100)).contains("nested deeper than 1000 levels, the limit"));
    assert!(limit(&maps(50_000)).contains("steps, the limit"));
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for x in [1] %}", "{% endfor %}"),
        ("{% macro f() %}", "{% endmacro %}"),
        ("{% set x %}", "{% endset %}"),
        ("{% filter upper %}", "{% endfilter %}"),
        ("{% call f() %}", "{% endcall %}"),
        ("{% with %}", "{% endwith %}"),
        ("{% generation %}", "{% endgeneration %}"),
    ] {
        assert!(limit(&(open.repeat(20_000) + &close.repeat(20_000))).contains("200"), "{open}");
    }
    for appended in [".a", "[0]", "()", "|upper", " is odd", " if 1"] {
        assert!(limit(&format!("{{{{ x{} }}}}", appended.repeat(50_000))).contains("200"), "{appended}");
    }
}

#[test]
fn what_grows_without_end_is_stopped() {
    for template in [
        "{{ 'x' * 10000000000 }}",
        "{{ [0] * 10000000000 }}",
        "{{ '' * 10000000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 2 ** 1000 }}",
        "{{ range(1000000)|length }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ '%1000000000000d' % 1 }}",
        "{{ '%.1000000000000f' % 1.5 }}",
        "{{ '%.1000000000000d' % 1 }}",
        "{{ '%*d' % (1000000000000, 1) }}",
        "{{ '{:1000000000000}'.format(1) }}",
        "{{ '{:.1000000000000f}'.format(1.5) }}",
        "{{ 'x'.center(1000000000000) }}",
        "{{ 'x'.ljust(1000000000000) }}",
        "{{ 'x'.zfill(1000000000000) }}",
        "{{ '\t'.expandtabs(1000000000000) }}",
        "{{ 'x'|center(1000000000000) }}",
        "{{ 'x\ny'|indent(1000000000000) }}",
        "{{ [1]|batch(1000000000000, 0)|list }}",
        "{{ [1]|slice(1000000000000)|list }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
        "{{ (['a'] * 100000)|join('b' * 100000) }}",
        "{{ ('b' * 100000).join(['a'] * 100000) }}",
        "{% for a in range(99999) %}{{ range(99999)|list|sort|length }}{% endfor %}",
        "{% for a in range(99999) %}{{ ('x' * 1000000)|upper|length }}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99) %}{{ 'x' * 100000 == 'x' * 100000 }}{% endfor %}{% endfor %}",
        "{{ range(99999)|map('string')|list|unique|list|length }}",
        "{{ range(99999)|map('string')|groupby(0)|length + range(99999)|unique|list|length }}",
        "{% set ns = namespace(f=0) %}{% for i in range(99999) %}{% macro m() %}{{ 'x' * 9999 }}{% endmacro %}{% set ns.f = m() ~ ns.f %}{% endfor %}",
    ] {
        limit(template);
    }
}

#[test]
fn a_template_larger_than_any_published_one_is_refused() {
    let error = ChatTemplate::new(&"x".repeat(2 << 20), &[]).unwrap_err().to_string();
    assert!(error.contains("2097152 bytes long; the limit is 1048576"), "{error}");
}

/// Pieces of templates: whole statements, and parts that fit or do not.
fn piece() -> impl Strategy<Value = String> {
    let whole = vec![
        "{{ messages[0].content }}",
        "{{ messages[0]['content'] | FILTER }}",
        "{{ messages[0].content.METHOD() }}",
        "{{ messages[0].content.METHOD('x') }}",
        "{{ messages[0].content.METHOD('x', 'y') }}",
        "{{ messages[0].content.METHOD(3) }}",
        "{{ messages | map(attribute='content') | FILTER }}",
        "{{ messages[0].content.split('x') | FILTER }}",
        "{{ messages[0].content[1:] ~ messages[0].content[:1] }}",
        "{{ messages[0].content[::-1] }}",
        "{{ ('<' ~ messages[0].content ~ '>') | FILTER | FILTER }}",
        "{{ '<' + messages[0].content[2:3] + '>' }}",
        "{{ '%s%s' % (messages[0].content, '>') }}",
        "{{ '{}{}'.format('<', messages[0].content) }}",
        "{{ messages[0].content.format('<', '>') }}",
        "{{ messages[0].content % 167 }}",
        "{{ messages[0] | tojson }}",
        "{{ messages[0].items() | list }}",
        "{% for c in messages[0].content %}{{ c }}{% endfor %}",
        "{% for c in messages[0].content | reverse %}{{ loop.last }}{{ c }}{% endfor %}",
        "{% set x = messages[0].content | replace('x', '') %}{{ x }}",
        "{% set x %}<{{ messages[0].content }}>{% endset %}{{ x | FILTER }}",
        "{% macro f(a, b='<') %}{{ b }}{{ a }}{{ kwargs }}{{ varargs }}{% endmacro %}{{ f(messages[0].content, 1, 2) }}",
        "{% filter FILTER %}{{ messages[0].content }}{% endfilter %}",
        "{% set ns = namespace(s='') %}{% for c in messages[0].content %}{% set ns.s = c ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ messages[0].content.split() | join('') }}",
        "{{ messages[0].content.encode }}",
        "{{ [messages[0].content, '<'] | sort | join }}",
        "{{ {messages[0].content: 1} }}",
    ];
    let parts = vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        " if ",
        " else ",
        "{% endif %}",
        "{% endfor %}",
        "for x in ",
        "(",
        ")",
        "[",
        "]",
        "'",
        "|",
        ".",
        "~",
        " is ",
        " not ",
        "1",
        "1e9",
        "**",
        "<",
        ">",
        "\n",
        "messages",
        "content",
        "set ",
        "=",
    ];
    prop_oneof![8 => select(whole).prop_map(str::to_string), 2 => select(parts).prop_map(str::to_string), 1 => "\\PC{0,6}"]
}

fn template() -> impl Strategy<Value = String> {
    let filters = vec![
        "upper",
        "lower",
        "title",
        "capitalize",
        "trim",
        "reverse",
        "list",
        "string",
        "join",
        "sort",
        "unique",
        "first",
        "last",
        "length",
        "int",
        "float",
        "tojson",
        "replace('x','')",
        "replace('','<')",
        "truncate(3)",
        "truncate(3, true, '>')",
        "indent(2)",
        "center(9)",
        "wordwrap(2)",
        "batch(2)",
        "slice(2)",
        "escape",
        "urlencode",
        "striptags",
        "wordcount",
        "safe",
        "default('x')",
        "format('<')",
        "select",
        "reject",
        "map('upper')",
        "groupby(0)",
        "min",
        "max",
        "sum",
        "dictsort",
        "items",
        "round",
        "abs",
        "attr('x')",
        "nonsense",
    ];
    let methods = vec![
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "rsplit",
        "splitlines",
        "replace",
        "upper",
        "lower",
        "title",
        "capitalize",
        "swapcase",
        "casefold",
        "join",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
        "startswith",
        "endswith",
        "find",
        "index",
        "count",
        "center",
        "ljust",
        "rjust",
        "zfill",
        "expandtabs",
        "format",
        "isalpha",
        "nonsense",
    ];
    (vec((piece(), select(filters.clone()), select(filters), select(methods)), 1..6)).prop_map(|pieces| {
        let fill = |(piece, first, second, method): (String, &str, &str, &str)| {
            piece.replacen("FILTER", first, 1).replace("FILTER", second).replace("METHOD", method)
        };
        pieces.into_iter().map(fill).collect::<String>()
    })
}

fn content() -> impl Strategy<Value = String> {
    let parts = vec![
        "<§>", "<", "§", ">", "x", " ", "%c", "%s", "{}", "{0}", "\n", "&", "'", "\"", "Σ", "ß", "§>", "<§",
        ">§<", "7",
    ];
    vec(select(parts), 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_template_makes_a_control_token_of_a_message(template in template(), content in content()) {
        let outcome = run(&template, &content);
        prop_assert!(outcome != Outcome::ControlToken, "{template:?} {content:?}");
    }

    #[test]
    fn any_text_is_a_template_that_works_or_an_error(source in "\\PC{0,60}", parts in vec(piece(), 0..12), content in any::<String>()) {
        for source in [source, parts.concat()] {
            prop_assert!(run(&source, &content) != Outcome::ControlToken || source.contains('§'));
        }
    }
}
