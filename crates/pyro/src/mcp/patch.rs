//! `workspace_patch_apply`: a patch applied to the workspace, all of it or nothing.

use pyro_engine::workspace::patch::{PatchAction, PatchMode, PatchedFile, apply};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::arguments::read;
use super::server::{Ready, Server};
use super::tool::{Promise, ToolDef, schema_of};
use crate::failure::Failure;

/// Files of a patch that the answer names.
const FILES_SHOWN_MAX: usize = 100;

pub(super) const APPLY: ToolDef = ToolDef {
    name: "workspace_patch_apply",
    title: "Apply a patch in a workspace",
    description: "Apply a patch in the form of git diff to /workspace: new, changed, renamed and deleted files. All of it or nothing; \
        lines that moved are found. What does not fit is told with the lines that are there. For one change in one file \
        workspace_file_edit is simpler.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<ApplyArguments>,
    call: |server, arguments, _| Box::pin(patch_apply(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApplyArguments {
    /// Id or name
    workspace: String,
    /// The patch, paths relative to /workspace
    patch: String,
    /// Only find out whether it would apply
    #[serde(default)]
    dry_run: bool,
}

async fn patch_apply(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: ApplyArguments = read(arguments)?;
    let mode = if arguments.dry_run { PatchMode::DryRun } else { PatchMode::Apply };
    let Ready { connection, .. } = server.connect(&arguments.workspace).await?;
    let files = apply(&connection, arguments.patch.as_bytes(), mode).await?;
    let shown: Vec<Value> = files.iter().take(FILES_SHOWN_MAX).map(file_record).collect();
    let left_out = files.len() - shown.len();
    Ok(Answer::Record(json!({"applied": !arguments.dry_run, "files": shown, "left_out": left_out})))
}

fn file_record(file: &PatchedFile) -> Value {
    let action = match file.action {
        PatchAction::Create => "create",
        PatchAction::Delete => "delete",
        PatchAction::Modify => "modify",
        PatchAction::Rename => "rename",
        PatchAction::Copy => "copy",
    };
    json!({
        "path": String::from_utf8_lossy(file.path.as_bytes()), "action": action, "added": file.added, "removed": file.removed,
    })
}
