//! The chat: a conversation on a terminal, whose cache is kept from turn to turn.

mod command;
mod conversation;
mod editor;
mod saved;

use std::io::{IsTerminal, stdout};

use anyhow::{Result, bail};
use lossy_engine::GenerationOptions;

use crate::answer::{Answer, End, Notes, Speaker};
use crate::completion::{cut_off, seed_to_tell};
use crate::interrupt;
use crate::loaded::Loaded;
use crate::outcome::Outcome;
use crate::output::{self, Output};
use crate::terminal::{self, note, note_lines};
use crate::units;
use command::Command;
use conversation::Conversation;
use editor::{Editor, Input};
use saved::Saved;

const HELP: &str = "\
/help           this
/clear          forgets the conversation
/retry          answers the last message anew
/system TEXT    what the model is told before the conversation; without TEXT: shows it
/stats          context and memory in use, and the last answer's speed
/save FILE      writes the conversation as JSON
/load FILE      goes on with a conversation that was saved
/exit           ends the chat, as Ctrl-D does

\"\"\" begins and ends a text of several lines; so does a \\ at the end of each line but the last.
Ctrl-C stops the answer. A text that begins with / is sent if a second / is put before it.";

/// How to chat.
pub struct Settings {
    /// as the user named the model
    pub model: String,
    /// the system message
    pub system: Option<String>,
    /// sampling and stopping
    pub options: GenerationOptions,
    /// what is said besides the answers
    pub notes: Notes,
}

/// Chats until Ctrl-D.
///
/// # Errors
/// The model has no chat template or none for a system message, or standard output is not a terminal.
pub fn run(loaded: &mut Loaded, settings: Settings) -> Result<Outcome> {
    if !stdout().is_terminal() {
        bail!("there is no prompt, and a chat needs a terminal: give -p, -f or standard input");
    }
    if loaded.template()?.is_none() {
        bail!("{} has no chat template: give a prompt with -p and --no-chat-template", settings.model);
    }
    settings.system.as_deref().map_or(Ok(()), |system| loaded.check_system(system))?;
    interrupt::listen(interrupt::Second::Ignored);
    let name = loaded.info.name.as_deref().unwrap_or(&settings.model);
    note(&format!(
        "{name}, {} tokens of context. /help lists the commands, Ctrl-D ends.",
        units::grouped(loaded.cache.n_ctx() as u64)
    ));
    let mut editor = Editor::new()?;
    let conversation = Conversation::new(loaded.cache.sequence(), settings.system.clone());
    let mut chat = Chat { loaded, settings, conversation, last: None, n_answers: 0 };
    loop {
        let result = match editor.read()? {
            Input::End => return Ok(Outcome::Done),
            Input::Nothing => continue,
            Input::Text(text) => match Command::parse(&text) {
                Ok(Some(Command::Exit)) => return Ok(Outcome::Done),
                Ok(Some(command)) => chat.obey(command),
                Ok(None) => chat.say(text.strip_prefix("//").map_or(text.clone(), |rest| format!("/{rest}"))),
                Err(error) => Err(error),
            },
        };
        match result {
            Err(error) if output::is_closed(&error) => return Err(error),
            Err(error) => terminal::error(&error),
            Ok(()) => {}
        }
    }
}

struct Chat<'a> {
    loaded: &'a mut Loaded,
    settings: Settings,
    conversation: Conversation,
    /// the last answer, for `/stats`
    last: Option<Answer>,
    n_answers: u64,
}

impl Chat<'_> {
    /// Sends a message and prints the answer. If there is none, the conversation is as it was.
    fn say(&mut self, text: String) -> Result<()> {
        self.conversation.push_user(text);
        let result = self.answer();
        if !matches!(result, Ok(true)) {
            self.conversation.pop_user();
        }
        result.map(drop)
    }

    /// Answers the last message; false if nothing was said.
    fn answer(&mut self) -> Result<bool> {
        interrupt::reset();
        let prompt = self.conversation.encode(self.loaded)?;
        let mut options = self.settings.options.clone();
        options.sampling.seed = options.sampling.seed.wrapping_add(self.n_answers);
        self.n_answers += 1;
        let mut output = Output::answer();
        let mut print = |text: &str| output.write_now(text);
        let notes = self.settings.notes;
        let mut speaker =
            Speaker { loaded: self.loaded, options: &options, notes, print: &mut print, after_prompt: None };
        let answer = speaker.answer(&mut self.conversation.sequence, &prompt)?;
        output.write_now(if answer.text.ends_with('\n') { "" } else { "\n" })?;
        if answer.end == End::Interrupted {
            note("[stopped]");
        }
        if notes != Notes::Few {
            note(&answer.line(self.loaded.cache.kv(), seed_to_tell(&options)));
        }
        if let Some(reason) = cut_off(&answer, &options) {
            note(&reason);
        }
        let has_text = !answer.text.is_empty();
        if has_text || answer.end != End::Interrupted {
            self.conversation.push_assistant(answer.text.clone());
        }
        let is_said = has_text || answer.end != End::Interrupted;
        self.last = Some(answer);
        Ok(is_said)
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Help => note_lines(HELP),
            Command::Clear => {
                self.conversation.clear();
                note("the conversation is forgotten");
            }
            Command::Retry => return self.retry(),
            Command::System(None) => {
                note_lines(self.conversation.system().unwrap_or("no system message"));
            }
            Command::System(Some(text)) => {
                self.loaded.check_system(&text)?;
                self.conversation.set_system(text);
                note("the system message is set, from the beginning of the conversation");
            }
            Command::Stats => self.stats(),
            Command::Save(path) => {
                let messages = self.conversation.messages().to_vec();
                let n_messages = messages.len();
                Saved { model: self.settings.model.clone(), messages }.write(&path)?;
                note(&format!("{n_messages} messages written to {}", path.display()));
            }
            Command::Load(path) => {
                let saved = Saved::read(&path)?;
                note(&format!("{} messages read from {}", saved.messages.len(), path.display()));
                self.conversation.set_messages(saved.messages);
            }
            Command::Exit => {}
        }
        Ok(())
    }

    fn retry(&mut self) -> Result<()> {
        let Some(old) = self.conversation.pop_assistant() else { bail!("there is no answer yet") };
        let result = self.answer();
        if !matches!(result, Ok(true)) {
            self.conversation.push_assistant(old);
        }
        result.map(drop)
    }

    fn stats(&self) {
        let (engine, cache) = (&self.loaded.engine, &self.loaded.cache);
        let (used, n_ctx) = (self.conversation.sequence.len(), cache.n_ctx());
        let kv_bytes = self.conversation.sequence.kv_bytes() as u64;
        note(&format!(
            "context {} of {} tokens ({:.0} %), KV cache {} ({}, {} B per token), weights {}, {} threads",
            units::grouped(used as u64),
            units::grouped(n_ctx as u64),
            100.0 * used as f64 / n_ctx as f64,
            units::bytes(kv_bytes),
            cache.kv(),
            units::grouped(cache.bytes_per_token() as u64),
            units::bytes(engine.weight_bytes() as u64),
            engine.n_threads(),
        ));
        if let Some(last) = &self.last {
            note(&format!("last answer: {}", last.line(self.loaded.cache.kv(), None)));
        }
    }
}
