//! A response as it comes: items that open, grow and close, each step an event.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::output::{ContentPart, Item, ResponseObject, Status};
use super::tools::custom_input;
use crate::app::App;
use crate::conversation::{Answer, EndReason, Piece, TokenLogprobs};
use crate::http::stream::{Render, named};
use crate::request::unique;
use crate::work::Event;

/// An event of a stream.
#[derive(Serialize)]
#[serde(untagged)]
enum Change<'a> {
    Response {
        response: &'a ResponseObject,
    },
    Item {
        output_index: usize,
        item: &'a Item,
    },
    Part {
        item_id: &'a str,
        output_index: usize,
        content_index: usize,
        part: &'a ContentPart,
    },
    Text {
        item_id: &'a str,
        output_index: usize,
        content_index: usize,
        #[serde(flatten)]
        text: Words<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<&'a [TokenLogprobs]>,
    },
    Call {
        item_id: &'a str,
        output_index: usize,
        #[serde(flatten)]
        text: Words<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
    },
}

/// The text that an event carries.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Words<'a> {
    Delta(&'a str),
    Text(&'a str),
    Arguments(&'a str),
    Input(&'a str),
}

/// Makes events of an answer, and a response of all of them.
pub struct ResponseStream {
    app: Arc<App>,
    answer: Answer,
    /// names of tools whose input is text
    custom: BTreeSet<String>,
    /// the response so far
    pub response: ResponseObject,
    /// the last item goes on
    is_open: bool,
    has_begun: bool,
    n_sent: u64,
    /// white space that begins a message, if more than that comes
    space: String,
    /// of tokens whose text has not come yet
    logprobs: Vec<TokenLogprobs>,
}

impl ResponseStream {
    /// Nothing has come yet.
    pub fn new(
        app: Arc<App>,
        response: ResponseObject,
        answer: Answer,
        custom: BTreeSet<String>,
    ) -> ResponseStream {
        ResponseStream {
            app,
            answer,
            custom,
            response,
            is_open: false,
            has_begun: false,
            n_sent: 0,
            space: String::new(),
            logprobs: Vec::new(),
        }
    }

    fn begin(&mut self, events: &mut Vec<String>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            for name in ["response.created", "response.in_progress"] {
                events.push(tell(&mut self.n_sent, name, Change::Response { response: &self.response }));
            }
        }
    }

    fn take(&mut self, pieces: Vec<Piece>, events: &mut Vec<String>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text(text, events),
                Piece::Thinking(text) => self.thinking(&text, events),
                Piece::CallBegins { id, name, .. } => {
                    self.close(Status::Completed, events);
                    let status = Status::InProgress;
                    let item = match self.custom.contains(&name) {
                        true => {
                            let (own, input) = (unique("ctc_"), String::new());
                            Item::CustomToolCall { id: own, call_id: id, name, input, status }
                        }
                        false => {
                            let (own, arguments) = (unique("fc_"), String::new());
                            Item::FunctionCall { id: own, call_id: id, name, arguments, status }
                        }
                    };
                    self.open(item, events);
                }
                Piece::CallArguments { text, .. } => self.arguments(&text, events),
                Piece::CallEnds { .. } => self.close(Status::Completed, events),
            }
        }
    }

    fn open(&mut self, item: Item, events: &mut Vec<String>) {
        let output_index = self.response.output.len();
        self.logprobs.retain(|_| matches!(item, Item::Message { .. }));
        self.space.clear();
        events.push(tell(
            &mut self.n_sent,
            "response.output_item.added",
            Change::Item { output_index, item: &item },
        ));
        self.response.output.push(item);
        self.is_open = true;
        // Content comes in parts; ours has one.
        let part = match &mut self.response.output[output_index] {
            Item::Message { id, content, .. } => {
                content.push(ContentPart::OutputText {
                    text: String::new(),
                    annotations: Vec::new(),
                    logprobs: Vec::new(),
                });
                Some((id, &content[0]))
            }
            Item::Reasoning { id, content, .. } => {
                content.push(ContentPart::ReasoningText { text: String::new() });
                Some((id, &content[0]))
            }
            Item::FunctionCall { .. } | Item::CustomToolCall { .. } => None,
        };
        if let Some((item_id, part)) = part {
            let change = Change::Part { item_id, output_index, content_index: 0, part };
            events.push(tell(&mut self.n_sent, "response.content_part.added", change));
        }
    }

    fn text(&mut self, new: String, events: &mut Vec<String>) {
        let is_message = matches!(self.response.output.last(), Some(Item::Message { .. }));
        if !(self.is_open && is_message) {
            // Models put empty lines between thinking, text and calls: they are no message.
            self.space.push_str(&new);
            if self.space.trim().is_empty() {
                return;
            }
            let text = std::mem::take(&mut self.space);
            self.close(Status::Completed, events);
            self.message(&text, events);
            return;
        }
        self.more(&new, events);
    }

    /// Opens a message that begins with `text`.
    fn message(&mut self, text: &str, events: &mut Vec<String>) {
        let (id, role, status) = (unique("msg_"), "assistant", Status::InProgress);
        self.open(Item::Message { id, role, content: Vec::new(), status }, events);
        self.more(text, events);
    }

    fn thinking(&mut self, new: &str, events: &mut Vec<String>) {
        let is_thinking = matches!(self.response.output.last(), Some(Item::Reasoning { .. }));
        if !(self.is_open && is_thinking) {
            self.close(Status::Completed, events);
            let (id, status) = (unique("rs_"), Status::InProgress);
            self.open(Item::Reasoning { id, summary: Vec::new(), content: Vec::new(), status }, events);
        }
        self.more(new, events);
    }

    /// More text of the message or the thinking that is open.
    fn more(&mut self, new: &str, events: &mut Vec<String>) {
        let output_index = self.response.output.len().saturating_sub(1);
        let new_logprobs = std::mem::take(&mut self.logprobs);
        let (item_id, content) = match self.response.output.last_mut() {
            Some(Item::Message { id, content, .. } | Item::Reasoning { id, content, .. }) => (id, content),
            _ => return,
        };
        let (name, logprobs) = match content.first_mut() {
            Some(ContentPart::OutputText { text, logprobs, .. }) => {
                text.push_str(new);
                logprobs.extend_from_slice(&new_logprobs);
                ("response.output_text.delta", Some(&new_logprobs[..]))
            }
            Some(ContentPart::ReasoningText { text }) => {
                text.push_str(new);
                ("response.reasoning_text.delta", None)
            }
            None => return,
        };
        let text = Words::Delta(new);
        let change = Change::Text { item_id, output_index, content_index: 0, text, logprobs };
        events.push(tell(&mut self.n_sent, name, change));
    }

    fn arguments(&mut self, new: &str, events: &mut Vec<String>) {
        let output_index = self.response.output.len().saturating_sub(1);
        match self.response.output.last_mut() {
            Some(Item::FunctionCall { id, arguments, .. }) => {
                arguments.push_str(new);
                let change = Change::Call { item_id: id, output_index, text: Words::Delta(new), name: None };
                events.push(tell(&mut self.n_sent, "response.function_call_arguments.delta", change));
            }
            // Its text is inside of JSON: it is told when it is whole.
            Some(Item::CustomToolCall { input, .. }) => input.push_str(new),
            _ => {}
        }
    }

    /// Ends the item that is open.
    fn close(&mut self, status: Status, events: &mut Vec<String>) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let (n_sent, output_index) = (&mut self.n_sent, self.response.output.len().saturating_sub(1));
        let Some(item) = self.response.output.last_mut() else { return };
        match item {
            Item::Message { id: item_id, content, status: own, .. }
            | Item::Reasoning { id: item_id, content, status: own, .. } => {
                *own = status;
                for part in content.iter() {
                    let (name, text, logprobs) = match part {
                        ContentPart::OutputText { text, logprobs, .. } => {
                            ("response.output_text.done", text, Some(&logprobs[..]))
                        }
                        ContentPart::ReasoningText { text } => ("response.reasoning_text.done", text, None),
                    };
                    let text = Words::Text(text);
                    let change = Change::Text { item_id, output_index, content_index: 0, text, logprobs };
                    events.push(tell(n_sent, name, change));
                    let change = Change::Part { item_id, output_index, content_index: 0, part };
                    events.push(tell(n_sent, "response.content_part.done", change));
                }
            }
            Item::FunctionCall { id: item_id, name, arguments, status: own, .. } => {
                *own = status;
                let (text, name) = (Words::Arguments(arguments), Some(name.as_str()));
                let change = Change::Call { item_id, output_index, text, name };
                events.push(tell(n_sent, "response.function_call_arguments.done", change));
            }
            Item::CustomToolCall { id: item_id, input, status: own, .. } => {
                *own = status;
                *input = custom_input(input);
                for (name, text) in [
                    ("response.custom_tool_call_input.delta", Words::Delta(input)),
                    ("response.custom_tool_call_input.done", Words::Input(input)),
                ] {
                    events.push(tell(n_sent, name, Change::Call { item_id, output_index, text, name: None }));
                }
            }
        }
        events.push(tell(n_sent, "response.output_item.done", Change::Item { output_index, item }));
    }

    /// Tells the end, if it has come.
    fn finish(&mut self, events: &mut Vec<String>) {
        let Some(end) = self.answer.end.clone() else { return };
        let is_cut = end.reason == EndReason::Length;
        self.close(if is_cut { Status::Incomplete } else { Status::Completed }, events);
        let says_nothing = !self.response.output.iter().any(|item| !matches!(item, Item::Reasoning { .. }));
        if says_nothing && (!is_cut || !self.space.is_empty()) {
            // An answer that is empty, or white space, is a message all the same.
            let text = std::mem::take(&mut self.space);
            self.message(&text, events);
            self.close(Status::Completed, events);
        }
        self.response.end(&end, self.answer.n_thinking);
        let name = if is_cut { "response.incomplete" } else { "response.completed" };
        events.push(tell(&mut self.n_sent, name, Change::Response { response: &self.response }));
    }
}

