//! The arguments of a call, checked: no host does it, so every mistake is told here, in words that teach.

use std::collections::BTreeMap;

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::{CHARS_DEFAULT, CHARS_MAX};
use super::tool::schema_of;
use crate::failure::{Failure, Kind, nearest_first_of};

/// Deepest nesting of arguments; nothing here needs more than a list in an object.
const DEPTH_MAX: usize = 16;

/// Fewest characters that an answer can be asked to have.
const CHARS_MIN: u64 = 200;

/// Reads the arguments of a tool.
///
/// # Errors
/// One is unknown, missing, or not what it must be.
pub(super) fn read<T: DeserializeOwned + rmcp::schemars::JsonSchema>(arguments: JsonObject) -> Result<T, Failure> {
    let schema = schema_of::<T>();
    let known: Vec<String> = match schema.get("properties") {
        Some(Value::Object(properties)) => properties.keys().cloned().collect(),
        _ => Vec::new(),
    };
    if let Some(unknown) = arguments.keys().find(|name| !known.contains(name)) {
        let words = format!("unknown argument '{}'", unknown.chars().take(80).collect::<String>());
        let hint = match nearest_first_of(unknown, &known) {
            names if names.is_empty() => "this tool takes no arguments".to_owned(),
            names => format!("this tool takes {}", names.join(", ")),
        };
        return Err(Failure::new(Kind::Usage, words).hint(hint));
    }
    if let Some(Value::Array(required)) = schema.get("required")
        && let Some(missing) = required.iter().filter_map(Value::as_str).find(|name| !arguments.contains_key(*name))
    {
        return Err(Failure::new(Kind::Usage, format!("the argument '{missing}' is missing"))
            .hint(format!("call again with {missing}")));
    }
    if arguments.values().any(|value| deeper_than(value, DEPTH_MAX)) {
        return Err(
            Failure::new(Kind::Usage, "the arguments are nested too deeply").hint("call again with plain values")
        );
    }
    // What is null was left out: some hosts fill in every argument they know.
    let mut given: JsonObject = arguments.into_iter().filter(|(_, value)| !value.is_null()).collect();
    for (name, value) in &mut given {
        let property = schema.get("properties").map_or(&Value::Null, |properties| &properties[name.as_str()]);
        if !fits(value, property) {
            let words = format!("the argument '{name}' is {}, expected {}", shown(value), expectation(property));
            return Err(Failure::new(Kind::Usage, words).hint("call again with such a value"));
        }
    }
    serde_json::from_value(Value::Object(given)).map_err(|error| {
        let words = format!("the arguments are not what they must be: {error}");
        Failure::new(Kind::Usage, words).hint("look at the tool's input schema and call again")
    })
}

/// Whether a value is what its schema says, as far as our schemas say anything. A whole number is one however it is
/// written.
fn fits(value: &mut Value, schema: &Value) -> bool {
    match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => {
            if let Some(number) = value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..1e15).contains(number))
                && !value.is_u64()
            {
                *value = Value::from(number as u64);
            }
            let within = |number: u64| {
                let (low, high) = range(schema);
                number >= low && high.is_none_or(|high| number <= high)
            };
            value.as_u64().is_some_and(within)
        }
        Some("array") => {
            value.as_array_mut().is_some_and(|values| values.iter_mut().all(|value| fits(value, &schema["items"])))
        }
        Some("object") => value
            .as_object_mut()
            .is_some_and(|object| object.values_mut().all(|value| fits(value, &schema["additionalProperties"]))),
        _ => true,
    }
}

/// What a value must be, in words.
fn expectation(schema: &Value) -> String {
    match schema["type"].as_str() {
        Some("string") => "a text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => match range(schema) {
            (low, Some(high)) => format!("a whole number from {low} to {high}"),
            (low, None) => format!("a whole number, {low} or more"),
        },
        Some("array") => "a list of texts".to_owned(),
        _ => "an object whose values are texts".to_owned(),
    }
}

fn range(schema: &Value) -> (u64, Option<u64>) {
    (schema["minimum"].as_u64().unwrap_or(0), schema["maximum"].as_u64())
}

