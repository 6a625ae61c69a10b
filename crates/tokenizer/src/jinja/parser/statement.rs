//! Statements: text, `{{ }}` and `{% %}`.

use std::sync::Arc;

use super::super::ast::{Block, Expression, Filter, For, Kind, Macro, Statement, StatementKind, Target};
use super::super::lexer::Token;
use super::super::limits::Result;
use super::Parser;

impl Parser {
    /// Statements up to a block that has one of these names, which is left with its name next; to the end of the
    /// template without names.
    pub(super) fn block(&mut self, ends: &[&str]) -> Result<Block> {
        self.nested(|parser| {
            let mut block = Vec::new();
            let start = parser.line();
            loop {
                let line = parser.line();
                let kind = match parser.advance() {
                    Token::Data(text) => StatementKind::Data(text.into()),
                    Token::PrintBegin => {
                        let value = parser.tuple(true, None)?;
                        if !matches!(parser.advance(), Token::PrintEnd) {
                            parser.at -= 1;
                            return parser.print_end();
                        }
                        StatementKind::Print(value)
                    }
                    Token::BlockBegin => match parser.token() {
                        Token::Name(name) if ends.contains(&name.as_str()) => return Ok(block),
                        _ => parser.statement()?,
                    },
                    _ if ends.is_empty() => return Ok(block),
                    _ => {
                        let end = ends.iter().find(|end| end.starts_with("end")).unwrap_or(&"end");
                        return parser.problem(format!("the block of line {start} has no `{end}`"));
                    }
                };
                block.push(Statement { line, kind });
            }
        })
    }

    fn print_end<T>(&self) -> Result<T> {
        self.problem("what stands in `{{ }}` is not one expression")
    }

    fn block_end(&mut self) -> Result<()> {
        if matches!(self.token(), Token::BlockEnd) {
            self.at += 1;
            return Ok(());
        }
        self.unexpected("`%}`")
    }

    /// The body of a block up to `end`, and that tag itself.
    fn body(&mut self, end: &str) -> Result<Block> {
        self.block_end()?;
        let body = self.block(&[end])?;
        self.at += 1;
        self.block_end()?;
        Ok(body)
    }

    /// What stands in `{% %}`, from its name on.
    fn statement(&mut self) -> Result<StatementKind> {
        let name = self.name()?;
        let kind = match &*name {
            "if" => self.if_block()?,
            "for" => self.for_block()?,
            "set" => self.set()?,
            "macro" => {
                let name = self.name()?;
                StatementKind::Macro(self.macro_after_name(name, "endmacro")?)
            }
            "call" => self.call_block()?,
            "filter" => {
                let filters = self.filters()?;
                StatementKind::FilterBlock(filters, self.body("endfilter")?)
            }
            "with" => self.with_block()?,
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.problem(format!("`{name}` stands outside of a loop"));
                }
                self.block_end()?;
                if &*name == "break" { StatementKind::Break } else { StatementKind::Continue }
            }
            // marks the assistant's words for training
            "generation" => StatementKind::Scope(self.body("endgeneration")?),
            "block" => {
                self.name()?;
                self.block_end()?;
                let body = self.block(&["endblock"])?;
                self.at += 1;
                if matches!(self.token(), Token::Name(_)) {
                    self.at += 1;
                }
                self.block_end()?;
                StatementKind::Scope(body)
            }
            "include" | "import" | "from" | "extends" => {
                return self.problem(format!("`{name}` needs another template, and there is none"));
            }
            _ => return self.problem(format!("the tag `{name}` is not known here")),
        };
        Ok(kind)
    }

    fn if_block(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple(false, None)?;
            self.block_end()?;
            branches.push((condition, self.block(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") { self.body("endif")? } else { self.end_of_block()? };
            return Ok(StatementKind::If { branches, otherwise });
        }
    }

    /// Skips the name of an end and `%}`.
    fn end_of_block(&mut self) -> Result<Block> {
        self.at += 1;
        self.block_end()?;
        Ok(Vec::new())
    }

    fn for_block(&mut self) -> Result<StatementKind> {
        let target = self.target(Some("in"))?;
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let items = self.tuple(false, Some("recursive"))?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let is_recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let body = self.block(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = if self.skip_name("else") { self.body("endfor")? } else { self.end_of_block()? };
        Ok(StatementKind::For(Arc::new(For { target, items, condition, is_recursive, body, otherwise })))
    }

    fn set(&mut self) -> Result<StatementKind> {
        let target = self.target(None)?;
        if self.skip_operator("=") {
            let value = self.tuple(true, None)?;
            self.block_end()?;
            return Ok(StatementKind::Set(target, value));
        }
        let filters = if self.skip_operator("|") { self.filters()? } else { Vec::new() };
        Ok(StatementKind::SetBlock { target, filters, body: self.body("endset")? })
    }

    /// Filters between `|`.
    fn filters(&mut self) -> Result<Vec<Filter>> {
        let mut filters = vec![self.filter()?];
        while self.skip_operator("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    /// One name, or several between commas, which end before the name `end`.
    fn target(&mut self, end: Option<&str>) -> Result<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            let at_end =
                end.is_some_and(|end| self.is_name(end)) || self.is_operator("=") || self.is_operator(")");
            if is_tuple && at_end {
                break;
            }
            targets.push(self.single_target()?);
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn single_target(&mut self) -> Result<Target> {
        if self.skip_operator("(") {
            let target = self.nested(|parser| parser.target(None))?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.problem(format!("`{name}` cannot be set"));
        }
        if self.skip_operator(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    /// `(a, b=1) %}…{% end %}`
    fn macro_after_name(&mut self, name: Arc<str>, end: &str) -> Result<Arc<Macro>> {
        let parameters = if self.is_operator("(") { self.parameters()? } else { Vec::new() };
        self.macro_body(name, parameters, end)
    }

    fn macro_body(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Arc<str>, Option<Expression>)>,
        end: &str,
    ) -> Result<Arc<Macro>> {
        let loops = std::mem::take(&mut self.loops);
        let n_names = self.names.len();
        let body = self.body(end)?;
        self.loops = loops;
        let takes = |name| self.names[n_names..].contains(&name);
        let (takes_varargs, takes_kwargs) = (takes("varargs"), takes("kwargs"));
        Ok(Arc::new(Macro { name, parameters, takes_varargs, takes_kwargs, body }))
    }

    fn parameters(&mut self) -> Result<Vec<(Arc<str>, Option<Expression>)>> {
        self.expect_operator("(")?;
        let mut parameters: Vec<(Arc<str>, Option<Expression>)> = Vec::new();
        while !self.skip_operator(")") {
            if !parameters.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            let name = self.name()?;
            let default = if self.skip_operator("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return self
                    .problem(format!("the parameter `{name}` has no default, but the one before it has"));
            }
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    fn call_block(&mut self) -> Result<StatementKind> {
        let parameters = if self.is_operator("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression()?;
        if !matches!(call.kind, Kind::Call(..)) {
            return self.problem("`call` is followed by no call");
        }
        let caller = self.macro_body("caller".into(), parameters, "endcall")?;
        Ok(StatementKind::CallBlock(call, caller))
    }

    fn with_block(&mut self) -> Result<StatementKind> {
        let mut bindings = Vec::new();
        while !matches!(self.token(), Token::BlockEnd) {
            if !bindings.is_empty() {
                self.expect_operator(",")?;
            }
            let target = self.single_target()?;
            self.expect_operator("=")?;
            bindings.push((target, self.expression()?));
        }
        Ok(StatementKind::With(bindings, self.body("endwith")?))
    }
}
