//! `workspace_crossings`: what crossed the border between a workspace and the host.

use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, CHARS_DEFAULT, cut};
use super::arguments::read;
use super::server::{Server, teach};
use super::tool::{Promise, ToolDef, schema_of};
use crate::failure::Failure;
use crate::report::Report;
use crate::report::crossings::{CrossingList, CrossingRow};

pub(super) const CROSSINGS: ToolDef = ToolDef {
    name: "workspace_crossings",
    title: "Show what crossed a workspace's border",
    description: "List what came into a workspace from the user's computer or the network and what left it: seed, pushes, patches, \
        exports, secrets by name, ports, connections with their bytes, and what was refused by which rule. Sizes and digests, never \
        contents. Call it when a connection fails, or to account for what was done.",
    promise: Promise::Looks,
    schema: schema_of::<CrossingsArguments>,
    call: |server, arguments, _| Box::pin(crossings(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct CrossingsArguments {
    /// Id or name
    workspace: String,
    /// Only those after the one of this number
    #[serde(default)]
    since: u64,
}

async fn crossings(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: CrossingsArguments = read(arguments)?;
    let (workspace, found) = server.workspaces().crossings(&arguments.workspace, arguments.since).map_err(teach)?;
    let crossings = found.into_iter().map(CrossingRow::from).collect();
    let text = CrossingList { workspace: workspace.record.id, crossings }.text(false);
    Ok(Answer::Text(cut(&text, CHARS_DEFAULT, "; call again with since")))
}
