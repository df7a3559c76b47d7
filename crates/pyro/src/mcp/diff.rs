//! `workspace_diff`: what a workspace changed, as a patch.

use pyro_engine::workspace::diff::{ChangeStatus, DiffRequest, DiffSummary, NoteKind, names, patch};
use pyro_engine::workspace::seen::Seen;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, CHARS_DEFAULT, CHARS_MAX, cut, readable};
use super::arguments::{read, within};
use super::files::with_note;
use super::server::{Ready, Server};
use super::tool::{Promise, ToolDef, schema_of};
use crate::failure::Failure;
use crate::report::captured::Capture;
use crate::report::clean::one_line;

/// Names that a summary shows.
const NAMES_MAX: usize = 500;

pub(super) const DIFF: ToolDef = ToolDef {
    name: "workspace_diff",
    title: "Show what changed in a workspace",
    description: "Show what changed in /workspace since it was created, as a patch that git apply takes. Leaves out what git ignores. \
        A long patch is cut; workspace_export with as_patch writes the whole.",
    promise: Promise::Looks,
    schema: schema_of::<DiffArguments>,
    call: |server, arguments, _| Box::pin(diff(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct DiffArguments {
    /// Id or name
    workspace: String,
    /// Only what is at or below these paths
    #[serde(default)]
    paths: Vec<String>,
    /// Answer with names and what happened to them, not with the patch
    #[serde(default)]
    names_only: bool,
    /// New files that git ignores, too
    #[serde(default)]
    ignored_too: bool,
    /// Most characters to answer with
    #[serde(default = "chars_default")]
    #[schemars(range(min = 200, max = 36000))]
    max_chars: usize,
}

fn chars_default() -> usize {
    CHARS_DEFAULT
}

async fn diff(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: DiffArguments = read(arguments)?;
    within("max_chars", arguments.max_chars as u64, 200, CHARS_MAX as u64)?;
    let whole = arguments.paths.is_empty() && !arguments.ignored_too;
    let request = DiffRequest {
        paths: arguments.paths.into_iter().map(String::into_bytes).collect(),
        all: arguments.ignored_too,
    };
    let Ready { connection, note, .. } = server.connect(&arguments.workspace).await?;
    if arguments.names_only {
        let summary = names(&connection, &request).await?;
        return Ok(Answer::Text(with_note(note, cut(&head(&summary, true), arguments.max_chars, ""))));
    }
    let mut capture = Capture::default();
    let mut seen = Seen::new(Some(&mut capture));
    let summary = patch(&connection, &request, &mut seen).await?;
    if whole {
        // A workspace that went away meanwhile has nothing to lose any more.
        drop(seen.tell(&connection).await);
    }
    let (bytes, _) = capture.into_bytes();
    let text =
        head(&summary, false) + &cut(&readable(&bytes), arguments.max_chars, "; name paths, or export it as_patch");
    Ok(Answer::Text(with_note(note, text)))
}

/// How much changed, with the names or without, and what a patch does not tell.
fn head(summary: &DiffSummary, with_names: bool) -> String {
    if summary.files.is_empty() && summary.notes.kinds.is_empty() {
        return match summary.notes.ignored {
            0 => "[nothing changed]\n".to_owned(),
            ignored => format!("[nothing changed but {ignored} new files or directories that git ignores]\n"),
        };
    }
    let mut text = format!("[{} paths changed", summary.files.len());
    if summary.notes.ignored > 0 {
        text.push_str(&format!("; {} new ones that git ignores are left out", summary.notes.ignored));
    }
    for note in &summary.notes.kinds {
        text.push_str(&format!("; {} {}", note.count, note_words(note.kind)));
    }
    text.push_str("]\n");
    if with_names {
        for file in summary.files.iter().take(NAMES_MAX) {
            let letter = letter(file.status);
            let path = one_line(&String::from_utf8_lossy(&file.change.path));
            match &file.change.renamed_from {
                Some(from) => {
                    text.push_str(&format!("{letter} {} -> {path}\n", one_line(&String::from_utf8_lossy(from))))
                }
                None => text.push_str(&format!("{letter} {path}\n")),
            }
        }
    }
    text
}

fn note_words(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::EmptyDirectory => "empty directories, which a patch cannot hold",
        NoteKind::Special => "devices, pipes or sockets, which a patch cannot hold",
        NoteKind::RefusedName => "names that git refuses",
        NoteKind::Unreadable => "that cannot be read",
    }
}

/// As git's own `--name-status` calls it.
fn letter(status: ChangeStatus) -> char {
    match status {
        ChangeStatus::Added => 'A',
        ChangeStatus::Deleted => 'D',
        ChangeStatus::Modified | ChangeStatus::Permissions => 'M',
        ChangeStatus::Renamed => 'R',
        ChangeStatus::Retyped => 'T',
    }
}
