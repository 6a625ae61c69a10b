//! `/commands` of the chat.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// What a line that begins with a slash asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Clear,
    Retry,
    System(Option<String>),
    Stats,
    Save(PathBuf),
    Load(PathBuf),
    Exit,
}

impl Command {
    /// `None` if the text is a message: it does not begin with a slash and a word, as `/etc/hosts is empty` does not.
    pub fn parse(text: &str) -> Result<Option<Command>> {
        let Some(rest) = text.trim().strip_prefix('/') else { return Ok(None) };
        let (word, argument) = match rest.split_once(char::is_whitespace) {
            Some((word, argument)) => (word, argument.trim()),
            None => (rest, ""),
        };
        if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphabetic() || c == '?') {
            return Ok(None);
        }
        let file = || match argument {
            "" => bail!("/{word} needs the name of a file"),
            _ => Ok(from_home(argument)),
        };
        let command = match word {
            "help" | "?" => Command::Help,
            "clear" => Command::Clear,
            "retry" => Command::Retry,
            "system" => Command::System((!argument.is_empty()).then(|| argument.to_string())),
            "stats" => Command::Stats,
            "save" => Command::Save(file()?),
            "load" => Command::Load(file()?),
            "exit" | "quit" | "bye" => Command::Exit,
            _ => bail!("/{word} is not a command; /help lists them"),
        };
        Ok(Some(command))
    }
}

/// `~/x` is in the home directory, as a shell has it.
fn from_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_arguments_with_spaces() {
        assert_eq!(
            Command::parse("/save my talk.json ").unwrap(),
            Some(Command::Save("my talk.json".into()))
        );
        assert_eq!(
            Command::parse("/system Be\nbrief.").unwrap(),
            Some(Command::System(Some("Be\nbrief.".into())))
        );
        assert_eq!(Command::parse("/system").unwrap(), Some(Command::System(None)));
        assert_eq!(Command::parse("/?").unwrap(), Some(Command::Help));
    }

    #[test]
    fn a_path_or_a_double_slash_is_a_message() {
        for text in ["/etc/hosts is empty", "//help", "hello /help", "/ or \\?", "a/b"] {
            assert_eq!(Command::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_command_or_a_missing_file_is_an_error() {
        assert!(Command::parse("/frobnicate").unwrap_err().to_string().contains("/help"));
        assert!(Command::parse("/load").unwrap_err().to_string().contains("file"));
    }
}
