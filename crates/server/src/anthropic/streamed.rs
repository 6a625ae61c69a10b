//! A message as it comes: blocks that open, grow and close, each step an event.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{ContentBlock, Diagnostics, MessageAnswer, MessageUsage, opened, stop, tool_use_id};
use super::error::MessagesErrorBody;
use crate::app::App;
use crate::conversation::{Answer, Piece};
use crate::http::stream::{Render, named};
use crate::work::{Admission, Event, Timings};

/// Makes events of an answer.
pub struct MessageStream {
    app: Arc<App>,
    answer: Answer,
    stops: Vec<String>,
    wants_diagnostics: bool,
    has_begun: bool,
    /// the block that is open, and how many there were
    open: Option<Kind>,
    n_blocks: usize,
    /// white space that begins a text, if more than that comes
    space: String,
    is_done: bool,
}

/// What a block is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Thinking,
    Text,
    Call,
}

#[derive(Serialize)]
struct Start<'a> {
    r#type: &'static str,
    message: &'a MessageAnswer,
}

impl MessageStream {
    /// Nothing has come yet.
    pub fn new(app: Arc<App>, answer: Answer, stops: Vec<String>, wants_diagnostics: bool) -> MessageStream {
        MessageStream {
            app,
            answer,
            stops,
            wants_diagnostics,
            has_begun: false,
            open: None,
            n_blocks: 0,
            space: String::new(),
            is_done: false,
        }
    }

    fn begin(&mut self, admission: &Admission, events: &mut Vec<String>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let (cache_n, n_prompt) = (admission.n_cached, admission.n_prompt);
        let timings = Timings { cache_n, prompt_n: n_prompt.saturating_sub(cache_n), ..Timings::default() };
        let diagnostics = self.wants_diagnostics.then(|| Diagnostics::of(admission.miss.as_ref(), n_prompt));
        let message = MessageAnswer::begun(&self.app.served.id, MessageUsage::of(&timings), diagnostics);
        events.push(named("message_start", &Start { r#type: "message_start", message: &message }));
    }

    fn take(&mut self, pieces: Vec<Piece>, events: &mut Vec<String>) {
        for piece in pieces {
            match piece {
                Piece::Thinking(text) => {
                    let block = ContentBlock::Thinking { thinking: String::new(), signature: String::new() };
                    self.open(Kind::Thinking, &block, events);
                    self.delta(json!({"type": "thinking_delta", "thinking": text}), events);
                }
                Piece::Text(mut text) => {
                    if self.open != Some(Kind::Text) {
                        // Models put empty lines between thinking, text and calls: they are no block.
                        self.space.push_str(&text);
                        if self.space.trim().is_empty() {
                            continue;
                        }
                        text = std::mem::take(&mut self.space);
                    }
                    self.text(&text, events);
                }
                Piece::CallBegins { id, name, .. } => {
                    self.close(events);
                    let block = ContentBlock::ToolUse { id: tool_use_id(&id), name, input: Map::new() };
                    self.open(Kind::Call, &block, events);
                }
                Piece::CallArguments { text, .. } => {
                    self.delta(json!({"type": "input_json_delta", "partial_json": text}), events);
                }
                Piece::CallEnds { .. } => self.close(events),
            }
        }
    }

    fn text(&mut self, text: &str, events: &mut Vec<String>) {
        self.open(Kind::Text, &ContentBlock::Text { text: String::new() }, events);
        self.delta(json!({"type": "text_delta", "text": text}), events);
    }

    /// Opens a block, unless one of its kind is open.
    fn open(&mut self, kind: Kind, block: &ContentBlock, events: &mut Vec<String>) {
        if self.open == Some(kind) {
            return;
        }
        self.close(events);
        self.space.clear();
        let index = self.n_blocks;
        let value = json!({"type": "content_block_start", "index": index, "content_block": opened(block)});
        events.push(named("content_block_start", &value));
        self.open = Some(kind);
        self.n_blocks += 1;
    }

    fn delta(&self, delta: Value, events: &mut Vec<String>) {
        let index = self.n_blocks.saturating_sub(1);
        let value = json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.push(named("content_block_delta", &value));
    }

    fn close(&mut self, events: &mut Vec<String>) {
        let Some(kind) = self.open.take() else { return };
        if kind == Kind::Thinking {
            self.delta(json!({"type": "signature_delta", "signature": ""}), events);
        }
        let value = json!({"type": "content_block_stop", "index": self.n_blocks.saturating_sub(1)});
        events.push(named("content_block_stop", &value));
    }

    /// Tells the end, if it has come.
    fn finish(&mut self, events: &mut Vec<String>) {
        let Some(end) = self.answer.end.clone() else { return };
        if self.n_blocks == 0 {
            let text = std::mem::take(&mut self.space);
            self.text(&text, events);
        }
        self.close(events);
        let (stop_reason, stop_sequence) = stop(&end, &self.stops);
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
        let usage = MessageUsage::of(&end.timings);
        let value = json!({"type": "message_delta", "delta": delta, "usage": usage, "timings": end.timings});
        events.push(named("message_delta", &value));
        events.push(named("message_stop", &json!({"type": "message_stop"})));
        self.is_done = true;
    }
}

impl Render for MessageStream {
    fn event(&mut self, _: usize, event: Event) -> Vec<String> {
        let mut events = Vec::new();
        match event {
            Event::Admitted(admission) => self.begin(&admission, &mut events),
            Event::Failed(error) => {
                events.push(named("error", &MessagesErrorBody::of(&error)));
                self.is_done = true;
            }
            event => {
                let pieces = self.answer.event(&self.app.served.tokenizer, event);
                self.take(pieces, &mut events);
                self.finish(&mut events);
            }
        }
        events
    }

    fn heartbeat(&mut self) -> Vec<String> {
        vec![named("ping", &json!({"type": "ping"}))]
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn end(&mut self) -> Vec<String> {
        Vec::new()
    }
}
