//! A parsed template.

use std::sync::Arc;

use super::limits::{MAX_NESTING, Problem, Result};

#[derive(Debug)]
pub(super) struct Expression {
    pub(super) line: usize,
    /// Expressions inside each other, this one included.
    depth: usize,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Name(Arc<str>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    Attribute(Box<Expression>, Arc<str>),
    Item(Box<Expression>, Box<Expression>),
    /// `value[start:stop:step]`
    Slice(Box<Expression>, [Option<Box<Expression>>; 3]),
    Call(Box<Expression>, Arguments),
    Filter(Box<Expression>, Filter),
    Test {
        value: Box<Expression>,
        test: Filter,
        is_negated: bool,
    },
    Not(Box<Expression>),
    /// `-x`, or `+x`.
    Sign {
        value: Box<Expression>,
        is_minus: bool,
    },
    /// Operators of one precedence, from the left: a long sum is not deep.
    Arithmetic(Box<Expression>, Vec<(Arithmetic, Expression)>),
    /// `a ~ b ~ c`
    Concat(Vec<Expression>),
    /// `a < b < c`
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// `then if condition else otherwise`
    If {
        condition: Box<Expression>,
        then: Box<Expression>,
        otherwise: Option<Box<Expression>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

/// A filter or test and what it is called with, besides the value.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) line: usize,
    pub(super) name: Arc<str>,
    pub(super) arguments: Arguments,
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expression>,
    pub(super) named: Vec<(Arc<str>, Expression)>,
    /// `*list`
    pub(super) more_positional: Option<Box<Expression>>,
    /// `**dict`
    pub(super) more_named: Option<Box<Expression>>,
}

impl Arguments {
    pub(super) fn depth(&self) -> usize {
        let all = self.positional.iter().chain(self.named.iter().map(|(_, value)| value));
        let more = [&self.more_positional, &self.more_named].into_iter().flatten().map(|value| &**value);
        deepest(all.chain(more))
    }
}

fn deepest<'a>(expressions: impl IntoIterator<Item = &'a Expression>) -> usize {
    expressions.into_iter().map(|expression| expression.depth).max().unwrap_or(0)
}

impl Kind {
    fn depth_inside(&self) -> usize {
        match self {
            Kind::None | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) | Kind::Name(_) => 0,
            Kind::List(items)
            | Kind::Tuple(items)
            | Kind::Concat(items)
            | Kind::And(items)
            | Kind::Or(items) => deepest(items),
            Kind::Dict(entries) => deepest(entries.iter().flat_map(|(key, value)| [key, value])),
            Kind::Attribute(value, _) | Kind::Not(value) | Kind::Sign { value, .. } => value.depth,
            Kind::Item(value, key) => deepest([&**value, &**key]),
            Kind::Slice(value, bounds) => {
                deepest(bounds.iter().flatten().map(|bound| &**bound)).max(value.depth)
            }
            Kind::Call(value, arguments) => value.depth.max(arguments.depth()),
            Kind::Filter(value, filter) | Kind::Test { value, test: filter, .. } => {
                value.depth.max(filter.arguments.depth())
            }
            Kind::Arithmetic(first, rest) => deepest(rest.iter().map(|(_, value)| value)).max(first.depth),
            Kind::Compare(first, rest) => deepest(rest.iter().map(|(_, value)| value)).max(first.depth),
            Kind::If { condition, then, otherwise } => {
                deepest([&**condition, &**then].into_iter().chain(otherwise.as_deref()))
            }
        }
    }
}

impl Expression {
    /// # Errors
    /// Expressions nested deeper than [`MAX_NESTING`].
    pub(super) fn new(line: usize, kind: Kind) -> Result<Expression> {
        let depth = kind.depth_inside() + 1;
        if depth > MAX_NESTING {
            return Err(too_deep().at(line));
        }
        Ok(Expression { line, depth, kind })
    }
}

pub(super) fn too_deep() -> Problem {
    Problem::new(format!("expressions or blocks are nested deeper than {MAX_NESTING}, the limit"))
}

pub(super) type Block = Vec<Statement>;

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) kind: StatementKind,
}

#[derive(Debug)]
pub(super) enum StatementKind {
    Data(Arc<str>),
    Print(Expression),
    If {
        branches: Vec<(Expression, Block)>,
        otherwise: Block,
    },
    For(Arc<For>),
    Set(Target, Expression),
    /// `{% set x | filter %}…{% endset %}`
    SetBlock {
        target: Target,
        filters: Vec<Filter>,
        body: Block,
    },
    Macro(Arc<Macro>),
    /// `{% call(x) f() %}…{% endcall %}`: the call, and its body as a macro named `caller`.
    CallBlock(Expression, Arc<Macro>),
    FilterBlock(Vec<Filter>, Block),
    With(Vec<(Target, Expression)>, Block),
    /// What stands in blocks that change nothing here, with a scope of its own.
    Scope(Block),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expression,
    pub(super) condition: Option<Expression>,
    pub(super) is_recursive: bool,
    pub(super) body: Block,
    pub(super) otherwise: Block,
}

#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// `namespace.attribute`
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<(Arc<str>, Option<Expression>)>,
    /// The body names `varargs`, or `kwargs`: then it may be called with more than its parameters.
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) body: Block,
}
