//! Metadata values as JSON.

use lossy_formats::gguf::{Array, Value as GgufValue};
use serde_json::Value;

/// Whole, with the file's own types; a number that JSON does not have (infinity) becomes text.
pub fn to_json(value: &GgufValue) -> Value {
    match value {
        GgufValue::U8(x) => (*x).into(),
        GgufValue::I8(x) => (*x).into(),
        GgufValue::U16(x) => (*x).into(),
        GgufValue::I16(x) => (*x).into(),
        GgufValue::U32(x) => (*x).into(),
        GgufValue::I32(x) => (*x).into(),
        GgufValue::U64(x) => (*x).into(),
        GgufValue::I64(x) => (*x).into(),
        GgufValue::F32(x) => float32(*x),
        GgufValue::F64(x) => float64(*x),
        GgufValue::Bool(x) => (*x).into(),
        GgufValue::String(text) => text.as_str().into(),
        GgufValue::Array(array) => elements(array),
    }
}

fn elements(array: &Array) -> Value {
    let elements = (0..array.len()).filter_map(|index| array.get(index));
    Value::Array(elements.map(|element| to_json(&element)).collect())
}

/// With the digits that a float32 needs: 0.1, not 0.10000000149.
fn float32(x: f32) -> Value {
    x.to_string().parse().map_or_else(|_| x.to_string().into(), float64)
}

fn float64(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or_else(|| x.to_string().into(), Value::Number)
}

/// A value on one line: texts and lists are cut, with their length.
pub fn to_line(value: &Value) -> String {
    const WIDTH: usize = 60;
    const N_ELEMENTS: usize = 6;
    match value {
        Value::String(text) if text.chars().count() > WIDTH => {
            let start: String = text.chars().take(WIDTH).collect();
            format!("{start:?}… ({} characters)", text.chars().count())
        }
        Value::Array(elements) if elements.len() > N_ELEMENTS => {
            let start: Vec<String> = elements.iter().take(N_ELEMENTS).map(to_line).collect();
            format!("[{}, …] ({} values)", start.join(", "), crate::units::grouped(elements.len() as u64))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float32_has_its_own_digits() {
        assert_eq!(to_json(&GgufValue::F32(0.1)).to_string(), "0.1");
        assert_eq!(to_json(&GgufValue::F32(f32::INFINITY)), Value::from("inf"));
    }

    #[test]
    fn long_values_are_cut_and_say_how_long_they_are() {
        assert_eq!(to_line(&(0..1000).collect()), "[0, 1, 2, 3, 4, 5, …] (1,000 values)");
        assert!(to_line(&"é".repeat(100).into()).ends_with("é\"… (100 characters)"));
        assert_eq!(to_line(&"a\nb".into()), "\"a\\nb\"");
    }
}
