//! The tools for a workspace that does not run: stop and start it, and look at its disk meanwhile.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_engine::Settings;
use pyro_engine::progress::Progress;
use pyro_engine::workspace::disk::{DiskMachine, ExportedDisk, SecretsOnDisk};
use pyro_engine::workspace::{WorkspaceError, Workspaces};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::arguments::read;
use super::files::{ListArguments, ListRequest, ReadArguments, ReadRequest};
use super::host_paths::HostPlace;
use super::server::{Server, teach};
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::workspace::WorkspaceReport;

pub(super) const STOP: ToolDef = ToolDef {
    name: "workspace_stop",
    title: "Stop a workspace",
    description: "Stop a workspace's machine in an orderly way and keep its disk and its snapshots; it takes no memory then. Processes \
        end. workspace_start, or any tool that needs the machine, starts it again.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(stop(server, arguments)),
};

pub(super) const START: ToolDef = ToolDef {
    name: "workspace_start",
    title: "Start a workspace",
    description: "Start the machine of a workspace that was stopped, on its disk as it was.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(start(server, arguments)),
};

pub(super) const LIST: ToolDef = ToolDef {
    name: "workspace_disk_list",
    title: "List files of a stopped workspace",
    description: "List a directory on the disk of a workspace that is stopped, or whose machine fails, without starting it.",
    promise: Promise::Looks,
    schema: schema_of::<ListArguments>,
    call: |server, arguments, _| Box::pin(list(server, arguments)),
};

pub(super) const READ: ToolDef = ToolDef {
    name: "workspace_disk_read",
    title: "Read a file of a stopped workspace",
    description: "Read a text file on the disk of a workspace that is stopped, or whose machine fails, without starting it.",
    promise: Promise::Looks,
    schema: schema_of::<ReadArguments>,
    call: |server, arguments, _| Box::pin(read_file(server, arguments)),
};

