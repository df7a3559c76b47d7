//! `workspace_sync_push`: files of the host, brought into a workspace that runs.

use pyro_engine::workspace::create::SeedSource;
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::seed::Reach;
use pyro_engine::workspace::sync::{PushRequest, push};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, CHARS_MAX, cut};
use super::arguments::read;
use super::files::with_note;
use super::server::{Ready, Server};
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::Report;
use crate::report::sync::PushReport;

pub(super) const PUSH: ToolDef = ToolDef {
    name: "workspace_sync_push",
    title: "Send files to a workspace",
    description: "Send a directory of the user's computer into a workspace that exists: only what differs is sent. For a project \
        that changed there after workspace_create. The source wins: changes of the workspace that it overwrites are named in the answer.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<PushArguments>,
    call: |server, arguments, call| Box::pin(push_source(server, arguments, call)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct PushArguments {
    /// Id or name
    workspace: String,
    /// Directory or tar archive on the user's computer
    source: String,
    /// Directory in the workspace, absolute or relative to /workspace
    #[serde(default = "destination_default")]
    destination: String,
    /// Remove what the source lacks, but not what git ignores
    #[serde(default)]
    delete: bool,
    /// What git ignores, too
    #[serde(default)]
    ignored_too: bool,
}

fn destination_default() -> String {
    ".".to_owned()
}

async fn push_source(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: PushArguments = read(arguments)?;
    let destination = GuestPath::new(&arguments.destination)?;
    // Held open until it is read, so that it stays what was checked.
    let opened = server.host_paths.open(&arguments.source)?;
    let Ready { workspace, connection, note } = server.connect(&arguments.workspace).await?;
    let called = opened.path.display().to_string();
    let source = SeedSource {
        path: opened.path.clone(),
        called: called.clone(),
        all: arguments.ignored_too,
        // A model cannot widen what it is shown.
        secrets: false,
        git: crate::settings::git_user(),
        reach: Reach::Within(server.host_paths.dirs()),
    };
    let request = PushRequest {
        source: source.for_workspace(&workspace),
        destination: destination.clone(),
        delete: arguments.delete,
        called: called.clone(),
    };
    let pushed = tokio::select! {
        pushed = push(&connection, request, &|_| ()) => pushed?,
        () = call.context.ct.cancelled() => {
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled; what was sent stays"));
        }
        () = tokio::time::sleep(call.time_left()) => {
            return Err(Failure::new(Kind::Conflict, "there is more to send than one call has time for; what was sent stays")
                .hint("call workspace_sync_push again: it goes on with what is missing"));
        }
    };
    let report = PushReport::new(connection.id, called, &destination, pushed);
    let notes: String = report.notes.iter().map(|note| format!("{}\n", note.line())).collect();
    Ok(Answer::Text(with_note(note, cut(&(report.text(false) + &notes), CHARS_MAX, ""))))
}
