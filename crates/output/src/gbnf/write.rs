//! Writes rules for the compiler: lower case for what is recursive, upper case for what becomes a regular expression.

use super::Node;
use crate::lark::{Rules, literal};

/// The grammar; rule 0 is where it begins.
pub(super) fn lark(rules: &[Node]) -> String {
    let mut writer = Writer { regular: regular(rules), out: Rules::default(), n_terminals: 0 };
    let start = writer.part(&Node::Rule(0));
    writer.out.rule("start", &start);
    for (number, rule) in rules.iter().enumerate() {
        if writer.regular[number] {
            let body = writer.terminal(rule);
            writer.out.rule(&format!("R{number}"), &body);
        } else {
            let body = writer.body(rule);
            writer.out.rule(&format!("r{number}"), &body);
        }
    }
    writer.out.text()
}

/// Which rules never lead back to themselves, nor to one that does.
fn regular(rules: &[Node]) -> Vec<bool> {
    let named: Vec<Vec<usize>> = rules.iter().map(named).collect();
    let mut regular = vec![false; rules.len()];
    // a rule is regular once all that it names are; what stays is recursive
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    let mut open: Vec<usize> = named.iter().map(Vec::len).collect();
    for (rule, names) in named.iter().enumerate() {
        names.iter().for_each(|&name| users[name].push(rule));
    }
    let mut ready: Vec<usize> = (0..rules.len()).filter(|&rule| open[rule] == 0).collect();
    while let Some(rule) = ready.pop() {
        regular[rule] = true;
        for &user in &users[rule] {
            open[user] -= 1;
            if open[user] == 0 {
                ready.push(user);
            }
        }
    }
    regular
}

/// The rules that a rule names, each once.
fn named(rule: &Node) -> Vec<usize> {
    let (mut names, mut nodes) = (Vec::new(), vec![rule]);
    while let Some(node) = nodes.pop() {
        match node {
            Node::Rule(number) => names.push(*number),
            Node::Sequence(inner) | Node::Choice(inner) => nodes.extend(inner),
            Node::Repeat(inner, ..) => nodes.push(inner),
            Node::Text(_) | Node::Class(_) => {}
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

struct Writer {
    regular: Vec<bool>,
    out: Rules,
    n_terminals: usize,
}

impl Writer {
    fn is_regular(&self, node: &Node) -> bool {
        named(node).iter().all(|&rule| self.regular[rule])
    }

    /// A regular node within a terminal.
    fn terminal(&self, node: &Node) -> String {
        match node {
            Node::Text(text) => literal(text),
            Node::Class(class) => format!("/{}/", class.replace('/', "\\/")),
            Node::Rule(number) => format!("R{number}"),
            Node::Sequence(items) if items.is_empty() => "\"\"".to_string(),
            Node::Sequence(items) => {
                items.iter().map(|item| self.terminal(item)).collect::<Vec<_>>().join(" ")
            }
            Node::Choice(options) => {
                let options: Vec<String> = options.iter().map(|option| self.terminal(option)).collect();
                format!("({})", options.join(" | "))
            }
            Node::Repeat(inner, min, max) => repeat(&self.terminal(inner), *min, *max),
        }
    }

    /// A part of a recursive rule; what is regular in it becomes a terminal of its own.
    fn part(&mut self, node: &Node) -> String {
        if self.is_regular(node) {
            let body = self.terminal(node);
            let name = format!("T{}", self.n_terminals);
            self.n_terminals += 1;
            self.out.rule(&name, &body);
            return name;
        }
        match node {
            Node::Rule(number) => format!("r{number}"),
            Node::Repeat(inner, min, max) => {
                let inner = self.part(inner);
                repeat(&inner, *min, *max)
            }
            other => format!("({})", self.body(other)),
        }
    }

    /// The alternatives of a recursive rule.
    fn body(&mut self, node: &Node) -> String {
        match node {
            Node::Choice(options) => {
                options.iter().map(|option| self.body(option)).collect::<Vec<_>>().join(" | ")
            }
            Node::Sequence(items) => self.sequence(items),
            other => self.part(other),
        }
    }

    /// Neighbours that are regular are one terminal.
    fn sequence(&mut self, items: &[Node]) -> String {
        let mut parts = Vec::new();
        let mut rest = items;
        while let Some((first, after)) = rest.split_first() {
            let n_regular = rest.iter().take_while(|item| self.is_regular(item)).count();
            if n_regular == 0 {
                parts.push(self.part(first));
                rest = after;
            } else {
                parts.push(self.part(&Node::Sequence(rest[..n_regular].to_vec())));
                rest = &rest[n_regular..];
            }
        }
        match parts.is_empty() {
            true => "\"\"".to_string(),
            false => parts.join(" "),
        }
    }
}

fn repeat(inner: &str, min: u64, max: Option<u64>) -> String {
    match (min, max) {
        (0, None) => format!("({inner})*"),
        (1, None) => format!("({inner})+"),
        (0, Some(1)) => format!("({inner})?"),
        (_, Some(0)) => "\"\"".to_string(),
        (min, None) => format!("({inner}){{{min},}}"),
        (min, Some(max)) => format!("({inner}){{{min},{max}}}"),
    }
}
