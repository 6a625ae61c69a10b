//! What is asked.

use serde_json::{Map, Value};

/// Choices of a question.
const CHOICES: std::ops::RangeInclusive<usize> = 2..=255;
/// Levels of a score.
const LEVELS: std::ops::RangeInclusive<usize> = 2..=10;

/// A question about an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// comes back with the answer
    pub name: Option<String>,
    /// what is asked
    pub instructions: String,
    /// which answers there are
    pub kind: Kind,
}

/// Which answers a question has.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// yes or no
    Predicate,
    /// one of several values
    Choice(Vec<Choice>),
    /// a level, from the lowest on
    Score(Vec<Level>),
}

/// A value that may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// a text or a boolean; the two are never the same
    pub value: Value,
    /// what it means
    pub description: Option<String>,
}

/// A level of a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// its name
    pub label: String,
    /// what it means
    pub description: Option<String>,
}

/// What is wrong with a question, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{problem}")]
pub struct QuestionError {
    /// the field, from the question on; empty: the question itself
    pub place: String,
    problem: String,
}

fn wrong<T>(place: impl Into<String>, problem: impl Into<String>) -> Result<T, QuestionError> {
    Err(QuestionError { place: place.into(), problem: format!(" {}", problem.into()) })
}

impl Question {
    /// Reads a question as the interface of decisions has it.
    ///
    /// # Errors
    /// A field is missing, wrong or unknown; there are too few or too many answers, or two that are the same.
    pub fn read(value: &Value) -> Result<Question, QuestionError> {
        let Some(fields) = value.as_object() else { return wrong("", "must be an object") };
        let (kind, own) = match fields.get("type").and_then(Value::as_str) {
            Some("predicate") => (Kind::Predicate, "instructions"),
            Some("choice") => (Kind::Choice(choices(fields)?), "choices"),
            Some("score") => (Kind::Score(levels(fields)?), "levels"),
            Some(other) => {
                return wrong(".type", format!("is `{other}`, but may be predicate, choice or score"));
            }
            None => return wrong(".type", "is missing: it is predicate, choice or score"),
        };
        known(fields, &["type", "name", "instructions", own], "")?;
        let instructions = match &fields.get("instructions") {
            Some(Value::Array(parts)) => parts
                .iter()
                .enumerate()
                .map(|(index, part)| instructions_part(part, &format!(".instructions[{index}]")))
                .collect::<Result<Vec<_>, _>>()?
                .join("\n"),
            _ => text(fields, "instructions", "")?.unwrap_or_default(),
        };
        if instructions.trim().is_empty() {
            return wrong(".instructions", "is missing or empty: it says what is asked");
        }
        Ok(Question { name: text(fields, "name", "")?, instructions, kind })
    }

    /// How many answers there are.
    pub fn n_answers(&self) -> usize {
        match &self.kind {
            Kind::Predicate => 2,
            Kind::Choice(choices) => choices.len(),
            Kind::Score(levels) => levels.len(),
        }
    }

    /// The question as the model reads it, with a label for each answer.
    pub fn text(&self, labels: &[String]) -> String {
        let asked = self.instructions.trim();
        let line = |(label, (name, description)): (&String, (String, &Option<String>))| match description {
            Some(description) => format!("{label}. {name}: {description}\n"),
            None => format!("{label}. {name}\n"),
        };
        match &self.kind {
            Kind::Predicate => format!("Is this true of the above? {asked}\nAnswer with Yes or No."),
            Kind::Choice(choices) => {
                let named = choices.iter().map(|choice| (spelled(&choice.value), &choice.description));
                let lines: String = labels.iter().zip(named).map(line).collect();
                format!("About the above: {asked}\n{lines}Answer with the letter only.")
            }
            Kind::Score(levels) => {
                let named = levels.iter().map(|level| (level.label.clone(), &level.description));
                let lines: String = labels.iter().zip(named).map(line).collect();
                format!("Rate the above: {asked}\n{lines}Answer with the number only.")
            }
        }
    }
}

/// A value as text.
fn spelled(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn known(fields: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), QuestionError> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => wrong(format!("{place}.{key}"), format!("is unknown: there are {}", known.join(", "))),
        None => Ok(()),
    }
}

fn text(fields: &Map<String, Value>, key: &str, place: &str) -> Result<Option<String>, QuestionError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => wrong(format!("{place}.{key}"), "must be a text"),
    }
}

fn instructions_part(part: &Value, place: &str) -> Result<String, QuestionError> {
    match (part["type"].as_str(), part["text"].as_str(), part.get("data")) {
        (Some("input_text"), Some(text), _) => Ok(text.to_string()),
        (Some("input_json"), _, Some(json)) => Ok(json.to_string()),
        (kind, ..) => {
            let kind = kind.unwrap_or("without a type");
            wrong(place, format!("is a part {kind}, but only text and JSON can be read"))
        }
    }
}

/// The fields of a list's entry, and where they are.
type Entry<'a> = (&'a Map<String, Value>, String);