/// A value, short enough to be shown.
fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn deeper_than(value: &Value, depth: usize) -> bool {
    if depth == 0 {
        return true;
    }
    match value {
        Value::Array(values) => values.iter().any(|value| deeper_than(value, depth - 1)),
        Value::Object(values) => values.values().any(|value| deeper_than(value, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Refuses a text that is longer than anything of its kind.
///
/// # Errors
/// It is.
pub(super) fn no_longer(name: &str, text: &str, bytes_max: usize, instead: &str) -> Result<(), Failure> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    let words = format!("the argument '{name}' has {} bytes, {bytes_max} are the most", text.len());
    Err(Failure::new(Kind::Usage, words).hint(instead))
}

/// Refuses a number that is out of its range.
///
/// # Errors
/// It is.
pub(super) fn within(name: &str, value: u64, low: u64, high: u64) -> Result<u64, Failure> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(Failure::new(Kind::Usage, format!("the argument '{name}' is {value}, expected {low} to {high}"))
        .hint("call again with a value in that range"))
}

/// Refuses a number of characters to answer with that is out of its range.
///
/// # Errors
/// It is.
pub(super) fn chars(value: usize) -> Result<usize, Failure> {
    within("max_chars", value as u64, CHARS_MIN, CHARS_MAX as u64)?;
    Ok(value)
}

/// Says that a text is no pattern, and why.
pub(super) fn no_pattern(name: &str, error: &regex::Error) -> Failure {
    let words = error.to_string();
    let words = words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Failure::new(Kind::Usage, format!("the argument '{name}' is no regular expression: {words}"))
        .hint("escape what is meant literally, and call again")
}

/// Variables as the guest takes them.
pub(super) fn variables(given: BTreeMap<String, String>) -> BTreeMap<String, Vec<u8>> {
    given.into_iter().map(|(name, value)| (name, value.into_bytes())).collect()
}

/// The directory that commands work in unless they are told another one.
pub(super) fn cwd_default() -> String {
    "/workspace".to_owned()
}

/// How many characters are answered unless more or fewer are asked for.
pub(super) fn chars_default() -> usize {
    CHARS_DEFAULT
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rmcp::schemars;
    use serde::Deserialize;
    use serde_json::json;

    use super::read;

    #[derive(Debug, Deserialize, rmcp::schemars::JsonSchema, PartialEq)]
    struct Arguments {
        workspace: String,
        #[schemars(range(min = 1, max = 9))]
        lines: Option<u32>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        paths: Vec<String>,
    }

    #[track_caller]
    fn check_refused(arguments: serde_json::Value, words: &str) {
        let told = read::<Arguments>(arguments.as_object().unwrap().clone()).unwrap_err().in_one_line();
        assert!(told.contains(words), "{told}");
    }

    #[test]
    fn mistakes_are_told_by_name() {
        check_refused(json!({"workspace": "a", "line": 1}), "unknown argument 'line'");
        check_refused(json!({"lines": 1}), "the argument 'workspace' is missing");
        for lines in [json!("x"), json!(-1), json!(1.5), json!(1e99), json!(true), json!([1])] {
            let words = format!("the argument 'lines' is {lines}, expected a whole number from 1 to 9");
            check_refused(json!({"workspace": "a", "lines": lines}), &words);
        }
        check_refused(json!({"workspace": "a", "lines": 10}), "'lines' is 10, expected a whole number from 1 to 9");
        check_refused(json!({"workspace": 7}), "the argument 'workspace' is 7, expected a text");
        check_refused(json!({"workspace": "x", "labels": {"a": 1}}), "expected an object whose values are texts");
        check_refused(json!({"workspace": "x", "paths": "a"}), "'paths' is \"a\", expected a list of texts");
        check_refused(json!({"workspace": "x", "paths": [["y".repeat(1000)]]}), "…, expected a list of texts");
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        check_refused(json!({"workspace": deep}), "nested too deeply");
    }

    #[test]
    fn what_is_null_was_left_out_and_a_whole_number_is_one_however_written() {
        let check = |lines: serde_json::Value, expected: Option<u32>| {
            let arguments = json!({"workspace": "a", "lines": lines});
            let read: Arguments = read(arguments.as_object().unwrap().clone()).unwrap();
            assert_eq!(read.lines, expected);
        };
        check(json!(null), None);
        check(json!(3), Some(3));
        check(json!(3.0), Some(3));
    }
}
