//! `workspace_export`: files, or the patch, from a workspace to the host; only where the server's user allows it, and never
//! over something that is there.

use std::os::fd::AsRawFd;
use std::path::Path;

use pyro_engine::progress::Progress;
use pyro_engine::workspace::diff::DiffRequest;
use pyro_engine::workspace::export::{ExportError, ExportRequest, Output, export, export_patch};
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::seen;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;
use serde_json::json;

use super::answer::Answer;
use super::arguments::read;
use super::server::{Ready, Server};
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};

pub(super) const EXPORT: ToolDef = ToolDef {
    name: "workspace_export",
    title: "Export from a workspace to the user's computer",
    description: "Write a file or directory of a workspace to the user's computer, or with as_patch the patch of all changes, for the \
        user to apply with git apply. The output must not exist yet.",
    promise: Promise::AddsToHost,
    schema: schema_of::<ExportArguments>,
    call: |server, arguments, call| Box::pin(take_home(server, arguments, call)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportArguments {
    /// Id or name
    workspace: String,
    /// Where to write on the user's computer, such as "fix.patch"; absolute or relative to the server's directory
    output_path: String,
    /// File or directory of the workspace
    #[serde(default = "path_default")]
    path: String,
    /// Write the patch of what changed at or below path
    #[serde(default)]
    as_patch: bool,
}

fn path_default() -> String {
    "/workspace".to_owned()
}

async fn take_home(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: ExportArguments = read(arguments)?;
    let path = GuestPath::new(&arguments.path)?;
    let place = server.host_paths.place(&arguments.output_path)?;
    // The directory that was checked, whatever becomes of its name meanwhile.
    let opened = Path::new("/proc/self/fd").join(place.dir.as_raw_fd().to_string()).join(&place.name);
    let shown = place.path.display().to_string();
    let output = Output { path: opened, called: shown.clone(), force: false, secrets: false };
    let Ready { connection, .. } = server.connect(&arguments.workspace).await?;
    let whole = path == GuestPath::workspace();
    let work = async {
        if arguments.as_patch {
            let paths = if whole { Vec::new() } else { vec![path.as_bytes().to_vec()] };
            let request = DiffRequest { paths, all: false };
            let written = export_patch(&connection, &request, &output).await?;
            if whole {
                // A workspace that went away meanwhile has nothing to lose any more.
                drop(seen::tell(&connection, seen::name(&written.summary)).await);
            }
            return Ok(json!({
                "output_path": shown, "patch": true, "changed_paths": written.summary.files.len(), "bytes": written.bytes,
                "sha256": written.sha256,
            }));
        }
        // What changes while the files are on their way was not taken home, so the name is from before.
        let name = if whole { seen::current(&connection).await.ok().flatten() } else { None };
        let request = ExportRequest { path, output };
        let summary = export(&connection, &request, &|_: Progress| ()).await?;
        drop(seen::tell(&connection, name).await);
        Ok(json!({
            "output_path": shown, "patch": false, "files": summary.files, "directories": summary.directories,
            "links": summary.links, "bytes": summary.bytes, "sha256": summary.sha256, "left_out": summary.note_count,
        }))
    };
    let record = tokio::select! {
        done = work => done.map_err(|error| failure(error, &place.path))?,
        () = call.context.ct.cancelled() => {
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled; nothing was written"));
        }
    };
    Ok(Answer::Record(record))
}

/// The failure in words that name the output as its caller does.
fn failure(error: ExportError, output: &Path) -> Failure {
    let output = output.display();
    match error {
        ExportError::Exists { .. } => {
            Failure::new(Kind::Conflict, format!("{output} is there already")).hint("choose another output_path")
        }
        ExportError::NoDirectory { .. } => Failure::new(Kind::NotFound, format!("there is no directory for {output}"))
            .hint("choose another output_path"),
        ExportError::Write { source, .. } => {
            Failure::new(Kind::HostNotReady, format!("cannot write {output}: {source}"))
                .hint("choose another output_path")
        }
        ExportError::Secrets { .. } => Failure::of(Kind::Conflict, &error)
            .hint("nothing was written; take the secret out of it, or export a part without it"),
        ExportError::TooMuch { .. } => Failure::of(Kind::Conflict, &error).hint("export a smaller part"),
        ExportError::Diff(error) => error.into(),
        ExportError::Tool(error) => error.into(),
    }
}
