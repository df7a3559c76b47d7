//! Changes: what the workspace holds that its seed does not, and what it no longer holds.

use serde::{Deserialize, Serialize};

use crate::exec::Word;

/// Most bytes of one version of a file that travel as content, whatever is asked for.
pub const CONTENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most paths a request can be limited to.
pub const PATHS_MAX: usize = 1000;

/// Most changes one answer holds; with more of them there is no answer.
pub const CHANGES_MAX: usize = 200_000;

/// Most notes of one kind that name their path; the rest is only counted.
pub const NOTES_MAX: u64 = 20;

/// Compares the workspace with its baseline. Answers with lines of [`ChangesLine`].
///
/// The cost grows with what changed, not with the size of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Only what is at or below these: absolute, or relative to the workspace. Empty for everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Word>,
    /// Also new files that `.gitignore` or `.git/info/exclude` ignore.
    pub all: bool,
    /// A rename is told as what it is made of: something that is gone, and something new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
    /// Content of files up to this size travels, and at most [`CONTENT_BYTES_MAX`]; `None` for none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_bytes_max: Option<u64>,
}

/// One line of the answer to [`Changes`]: changes in the order of their paths' bytes, notes, then the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangesLine {
    /// One change. With [`ChangeContent::Sent`] the old and then the new version's bytes follow, as many as they say.
    Change(Change),
    /// Something that a patch cannot express.
    Note(ChangeNote),
    /// The last line.
    End(ChangesEnd),
}

/// A path that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Relative to the workspace.
    pub path: Word,
    /// Where the same content was before; that path is gone, and not a change of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<Word>,
    /// What was there. `None`: nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Version>,
    /// What is there. `None`: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Version>,
    /// What is known of the content.
    pub content: ChangeContent,
    /// With [`ChangeContent::TooLarge`], when what is there was last changed in any way, nanoseconds since 1970-01-01 UTC: it
    /// tells two states of it apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_unix_ns: Option<i64>,
}

/// What was or is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// What it is.
    pub kind: VersionKind,
    /// The permission bits, at most `0o7777`.
    pub mode: u32,
    /// Bytes of a file, or of a link's target.
    pub size_bytes: u64,
}

/// What a [`Version`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// A regular file.
    File,
    /// A symbolic link; its content is its target.
    Symlink,
    /// A directory, of which only the permissions changed.
    Directory,
}

/// What an answer holds of a change's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeContent {
    /// It is the same in both versions.
    Unchanged,
    /// It follows.
    Sent,
    /// A version is larger than was asked for.
    TooLarge,
    /// It was not asked for.
    Withheld,
}

/// Something that differs and is no [`Change`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeNote {
    /// Relative to the workspace.
    pub path: Word,
    /// What it is.
    pub kind: ChangeNoteKind,
}

/// What a [`ChangeNote`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeNoteKind {
    /// A directory without anything in it, which git does not know.
    EmptyDirectory,
    /// A device, pipe or socket.
    Special,
    /// A name that git refuses in a patch.
    RefusedName,
    /// It could not be read.
    Unreadable,
}

/// The end of an answer to [`Changes`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesEnd {
    /// New files and directories that were left out because they are ignored; a directory counts once.
    pub ignored: u64,
    /// How many notes there are of each kind, those that were not sent included.
    pub notes: Vec<(ChangeNoteKind, u64)>,
}

#[cfg(test)]
mod tests {
    use super::{Change, ChangeContent, ChangeNoteKind, ChangesEnd, ChangesLine, Version, VersionKind};

    #[track_caller]
    fn check(line: &ChangesLine, json: &str) {
        assert_eq!(serde_json::to_string(line).expect("serialises"), json);
        assert_eq!(&serde_json::from_str::<ChangesLine>(json).expect("parses"), line);
    }

    #[test]
    fn the_json_of_each_line_is_fixed() {
        let change = Change {
            path: "new.txt".into(),
            renamed_from: Some("old.txt".into()),
            old: Some(Version { kind: VersionKind::File, mode: 0o644, size_bytes: 5 }),
            new: Some(Version { kind: VersionKind::Symlink, mode: 0o777, size_bytes: 6 }),
            content: ChangeContent::Sent,
            changed_unix_ns: None,
        };
        check(
            &ChangesLine::Change(change),
            concat!(
                r#"{"change":{"path":"new.txt","renamed_from":"old.txt","old":{"kind":"file","mode":420,"size_bytes":5},"#,
                r#""new":{"kind":"symlink","mode":511,"size_bytes":6},"content":"sent"}}"#
            ),
        );
        let end = ChangesEnd { ignored: 3, notes: vec![(ChangeNoteKind::EmptyDirectory, 2)] };
        check(&ChangesLine::End(end), r#"{"end":{"ignored":3,"notes":[["empty_directory",2]]}}"#);
    }
}
