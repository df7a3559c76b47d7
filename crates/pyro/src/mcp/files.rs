//! The tools for files in a workspace: list, read, write, edit, search.

use pyro_engine::workspace::files::{self, Entry, EntryKind, FilePart, Listing, ReadRange, Replacement};
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::search::{Case, Found, Pattern, Query, SearchRequest, search};
use pyro_engine::workspace::tool::ToolHost;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, CHARS_DEFAULT, CHARS_MAX, LINES_MAX, cut, readable};
use super::arguments::{read, within};
use super::server::{Ready, Server};
use super::tool::{Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::clean::one_line;
use crate::report::units;

/// Lines that one read answers with when nothing else is asked for.
const LINES_DEFAULT: u64 = 400;
/// Entries that a list shows.
const ENTRIES_MAX: u32 = 1_000;
/// Results of a search when nothing else is asked for.
const RESULTS_DEFAULT: u32 = 100;
const RESULTS_MAX: u32 = 1_000;
const CONTEXT_LINES_MAX: u32 = 20;

pub(super) const LIST: ToolDef = ToolDef {
    name: "workspace_file_list",
    title: "List files in a workspace",
    description: "List a directory of a workspace: names, sizes, kinds; with recursive everything below it. To find files by name use \
        workspace_file_search with glob and no pattern.",
    promise: Promise::Looks,
    schema: schema_of::<ListArguments>,
    call: |server, arguments, _| Box::pin(list(server, arguments)),
};

pub(super) const READ: ToolDef = ToolDef {
    name: "workspace_file_read",
    title: "Read a file in a workspace",
    description: "Read a text file of a workspace, with line numbers. Long files come in pieces: read on with start_line.",
    promise: Promise::Looks,
    schema: schema_of::<ReadArguments>,
    call: |server, arguments, _| Box::pin(read_file(server, arguments)),
};

pub(super) const WRITE: ToolDef = ToolDef {
    name: "workspace_file_write",
    title: "Write a file in a workspace",
    description: "Write a whole text file in a workspace: a new one, with the directories it needs, or in place of what is there. To \
        change a part of a file use workspace_file_edit.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<WriteArguments>,
    call: |server, arguments, _| Box::pin(write(server, arguments)),
};

pub(super) const EDIT: ToolDef = ToolDef {
    name: "workspace_file_edit",
    title: "Edit a file in a workspace",
    description: "Replace a text in a file of a workspace by another one. The old text must be exactly as in the file, spaces and line \
        breaks too, and be there once, unless replace_all is true.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<EditArguments>,
    call: |server, arguments, _| Box::pin(edit(server, arguments)),
};

pub(super) const SEARCH: ToolDef = ToolDef {
    name: "workspace_file_search",
    title: "Search files in a workspace",
    description: "Search the files of a workspace for a regular expression (grep), or find files by name with glob alone. Leaves out \
        what git ignores, and binary files.",
    promise: Promise::Looks,
    schema: schema_of::<SearchArguments>,
    call: |server, arguments, _| Box::pin(search_files(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArguments {
    /// Id or name
    workspace: String,
    /// Directory, absolute or relative to /workspace
    #[serde(default = "path_default")]
    path: String,
    /// Everything below it, too
    #[serde(default)]
    recursive: bool,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadArguments {
    /// Id or name
    workspace: String,
    /// File, absolute or relative to /workspace
    path: String,
    /// First line, counted from 1
    #[serde(default = "line_default")]
    #[schemars(range(min = 1))]
    start_line: u64,
    /// How many lines at most
    #[serde(default = "lines_default")]
    #[schemars(range(min = 1, max = 1800))]
    line_count: u64,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteArguments {
    /// Id or name
    workspace: String,
    /// File, absolute or relative to /workspace
    path: String,
    /// The whole new content
    content: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditArguments {
    /// Id or name
    workspace: String,
    /// File, absolute or relative to /workspace
    path: String,
    /// The text to replace, exactly as it is in the file
    old_text: String,
    /// What to put in its place
    new_text: String,
    /// Replace it everywhere
    #[serde(default)]
    replace_all: bool,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct SearchArguments {
    /// Id or name
    workspace: String,
    /// Regular expression to look for in lines; without it files are found by glob
    pattern: Option<String>,
    /// Directory or file to search, absolute or relative to /workspace
    #[serde(default = "path_default")]
    path: String,
    /// Only files whose path fits, such as "*.rs" or "src/**/*.py"; "!…" leaves files out
    glob: Option<String>,
    /// Take the pattern as plain text
    #[serde(default)]
    literal: bool,
    /// Take upper and lower case as the same
    #[serde(default)]
    ignore_case: bool,
    /// Answer with the names of files that match, not with lines
    #[serde(default)]
    files_only: bool,
    /// Lines to show around each match
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    context_lines: u32,
    /// Search what git ignores, too
    #[serde(default)]
    ignored_too: bool,
    /// Stop after so many matches
    #[serde(default = "results_default")]
    #[schemars(range(min = 1, max = 1000))]
    max_results: u32,
}

fn path_default() -> String {
    "/workspace".to_owned()
}

fn line_default() -> u64 {
    1
}

fn lines_default() -> u64 {
    LINES_DEFAULT
}

fn results_default() -> u32 {
    RESULTS_DEFAULT
}

/// [`ListArguments`], checked.
pub(super) struct ListRequest {
    pub(super) workspace: String,
    path: GuestPath,
    recursive: bool,
}

impl ListRequest {
    /// What is asked for.
    pub(super) fn read(arguments: JsonObject) -> Result<Self, Failure> {
        let ListArguments { workspace, path, recursive } = read(arguments)?;
        Ok(Self { workspace, path: GuestPath::new(&path)?, recursive })
    }

    /// The answer, from whoever has the files.
    pub(super) async fn text(&self, host: &impl ToolHost) -> Result<String, Failure> {
        Ok(listed(&self.path, &files::list(host, &self.path, self.recursive, ENTRIES_MAX).await?))
    }
}

async fn list(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let request = ListRequest::read(arguments)?;
    let Ready { connection, note, .. } = server.connect(&request.workspace).await?;
    Ok(Answer::Text(with_note(note, request.text(&connection).await?)))
}

/// What is in a directory, as a model reads it.
fn listed(path: &GuestPath, listing: &Listing) -> String {
    let mut text = format!(
        "[{path}: {} entries{}]\n",
        listing.entries.len(),
        if listing.truncated { ", there are more" } else { "" }
    );
    for entry in &listing.entries {
        text.push_str(&entry_line(entry));
    }
    cut(&text, CHARS_MAX, "; list a directory below it")
}

fn entry_line(entry: &Entry) -> String {
    let path = one_line(&String::from_utf8_lossy(entry.path.as_bytes()));
    match entry.kind {
        EntryKind::Directory => format!("{path}/\n"),
        EntryKind::File => {
            let mark = if entry.mode & 0o111 == 0 { "" } else { ", executable" };
            format!("{path}  ({}{mark})\n", units::size(entry.size_bytes))
        }
        EntryKind::Symlink => {
            let target = entry.target.as_ref().map(|target| String::from_utf8_lossy(target.as_bytes()).into_owned());
            format!("{path} -> {}\n", one_line(&target.unwrap_or_default()))
        }
        EntryKind::Fifo => format!("{path}  (named pipe)\n"),
        EntryKind::Socket => format!("{path}  (socket)\n"),
        EntryKind::CharacterDevice | EntryKind::BlockDevice => format!("{path}  (device)\n"),
    }
}

/// [`ReadArguments`], checked.
pub(super) struct ReadRequest {
    pub(super) workspace: String,
    path: GuestPath,
    first: u64,
    count: u64,
}

impl ReadRequest {
    /// What is asked for.
    pub(super) fn read(arguments: JsonObject) -> Result<Self, Failure> {
        let ReadArguments { workspace, path, start_line, line_count } = read(arguments)?;
        let first = within("start_line", start_line, 1, u64::MAX)?;
        let count = within("line_count", line_count, 1, LINES_MAX as u64 - 100)?;
        Ok(Self { workspace, path: GuestPath::new(&path)?, first, count })
    }

    /// The answer, from whoever has the files.
    pub(super) async fn text(&self, host: &impl ToolHost) -> Result<String, Failure> {
        let range = ReadRange::Lines { first: self.first, count: Some(self.count) };
        Ok(numbered(&self.path, self.first, &files::read(host, &self.path, range, CHARS_MAX as u32).await?))
    }
}

async fn read_file(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let request = ReadRequest::read(arguments)?;
    let Ready { connection, note, .. } = server.connect(&request.workspace).await?;
    Ok(Answer::Text(with_note(note, request.text(&connection).await?)))
}

/// A part of a file as a model reads it: a line of what it is, then its lines with their numbers.
fn numbered(path: &GuestPath, first: u64, part: &FilePart) -> String {
    let size = units::size(part.size_bytes);
    if !part.is_text {
        return format!("[{path} is no text: {size}; look at it with a command, such as file or xxd]\n");
    }
    let of = part.line_count.map(|count| format!(" of {count}")).unwrap_or_default();
    if part.content.is_empty() {
        return format!("[{path}, {size}: no line {first}{of}]\n");
    }
    let text = readable(&part.content);
    let mut body = String::new();
    let mut shown = 0;
    for (number, line) in (first..).zip(text.lines()) {
        let line = format!("{number:>6}\t{line}\n");
        // Every line has room for its number, so fewer fit than were read.
        if shown > 0 && body.len() + line.len() > CHARS_MAX - 200 {
            break;
        }
        body.push_str(&line);
        shown += 1;
    }
    let last = first + shown - 1;
    let more = match part.at_end && shown == part.lines() {
        true => String::new(),
        false => format!("; read on with start_line {}", last + 1),
    };
    let secrets = match part.secrets.as_slice() {
        [] => String::new(),
        names => format!("; it holds the secret {}, which is cut out here", names.join(", ")),
    };
    cut(&format!("[{path}, {size}: lines {first} to {last}{of}{more}{secrets}]\n{body}"), CHARS_MAX, "")
}

async fn write(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: WriteArguments = read(arguments)?;
    let path = GuestPath::new(&arguments.path)?;
    let Ready { connection, .. } = server.connect(&arguments.workspace).await?;
    let written = files::write(&connection, &path, arguments.content.as_bytes()).await?;
    let record = json!({"path": path.to_string(), "created": written.created, "size_bytes": written.size_bytes});
    Ok(Answer::Record(record))
}

async fn edit(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: EditArguments = read(arguments)?;
    if arguments.old_text.is_empty() {
        return Err(Failure::new(Kind::Usage, "the argument 'old_text' is empty")
            .hint("call workspace_file_write to write a whole file"));
    }
    let path = GuestPath::new(&arguments.path)?;
    let Ready { connection, .. } = server.connect(&arguments.workspace).await?;
    let replacement = Replacement {
        old: arguments.old_text.as_bytes(),
        new: arguments.new_text.as_bytes(),
        everywhere: arguments.replace_all,
    };
    let edited = files::edit(&connection, &path, replacement).await?;
    let record = json!({
        "path": path.to_string(), "replaced": edited.count, "lines": edited.lines, "size_bytes": edited.size_bytes,
    });
    Ok(Answer::Record(record))
}

async fn search_files(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: SearchArguments = read(arguments)?;
    let results_max = within("max_results", arguments.max_results.into(), 1, RESULTS_MAX.into())?;
    let context_lines = within("context_lines", arguments.context_lines.into(), 0, CONTEXT_LINES_MAX.into())?;
    if arguments.pattern.is_none() && arguments.glob.is_none() {
        return Err(Failure::new(Kind::Usage, "neither 'pattern' nor 'glob' is given")
            .hint("pass a pattern to search lines, a glob to find files, or both"));
    }
    let case = if arguments.ignore_case { Case::Insensitive } else { Case::Sensitive };
    let pattern = arguments.pattern.map(|text| Pattern { text, fixed: arguments.literal, case });
    let query = match pattern {
        None => Query::Files,
        Some(pattern) if arguments.files_only => Query::FilesWithMatch { pattern },
        Some(pattern) => Query::Lines { pattern, context_lines: u32::try_from(context_lines).unwrap_or(0) },
    };
    let request = SearchRequest {
        path: GuestPath::new(&arguments.path)?,
        query,
        globs: arguments.glob.into_iter().collect(),
        ignored_too: arguments.ignored_too,
        results_max: u32::try_from(results_max).unwrap_or(RESULTS_MAX),
    };
    let Ready { connection, note, .. } = server.connect(&arguments.workspace).await?;
    let found = search(&connection, request).await?;
    Ok(Answer::Text(with_note(note, found_text(&found))))
}

fn found_text(found: &Found) -> String {
    let end = &found.end;
    let more = if end.truncated { ", and there are more" } else { "" };
    let mut text = format!("[{} results in {} files searched{more}]\n", end.result_count, end.searched_files);
    for file in &found.files {
        let path = one_line(&file.path.short());
        if file.lines.is_empty() {
            text.push_str(&path);
            text.push('\n');
        }
        let mut before = None;
        for line in &file.lines {
            if before.is_some_and(|before| before + 1 < line.number) && file.lines.iter().any(|line| !line.is_match) {
                text.push_str("--\n");
            }
            before = Some(line.number);
            let mark = if line.is_match { ':' } else { '-' };
            let rest = if line.is_cut { "…" } else { "" };
            let shown = readable(line.text.trim_end_matches('\n').as_bytes());
            text.push_str(&format!("{path}{mark}{}{mark}{shown}{rest}\n", line.number));
        }
    }
    cut(&text, CHARS_DEFAULT, "; a narrower pattern, path or glob shows fewer")
}

/// An answer with what its reader should know first.
pub(super) fn with_note(note: Option<String>, text: String) -> String {
    match note {
        Some(note) => format!("{note}\n{text}"),
        None => text,
    }
}
