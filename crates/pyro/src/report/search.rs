//! The public shape of a search.

use std::fmt::Write as _;

use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::search::{Found, FoundFile};
use serde::Serialize;

use super::Report;
use super::clean::one_line;

/// What a search found.
#[derive(Debug, Serialize)]
pub(crate) struct SearchReport {
    workspace: String,
    /// Where it began.
    path: String,
    files: Vec<FoundRow>,
    /// Lines that matched, or files where those were looked for.
    pub(crate) result_count: u64,
    searched_files: u64,
    /// Files that could not be searched.
    pub(crate) skipped_files: u64,
    /// Whether a limit ended it.
    pub(crate) truncated: bool,
}

#[derive(Debug, Serialize)]
struct FoundRow {
    /// In the guest; what is not UTF-8 is replaced.
    path: String,
    /// The same as a person in the workspace would write it.
    #[serde(skip)]
    short: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<LineRow>,
}

#[derive(Debug, Serialize)]
struct LineRow {
    line: u64,
    text: String,
    /// Whether it matches, or is there for its neighbour.
    is_match: bool,
    /// Whether the line is longer than the text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl SearchReport {
    pub(crate) fn new(workspace: String, path: &GuestPath, found: Found) -> Self {
        Self {
            workspace,
            path: path.to_string(),
            files: found.files.into_iter().map(FoundRow::from).collect(),
            result_count: found.end.result_count,
            searched_files: found.end.searched_files,
            skipped_files: found.end.skipped_files,
            truncated: found.end.truncated,
        }
    }
}

impl From<FoundFile> for FoundRow {
    fn from(file: FoundFile) -> Self {
        let lines = file.lines.into_iter().map(|line| LineRow {
            line: line.number,
            text: line.text,
            is_match: line.is_match,
            truncated: line.is_cut,
        });
        Self { path: file.path.to_string(), short: file.path.short(), lines: lines.collect() }
    }
}

impl Report for SearchReport {
    /// As `grep -n` prints it: a colon after the number of a line that matches, a hyphen after one that is context.
    fn text(&self, color: bool) -> String {
        let (magenta, green, plain) = if color { ("\x1b[35m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
        let mut text = String::new();
        let mut had_context = false;
        for file in &self.files {
            let path = one_line(&file.short);
            if file.lines.is_empty() {
                let _ = writeln!(text, "{magenta}{path}{plain}");
            }
            let mut last = None;
            for row in &file.lines {
                // Lines that are not neighbours are told apart once there is context.
                had_context |= !row.is_match;
                if had_context && !text.is_empty() && last.is_none_or(|last| last + 1 != row.line) {
                    text.push_str("--\n");
                }
                last = Some(row.line);
                let mark = if row.is_match { ':' } else { '-' };
                let cut = if row.truncated { "…" } else { "" };
                let line = clean_line(&row.text);
                let _ = writeln!(text, "{magenta}{path}{plain}{mark}{green}{}{plain}{mark}{line}{cut}", row.line);
            }
        }
        text
    }
}

/// A line of a file, its indentation kept.
fn clean_line(line: &str) -> String {
    let indent: String = line.chars().take_while(|letter| matches!(letter, ' ' | '\t')).collect();
    indent + &one_line(line)
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::guest_path::GuestPath;
    use pyro_engine::workspace::search::{Found, FoundFile, FoundLine, SearchEnd};

    use super::{Report, SearchReport};

    /// Lines of one file: number, whether it matches, text.
    type Lines<'a> = Vec<(u64, bool, &'a str)>;

    fn report(files: Vec<(&str, Lines<'_>)>) -> SearchReport {
        let line = |(number, is_match, text): (u64, bool, &str)| FoundLine {
            number,
            is_match,
            text: text.to_owned(),
            is_cut: text.len() > 9,
        };
        let file = |(path, lines): (&str, Vec<_>)| FoundFile {
            path: GuestPath::new(path).expect("a path"),
            lines: lines.into_iter().map(line).collect(),
        };
        let end = SearchEnd { result_count: 2, searched_files: 3, skipped_files: 0, truncated: true };
        let found = Found { files: files.into_iter().map(file).collect(), end };
        SearchReport::new("w1".to_owned(), &GuestPath::workspace(), found)
    }

    #[test]
    fn lines_look_as_grep_prints_them() {
        let plain = report(vec![("src/a.rs", vec![(3, true, "  run();"), (9, true, "\x1b[2Jxxxxxxx")])]);
        assert_eq!(plain.text(false), "src/a.rs:3:  run();\nsrc/a.rs:9:\\u{1b}[2Jxxxxxxx…\n");
        let context = report(vec![
            ("a", vec![(1, false, "x"), (2, true, "y"), (8, true, "z")]),
            ("/etc/b", vec![(9, true, "w")]),
        ]);
        assert_eq!(context.text(false), "a-1-x\na:2:y\n--\na:8:z\n--\n/etc/b:9:w\n");
        assert_eq!(report(vec![("a", vec![]), ("b c", vec![])]).text(false), "a\nb c\n");
        assert_eq!(report(vec![]).text(false), "");
    }

    #[test]
    fn json_groups_lines_by_file() {
        let json = serde_json::to_string(&report(vec![("a", vec![(2, true, "y")])])).expect("serialises");
        assert_eq!(
            json,
            r#"{"workspace":"w1","path":"/workspace","files":[{"path":"/workspace/a","lines":[{"line":2,"text":"y","is_match":true}]}],"result_count":2,"searched_files":3,"skipped_files":0,"truncated":true}"#
        );
    }
}