pub(super) const EXPORT: ToolDef = ToolDef {
    name: "workspace_disk_export",
    title: "Export the disk of a stopped workspace",
    description: "Write the whole disk of a stopped workspace to the user's computer as a raw ext4 image with holes. The output must \
        not exist yet. One that takes longer than a call goes on and answers state running: call again with the same arguments to \
        wait for it. For files use workspace_export.",
    promise: Promise::AddsToHost,
    schema: schema_of::<ExportArguments>,
    call: |server, arguments, call| Box::pin(export(server, arguments, call)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneArguments {
    /// Id or name
    workspace: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportArguments {
    /// Id or name
    workspace: String,
    /// Where to write on the user's computer, such as "fix.img"; absolute or relative to the server's directory
    output_path: String,
}

/// Exports that took longer than the call that began them, by the id of their workspace, of which one at a time can be exported.
/// They end with the server, and leave nothing then.
#[derive(Clone, Default)]
pub(super) struct DiskExports {
    going_on: Arc<Mutex<HashMap<String, (String, Exporting)>>>,
}

type Exporting = JoinHandle<Result<ExportedDisk, WorkspaceError>>;

impl DiskExports {
    /// The one of this workspace to this output.
    fn take(&self, id: &str, output: &str) -> Option<Exporting> {
        let mut going_on = self.lock();
        going_on
            .get(id)
            .is_some_and(|(to, _)| to == output)
            .then(|| going_on.remove(id))?
            .map(|(_, exporting)| exporting)
    }

    /// Where this workspace's disk is being written to, if it is.
    fn going_to(&self, id: &str) -> Option<String> {
        self.lock().get(id).filter(|(_, exporting)| !exporting.is_finished()).map(|(to, _)| to.clone())
    }

    fn keep(&self, id: String, output: String, exporting: Exporting) {
        self.lock().insert(id, (output, exporting));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (String, Exporting)>> {
        // Every critical section only moves values.
        self.going_on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn stop(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let OneArguments { workspace } = read(arguments)?;
    let stopped = server.workspaces().stop(&workspace).await.map_err(teach)?;
    Ok(Answer::record(&WorkspaceReport::from(stopped)))
}

async fn start(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let OneArguments { workspace } = read(arguments)?;
    let workspaces = server.workspaces();
    let found = workspaces.find(&workspace).map_err(teach)?;
    // Its new supervisor has to be told again what this server knows of its secrets.
    let secrets = server.secrets.named(&found.record.secrets);
    let started = workspaces.start(&found.record.id, &secrets, &|_: Progress| ()).await.map_err(teach)?;
    Ok(Answer::record(&WorkspaceReport::from(started)))
}

async fn list(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let request = ListRequest::read(arguments)?;
    let disk = open(&server.workspaces(), &request.workspace).await.map_err(teach)?;
    let text = request.text(&disk).await;
    disk.close().await;
    Ok(Answer::Text(text?))
}

async fn read_file(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let request = ReadRequest::read(arguments)?;
    let disk = open(&server.workspaces(), &request.workspace).await.map_err(teach)?;
    let text = request.text(&disk).await;
    disk.close().await;
    Ok(Answer::Text(text?))
}

async fn open(workspaces: &Workspaces<'_>, workspace: &str) -> Result<DiskMachine, WorkspaceError> {
    workspaces.open_disk(workspace, SecretsOnDisk::Refused, &|_: Progress| ()).await
}

async fn export(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let ExportArguments { workspace, output_path } = read(arguments)?;
    let place = server.host_paths.place(&output_path)?;
    let shown = place.path.display().to_string();
    let id = server.workspaces().find(&workspace).map_err(teach)?.record.id;
    let begun = server.disk_exports.take(&id, &shown);
    if let (None, Some(other)) = (&begun, server.disk_exports.going_to(&id)) {
        return Err(Failure::new(
            Kind::Conflict,
            format!("the disk of workspace {id} is still being written to {other}"),
        )
        .hint("call workspace_disk_export again with that output_path to wait for it"));
    }
    let mut exporting = match begun {
        Some(begun) => begun,
        None => tokio::spawn(write_disk(Arc::clone(&server.settings), id.clone(), place)),
    };
    tokio::select! {
        written = &mut exporting => {
            let written = written.map_err(|error| Failure::of(Kind::Internal, &error))?.map_err(teach)?;
            Ok(Answer::Record(json!({
                "state": "written", "output_path": shown, "size_bytes": written.size_bytes,
                "allocated_bytes": written.allocated_bytes, "sha256": written.sha256,
            })))
        }
        () = call.context.ct.cancelled() => {
            exporting.abort();
            Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled; nothing was written"))
        }
        () = tokio::time::sleep(call.time_left()) => {
            server.disk_exports.keep(id, shown.clone(), exporting);
            let next = "call workspace_disk_export again with the same arguments to wait for it";
            Ok(Answer::Record(json!({"state": "running", "output_path": shown, "next": next})))
        }
    }
}

/// Writes a disk. Where it is written to is the directory that was checked, whatever becomes of its name meanwhile.
async fn write_disk(settings: Arc<Settings>, id: String, place: HostPlace) -> Result<ExportedDisk, WorkspaceError> {
    let output = Path::new("/proc/self/fd").join(place.dir.as_raw_fd().to_string()).join(&place.name);
    let disk = open(&Workspaces::new(&settings), &id).await?;
    disk.export(&output, &place.path.display().to_string(), &|_: Progress| ()).await
}

#[cfg(test)]
mod tests {
    use super::DiskExports;

    #[tokio::test]
    async fn an_export_is_waited_for_by_whoever_asks_for_the_same() {
        let exports = DiskExports::default();
        assert!(exports.take("id", "a.img").is_none() && exports.going_to("id").is_none());
        exports.keep("id".to_owned(), "a.img".to_owned(), tokio::spawn(std::future::pending()));
        assert_eq!(exports.going_to("id").as_deref(), Some("a.img"));
        assert!(exports.take("id", "b.img").is_none() && exports.take("other", "a.img").is_none());
        let begun = exports.take("id", "a.img").unwrap();
        assert!(exports.going_to("id").is_none() && exports.take("id", "a.img").is_none());
        begun.abort();
        drop(begun.await);
    }
}
