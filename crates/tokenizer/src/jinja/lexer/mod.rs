//! Cutting a template into tokens, with the rules for white space that transformers sets: `trim_blocks` (a newline after
//! a block or comment goes) and `lstrip_blocks` (spaces before one that begins a line go). Any end of line becomes `\n`,
//! and one at the very end goes, as in Jinja2's `Lexer.tokeniter`.

mod literal;

use std::borrow::Cow;

use super::limits::{Problem, Result};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text outside of `{{ }}`, `{% %}` and `{# #}`.
    Data(String),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located {
    pub(super) token: Token,
    /// From 1.
    pub(super) line: usize,
}

/// Longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

/// White space of Python, which has four more characters than Unicode's property.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The text with `\n` for every end of line, and none at the end.
pub(super) fn normalized(source: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(source);
    if source.contains('\r') {
        text = Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n"));
    }
    if text.ends_with('\n') {
        let end = text.len() - 1;
        text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        };
    }
    text
}

/// The tokens of a normalized template, ending in [`Token::End`].
pub(super) fn lex(source: &str) -> Result<Vec<Located>> {
    let mut lexer = Lexer { source, at: 0, line: 1, counted: 0, begins_line: true, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    /// Newlines before this byte are in `line`.
    counted: usize,
    /// The last thing read ended with a newline.
    begins_line: bool,
    tokens: Vec<Located>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Print,
    Block,
    Comment,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// The line of `self.at`.
    fn line(&mut self) -> usize {
        self.line += self.source[self.counted..self.at].matches('\n').count();
        self.counted = self.at;
        self.line
    }

    fn push(&mut self, token: Token) {
        let line = self.line();
        self.tokens.push(Located { token, line });
    }

    fn problem<T>(&mut self, text: impl Into<String>) -> Result<T> {
        let line = self.line();
        Err(Problem::new(text).at(line))
    }

    fn run(&mut self) -> Result<()> {
        while let Some((start, kind)) = self.next_opening() {
            let text = &self.source[self.at..start];
            let sign = self.source[start + 2..].chars().next().filter(|sign| matches!(sign, '-' | '+'));
            self.data(text, kind, sign);
            self.at = start;
            let inside = start + 2 + sign.map_or(0, char::len_utf8);
            match kind {
                Kind::Comment => self.comment(inside)?,
                Kind::Block if self.raw(inside)? => {}
                Kind::Block | Kind::Print => self.inside(kind, inside)?,
            }
        }
        let rest = self.rest();
        if !rest.is_empty() {
            self.push(Token::Data(rest.to_string()));
        }
        self.at = self.source.len();
        self.push(Token::End);
        Ok(())
    }

    fn next_opening(&self) -> Option<(usize, Kind)> {
        let rest = self.rest();
        rest.match_indices('{').find_map(|(offset, _)| {
            let kind = match rest.as_bytes().get(offset + 1)? {
                b'{' => Kind::Print,
                b'%' => Kind::Block,
                b'#' => Kind::Comment,
                _ => return None,
            };
            Some((self.at + offset, kind))
        })
    }

    /// Text before an opening with this sign.
    fn data(&mut self, text: &str, kind: Kind, sign: Option<char>) {
        let mut kept = text;
        if sign == Some('-') {
            kept = text.trim_end_matches(is_space);
        } else if sign.is_none() && kind != Kind::Print {
            let line_start = text.rfind('\n').map_or(0, |at| at + 1);
            if (line_start > 0 || self.begins_line) && text[line_start..].chars().all(is_space) {
                kept = &text[..line_start];
            }
        }
        if !kept.is_empty() {
            self.push(Token::Data(kept.to_string()));
        }
    }

    /// Goes behind what was read up to `end`, and behind white space as the `sign` before the closing says.
    fn close(&mut self, end: usize, sign: Option<u8>, trims: bool) {
        let rest = &self.source[end..];
        let skipped = match sign {
            Some(b'-') => rest.len() - rest.trim_start_matches(is_space).len(),
            None if trims => usize::from(rest.starts_with('\n')),
            _ => 0,
        };
        self.at = end + skipped;
        self.begins_line = self.source[..self.at].ends_with('\n');
    }

    fn comment(&mut self, inside: usize) -> Result<()> {
        let Some(length) = self.source[inside..].find("#}") else {
            return self.problem("a comment has no end");
        };
        let end = inside + length;
        let sign = self.source.as_bytes()[inside..end].last().copied().filter(|sign| b"-+".contains(sign));
        self.close(end + 2, sign, true);
        Ok(())
    }

    /// Reads `{% raw %}` up to `{% endraw %}`; false if the block is another one.
    fn raw(&mut self, inside: usize) -> Result<bool> {
        let Some((sign, end)) = self.tag(inside, "raw") else { return Ok(false) };
        self.close(end, sign, false);
        let mut search = self.at;
        while let Some(found) = self.source[search..].find("{%") {
            let start = search + found;
            search = start + 2;
            let sign = self.source[search..].chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let Some((end_sign, end)) = self.tag(search + sign.map_or(0, char::len_utf8), "endraw") else {
                continue;
            };
            let text = &self.source[self.at..start];
            self.data(text, Kind::Block, sign);
            self.close(end, end_sign, true);
            return Ok(true);
        }
        self.problem("`raw` has no `endraw`")
    }

    /// Whether `name` and the end of a block stand at `inside`: the sign before the end, and where it ends.
    fn tag(&self, inside: usize, name: &str) -> Option<(Option<u8>, usize)> {
        let rest = self.source[inside..].trim_start_matches(is_space).strip_prefix(name)?;
        let rest = rest.trim_start_matches(is_space);
        let sign = rest.bytes().next().filter(|sign| b"-+".contains(sign));
        let rest = rest[usize::from(sign.is_some())..].strip_prefix("%}")?;
        Some((sign, self.source.len() - rest.len()))
    }

    /// Tokens between `{{` and `}}` or `{%` and `%}`.
    fn inside(&mut self, kind: Kind, inside: usize) -> Result<()> {
        let (begin, end, closing) = match kind {
            Kind::Print => (Token::PrintBegin, Token::PrintEnd, "}}"),
            _ => (Token::BlockBegin, Token::BlockEnd, "%}"),
        };
        self.push(begin);
        self.at = inside;
        let mut open = Vec::new();
        loop {
            let rest = self.rest();
            let rest = rest.trim_start_matches(is_space);
            self.at = self.source.len() - rest.len();
            let Some(first) = rest.chars().next() else {
                return self.problem(format!("the template ends before `{closing}`"));
            };
            if open.is_empty() {
                let sign = rest
                    .bytes()
                    .next()
                    .filter(|sign| *sign == b'-' || (*sign == b'+' && kind == Kind::Block));
                if rest[usize::from(sign.is_some())..].starts_with(closing) {
                    self.push(end);
                    self.close(self.at + usize::from(sign.is_some()) + 2, sign, kind == Kind::Block);
                    return Ok(());
                }
            }
            let token = match first {
                '0'..='9' => self.number()?,
                '\'' | '"' => self.string(first)?,
                c if c.is_alphanumeric() || c == '_' => self.name(),
                _ => self.operator(&mut open)?,
            };
            let line = self.line();
            self.tokens.push(Located { token, line });
        }
    }

    fn name(&mut self) -> Token {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        Token::Name(rest[..end].to_string())
    }

    fn operator(&mut self, open: &mut Vec<&'static str>) -> Result<Token> {
        let rest = self.rest();
        let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
            let first = rest.chars().next().unwrap_or_default();
            return self.problem(format!("the character {first:?} stands outside of a string"));
        };
        match operator {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" => match open.pop() {
                Some(expected) if expected == operator => {}
                Some(expected) => {
                    return self.problem(format!("`{operator}` where `{expected}` is expected"));
                }
                None => return self.problem(format!("`{operator}` closes nothing")),
            },
            _ => {}
        }
        self.at += operator.len();
        Ok(Token::Operator(operator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(source: &str) -> String {
        let tokens = lex(&normalized(source)).unwrap();
        tokens
            .into_iter()
            .filter_map(|t| if let Token::Data(text) = t.token { Some(text) } else { None })
            .collect()
    }

    fn tokens(source: &str) -> Vec<Token> {
        let tokens = lex(&format!("{{{{{source}}}}}")).unwrap();
        tokens[1..tokens.len() - 2].iter().map(|located| located.token.clone()).collect()
    }

    fn refused(source: &str) -> Problem {
        lex(source).unwrap_err()
    }

    #[test]
    fn white_space_goes_as_jinja_has_it() {
        assert_eq!(data("a\r\nb\rc\n"), "a\nb\nc");
        assert_eq!(data("a\n\n"), "a\n");
        assert_eq!(data("a\n  {% x %}\n  b"), "a\n  b");
        assert_eq!(data("a\n  {%+ x %}\nb {% x +%}\nc"), "a\n  b \nc");
        assert_eq!(data("a \n {%- x -%} \n b"), "ab");
        assert_eq!(data("  {# c #}\n  {{ x }}\n"), "  \n".trim_end_matches('\n').to_string() + "");
        assert_eq!(data("a  {# c -#}  b{#- c #} "), "a  b ");
        assert_eq!(data("  {% x %}  {% y %}"), "  ");
        assert_eq!(data("{{ x -}}\n  {% y %}z"), "z");
    }

    #[test]
    fn raw_text_is_data() {
        assert_eq!(data("{% raw %}\n{{ x }}{% if %}\n {% endraw %}\ny"), "\n{{ x }}{% if %}\ny");
        assert_eq!(data("a{%- raw -%} {% {%- endraw -%} b"), "a{%b");
        assert!(refused("{% raw %}{% endra %}").text.contains("endraw"));
    }

    #[test]
    fn strings_have_pythons_escapes() {
        assert_eq!(tokens(r#"'a\n\x41\u00e9\U0001F600\101\'\q'"#), [Token::Text("a\nAé😀A'\\q".into())]);
        assert_eq!(tokens("\"a\\\nb'\""), [Token::Text("ab'".into())]);
        assert!(refused(r"{{ '\ud83d' }}").text.contains("digits of a character"));
        assert!(refused(r"{{ '\x4").text.contains("`\\x`"));
        assert!(refused(r"{{ 'a\'").text.contains("string has no end"));
    }

    #[test]
    fn numbers_are_pythons() {
        let [float, int] = [Token::Float, |n: f64| Token::Int(n as i128)];
        assert_eq!(tokens("1.5"), [float(1.5)]);
        assert_eq!(tokens("1_000 2e3 0x1F 1.5E-1"), [int(1000.0), float(2000.0), int(31.0), float(0.15)]);
        assert_eq!(tokens("1.x"), [int(1.0), Token::Operator("."), Token::Name("x".into())]);
        assert_eq!(tokens("a.1.2").len(), 5);
        assert!(refused(&format!("{{{{ {} }}}}", "9".repeat(60))).text.contains("127 bits"));
    }

    #[test]
    fn braces_of_a_dict_do_not_end_a_print() {
        assert_eq!(tokens("{'a': {'b': 1}}").len(), 9);
        assert!(refused("{{ (] }}").text.contains("`)`"));
        assert!(refused("{{ ) }}").text.contains("closes nothing"));
        assert_eq!(refused("a\n\n{{ x").line, Some(3));
        assert_eq!(refused("a\n{# x").line, Some(2));
        assert!(refused("{{ x ! }}").text.contains("'!'"));
    }
}
