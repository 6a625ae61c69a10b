//! A prompt for each question about the same input.

use lossy_tokenizer::{ChatTemplate, Message, RenderOptions, Tokenizer, TokenizerError};

use super::labels::{Finder, LabelError, Labels};
use super::question::Question;
use crate::thinking::ThinkingFormat;

/// A question as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// the tokens, up to where the answer begins
    pub ids: Vec<u32>,
    /// the token of each answer
    pub labels: Vec<u32>,
}

/// Makes prompts.
pub struct Asker<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    options: RenderOptions,
    finder: Finder<'a>,
}

impl<'a> Asker<'a> {
    /// For a model. The template is told that the model does not think: an answer is its first token.
    ///
    /// # Errors
    /// The template refuses a user's message, or opens thoughts all the same.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        options: RenderOptions,
    ) -> Result<Asker<'a>, LabelError> {
        let mut options = RenderOptions { add_generation_prompt: true, ..options };
        options.extra.insert("enable_thinking".to_string(), false.into());
        options.extra.insert("reasoning_effort".to_string(), "none".into());
        let prompt = template.encode_outlined(tokenizer, &[Finder::question()], &options)?;
        let thinking = ThinkingFormat::of_template(template.source());
        if thinking.is_some_and(|thinking| thinking.is_opened_by(&prompt.ends_with)) {
            return Err(LabelError::Thinks);
        }
        let finder = Finder::new(tokenizer, template, &options, prompt.ids);
        Ok(Asker { tokenizer, template, options, finder })
    }

    /// The prompts of questions about a conversation, in their order. A question is a message of its own after the others, or,
    /// where the template does not have two messages of a user, the end of the last one.
    ///
    /// # Errors
    /// The template refuses the messages; a question has more answers than there are labels.
    pub fn prompts(&self, messages: &[Message], questions: &[Question]) -> Result<Vec<Prompt>, LabelError> {
        let all = Labels::find(&self.finder, questions);
        let mut asked = Vec::with_capacity(questions.len());
        for question in questions {
            let (labels, ids): (Vec<String>, Vec<u32>) = all.of(question)?.iter().cloned().unzip();
            asked.push((question.text(&labels), ids));
        }
        let Some((first, _)) = asked.first() else { return Ok(Vec::new()) };
        let short = self.short(messages, first);
        let ids = |text: &str| match &short {
            Some(short) => short.ids(self, text),
            None => self.whole(messages, text),
        };
        asked.iter().map(|(text, labels)| Ok(Prompt { ids: ids(text)?, labels: labels.clone() })).collect()
    }

    /// The prompt of a question, spelled from the first to the last message.
    fn whole(&self, messages: &[Message], text: &str) -> Result<Vec<u32>, TokenizerError> {
        let with = |messages: Vec<Message>| self.template.encode(self.tokenizer, &messages, &self.options);
        let separate = with([messages, &[Message::user(text)]].concat());
        match (separate, messages.split_last()) {
            (Err(_), Some((last, before))) if last.role == "user" => {
                let joined = Message { content: format!("{}\n\n{text}", last.content), ..last.clone() };
                with([before, &[joined]].concat())
            }
            (separate, _) => separate,
        }
    }

    /// How to spell a long conversation only once: what comes after the control token that opens the question's message does not
    /// depend on what stands before. `None`: it does, or cannot be told apart.
    fn short(&self, messages: &[Message], first: &str) -> Option<Short> {
        let outlined = |messages: &[Message], text: &str| {
            let messages = [messages, &[Message::user(text)]].concat();
            let outlined = self.template.encode_outlined(self.tokenizer, &messages, &self.options).ok()?;
            let start = *outlined.starts.last()?;
            Some((outlined.ids, start?))
        };
        let (whole, start) = outlined(messages, first)?;
        if !self.tokenizer.is_special(*whole.get(start)?) {
            return None;
        }
        let stand_ins: Vec<Message> =
            messages.iter().map(|message| Message::new(message.role.clone(), "x")).collect();
        let (small, small_start) = outlined(&stand_ins, first)?;
        let is_same = whole[start..] == small[small_start..];
        is_same.then(|| Short { head: whole[..start].to_vec(), stand_ins, small_start })
    }
}

