//! Renders chat templates that stand on standard input, one request in JSON a line, for `tools/compare_templates.py`:
//!
//! `{"template": …, "special_tokens": {…}, "messages": […], "tools": […], "extra": {…}, "add_generation_prompt": true}`
//!
//! Every answer is a line: `{"prompt": …}` or `{"error": …}`.

use std::io::{BufRead, Write, stdin, stdout};

use lossy_tokenizer::{ChatTemplate, Message, RenderOptions};
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = match render(&request) {
            Ok(prompt) => json!({"prompt": prompt}),
            Err(error) => json!({"error": error.to_string()}),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn render(request: &Value) -> Result<String, Box<dyn std::error::Error>> {
    let special_tokens: Map<String, Value> = serde_json::from_value(request["special_tokens"].clone())?;
    let special_tokens: Vec<(String, String)> = special_tokens
        .into_iter()
        .filter_map(|(name, token)| Some((name, token.as_str()?.to_string())))
        .collect();
    let messages: Vec<Message> = serde_json::from_value(request["messages"].clone())?;
    let options = RenderOptions {
        add_generation_prompt: request["add_generation_prompt"].as_bool().unwrap_or(false),
        tools: request["tools"].as_array().cloned().unwrap_or_default(),
        extra: request["extra"].as_object().cloned().unwrap_or_default(),
    };
    let template = ChatTemplate::new(request["template"].as_str().unwrap_or_default(), &special_tokens)?;
    Ok(template.render(&messages, &options)?)
}