/// The text of an event, with its name and number.
fn tell(n_sent: &mut u64, name: &'static str, change: Change) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        r#type: &'static str,
        sequence_number: u64,
        #[serde(flatten)]
        change: Change<'a>,
    }
    let sequence_number = *n_sent;
    *n_sent += 1;
    named(name, &Told { r#type: name, sequence_number, change })
}

impl Render for ResponseStream {
    fn event(&mut self, _: usize, event: Event) -> Vec<String> {
        let mut events = Vec::new();
        self.begin(&mut events);
        match event {
            Event::Failed(error) => {
                self.close(Status::Incomplete, &mut events);
                self.response.fail(&error);
                let change = Change::Response { response: &self.response };
                events.push(tell(&mut self.n_sent, "response.failed", change));
            }
            event => {
                let from = self.answer.logprobs.len();
                let pieces = self.answer.event(&self.app.served.tokenizer, event);
                self.logprobs.extend_from_slice(&self.answer.logprobs[from..]);
                self.take(pieces, &mut events);
                self.finish(&mut events);
            }
        }
        events
    }

    fn heartbeat(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        if self.has_begun {
            let change = Change::Response { response: &self.response };
            events.push(tell(&mut self.n_sent, "response.in_progress", change));
        }
        self.begin(&mut events);
        events
    }

    fn is_done(&self) -> bool {
        self.response.status() != Status::InProgress
    }

    fn end(&mut self) -> Vec<String> {
        Vec::new()
    }
}
