//! The tools for a workspace as a whole: make, list, change, look, reset, remove.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pyro_engine::progress::Progress;
use pyro_engine::store::disk_record::BASELINE;
use pyro_engine::store::workspace_record::NetworkRecord;
use pyro_engine::supervisor::secrets::Secrets;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::create::{CreateRequest, SeedSource, TTL_SECONDS_DEFAULT};
use pyro_engine::workspace::lifecycle::UpdateRequest;
use pyro_engine::workspace::machines::MachineSize;
use pyro_engine::workspace::network::NetworkChange;
use pyro_engine::workspace::seed::Reach;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, CHARS_DEFAULT};
use super::arguments::read;
use super::network::{NetworkArguments, NetworkChangeArguments, check_is_a_models, take_network, take_network_change};
use super::run::{environment, environment_default, mem_default, vcpu_default};
use super::server::{Server, teach};
use super::tool::{Call, Promise, ToolDef, schema_of, with_properties};
use crate::failure::{Failure, Kind};
use crate::report::seed::NoteReport;
use crate::report::snapshot::ResetReport;
use crate::report::workspace::{CreatedReport, DeletedReport, RemovedReport, StatusReport, WorkspaceReport};

/// Workspaces that are gone, and are named: the last ones.
const REMOVED_MAX: usize = 20;

pub(super) const CREATE: ToolDef = ToolDef {
    name: "workspace_create",
    title: "Create a workspace",
    description: "Create a disposable Linux virtual machine to work in, and answer with its id. Call it first, once a task, with \
        seed_path for a copy of the project. It takes about a second. You are root in it; /workspace is its project directory; there is no network. \
        Environments: {environments}.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<CreateArguments>,
    call: |server, arguments, call| Box::pin(create(server, arguments, NetworkRecord::default(), call)),
};

/// [`CREATE`], which can also give the machine a network. Its hints say so: this is the call by which a workspace comes to reach
/// anything, so it is the one that a host may ask its user about; what then runs in it reaches nothing else.
pub(super) const CREATE_FULL: ToolDef = ToolDef {
    description: "Create a disposable Linux virtual machine to work in, and answer with its id. Call it first, once a task, with \
        seed_path for a copy of the project. It takes about a second. You are root in it; /workspace is its project directory. \
        It has no network unless network_policy says so. Environments: {environments}.",
    promise: Promise::OpensGuest,
    schema: || with_properties(schema_of::<CreateArguments>(), schema_of::<NetworkArguments>()),
    call: |server, mut arguments, call| {
        Box::pin(async move {
            let network = take_network(server, &mut arguments)?;
            create(server, arguments, network, call).await
        })
    },
    ..CREATE
};

pub(super) const LIST: ToolDef = ToolDef {
    name: "workspace_list",
    title: "List workspaces",
    description: "List the workspaces of this computer, those of earlier sessions too, the one used last first. Of very many the \
        oldest are left out; labels narrow the list. removed names those that are gone because they had been stopped for a week.",
    promise: Promise::Looks,
    schema: schema_of::<ListArguments>,
    call: |server, arguments, _| Box::pin(list(server, arguments)),
};

pub(super) const UPDATE: ToolDef = ToolDef {
    name: "workspace_update",
    title: "Rename or label a workspace",
    description: "Change a workspace's name, labels, or the time after which it stops when unused.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<UpdateArguments>,
    call: |server, arguments, _| Box::pin(update(server, arguments)),
};

/// [`UPDATE`], which can also change what the machine reaches.
pub(super) const UPDATE_FULL: ToolDef = ToolDef {
    title: "Rename or label a workspace, or change its network",
    description: "Change a workspace's name, labels, the time after which it stops when unused, or what it may reach.",
    promise: Promise::OpensGuest,
    schema: || with_properties(schema_of::<UpdateArguments>(), schema_of::<NetworkChangeArguments>()),
    call: |server, arguments, _| Box::pin(update_with_network(server, arguments)),
    ..UPDATE
};

