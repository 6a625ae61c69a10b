//! Questions in a file: JSON or CSV.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lossy_output::decision::Question;
use serde_json::{Map, Value, json};

use crate::text_file;

/// What separates choices and levels in a cell, and each from its description.
const NEXT: char = '|';
const MEANS: char = '=';

/// Reads the questions of a file; its name says what it is.
///
/// # Errors
/// It cannot be read, is neither JSON nor CSV, or has no questions; one is wrong, and is named by its number or line.
pub fn read(path: &Path) -> Result<Vec<Question>> {
    let text = text_file::read(path)?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let questions = match extension.to_ascii_lowercase().as_str() {
        "json" => of_json(&text),
        "csv" => of_csv(&text),
        other => bail!("{}: questions are in a file .json or .csv, not `.{other}`", path.display()),
    };
    let questions = questions.with_context(|| path.display().to_string())?;
    if questions.is_empty() {
        bail!("{}: there are no questions in it", path.display());
    }
    Ok(questions)
}

/// A list, or an object with a list `questions`, as requests of `/v1/decisions` have it.
fn of_json(text: &str) -> Result<Vec<Question>> {
    let value: Value = serde_json::from_str(text)?;
    let Some(list) = value.as_array().or_else(|| value["questions"].as_array()) else {
        bail!("there is neither a list of questions nor an object with `questions`")
    };
    let read = |(index, value): (usize, &Value)| {
        Question::read(value).map_err(|error| anyhow::anyhow!("questions[{index}]{error}"))
    };
    list.iter().enumerate().map(read).collect()
}

/// Columns `type`, `instructions`, and perhaps `name`, `choices`, `levels`.
fn of_csv(text: &str) -> Result<Vec<Question>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let columns = reader.headers()?.clone();
    for column in &columns {
        if !["type", "name", "instructions", "choices", "levels"].contains(&column) {
            bail!("column `{column}` is unknown: there are type, name, instructions, choices and levels");
        }
    }
    let mut questions = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut question = Map::new();
        for (column, cell) in columns.iter().zip(&record).filter(|(_, cell)| !cell.is_empty()) {
            let value = match column {
                "choices" => entries(cell, "value"),
                "levels" => entries(cell, "label"),
                _ => cell.into(),
            };
            question.insert(column.to_string(), value);
        }
        let read = Question::read(&Value::Object(question));
        questions.push(read.map_err(|error| anyhow::anyhow!("line {line}:{error}"))?);
    }
    Ok(questions)
}

/// `billing=money matters|technical|other` as the entries of a list.
fn entries(cell: &str, key: &str) -> Value {
    let entry = |text: &str| match text.split_once(MEANS) {
        Some((name, description)) => json!({key: name.trim(), "description": description.trim()}),
        None => json!({key: text.trim()}),
    };
    cell.split(NEXT).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_csv_say_the_same() {
        let json = r#"[{"type": "predicate", "name": "sea", "instructions": "It is about \"the sea\"."},
                       {"type": "choice", "instructions": "Which?", "choices": [{"value": "a", "description": "one"}, {"value": "b"}]},
                       {"type": "score", "instructions": "How?", "levels": [{"label": "low"}, {"label": "high"}]}]"#;
        let csv = "type,name,instructions,choices,levels\n\
                   predicate,sea,\"It is about \"\"the sea\"\".\",,\n\
                   choice,,Which?,a = one | b,\n\
                   score,,How?,,low|high\n";
        assert_eq!(of_json(json).unwrap(), of_csv(csv).unwrap());
        let object = format!("{{\"questions\": {json}}}");
        assert_eq!(of_json(&object).unwrap(), of_json(json).unwrap());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |result: Result<Vec<Question>>| format!("{:#}", result.unwrap_err());
        assert!(error(of_json("{}")).contains("questions"));
        assert!(
            error(of_json(r#"[{"type": "predicate"}]"#)).contains("questions[0].instructions is missing")
        );
        assert!(error(of_csv("type,question\n")).contains("column `question` is unknown"));
        let found = error(of_csv("type,instructions,choices\nchoice,Which?,a\n"));
        assert!(found.contains("line 2") && found.contains("has 1 entries"), "{found}");
    }
}
