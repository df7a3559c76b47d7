//! Searching the files of a guest.

use serde::{Deserialize, Serialize};

use crate::exec::Word;

/// Most results one search may have.
pub const RESULTS_MAX: u32 = 10_000;

/// Most lines before and after a match that may be asked for.
pub const CONTEXT_LINES_MAX: u32 = 50;

/// Most bytes of a line that are shown; the rest of a longer one is cut away around the match.
pub const LINE_BYTES_MAX: usize = 400;

/// Searches the text files in and below a directory, or one file. What `.gitignore` and `.ignore` files say is left out,
/// so are `.git`, binary files, and all but regular files; symbolic links below the directory are not followed.
///
/// Answers with lines of [`SearchLine`], files in the order of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Absolute path of where to search.
    pub path: Word,
    /// What is looked for.
    pub query: Query,
    /// Only files whose path fits one of these globs, as `.gitignore` reads them; one that begins with `!` leaves files out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globs: Vec<String>,
    /// Also what ignore files say is to be left out.
    pub ignored_too: bool,
    /// Stop after so many results, at most [`RESULTS_MAX`].
    pub results_max: u32,
}

/// What a search looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Files by name; all that the globs let through. Each is a result.
    Files,
    /// Lines that match. Each is a result.
    Lines {
        /// How they match.
        pattern: Pattern,
        /// Lines to show before and after each, at most [`CONTEXT_LINES_MAX`].
        context_lines: u32,
    },
    /// Files with a line that matches. Each is a result.
    FilesWithMatch {
        /// How it matches.
        pattern: Pattern,
    },
}

/// A pattern for lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// A regular expression, or plain text.
    pub text: String,
    /// It is plain text.
    pub fixed: bool,
    /// Whether case matters.
    pub case: Case,
}

/// Whether case matters to a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// It does.
    Sensitive,
    /// It does not.
    Insensitive,
}

/// One line of the answer to a [`Search`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchLine {
    /// A file with results, or one that is a result; its lines follow.
    File {
        /// Relative to where the search began; empty when it began at the file itself.
        path: Word,
    },
    /// A line of that file.
    Line(FoundLine),
    /// The last line.
    End(SearchEnd),
}

/// A line that a search found, or one near it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundLine {
    /// Its number in the file.
    pub number: u64,
    /// It matches; otherwise it is context.
    pub is_match: bool,
    /// What it says, without its end; at most [`LINE_BYTES_MAX`] bytes of it. Bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Something of it was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchEnd {
    /// Results told.
    pub result_count: u64,
    /// Files that were looked at.
    pub searched_files: u64,
    /// Files that are not for reading, or have a line longer than can be searched.
    pub skipped_files: u64,
    /// There may be more results: a limit was reached.
    pub truncated: bool,
}
