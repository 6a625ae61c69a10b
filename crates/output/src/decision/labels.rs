//! Which token says which answer.

use lossy_tokenizer::{ChatTemplate, EncodeOptions, Message, RenderOptions, Tokenizer, TokenizerError};

use super::question::{Kind, Question};

/// Labels of answers, each with the token that stands for it where an answer begins: as many as some questions have answers.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    yes_no: Vec<(String, u32)>,
    letters: Vec<(String, u32)>,
    digits: Vec<(String, u32)>,
}

/// Why a model cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// a template that fails
    #[error(transparent)]
    Template(#[from] TokenizerError),
    /// a template that opens thoughts
    #[error(
        "the model thinks before every answer, so that an answer is not the next token: ask one that can do without"
    )]
    Thinks,
    /// too few labels are one token each
    #[error(
        "the question has {wanted} answers, but only {found} labels are single tokens where this model's answers begin: ask with \
         fewer answers"
    )]
    TooFew {
        /// answers
        wanted: usize,
        /// labels
        found: usize,
    },
}

impl Labels {
    /// Those that the questions need. A label costs a prompt of its own, so no others are looked for.
    pub(super) fn find(finder: &Finder, questions: &[Question]) -> Labels {
        let most = |is_of: fn(&Kind) -> bool| {
            questions
                .iter()
                .filter(|question| is_of(&question.kind))
                .map(Question::n_answers)
                .max()
                .unwrap_or(0)
        };
        let letter = |n: u8| char::from(b'A' + n).to_string();
        let pairs = (0..26).flat_map(|first| (0..26).map(move |second| letter(first) + &letter(second)));
        let letters = (0..26).map(letter).chain(pairs);
        let digits = (0..10).map(|digit: u8| digit.to_string());
        Labels {
            yes_no: finder
                .tokens(["Yes", "No"].map(str::to_string), most(|kind| matches!(kind, Kind::Predicate))),
            letters: finder.tokens(letters, most(|kind| matches!(kind, Kind::Choice(_)))),
            digits: finder.tokens(digits, most(|kind| matches!(kind, Kind::Score(_)))),
        }
    }

    /// The labels of a question's answers, in their order.
    ///
    /// # Errors
    /// There are too few.
    pub(super) fn of(&self, question: &Question) -> Result<&[(String, u32)], LabelError> {
        let labels = match question.kind {
            Kind::Predicate => &self.yes_no,
            Kind::Choice(_) => &self.letters,
            Kind::Score(_) => &self.digits,
        };
        let (wanted, found) = (question.n_answers(), labels.len());
        labels.get(..wanted).ok_or(LabelError::TooFew { wanted, found })
    }
}

/// Finds the token of a text that is all of an answer.
pub(super) struct Finder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    options: RenderOptions,
    /// a prompt up to where its answer begins
    prompt: Vec<u32>,
    /// what closes an answer; `None`: the template writes earlier answers otherwise than the one that is to come
    close: Option<Vec<u32>>,
}

impl<'a> Finder<'a> {
    /// `prompt`: that of [`Finder::question`].
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        options: &RenderOptions,
        prompt: Vec<u32>,
    ) -> Finder<'a> {
        let options = RenderOptions { add_generation_prompt: false, ..options.clone() };
        let mut finder = Finder { tokenizer, template, options, prompt, close: None };
        finder.close = finder.answered("");
        finder
    }

    /// The message before the answers that are tried.
    pub(super) fn question() -> Message {
        Message::user("x")
    }

    /// The first `n` of `labels` that are one token, which no other is.
    fn tokens(&self, labels: impl IntoIterator<Item = String>, n: usize) -> Vec<(String, u32)> {
        let mut found: Vec<(String, u32)> = Vec::new();
        for label in labels {
            if found.len() == n {
                break;
            }
            match self.token(&label) {
                Some(id) if found.iter().all(|(_, other)| *other != id) => found.push((label, id)),
                _ => {}
            }
        }
        found
    }

    fn token(&self, label: &str) -> Option<u32> {
        // In the template a tokenizer may write a text otherwise than alone, such as with a space before it.
        if let (Some(with), Some(close)) = (self.answered(label), &self.close) {
            let (id, rest) = with.split_first()?;
            return (rest == close).then_some(*id);
        }
        let plain = EncodeOptions { add_special: false, parse_special: false };
        match self.tokenizer.encode(label, plain).ok()?[..] {
            [id] => Some(id),
            _ => None,
        }
    }

    /// What follows the prompt if a text is the answer.
    fn answered(&self, text: &str) -> Option<Vec<u32>> {
        let messages = [Finder::question(), Message::assistant(text)];
        let ids = self.template.encode(self.tokenizer, &messages, &self.options).ok()?;
        ids.strip_prefix(&self.prompt[..]).map(<[u32]>::to_vec)
    }
}
