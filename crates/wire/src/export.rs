//! Export: a file or a directory of the guest, sent home.

use serde::{Deserialize, Serialize};

use crate::exec::Word;

/// Most entries of one export.
pub const EXPORT_ENTRIES_MAX: u64 = 1_000_000;

/// Directories inside each other that an export enters.
pub const EXPORT_DEPTH_MAX: usize = 256;

/// Most notes that name their path; the rest is only counted.
pub const EXPORT_NOTES_MAX: u64 = 100;

/// Sends a file, or a directory with all that is in it. Answers with lines of [`ExportLine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Absolute path; symbolic links to it are followed, those in it are sent as links.
    pub path: Word,
}

/// One line of the answer to [`Export`]: the thing itself, then what is in it, each directory before its own; then the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportLine {
    /// One entry. A file's content follows.
    Entry(ExportEntry),
    /// Something that is not sent, or not as it was.
    Note(ExportNote),
    /// The last line.
    End {
        /// How many notes there are, those that were not sent included.
        notes: u64,
    },
}

/// Something that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportEntry {
    /// Relative to what is exported; empty for that itself.
    pub path: Word,
    /// What it is.
    pub kind: ExportKind,
    /// The permission bits.
    pub mode: u32,
    /// When its content was last changed, nanoseconds since 1970-01-01 UTC.
    pub modified_unix_ns: i64,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// So many bytes follow.
        size_bytes: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: Word,
    },
}

/// Something that is not sent, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportNote {
    /// Relative to what is exported.
    pub path: Word,
    /// What it is.
    pub kind: ExportNoteKind,
}

/// What an [`ExportNote`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportNoteKind {
    /// A device, pipe or socket.
    Special,
    /// It could not be read, or went away.
    Unreadable,
    /// A file that became shorter while it was read; zeros stand for what was missing.
    Shrunk,
    /// A directory too deep inside others.
    TooDeep,
}

#[cfg(test)]
mod tests {
    use super::{ExportEntry, ExportKind, ExportLine, ExportNote, ExportNoteKind};

    #[track_caller]
    fn check(line: &ExportLine, json: &str) {
        assert_eq!(serde_json::to_string(line).expect("serialises"), json);
        assert_eq!(&serde_json::from_str::<ExportLine>(json).expect("parses"), line);
    }

    #[test]
    fn the_json_of_each_line_is_fixed() {
        let entry = |kind| ExportLine::Entry(ExportEntry { path: "x".into(), kind, mode: 0o644, modified_unix_ns: 5 });
        check(
            &entry(ExportKind::Directory),
            r#"{"entry":{"path":"x","kind":"directory","mode":420,"modified_unix_ns":5}}"#,
        );
        check(
            &entry(ExportKind::File { size_bytes: 3 }),
            r#"{"entry":{"path":"x","kind":{"file":{"size_bytes":3}},"mode":420,"modified_unix_ns":5}}"#,
        );
        check(
            &entry(ExportKind::Symlink { target: "y".into() }),
            r#"{"entry":{"path":"x","kind":{"symlink":{"target":"y"}},"mode":420,"modified_unix_ns":5}}"#,
        );
        let note = ExportNote { path: "x".into(), kind: ExportNoteKind::TooDeep };
        check(&ExportLine::Note(note), r#"{"note":{"path":"x","kind":"too_deep"}}"#);
        check(&ExportLine::End { notes: 1 }, r#"{"end":{"notes":1}}"#);
    }
}
