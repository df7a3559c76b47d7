//! `workspace file search`: lines by a pattern, files by name.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::search::{self, CONTEXT_LINES_MAX, Case, FOUND_MAX, Pattern, Query, SearchRequest};

use super::super::super::Face;
use super::guest_path;
use crate::failure::Failure;
use crate::report::search::SearchReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace file search fix 'fn \\w+_test' src --glob '*.rs' --context 2
  pyro workspace file search fix --files '*.toml'
  pyro workspace file search fix -F 'a[0]' -l

What .gitignore leaves out is left out, and so are .git and files that are no text.";

/// Arguments of `workspace file search`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SearchArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A regular expression; with --files a glob of file names
    pattern: String,
    /// A directory or a file; one that is not absolute is in the workspace [default: /workspace]
    path: Option<OsString>,
    /// Only files whose path fits it, or with a leading ! does not; may be repeated
    #[arg(long, value_name = "GLOB")]
    glob: Vec<String>,
    /// Find files by name, not lines
    #[arg(long, conflicts_with_all = ["context", "fixed", "ignore_case", "files_with_matches"])]
    files: bool,
    /// Print the names of files with a line that matches
    #[arg(short = 'l', long, conflicts_with = "context")]
    files_with_matches: bool,
    /// The pattern is plain text
    #[arg(short = 'F', long)]
    fixed: bool,
    /// Upper and lower case are the same
    #[arg(short = 'i', long)]
    ignore_case: bool,
    /// Lines to show before and after each that matches
    #[arg(short = 'C', long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(CONTEXT_LINES_MAX)))]
    context: u32,
    /// Stop after so many lines or files
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(FOUND_MAX)))]
    max_results: u32,
    /// Also what .gitignore leaves out
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl SearchArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let (json, workspace) = (self.json, self.workspace.clone());
        let request = self.request()?;
        let path = request.path.clone();
        let connection = Workspaces::new(&settings).connect(&workspace)?;
        let found = interrupt::block_on(async { Ok(search::search(&connection, request).await?) })?;
        let found = SearchReport::new(connection.id, &path, found);
        report::print(&found, json, face.color())?;
        if json {
            return Ok(ExitCode::SUCCESS);
        }
        if found.truncated {
            face.say(&format!("stopped after {} results; --max-results shows more", found.result_count));
        } else if found.result_count == 0 {
            face.say("nothing was found");
        }
        if found.skipped_files > 0 {
            face.say(&format!("{} files could not be searched", found.skipped_files));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn request(self) -> Result<SearchRequest, Failure> {
        let path = guest_path(self.path)?;
        let mut globs = self.glob;
        let case = if self.ignore_case { Case::Insensitive } else { Case::Sensitive };
        let pattern = Pattern { text: self.pattern, fixed: self.fixed, case };
        let query = if self.files {
            globs.insert(0, pattern.text);
            Query::Files
        } else if self.files_with_matches {
            Query::FilesWithMatch { pattern }
        } else {
            Query::Lines { pattern, context_lines: self.context }
        };
        Ok(SearchRequest { path, query, globs, ignored_too: self.all, results_max: self.max_results })
    }
}
