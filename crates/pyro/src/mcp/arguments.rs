//! The arguments of a call, checked: no host does it, so every mistake is told here, in words that teach.

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tool::schema_of;
use crate::failure::{Failure, Kind, nearest_first_of};

/// Deepest nesting of arguments; nothing here needs more than a list in an object.
const DEPTH_MAX: usize = 16;

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
    let given: JsonObject = arguments.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let names: Vec<String> = given.keys().cloned().collect();
    serde_json::from_value(Value::Object(given.clone())).map_err(|error| {
        // serde does not say which argument it was: the one that alone is wrong, too.
        let culprit = names.iter().find(|name| {
            let mut without = given.clone();
            without.remove(*name);
            let told = serde_json::from_value::<T>(Value::Object(without)).err().map(|error| error.to_string());
            told.is_none_or(|told| told.contains("missing field"))
        });
        let words = match culprit {
            Some(name) => format!("the argument '{name}' is not what it must be: {error}"),
            None => format!("the arguments are not what they must be: {error}"),
        };
        Failure::new(Kind::Usage, words).hint("look at the tool's input schema and call again")
    })
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

#[cfg(test)]
mod tests {
    use rmcp::schemars;
    use serde::Deserialize;
    use serde_json::json;

    use super::read;

    #[derive(Debug, Deserialize, rmcp::schemars::JsonSchema, PartialEq)]
    struct Arguments {
        workspace: String,
        #[serde(default)]
        lines: Option<u32>,
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
        check_refused(json!({"workspace": "a", "lines": "x"}), "the argument 'lines' is not what it must be");
        check_refused(json!({"workspace": 7}), "the argument 'workspace' is not what it must be");
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        check_refused(json!({"workspace": deep}), "nested too deeply");
    }

    #[test]
    fn what_is_null_was_left_out() {
        let arguments = json!({"workspace": "a", "lines": null});
        let read: Arguments = read(arguments.as_object().unwrap().clone()).unwrap();
        assert_eq!(read, Arguments { workspace: "a".into(), lines: None });
    }
}
