//! Which token says which answer.

use lossy_tokenizer::{ChatTemplate, EncodeOptions, Message, RenderOptions, Tokenizer, TokenizerError};

use super::question::{Kind, Question};

/// Labels of answers, each with the token that stands for it where an answer begins.
#[derive(Clone, Debug)]
pub struct Labels {
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
    /// Of a model, with the options that its prompts are rendered with.
    ///
    /// # Errors
    /// The template refuses a user's message.
    pub fn new(
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        options: &RenderOptions,
    ) -> Result<Labels, LabelError> {
        let finder = Finder::new(tokenizer, template, options)?;
        let letter = |n: u8| char::from(b'A' + n).to_string();
        let pairs = (0..26).flat_map(|first| (0..26).map(move |second| letter(first) + &letter(second)));
        Ok(Labels {
            yes_no: finder.tokens(["Yes", "No"].map(str::to_string)),
            letters: finder.tokens((0..26).map(letter).chain(pairs)),
            digits: finder.tokens((0..10).map(|digit| digit.to_string())),
        })
    }

    /// The labels of a question's answers, in their order.
    ///
    /// # Errors
    /// There are too few.
    pub fn of(&self, question: &Question) -> Result<&[(String, u32)], LabelError> {
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
struct Finder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    options: RenderOptions,
    /// a prompt up to where its answer begins
    prompt: Vec<u32>,
}

impl<'a> Finder<'a> {
    fn new(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        options: &RenderOptions,
    ) -> Result<Finder<'a>, LabelError> {
        let options = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let prompt = template.encode(tokenizer, &[Message::user("x")], &options)?;
        let options = RenderOptions { add_generation_prompt: false, ..options };
        Ok(Finder { tokenizer, template, options, prompt })
    }

    /// Those of `labels` that are one token, which no other is.
    fn tokens(&self, labels: impl IntoIterator<Item = String>) -> Vec<(String, u32)> {
        let mut found: Vec<(String, u32)> = Vec::new();
        for label in labels {
            match self.token(&label) {
                Some(id) if found.iter().all(|(_, other)| *other != id) => found.push((label, id)),
                _ => {}
            }
        }
        found
    }

    fn token(&self, label: &str) -> Option<u32> {
        // In the template a tokenizer may write a text otherwise than alone, such as with a space before it.
        let answered = |text: &str| {
            let messages = [Message::user("x"), Message::assistant(text)];
            let ids = self.template.encode(self.tokenizer, &messages, &self.options).ok()?;
            ids.strip_prefix(&self.prompt[..]).map(<[u32]>::to_vec)
        };
        if let (Some(with), Some(without)) = (answered(label), answered("")) {
            let (id, rest) = with.split_first()?;
            return (rest == without).then_some(*id);
        }
        // A template that writes earlier answers otherwise than the one that is to come.
        let plain = EncodeOptions { add_special: false, parse_special: false };
        match self.tokenizer.encode(label, plain).ok()?[..] {
            [id] => Some(id),
            _ => None,
        }
    }
}
