//! Another chat template than the model's, and variables for it.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use lossy_tokenizer::{BUILT_IN_TEMPLATES, ChatTemplate};
use serde_json::{Map, Value};

use crate::loaded::{Loaded, in_file};

/// Variables that are the conversation's.
const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// How messages become a prompt.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prompt")]
pub struct TemplateArgs {
    /// Uses this chat template in place of the model's: a file in Jinja, or chatml, gemma, llama2, llama3, mistral, phi3,
    /// vicuna or zephyr
    #[arg(long, value_name = "NAME|FILE")]
    chat_template: Option<String>,

    /// Variables for the chat template as a JSON object, such as {"enable_thinking": false}
    #[arg(long, value_name = "JSON", value_parser = variables)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

fn variables(json: &str) -> Result<Map<String, Value>, String> {
    let variables: Map<String, Value> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    match RESERVED.iter().find(|name| variables.contains_key(**name)) {
        Some(name) => Err(format!("`{name}` comes from the conversation and cannot be set")),
        None => Ok(variables),
    }
}

impl TemplateArgs {
    /// Gives both to a model.
    ///
    /// # Errors
    /// A name that is neither a template's nor a file's, or a template that cannot be parsed.
    pub fn apply(self, loaded: &mut Loaded) -> Result<()> {
        loaded.template_variables = self.chat_template_kwargs.unwrap_or_default();
        let Some(name) = self.chat_template else { return Ok(()) };
        let template = match ChatTemplate::built_in(&name) {
            Some(source) => loaded.engine.source().chat_template_of(source)?,
            None => {
                let path = Path::new(&name);
                let known = BUILT_IN_TEMPLATES.map(|(name, _)| name).join(", ");
                let source = std::fs::read_to_string(path)
                    .with_context(|| format!("--chat-template {name}: neither one of {known}, nor a file"))?;
                loaded.engine.source().chat_template_of(&source).map_err(in_file(path))?
            }
        };
        loaded.use_template(template);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_an_object_without_the_conversations_own() {
        assert_eq!(variables(r#"{"enable_thinking": false}"#).unwrap()["enable_thinking"], false);
        assert!(variables("[1]").is_err() && variables("{").is_err());
        assert!(variables(r#"{"messages": []}"#).unwrap_err().contains("`messages`"));
    }
}
