//! Changes of a configuration that can be taken back: what is put in, and what of it is still there to be taken out.

use pyro_engine::store::host_record::HostChange;
use serde_json::Value;

use super::document::{Blocked, Document};

/// Something that is to be in a configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edit {
    /// This value, at the end of these keys.
    Set { path: Vec<String>, value: Value },
    /// This word in the list at the end of these keys.
    Include { path: Vec<String>, word: &'static str },
}

impl Edit {
    /// Whether it is so.
    pub(super) fn holds(&self, document: &Document) -> bool {
        match self {
            Self::Set { path, value } => document.value(path).as_ref() == Some(value),
            Self::Include { path, word } => lists(document, path, &Value::from(*word)),
        }
    }

    /// Makes it so. What that takes is added to `changes`, unless an earlier change of the same place is in it already:
    /// that one knows what was there at first.
    pub(super) fn apply(&self, document: &mut Document, changes: &mut Vec<HostChange>) -> Result<(), Blocked> {
        if self.holds(document) {
            return Ok(());
        }
        let change = match self {
            Self::Set { path, value } => {
                let made_parents = missing_parents(document, path);
                let before = document.value(path);
                document.set(path, value)?;
                HostChange { path: path.clone(), put: value.clone(), before, listed: false, made_parents }
            }
            Self::Include { path, word } => {
                let mut made_parents = missing_parents(document, path);
                made_parents += usize::from(document.value(path).is_none());
                document.include(path, word)?;
                HostChange { path: path.clone(), put: (*word).into(), before: None, listed: true, made_parents }
            }
        };
        let same = |known: &&mut HostChange| !known.listed && !change.listed && known.path == change.path;
        match changes.iter_mut().find(same) {
            Some(known) => known.put = change.put,
            None => changes.push(change),
        }
        Ok(())
    }
}

/// Takes a change back, where what was put there is still there. Says whether it was.
pub(super) fn take_back(document: &mut Document, change: &HostChange) -> bool {
    if change.listed {
        if !lists(document, &change.path, &change.put) {
            return false;
        }
        document.exclude(&change.path, change.put.as_str().unwrap_or_default());
    } else {
        if document.value(&change.path).as_ref() != Some(&change.put) {
            return false;
        }
        match &change.before {
            // Where a value was, a value can be put.
            Some(before) => drop(document.set(&change.path, before)),
            None => document.unset(&change.path),
        }
    }
    remove_empty_parents(document, change);
    true
}

/// Removes the tables that were made for a change, as far as nothing else came into them.
pub(super) fn remove_empty_parents(document: &mut Document, change: &HostChange) {
    // A list counts as the first of the parents of its words.
    let above = change.path.len() - usize::from(!change.listed);
    for length in (1..=above).rev().take(change.made_parents) {
        let parent = &change.path[..length];
        if document.value(parent).is_some_and(|value| is_empty(&value)) {
            document.unset(parent);
        }
    }
}

fn lists(document: &Document, path: &[String], word: &Value) -> bool {
    document.value(path).is_some_and(|list| list.as_array().is_some_and(|words| words.contains(word)))
}

fn missing_parents(document: &Document, path: &[String]) -> usize {
    (1..path.len()).filter(|length| document.value(&path[..*length]).is_none()).count()
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::document::{Document, Format};
    use super::{Edit, take_back};

    fn path(words: &str) -> Vec<String> {
        words.split('.').map(str::to_owned).collect()
    }

    fn set(at: &str, value: serde_json::Value) -> Edit {
        Edit::Set { path: path(at), value }
    }

    fn include(at: &str, word: &'static str) -> Edit {
        Edit::Include { path: path(at), word }
    }

    /// Applies the edits, twice, and takes them back.
    #[track_caller]
    fn check(format: Format, text: &str, edits: &[Edit]) {
        let mut document = Document::parse(format, text).unwrap();
        let mut changes = Vec::new();
        for edit in edits.iter().chain(edits) {
            edit.apply(&mut document, &mut changes).unwrap();
        }
        assert!(edits.iter().all(|edit| edit.holds(&document)));
        let mut document = Document::parse(format, &document.text()).unwrap();
        for change in changes.iter().rev() {
            assert!(take_back(&mut document, change));
        }
        assert_eq!(document.text(), text);
    }

    #[test]
    fn all_is_taken_back_and_nothing_else() {
        let deny = [include("permissions.deny", "Bash"), include("permissions.deny", "Edit")];
        for text in [
            "{\n  \"model\": \"x\"\n}\n",
            "{\n  \"permissions\": {\n    \"deny\": [\"Bash\"]\n  }\n}\n",
            "{\n  \"permissions\": {\n    \"allow\": [\n      \"Read\"\n    ]\n  }\n}\n",
        ] {
            check(Format::Json, text, &deny);
        }
        let entry = set("mcp_servers.pyro", json!({"command": "pyro"}));
        let restrictions = [set("features.shell_tool", json!(false)), set("sandbox_mode", json!("read-only")), entry];
        for text in [
            "model = \"x\"\n",
            "# top\nsandbox_mode = \"workspace-write\" # mine\n\n[features]\nx = true\n",
            "[features]\nshell_tool = true\n\n[mcp_servers.a]\ncommand = \"b\"\n",
        ] {
            check(Format::Toml, text, &restrictions);
        }
    }

    #[test]
    fn what_its_user_changed_since_stays() {
        let mut document = Document::parse(Format::Json, "{\"permission\": {\"bash\": \"ask\"}}").unwrap();
        let mut changes = Vec::new();
        set("permission.bash", json!("deny")).apply(&mut document, &mut changes).unwrap();
        document.set(&path("permission.bash"), &json!("allow")).unwrap();
        assert!(!take_back(&mut document, &changes[0]));
        assert_eq!(document.value(&path("permission.bash")), Some(json!("allow")));
    }
}
