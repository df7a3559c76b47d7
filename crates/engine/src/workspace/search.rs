//! Searching the files of a workspace.

use pyro_wire::search::{RESULTS_MAX, Search, SearchLine};

use super::guest_path::GuestPath;
use super::tool::{ANSWER_BYTES_MAX, Tool, ToolError, ToolHost, collect, garbled, parse_lines};

pub use pyro_wire::search::{CONTEXT_LINES_MAX, Case, FoundLine, Pattern, Query, SearchEnd};

/// Most results of a search.
pub const FOUND_MAX: u32 = RESULTS_MAX;

/// What to search, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchRequest {
    /// A directory, or one file.
    pub path: GuestPath,
    /// What is looked for.
    pub query: Query,
    /// Only files whose path fits one of these globs; one that begins with `!` leaves files out.
    pub globs: Vec<String>,
    /// Also what `.gitignore` leaves out.
    pub ignored_too: bool,
    /// Stop after so many results.
    pub results_max: u32,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order of their paths.
    pub files: Vec<FoundFile>,
    /// How it ended.
    pub end: SearchEnd,
}

/// A file with results, or one that is a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Where it is.
    pub path: GuestPath,
    /// Its lines that match, and those around them.
    pub lines: Vec<FoundLine>,
}

/// Searches.
///
/// # Errors
/// See [`ToolError`].
pub async fn search(host: &impl ToolHost, request: SearchRequest) -> Result<Found, ToolError> {
    let SearchRequest { path: start, query, globs, ignored_too, results_max } = request;
    let tool = Tool::Search(Search { path: start.to_word(), query, globs, ignored_too, results_max });
    let mut lines = parse_lines(&collect(host, tool, None, ANSWER_BYTES_MAX).await?)?;
    let Some(SearchLine::End(end)) = lines.pop() else { return Err(garbled("a search without an end")) };
    let mut files: Vec<FoundFile> = Vec::new();
    for line in lines {
        match (line, files.last_mut()) {
            (SearchLine::File { path }, _) => {
                files.push(FoundFile { path: start.join(path.as_bytes()), lines: Vec::new() });
            }
            (SearchLine::Line(line), Some(file)) => file.lines.push(line),
            (SearchLine::Line(_), None) => return Err(garbled("a line of no file")),
            (SearchLine::End(_), _) => return Err(garbled("a search with two ends")),
        }
    }
    if end.result_count > u64::from(results_max) {
        return Err(garbled("more results than were asked for"));
    }
    Ok(Found { files, end })
}

#[cfg(test)]
mod tests {
    use super::{Found, GuestPath, Query, SearchRequest, ToolError, search};
    use crate::workspace::tool::CannedHost;

    async fn found(answer: &str) -> Result<Found, ToolError> {
        let path = GuestPath::workspace();
        let request = SearchRequest { path, query: Query::Files, globs: vec![], ignored_too: false, results_max: 2 };
        search(&CannedHost::answering(answer), request).await
    }

    const FILE: &str = r#"{"file":{"path":"a"}}"#;
    const LINE: &str = r#"{"line":{"number":3,"is_match":true,"text":"x"}}"#;
    const END: &str = r#"{"end":{"result_count":1,"searched_files":2,"skipped_files":0,"truncated":false}}"#;

    #[tokio::test]
    async fn lines_belong_to_files() {
        let found = found(&format!("{FILE}\n{LINE}\n{LINE}\n{FILE}\n{END}\n")).await.unwrap();
        assert_eq!(found.files.iter().map(|file| file.lines.len()).collect::<Vec<_>>(), [2, 0]);
        assert_eq!((found.end.searched_files, found.files[0].path.to_string()), (2, "/workspace/a".to_owned()));
    }

    #[tokio::test]
    async fn other_answers_are_none() {
        let many = END.replace("\"result_count\":1", "\"result_count\":3");
        for answer in [
            String::new(),
            format!("{FILE}\n"),
            format!("{LINE}\n{END}\n"),
            format!("{END}\n{END}\n"),
            format!("{FILE}\n{many}\n"),
        ] {
            assert!(matches!(found(&answer).await, Err(ToolError::Garbled { .. })), "{answer}");
        }
    }
}
