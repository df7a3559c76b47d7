//! `workspace_diff`: what a workspace changed, as a patch.

use pyro_engine::progress::Progress;
use pyro_engine::store::disk_record::BASELINE;
use pyro_engine::workspace::between::Between;
use pyro_engine::workspace::client::Connection;
use pyro_engine::workspace::diff::{ChangeStatus, DiffRequest, DiffSummary, NoteKind, names};
use pyro_engine::workspace::seen::show;
use pyro_engine::workspace::tool::ToolHost;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, cut, readable};
use super::arguments::{chars, chars_default, read};
use super::files::with_note;
use super::server::{Ready, Server, teach};
use super::tool::{Promise, ToolDef, schema_of};
use crate::failure::Failure;
use crate::report::captured::Capture;
use crate::report::clean::one_line;

/// Paths with secrets that a summary shows.
const SECRETS_NAMED_MAX: usize = 20;

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

/// The same with what it is compared with.
pub(super) const DIFF_FROM: ToolDef = ToolDef {
    name: "workspace_diff",
    title: "Show what changed in a workspace",
    description: "Show what changed in /workspace since it was created, or since a snapshot, as a patch that git apply takes. Leaves \
        out what git ignores. A long patch is cut; workspace_export with as_patch writes the whole one since the creation.",
    promise: Promise::Looks,
    schema: schema_of::<FromArguments>,
    call: |server, arguments, _| Box::pin(diff_from(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct FromArguments {
    /// Id or name
    workspace: String,
    /// Name of the snapshot to compare with
    #[serde(default = "baseline")]
    from: String,
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

fn baseline() -> String {
    BASELINE.to_owned()
}

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

async fn diff(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    compare(server, read(arguments)?).await
}

async fn compare(server: &Server, arguments: DiffArguments) -> Result<Answer, Failure> {
    let max_chars = chars(arguments.max_chars)?;
    let whole = arguments.paths.is_empty() && !arguments.ignored_too;
    let request = DiffRequest {
        paths: arguments.paths.into_iter().map(String::into_bytes).collect(),
        all: arguments.ignored_too,
    };
    let Ready { connection, note, .. } = server.connect(&arguments.workspace).await?;
    let form = Form { names_only: arguments.names_only, max_chars };
    let text = told(&connection, &request, form, Some(&connection).filter(|_| whole)).await?;
    Ok(Answer::Text(with_note(note, text)))
}

async fn diff_from(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let FromArguments { workspace, from, paths, names_only, ignored_too, max_chars } = read(arguments)?;
    let whole = DiffArguments { workspace, paths, names_only, ignored_too, max_chars };
    if from == BASELINE {
        return compare(server, whole).await;
    }
    let max_chars = chars(max_chars)?;
    let DiffArguments { workspace, paths, .. } = whole;
    let request = DiffRequest { paths: paths.into_iter().map(String::into_bytes).collect(), all: ignored_too };
    let Ready { connection, note, .. } = server.connect(&workspace).await?;
    let before = server.workspaces().open_snapshot(&workspace, &from, &|_: Progress| ()).await.map_err(teach)?;
    let between = Between { before: &before, now: &connection };
    let text = told(&between, &request, Form { names_only, max_chars }, None).await;
    before.close().await;
    Ok(Answer::Text(with_note(note, text?)))
}

/// How an answer is wanted.
#[derive(Clone, Copy)]
struct Form {
    names_only: bool,
    max_chars: usize,
}

/// What `host` tells, as a model reads it. `seen` is told that it was all of it, if it was.
async fn told(
    host: &impl ToolHost,
    request: &DiffRequest,
    form: Form,
    seen: Option<&Connection>,
) -> Result<String, Failure> {
    if form.names_only {
        return Ok(cut(&head(&names(host, request).await?, true), form.max_chars, ""));
    }
    let mut capture = Capture::default();
    let shown = show(host, request, &mut capture).await?;
    if let Some(connection) = seen {
        // A workspace that went away meanwhile has nothing to lose any more.
        drop(shown.tell(connection).await);
    }
    let (bytes, _) = capture.into_bytes();
    Ok(head(&shown.summary, false) + &cut(&readable(&bytes), form.max_chars, "; name paths, or export it as_patch"))
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
    for holder in summary.secrets.iter().take(SECRETS_NAMED_MAX) {
        let path = one_line(&String::from_utf8_lossy(&holder.path));
        text.push_str(&format!("[{path} holds the secret {}, which is cut out here]\n", holder.secrets.join(", ")));
    }
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
