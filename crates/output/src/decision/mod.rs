//! Questions with a fixed set of answers, each of which gets a probability.
//!
//! No text is generated. A question names its answers by labels that are one token each. The model reads the question once, and
//! the probabilities of the labels' tokens in the place of the answer are what it thinks of the answers. They are scaled so that
//! their sum is 1. The sum before that, the *allowed mass*, says how much of the model's belief the labels had at all: far below
//! 1 the model would rather have said something else.
//!
//! | question | labels | what is told |
//! | --- | --- | --- |
//! | predicate | `Yes`, `No` | the probability of `Yes` |
//! | choice | `A` to `Z`, then pairs of letters | the most probable value, and all probabilities |
//! | score | the digits from 0 | the mean of the levels' numbers, and all probabilities |

mod answer;
mod labels;
mod prompts;
mod question;

pub use answer::{Answer, LevelProbability, ValueProbability};
pub use labels::LabelError;
pub use prompts::{Asker, Prompt};
pub use question::{Choice, Kind, Level, Question, QuestionError};
