//! A conversation that wants answers, in no interface's words.
//!
//! An interface makes [`Turns`] and [`Wishes`] of a request. [`begin`] makes of them what the engine runs; [`Answer`] makes
//! of the engine's events what an interface can say.

mod answer;
mod logprobs;
mod messages;
mod prepare;
mod render;
mod tools;

pub use self::answer::{Answer, Block, Call, End, EndReason, Piece, collect};
pub use self::logprobs::{ChatLogprobs, TokenLogprobs, finite};
pub use self::messages::is_billing_header;
pub use self::prepare::{Form, Prepared, Wishes, begin, limits};
pub use self::render::{Rendered, Turns, render};
pub use self::tools::{RequestTools, choice_of_name, choice_of_word};
