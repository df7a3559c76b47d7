//! A configuration as its user wrote it: values are read and changed in it, and comments, order and layout stay.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// The language a configuration is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON, with comments and trailing commas where there are some.
    Json,
    /// TOML.
    Toml,
}

/// A configuration that can be changed.
pub(super) enum Document {
    Json(CstRootNode),
    Toml(Box<DocumentMut>),
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Syntax {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// A key on the way to a value, which holds something else than it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocked {
    pub(super) key: String,
    pub(super) expected: &'static str,
}

impl Document {
    pub(super) fn parse(format: Format, text: &str) -> Result<Self, Syntax> {
        match format {
            Format::Json => parse_json(text).map(Self::Json),
            Format::Toml => parse_toml(text).map(|document| Self::Toml(Box::new(document))),
        }
    }

    /// The text with all changes.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Json(root) => root.to_string(),
            Self::Toml(document) => document.to_string(),
        }
    }

    /// The value at the end of these keys.
    pub(super) fn value(&self, path: &[String]) -> Option<Value> {
        match self {
            Self::Json(root) => {
                let Some((last, _)) = path.split_last() else { return root.to_serde_value() };
                json_parent(root, path)?.get(last)?.value()?.to_serde_value()
            }
            Self::Toml(document) => {
                let mut item = document.as_item();
                for key in path {
                    item = item.as_table_like()?.get(key)?;
                }
                toml_value(item)
            }
        }
    }

    /// Puts a value there, in place of what was there, and makes the tables on the way.
    pub(super) fn set(&mut self, path: &[String], value: &Value) -> Result<(), Blocked> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        match self {
            Self::Json(root) => {
                let mut object = root.object_value_or_set();
                for key in parents {
                    object = object.object_value_or_create(key).ok_or_else(|| blocked(key, "an object"))?;
                }
                match object.get(last) {
                    Some(property) => property.set_value(json_input(value)),
                    None => drop(object.append(last, json_input(value))),
                }
            }
            Self::Toml(document) => {
                let table = toml_parent(document, parents)?;
                let mut item = toml_item(value);
                // What is written beside a value, such as a comment, belongs to its key.
                if let (Some(new), Some(old)) = (item.as_value_mut(), table.get(last).and_then(Item::as_value)) {
                    *new.decor_mut() = old.decor().clone();
                }
                match table.get_mut(last) {
                    Some(there) => *there = item,
                    None => drop(table.insert(last, item)),
                }
            }
        }
        Ok(())
    }

    /// Puts a word at the end of the list that is there, or makes the list.
    pub(super) fn include(&mut self, path: &[String], word: &str) -> Result<(), Blocked> {
        let Some((last, _)) = path.split_last() else { return Ok(()) };
        if self.value(path).is_none() {
            return self.set(path, &Value::from(vec![word]));
        }
        let not_a_list = || blocked(last, "a list");
        match self {
            Self::Json(root) => {
                let list = json_parent(root, path).and_then(|object| object.array_value(last));
                drop(list.ok_or_else(not_a_list)?.append(CstInputValue::from(word)));
            }
            Self::Toml(document) => {
                let (last, parents) = path.split_last().ok_or_else(not_a_list)?;
                let list = toml_parent(document, parents)?.get_mut(last).and_then(Item::as_array_mut);
                list.ok_or_else(not_a_list)?.push(word);
            }
        }
        Ok(())
    }

    /// Takes a word out of the list that is there.
    pub(super) fn exclude(&mut self, path: &[String], word: &str) {
        let Some((last, parents)) = path.split_last() else { return };
        match self {
            Self::Json(root) => {
                let list = json_parent(root, path).and_then(|object| object.array_value(last));
                let elements = list.map(|list| list.elements()).unwrap_or_default();
                let found = elements.into_iter().find(|one| one.to_serde_value().is_some_and(|value| value == word));
                if let Some(element) = found {
                    element.remove();
                }
            }
            Self::Toml(document) => {
                let list = toml_parent(document, parents).ok().and_then(|table| table.get_mut(last));
                if let Some(list) = list.and_then(Item::as_array_mut) {
                    list.retain(|value| value.as_str() != Some(word));
                }
            }
        }
    }

    /// Takes away what is there.
    pub(super) fn unset(&mut self, path: &[String]) {
        let Some((last, parents)) = path.split_last() else { return };
        if self.value(path).is_none() {
            return;
        }
        match self {
            Self::Json(root) => {
                if let Some(property) = json_parent(root, path).and_then(|object| object.get(last)) {
                    property.remove();
                }
            }
            Self::Toml(document) => {
                if let Ok(table) = toml_parent(document, parents) {
                    table.remove(last);
                }
            }
        }
    }
}

fn blocked(key: &str, expected: &'static str) -> Blocked {
    Blocked { key: key.to_owned(), expected }
}

/// What hosts write by hand and by program is no more than JSON with comments and trailing commas.
fn json_options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn parse_json(text: &str) -> Result<CstRootNode, Syntax> {
    let root = CstRootNode::parse(text, &json_options())
        .map_err(|error| Syntax { line: error.line_display(), reason: error.kind().to_string() })?;
    if root.value().is_some() && root.object_value().is_none() {
        return Err(Syntax { line: 1, reason: "the whole must be an object".to_owned() });
    }
    Ok(root)
}

/// The object that holds the last of the keys.
fn json_parent(root: &CstRootNode, path: &[String]) -> Option<CstObject> {
    let (_, parents) = path.split_last()?;
    let mut object = root.object_value()?;
    for key in parents {
        object = object.object_value(key)?;
    }
    Some(object)
}