/// The entries of a list.
fn entries<'a>(
    fields: &'a Map<String, Value>,
    key: &str,
    counts: &std::ops::RangeInclusive<usize>,
) -> Result<Vec<Entry<'a>>, QuestionError> {
    let place = format!(".{key}");
    let Some(list) = fields.get(key).and_then(Value::as_array) else {
        return wrong(place, "is missing, or no list");
    };
    if !counts.contains(&list.len()) {
        let (least, most) = (counts.start(), counts.end());
        return wrong(place, format!("has {} entries, but may have {least} to {most}", list.len()));
    }
    let entry = |(index, entry): (usize, &'a Value)| match entry.as_object() {
        Some(entry) => Ok((entry, format!("{place}[{index}]"))),
        None => wrong(format!("{place}[{index}]"), "must be an object"),
    };
    list.iter().enumerate().map(entry).collect()
}

fn choices(fields: &Map<String, Value>) -> Result<Vec<Choice>, QuestionError> {
    let mut choices: Vec<Choice> = Vec::new();
    for (entry, place) in entries(fields, "choices", &CHOICES)? {
        known(entry, &["value", "description"], &place)?;
        let value = match entry.get("value") {
            Some(value @ (Value::String(_) | Value::Bool(_))) => value.clone(),
            _ => return wrong(format!("{place}.value"), "must be a text or a boolean"),
        };
        if choices.iter().any(|other| other.value == value) {
            return wrong(format!("{place}.value"), format!("is {value}, which was there before"));
        }
        choices.push(Choice { value, description: text(entry, "description", &place)? });
    }
    Ok(choices)
}

fn levels(fields: &Map<String, Value>) -> Result<Vec<Level>, QuestionError> {
    let mut levels: Vec<Level> = Vec::new();
    for (entry, place) in entries(fields, "levels", &LEVELS)? {
        known(entry, &["label", "description"], &place)?;
        let Some(label) = text(entry, "label", &place)? else {
            return wrong(format!("{place}.label"), "is missing");
        };
        if levels.iter().any(|other| other.label == label) {
            return wrong(format!("{place}.label"), format!("is `{label}`, which was there before"));
        }
        levels.push(Level { label, description: text(entry, "description", &place)? });
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_is_told_with_its_labels() {
        let choice = json!({"type": "choice", "name": "topic", "instructions": "Which topic?", "choices": [
            {"value": "billing", "description": "money"}, {"value": true}
        ]});
        let question = Question::read(&choice).unwrap();
        let labels = ["A".to_string(), "B".to_string()];
        assert_eq!(
            question.text(&labels),
            "About the above: Which topic?\nA. billing: money\nB. true\nAnswer with the letter only."
        );
        let score = json!({"type": "score", "instructions": "How angry?", "levels": [{"label": "calm"}, {"label": "angry"}]});
        assert!(Question::read(&score).unwrap().text(&labels).contains("A. calm\nB. angry\n"));
        let parts =
            json!([{"type": "input_text", "text": "It says"}, {"type": "input_json", "data": {"a": 1}}]);
        let predicate = Question::read(&json!({"type": "predicate", "instructions": parts})).unwrap();
        assert_eq!((predicate.instructions.as_str(), predicate.n_answers()), ("It says\n{\"a\":1}", 2));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let two = json!([{"value": "a"}, {"value": "b"}]);
        for (value, wanted) in [
            (json!("x"), "must be an object"),
            (json!({"instructions": "x"}), ".type is missing"),
            (json!({"type": "guess", "instructions": "x"}), ".type is `guess`"),
            (json!({"type": "predicate"}), ".instructions is missing"),
            (json!({"type": "predicate", "instructions": " "}), ".instructions is missing or empty"),
            (json!({"type": "predicate", "instructions": 3}), ".instructions must be a text"),
            (json!({"type": "predicate", "instructions": "x", "choices": two}), ".choices is unknown"),
            (json!({"type": "choice", "instructions": "x"}), ".choices is missing"),
            (json!({"type": "choice", "instructions": "x", "choices": [{"value": "a"}]}), "has 1 entries"),
            (
                json!({"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": "a"}]}),
                ".choices[1].value is \"a\", which was there before",
            ),
            (
                json!({"type": "choice", "instructions": "x", "choices": [{"value": 1}, {"value": 2}]}),
                ".choices[0].value must",
            ),
            (
                json!({"type": "score", "instructions": "x", "levels": [{"label": "a"}, {"label": "b", "weight": 2}]}),
                ".levels[1].weight is unknown",
            ),
        ] {
            let error = Question::read(&value).unwrap_err().to_string();
            assert!(error.contains(wanted), "{value}: {error}");
        }
        // A text and a boolean of the same spelling are two values.
        let both =
            json!({"type": "choice", "instructions": "x", "choices": [{"value": "true"}, {"value": true}]});
        assert!(Question::read(&both).is_ok());
    }
}
