//! Patches: applied to the workspace, or shown not to fit.

use serde::{Deserialize, Serialize};

use crate::exec::Word;
use crate::files::{Difference, NearLine};

/// Longest patch.
pub const PATCH_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Largest file that a patch can change.
pub const PATCHED_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most rejections that are told; the rest is counted.
pub const REJECTIONS_MAX: usize = 50;

/// Most lines of a file, or of a patch, that a rejection shows.
pub const SHOWN_LINES_MAX: usize = 12;

/// Applies the patch on standard input to the workspace, all of it or nothing. Answers with lines of [`PatchLine`].
///
/// The patch is what `git diff` prints, its paths relative to the workspace. A patch that cannot be read at all is a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyPatch {
    /// So many bytes of input are the patch, at most [`PATCH_BYTES_MAX`].
    pub patch_bytes: u64,
    /// Only find out whether it would apply.
    pub dry_run: bool,
}

/// One line of the answer to [`ApplyPatch`]: what was done, or what stood against it, then the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchLine {
    /// A file that was changed, or would be.
    File(PatchedFile),
    /// Why nothing was changed. At most [`REJECTIONS_MAX`] of them.
    Rejection(Rejection),
    /// The last line.
    End {
        /// How many rejections there are, those that are not told included.
        rejections: u64,
    },
}

/// A file of a patch that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchedFile {
    /// Relative to the workspace.
    pub path: Word,
    /// What is done to it.
    pub action: PatchAction,
    /// What it is a copy or the new name of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Word>,
    /// Where each hunk fits.
    pub hunks: Vec<HunkPlace>,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
}

/// What a patch does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchAction {
    /// It is new.
    Create,
    /// It goes.
    Delete,
    /// It changes.
    Modify,
    /// It gets another name.
    Rename,
    /// It is made of another one, which stays.
    Copy,
}

/// Where a hunk fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HunkPlace {
    /// The first line of the file that it stands for, counted from one, after the hunks before it.
    pub line: u64,
    /// How many lines further down that is than the patch says.
    pub offset: i64,
}

/// Why a file's part of a patch does not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Relative to the workspace.
    pub path: Word,
    /// What stands against it, in one line without the path.
    pub reason: String,
    /// The hunk that does not fit, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hunk: Option<MissedHunk>,
}

/// A hunk that fits nowhere, or in more than one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedHunk {
    /// Which hunk of the file, counted from one.
    pub number: u64,
    /// Its header.
    pub header: String,
    /// The lines it expects, the first [`SHOWN_LINES_MAX`] of them.
    pub expected: Vec<String>,
    /// The lines of the file that are most like them, in a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<NearLine>,
    /// In what those differ, when that is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// The lines where it fits, when these are several; the first [`SHOWN_LINES_MAX`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fits_at: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::{HunkPlace, MissedHunk, NearLine, PatchAction, PatchLine, PatchedFile, Rejection};

    #[track_caller]
    fn check(line: &PatchLine, json: &str) {
        assert_eq!(serde_json::to_string(line).expect("serialises"), json);
        assert_eq!(&serde_json::from_str::<PatchLine>(json).expect("parses"), line);
    }

    #[test]
    fn the_json_of_each_line_is_fixed() {
        let file = PatchedFile {
            path: "b".into(),
            action: PatchAction::Rename,
            from: Some("a".into()),
            hunks: vec![HunkPlace { line: 7, offset: -2 }],
            added: 1,
            removed: 0,
        };
        check(
            &PatchLine::File(file),
            r#"{"file":{"path":"b","action":"rename","from":"a","hunks":[{"line":7,"offset":-2}],"added":1,"removed":0}}"#,
        );
        let hunk = MissedHunk {
            number: 2,
            header: "@@ -1 +1 @@".to_owned(),
            expected: vec!["x".to_owned()],
            nearest: vec![NearLine { number: 3, text: "y".to_owned() }],
            difference: None,
            fits_at: Vec::new(),
        };
        check(
            &PatchLine::Rejection(Rejection { path: "a".into(), reason: "no".to_owned(), hunk: Some(hunk) }),
            concat!(
                r#"{"rejection":{"path":"a","reason":"no","hunk":{"number":2,"header":"@@ -1 +1 @@","#,
                r#""expected":["x"],"nearest":[{"number":3,"text":"y"}]}}}"#
            ),
        );
        check(&PatchLine::End { rejections: 1 }, r#"{"end":{"rejections":1}}"#);
    }
}
