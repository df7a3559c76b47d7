//! What is written of a shell: `shell.json` in its directory, beside its transcript.
//!
//! Its supervisor writes it when the shell is opened and when it ends. Versions as in [`super::environment_record`].

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::atomic;
use super::home::WorkspaceDir;
use super::workspace_record::Origin;

/// The version of [`ShellRecord`] that is written.
pub const SHELL_RECORD_VERSION: u32 = 1;

/// Names a shell within its workspace: `s1`, `s2`, …; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShellId(pub u64);

/// What is no id of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a shell is called s1, s2 and so on")]
pub struct NoShellId;

/// A shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellRecord {
    /// Version of this format.
    pub version: u32,
    /// Its number.
    pub id: ShellId,
    /// Where it began to work.
    pub cwd: String,
    /// Lines of its terminal.
    pub rows: u16,
    /// Columns of its terminal.
    pub cols: u16,
    /// When it was opened, milliseconds since 1970.
    pub opened_at_ms: u64,
    /// Who opened it.
    #[serde(default)]
    pub by: Origin,
    /// How it ended; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ShellEndRecord>,
}

/// The end of a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellEndRecord {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// How.
    pub how: ShellEnd,
}

/// How a shell ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellEnd {
    /// It exited with this code.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
    /// Its machine ended under it.
    Gone {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for ShellId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s{}", self.0)
    }
}

impl FromStr for ShellId {
    type Err = NoShellId;

    fn from_str(word: &str) -> Result<Self, NoShellId> {
        let digits = word.strip_prefix('s').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or(NoShellId)
    }
}

/// Reads what is written of one.
///
/// # Errors
/// There is none, or it is no record.
pub fn read(dir: &WorkspaceDir, id: ShellId) -> io::Result<ShellRecord> {
    Ok(serde_json::from_slice(&std::fs::read(dir.shell_record(id))?)?)
}

/// Writes it.
///
/// # Errors
/// As the system calls.
pub fn write(dir: &WorkspaceDir, record: &ShellRecord) -> io::Result<()> {
    atomic::write(&dir.shell_record(record.id), &serde_json::to_vec_pretty(record)?)
}

/// All that are written down, in order. One that is just being opened or closed is none.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &WorkspaceDir) -> io::Result<Vec<ShellRecord>> {
    let entries = match std::fs::read_dir(dir.shells()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let id = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(id.and_then(|id| read(dir, id).ok()));
    }
    found.sort_by_key(|record| record.id);
    Ok(found)
}

/// Number of the last shell that was opened; 0 if none was.
///
/// # Errors
/// The file cannot be read, or holds no number.
pub fn last(dir: &WorkspaceDir) -> io::Result<u64> {
    match std::fs::read_to_string(dir.shells_last()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        text => text?.trim().parse().map_err(io::Error::other),
    }
}

/// Notes the number of the shell that is opened next.
///
/// # Errors
/// As the system calls.
pub fn note_last(dir: &WorkspaceDir, number: u64) -> io::Result<()> {
    super::home::create_private_dir(&dir.shells())?;
    atomic::write(&dir.shells_last(), format!("{number}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{ShellId, ShellRecord, last, list, note_last, write};
    use crate::home::{Home, create_private_dir};

    #[test]
    fn ids_are_words() {
        for (word, id) in [("s1", Some(1)), ("s20", Some(20)), ("1", None), ("s", None), ("s+1", None), ("s-1", None)] {
            assert_eq!(word.parse().ok(), id.map(ShellId), "{word}");
        }
        assert_eq!(ShellId(3).to_string(), "s3");
    }

    #[test]
    fn saved_records_stay_readable() {
        let text = include_str!("../fixtures/shell-v1.json");
        let record: ShellRecord = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&record).unwrap(), text.trim_end());
    }

    #[test]
    fn what_is_written_down_is_listed_in_order() {
        let home = tempfile::tempdir().unwrap();
        let dir = Home::new(home.path(), home.path()).workspace("0123456789ab");
        assert_eq!((list(&dir).unwrap().len(), last(&dir).unwrap()), (0, 0));
        let record: ShellRecord = serde_json::from_str(include_str!("../fixtures/shell-v1.json")).unwrap();
        for number in [10, 9] {
            let id = ShellId(number);
            note_last(&dir, number).unwrap();
            create_private_dir(&dir.shell(id)).unwrap();
            write(&dir, &ShellRecord { id, ..record.clone() }).unwrap();
        }
        create_private_dir(&dir.shell(ShellId(11))).unwrap();
        assert_eq!(list(&dir).unwrap().iter().map(|one| one.id.0).collect::<Vec<_>>(), [9, 10]);
        assert_eq!(last(&dir).unwrap(), 9);
    }
}