/// The tokens of a conversation, and a small one that ends alike.
struct Short {
    head: Vec<u32>,
    stand_ins: Vec<Message>,
    small_start: usize,
}

impl Short {
    fn ids(&self, asker: &Asker, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let messages = [&self.stand_ins[..], &[Message::user(text)]].concat();
        let small = asker.template.encode(asker.tokenizer, &messages, &asker.options)?;
        Ok([&self.head[..], &small[self.small_start..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use lossy_testkit::TestModel;
    use serde_json::json;

    use super::*;

    fn questions() -> Vec<Question> {
        let choices: Vec<_> = (0..40).map(|n| json!({"value": format!("topic {n}")})).collect();
        [
            json!({"type": "predicate", "instructions": "It is about the sea."}),
            json!({"type": "choice", "instructions": "Which topic?", "choices": choices}),
            json!({"type": "score", "instructions": "How long?", "levels": [{"label": "short"}, {"label": "long"}]}),
        ]
        .iter()
        .map(|question| Question::read(question).unwrap())
        .collect()
    }

    #[test]
    fn a_prompt_that_is_put_together_is_the_one_that_is_spelled_whole() {
        for model in [TestModel::SmolLm2, TestModel::QwenCoder] {
            let source = lossy_engine::ModelSource::open(&model.path()).unwrap();
            let tokenizer = source.tokenizer().unwrap();
            let template = source.chat_template().unwrap().unwrap();
            let asker = Asker::new(&tokenizer, &template, RenderOptions::default()).unwrap();
            let text = "The sea is blue.  \n\n".repeat(50) + "<|im_end|>\n<|im_start|>user\n";
            for messages in [
                vec![Message::user(&text)],
                vec![Message::system("Be brief."), Message::user(&text)],
                vec![Message::user("a"), Message::assistant(&text), Message::user("b")],
            ] {
                assert!(asker.short(&messages, "x").is_some(), "it is spelled once");
                let prompts = asker.prompts(&messages, &questions()).unwrap();
                let all = Labels::find(&asker.finder, &questions());
                for (prompt, question) in prompts.iter().zip(questions()) {
                    let (labels, ids): (Vec<String>, Vec<u32>) =
                        all.of(&question).unwrap().iter().cloned().unzip();
                    assert_eq!(prompt.ids, asker.whole(&messages, &question.text(&labels)).unwrap());
                    assert_eq!(prompt.labels, ids);
                }
            }
        }
    }

    #[test]
    fn labels_are_tokens_of_their_own() {
        let source = lossy_engine::ModelSource::open(&TestModel::QwenCoder.path()).unwrap();
        let (tokenizer, template) = (source.tokenizer().unwrap(), source.chat_template().unwrap().unwrap());
        let asker = Asker::new(&tokenizer, &template, RenderOptions::default()).unwrap();
        let prompts = asker.prompts(&[Message::user("x")], &questions()).unwrap();
        let texts = |prompt: &Prompt| -> Vec<String> {
            prompt.labels.iter().map(|id| tokenizer.decode(&[*id], false)).collect()
        };
        assert_eq!(texts(&prompts[0]), ["Yes", "No"]);
        assert_eq!(texts(&prompts[1])[..3], ["A", "B", "C"]);
        assert_eq!(texts(&prompts[1])[26].len(), 2, "after the letters come pairs");
        assert_eq!(texts(&prompts[2]), ["0", "1"]);
    }

    #[test]
    fn a_template_without_two_messages_of_a_user_gets_one() {
        let source = lossy_engine::ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
        let tokenizer = source.tokenizer().unwrap();
        let strict = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
                      {{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>{% endif %}";
        let template = ChatTemplate::new(strict, &[]).unwrap();
        let asker = Asker::new(&tokenizer, &template, RenderOptions::default()).unwrap();
        let prompts = asker.prompts(&[Message::user("The sea is blue.")], &questions()[..1]).unwrap();
        let text = tokenizer.decode(&prompts[0].ids, false);
        assert!(text.contains("The sea is blue.\n\nIs this true"), "{text}");
    }
}
