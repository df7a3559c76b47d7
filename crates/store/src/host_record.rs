//! What is written of a change to a chat host's own configuration, so that it can be taken back and nothing else with it.
//!
//! There is one record for each configuration file that was changed. Versions as in [`super::workspace_record`]; the
//! fixture is under `crates/store/fixtures`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of [`HostRecord`] that is written.
pub const HOST_RECORD_VERSION: u32 = 1;

/// What was changed in one configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Version of this format.
    pub version: u32,
    /// The configuration file.
    pub file: PathBuf,
    /// It was not there before.
    #[serde(default)]
    pub made_file: bool,
    /// The changes, in the order in which they were made.
    #[serde(default)]
    pub changes: Vec<HostChange>,
}

/// One value that was put into a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostChange {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// What was put there.
    pub put: Value,
    /// What had been there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// It was put into the list at `path`, besides what else is in it.
    #[serde(default)]
    pub listed: bool,
    /// How many of the tables on the way, from the end, were not there before.
    #[serde(default)]
    pub made_parents: usize,
}

impl HostRecord {
    /// A record of a file in which nothing was changed yet.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { version: HOST_RECORD_VERSION, file, made_file: false, changes: Vec::new() }
    }

    /// Reads a record, if there is one.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or was written by a later pyro.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Self = serde_json::from_slice(&bytes)?;
        if record.version != HOST_RECORD_VERSION {
            let words = format!("it has version {}, this pyro knows {HOST_RECORD_VERSION}", record.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Some(record))
    }

    /// Writes the record, whole or not at all; one that says nothing is removed.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if self.changes.is_empty() && !self.made_file {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if let Some(parent) = path.parent() {
            super::home::create_private_dir(parent)?;
        }
        super::atomic::write(path, &serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::{HostChange, HostRecord};

    fn example() -> HostRecord {
        let mut record = HostRecord::new(PathBuf::from("/home/me/.claude/settings.json"));
        record.made_file = true;
        record.changes.push(HostChange {
            path: vec!["permissions".to_owned(), "deny".to_owned()],
            put: json!("Bash"),
            before: None,
            listed: true,
            made_parents: 2,
        });
        record
    }

    #[test]
    fn the_first_version_is_still_read() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/host-v1.json");
        assert_eq!(HostRecord::read(&fixture).unwrap(), Some(example()));
    }

    #[test]
    fn a_record_comes_back_and_an_empty_one_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts/one.json");
        assert_eq!(HostRecord::read(&path).unwrap(), None);
        example().write(&path).unwrap();
        assert_eq!(HostRecord::read(&path).unwrap(), Some(example()));
        HostRecord::new(PathBuf::from("/x")).write(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.json");
        std::fs::write(&path, r#"{"version": 2, "file": "/x"}"#).unwrap();
        assert!(HostRecord::read(&path).unwrap_err().to_string().contains("version 2"));
    }
}