pub(super) const STATUS: ToolDef = ToolDef {
    name: "workspace_status",
    title: "Show a workspace's status",
    description: "Show what is going on in a workspace: state, commands that run, time to live, size on disk.",
    promise: Promise::Looks,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(status(server, arguments)),
};

pub(super) const RESET: ToolDef = ToolDef {
    name: "workspace_reset",
    title: "Reset a workspace",
    description: "Put a workspace back to exactly what it was when it was created, in about a second: files, installed \
        packages, processes. Use it to retry from a clean start. Changes that were not exported are lost.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(reset(server, arguments)),
};

pub(super) const DELETE: ToolDef = ToolDef {
    name: "workspace_delete",
    title: "Delete a workspace",
    description: "Remove a workspace with everything in it, when its task is done. Refuses while it holds changes that were never \
        diffed or exported, unless discard is true.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<DeleteArguments>,
    call: |server, arguments, _| Box::pin(delete(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateArguments {
    /// What is in the machine
    #[serde(default = "environment_default")]
    environment: String,
    /// What to call it: letters, digits, dots, dashes, underscores
    name: Option<String>,
    /// Notes on it, to find it by
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Directory or tar archive of the user's computer to copy to /workspace, such as "."; with its git history, without
    /// what git ignores. Without it /workspace is empty
    seed_path: Option<String>,
    /// Copy what git ignores, too
    #[serde(default)]
    seed_all: bool,
    /// Virtual processors
    #[serde(default = "vcpu_default")]
    #[schemars(range(min = 1, max = 64))]
    vcpu_count: u32,
    /// Memory in MiB
    #[serde(default = "mem_default")]
    #[schemars(range(min = 256, max = 32768))]
    mem_mib: u32,
    /// Disk in GiB; it takes only what is written
    #[serde(default = "disk_default")]
    #[schemars(range(min = 1, max = 256))]
    disk_gib: u32,
    /// Stop it when unused for so many seconds; its disk is kept
    #[serde(default = "ttl_default")]
    #[schemars(range(min = 60, max = 604_800))]
    ttl_seconds: u64,
}

fn disk_default() -> u32 {
    MachineSize::default().disk_gib
}

fn ttl_default() -> u64 {
    TTL_SECONDS_DEFAULT
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListArguments {
    /// Only those with all of these labels
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct UpdateArguments {
    /// Id or name
    workspace: String,
    /// New name
    name: Option<String>,
    /// Take its name away
    #[serde(default)]
    clear_name: bool,
    /// Labels to set
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Labels to remove
    #[serde(default)]
    clear_labels: BTreeSet<String>,
    /// Stop it when unused for so many seconds
    #[schemars(range(min = 60, max = 604_800))]
    ttl_seconds: Option<u64>,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneArguments {
    /// Id or name
    workspace: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteArguments {
    /// Id or name
    workspace: String,
    /// Lose changes that were never diffed or exported
    #[serde(default)]
    discard: bool,
}

async fn create(
    server: &Server,
    arguments: JsonObject,
    network: NetworkRecord,
    call: &Call,
) -> Result<Answer, Failure> {
    let arguments: CreateArguments = read(arguments)?;
    // Held open until the workspace is made, so that it stays what was checked.
    let source = arguments.seed_path.as_deref().map(|path| server.host_paths.open(path)).transpose()?;
    let seed = source.as_ref().map(|source| SeedSource {
        path: source.path.clone(),
        called: source.path.display().to_string(),
        all: arguments.seed_all,
        // A model cannot widen what it is shown.
        secrets: false,
        git: crate::settings::git_user(),
        reach: Reach::Within(server.host_paths.dirs()),
    });
    let request = CreateRequest {
        seed,
        environment: environment(arguments.environment)?,
        size: MachineSize {
            vcpu_count: arguments.vcpu_count,
            mem_mib: arguments.mem_mib,
            disk_gib: arguments.disk_gib,
        },
        ttl: Duration::from_secs(arguments.ttl_seconds),
        name: arguments.name,
        labels: arguments.labels,
        made_by: call.by.clone(),
        secrets: Secrets::clone(&server.secrets),
        network,
    };
    let settings = Arc::clone(&server.settings);
    // A task of its own: a slow host's first machine may take longer than a call, and must not be begun again each time.
    let mut making = tokio::spawn(async move {
        let _source = source;
        Workspaces::new(&settings).create(request, &|_: Progress| ()).await
    });
    let created = tokio::select! {
        made = &mut making => made.map_err(|error| Failure::of(Kind::Internal, &error))?.map_err(teach)?,
        () = call.context.ct.cancelled() => {
            making.abort();
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled; nothing was made"));
        }
        () = tokio::time::sleep(call.time_left()) => {
            return Err(Failure::new(Kind::Conflict, "the workspace is still being made; this host is slow to start its first machine")
                .hint("call workspace_list in a few seconds: it is the one made last; do not create another one"));
        }
    };
    let CreatedReport { workspace, seed_notes, secrets } = created.into();
    let seed_notes = seed_notes.into_iter().map(NoteReport::without_paths).collect();
    Ok(Answer::record(&CreatedReport { workspace, seed_notes, secrets }))
}

async fn list(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: ListArguments = read(arguments)?;
    let found = server.workspaces().list_labelled(&arguments.labels).map_err(teach)?;
    let (mut shown, mut chars) = (Vec::new(), 0);
    let count = found.len();
    for workspace in found {
        let row = Answer::value(&WorkspaceReport::from(workspace));
        chars += row.to_string().chars().count();
        if chars > CHARS_DEFAULT && !shown.is_empty() {
            break;
        }
        shown.push(row);
    }
    let mut record = json!({"workspaces": shown, "left_out": count - shown.len()});
    let removed: Vec<_> =
        server.workspaces().removed().into_iter().take(REMOVED_MAX).map(RemovedReport::from).collect();
    if !removed.is_empty() {
        record["removed"] = Answer::value(&removed);
    }
    Ok(Answer::Record(record))
}

async fn update(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    change(server, read(arguments)?, NetworkChange::default()).await
}

async fn update_with_network(server: &Server, mut arguments: JsonObject) -> Result<Answer, Failure> {
    let network = take_network_change(server, &mut arguments)?;
    let arguments: UpdateArguments = read(arguments)?;
    if !network.is_empty() {
        check_is_a_models(&server.workspaces().find(&arguments.workspace).map_err(teach)?)?;
    }
    change(server, arguments, network).await
}

async fn change(server: &Server, arguments: UpdateArguments, network: NetworkChange) -> Result<Answer, Failure> {
    let request = UpdateRequest {
        name: if arguments.clear_name { Some(None) } else { arguments.name.map(Some) },
        labels: arguments.labels,
        clear_labels: arguments.clear_labels,
        ttl: arguments.ttl_seconds.map(Duration::from_secs),
        network,
    };
    let updated = server.workspaces().update(&arguments.workspace, request).await.map_err(teach)?;
    Ok(Answer::record(&WorkspaceReport::from(updated)))
}

async fn status(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: OneArguments = read(arguments)?;
    let status = server.workspaces().status(&arguments.workspace).await.map_err(teach)?;
    Ok(Answer::record(&StatusReport::from(status)))
}

async fn reset(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: OneArguments = read(arguments)?;
    let was_reset = server.workspaces().reset(&arguments.workspace, BASELINE).await.map_err(teach)?;
    Ok(Answer::record(&ResetReport::from(was_reset)))
}

async fn delete(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: DeleteArguments = read(arguments)?;
    let gone = server.workspaces().delete(&arguments.workspace, arguments.discard).await.map_err(teach)?;
    Ok(Answer::record(&DeletedReport { id: gone.record.id, name: gone.record.name, deleted: true }))
}
