//! The tools for snapshots of a workspace's disk, and the reset that can go back to one.

use pyro_engine::store::disk_record::BASELINE;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::Answer;
use super::arguments::read;
use super::server::{Server, teach};
use super::tool::{Promise, ToolDef, schema_of};
use crate::failure::Failure;
use crate::report::snapshot::{ForgottenReport, ResetReport, SnapshotList, TakenReport};

pub(super) const CREATE: ToolDef = ToolDef {
    name: "snapshot_create",
    title: "Take a snapshot of a workspace",
    description: "Keep the whole disk of a workspace as it is now, installed packages too, under a name to go back to with \
        workspace_reset. Takes a fraction of a second while the workspace goes on; memory and processes are not kept.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<NamedArguments>,
    call: |server, arguments, _| Box::pin(create(server, arguments)),
};

pub(super) const LIST: ToolDef = ToolDef {
    name: "snapshot_list",
    title: "List the snapshots of a workspace",
    description: "List the snapshots that workspace_reset can go back to. The first is baseline: what the workspace was created with.",
    promise: Promise::Looks,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(list(server, arguments)),
};

pub(super) const DELETE: ToolDef = ToolDef {
    name: "snapshot_delete",
    title: "Delete a snapshot of a workspace",
    description: "Forget a snapshot. The workspace and all other snapshots stay as they are; baseline cannot be deleted.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<NamedArguments>,
    call: |server, arguments, _| Box::pin(delete(server, arguments)),
};

pub(super) const RESET: ToolDef = ToolDef {
    name: "workspace_reset",
    title: "Reset a workspace",
    description: "Put the whole disk of a workspace back to a snapshot, by default to exactly what it was when it was created, and \
        start it afresh, in about a second. Use it to retry from a known state. What was changed since and not exported is lost.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<ResetArguments>,
    call: |server, arguments, _| Box::pin(reset(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneArguments {
    /// Id or name
    workspace: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct NamedArguments {
    /// Id or name
    workspace: String,
    /// Name of the snapshot: letters, digits, dots, dashes, underscores
    name: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResetArguments {
    /// Id or name
    workspace: String,
    /// Name of the snapshot
    #[serde(default = "baseline")]
    snapshot: String,
}

fn baseline() -> String {
    BASELINE.to_owned()
}

async fn create(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let NamedArguments { workspace, name } = read(arguments)?;
    let workspaces = server.workspaces();
    let snapshot = workspaces.take_snapshot(&workspace, &name).await.map_err(teach)?;
    let workspace = workspaces.find(&workspace).map_err(teach)?.record.id;
    Ok(Answer::record(&TakenReport { workspace, snapshot: snapshot.into() }))
}

async fn list(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let OneArguments { workspace } = read(arguments)?;
    let (workspace, snapshots) = server.workspaces().snapshots(&workspace).map_err(teach)?;
    let snapshots = snapshots.into_iter().map(Into::into).collect();
    Ok(Answer::record(&SnapshotList { workspace: workspace.record.id, snapshots }))
}

async fn delete(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let NamedArguments { workspace, name } = read(arguments)?;
    let workspace = server.workspaces().delete_snapshot(&workspace, &name).await.map_err(teach)?;
    Ok(Answer::record(&ForgottenReport { workspace: workspace.record.id, name, deleted: true }))
}

async fn reset(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let ResetArguments { workspace, snapshot } = read(arguments)?;
    let was_reset = server.workspaces().reset(&workspace, &snapshot).await.map_err(teach)?;
    Ok(Answer::record(&ResetReport::from(was_reset)))
}