fn json_input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(truth) => CstInputValue::Bool(*truth),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(json_input).collect()),
        Value::Object(fields) => {
            CstInputValue::Object(fields.iter().map(|(key, value)| (key.clone(), json_input(value))).collect())
        }
    }
}

fn parse_toml(text: &str) -> Result<DocumentMut, Syntax> {
    text.parse().map_err(|error: toml_edit::TomlError| Syntax {
        line: error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
        reason: error.message().lines().next().unwrap_or("not TOML").to_owned(),
    })
}

/// The table at the end of these keys. It is made where it is not there, without a header of its own while it only holds
/// other tables.
fn toml_parent<'a>(document: &'a mut DocumentMut, path: &[String]) -> Result<&'a mut dyn TableLike, Blocked> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for key in path {
        let item = table.entry(key).or_insert_with(|| {
            let mut made = Table::new();
            made.set_implicit(true);
            Item::Table(made)
        });
        table = item.as_table_like_mut().ok_or_else(|| blocked(key, "a table"))?;
    }
    Ok(table)
}

fn toml_item(value: &Value) -> Item {
    match value {
        Value::Object(fields) => {
            let mut table = Table::new();
            for (key, value) in fields {
                table.insert(key, toml_item(value));
            }
            Item::Table(table)
        }
        Value::Array(items) => {
            let values = items.iter().filter_map(|item| toml_item(item).into_value().ok());
            Item::Value(values.collect::<toml_edit::Array>().into())
        }
        Value::Bool(truth) => toml_edit::value(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => toml_edit::value(whole),
            None => toml_edit::value(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => toml_edit::value(text.as_str()),
        Value::Null => Item::None,
    }
}

fn toml_value(item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(toml_plain(value)),
        Item::Table(table) => Some(toml_fields(table)),
        Item::ArrayOfTables(tables) => Some(tables.iter().map(|table| toml_fields(table)).collect()),
    }
}

fn toml_fields(table: &dyn TableLike) -> Value {
    table.iter().filter_map(|(key, item)| Some((key.to_owned(), toml_value(item)?))).collect()
}

fn toml_plain(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(truth) => (*truth.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(items) => items.iter().map(toml_plain).collect(),
        toml_edit::Value::InlineTable(table) => toml_fields(table),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Document, Format};

    fn path(words: &str) -> Vec<String> {
        words.split('.').map(str::to_owned).collect()
    }

    #[track_caller]
    fn check_set(format: Format, text: &str, at: &str, value: &Value, expected: &str) {
        let mut document = Document::parse(format, text).unwrap();
        document.set(&path(at), value).unwrap();
        assert_eq!(document.text(), expected);
        assert_eq!(document.value(&path(at)).as_ref(), Some(value));
    }

    #[test]
    fn json_keeps_comments_commas_and_layout() {
        let text = "{\n    // mine\n    \"theme\": \"x\", /* and this */\n    \"mcp\": {\"other\": {}},\n}\n";
        let expected = "{\n    // mine\n    \"theme\": \"x\", /* and this */\n    \"mcp\": {\n        \"other\": {},\n        \"pyro\": true\n    },\n}\n";
        check_set(Format::Json, text, "mcp.pyro", &json!(true), expected);
        check_set(Format::Json, "{}\n", "a.b", &json!(1), "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n");
    }

    #[test]
    fn toml_keeps_comments_and_order() {
        let text = "# mine\nmodel = \"x\" # this one\n\n[mcp_servers.other]\ncommand = \"y\"\n";
        let server = json!({"args": ["mcp", "serve"], "command": "pyro"});
        let expected = format!("{text}\n[mcp_servers.pyro]\nargs = [\"mcp\", \"serve\"]\ncommand = \"pyro\"\n");
        check_set(Format::Toml, text, "mcp_servers.pyro", &server, &expected);
        let changed = text.replace("\"x\"", "\"z\"");
        check_set(Format::Toml, text, "model", &json!("z"), &changed);
    }

    #[test]
    fn what_is_put_in_and_taken_away_leaves_no_trace() {
        let texts = [
            (Format::Json, "{\n  // why\n  \"a\": {\n    \"list\": [\"x\"]\n  }\n}\n"),
            (Format::Toml, "# why\n[a]\nlist = [\"x\"] # these\n"),
        ];
        for (format, text) in texts {
            let mut document = Document::parse(format, text).unwrap();
            document.include(&path("a.list"), "y").unwrap();
            assert_eq!(document.value(&path("a.list")), Some(json!(["x", "y"])));
            document.set(&path("a.b"), &json!("c")).unwrap();
            document.exclude(&path("a.list"), "y");
            document.unset(&path("a.b"));
            assert_eq!(document.text(), text);
        }
    }

    #[test]
    fn a_value_in_the_way_is_not_replaced() {
        for (format, text) in [(Format::Json, "{\"a\": \"allow\"}"), (Format::Toml, "a = \"allow\"\n")] {
            let mut document = Document::parse(format, text).unwrap();
            assert_eq!(document.set(&path("a.b"), &json!(1)).unwrap_err().key, "a");
            assert_eq!(document.include(&path("a"), "x").unwrap_err().key, "a");
            assert_eq!(document.text(), text);
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line() {
        let line = |format, text| Document::parse(format, text).err().map(|syntax| syntax.line);
        assert_eq!(line(Format::Json, "{\n  \"a\": 1,\n  \"b\": ?\n}"), Some(3));
        assert_eq!(line(Format::Json, "[1]"), Some(1));
        assert_eq!(line(Format::Toml, "a = 1\nb = \n"), Some(2));
        assert_eq!(line(Format::Json, ""), None);
        assert_eq!(line(Format::Toml, ""), None);
    }
}
