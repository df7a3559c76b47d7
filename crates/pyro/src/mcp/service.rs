//! The tools for services: commands that a workspace keeps running under a name.

use std::collections::BTreeMap;
use std::time::Duration;

use pyro_engine::supervisor::protocol::ReadyBy;
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::ports::parse_port;
use pyro_engine::workspace::services::{ReadyRequest, ServiceLog, ServiceRequest};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, readable};
use super::arguments::{chars, chars_default, cwd_default, read, variables, within};
use super::excerpt::Excerpt;
use super::run::shell;
use super::server::{Server, teach};
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::service::{ServiceList, ServiceReport, ServiceRow};

/// Longest time that a service may be told to take to be ready.
const READY_SECONDS_MAX: u64 = 3600;
/// Most lines of a log that are answered.
const TAIL_LINES_MAX: u64 = 1_900;

pub(super) const START: ToolDef = ToolDef {
    name: "service_start",
    title: "Start a service in a workspace",
    description: "Start a server, database or worker in a workspace and keep it running under a name. Waits until it is ready: give one of \
        ready_http, ready_tcp, ready_file, ready_command. A service that is not ready in its time is stopped, and the answer shows \
        what it printed last. publish makes a port of it reachable on the user's computer, at the address in the answer. Answers \
        within 45 s: one that is still starting then goes on, and service_status follows it.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<StartArguments>,
    call: |server, arguments, call| Box::pin(start(server, arguments, call)),
};

pub(super) const LIST: ToolDef = ToolDef {
    name: "service_list",
    title: "List the services of a workspace",
    description: "List the services of a workspace: state, exit code, ports, command.",
    promise: Promise::Looks,
    schema: schema_of::<ListArguments>,
    call: |server, arguments, _| Box::pin(list(server, arguments)),
};

pub(super) const STATUS: ToolDef = ToolDef {
    name: "service_status",
    title: "Show a service's status",
    description: "Show what is going on with a service: starting, running, exited with its code, failed or stopped, and why.",
    promise: Promise::Looks,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(status(server, arguments)),
};

pub(super) const LOGS: ToolDef = ToolDef {
    name: "service_logs",
    title: "Read what a service printed",
    description: "Read the last lines a service printed, also after it crashed or was stopped. Call again with cursor to read on.",
    promise: Promise::Looks,
    schema: schema_of::<LogsArguments>,
    call: |server, arguments, _| Box::pin(logs(server, arguments)),
};

pub(super) const STOP: ToolDef = ToolDef {
    name: "service_stop",
    title: "Stop a service",
    description: "End a service with everything it started, and close its published ports: TERM, and KILL for what is left after 5 s.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<OneArguments>,
    call: |server, arguments, _| Box::pin(stop(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct StartArguments {
    /// Id or name
    workspace: String,
    /// What to call the service: letters, digits, dots, dashes, underscores
    name: String,
    /// Shell command line, run by bash as root; let it stay in the foreground
    command: String,
    /// Working directory in the machine, absolute or relative to /workspace
    #[serde(default = "cwd_default")]
    cwd: String,
    /// Variables for it
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Secrets for it, by the variable that is to hold each: {"TOKEN": "name of the secret"}
    #[serde(default)]
    secret_env: BTreeMap<String, String>,
    /// Ready when a GET of this URL in the machine is answered with 200 to 399, such as http://localhost:8000/
    ready_http: Option<String>,
    /// Ready when connections are accepted at this HOST:PORT in the machine
    ready_tcp: Option<String>,
    /// Ready when this file is there
    ready_file: Option<String>,
    /// Ready when this shell command succeeds
    ready_command: Option<String>,
    /// How long it may take to be ready
    #[serde(default = "timeout_default")]
    #[schemars(range(min = 1, max = 3600))]
    ready_timeout_seconds: u64,
    /// Ports to publish on the user's computer: "8000" at a free port there, "8080:8000" at port 8080
    #[serde(default)]
    publish: Vec<String>,
    /// Start it again when the workspace is started after a stop
    #[serde(default)]
    restart_on_start: bool,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListArguments {
    /// Id or name
    workspace: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneArguments {
    /// Id or name
    workspace: String,
    /// Name of the service
    name: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogsArguments {
    /// Id or name
    workspace: String,
    /// Name of the service
    name: String,
    /// How many of the last lines of its last run
    #[serde(default = "lines_default")]
    #[schemars(range(min = 1, max = 1900))]
    tail_lines: u64,
    /// Read on from this position instead, as the answer before gave it
    cursor: Option<u64>,
    /// Most characters to answer with
    #[serde(default = "chars_default")]
    #[schemars(range(min = 200, max = 36000))]
    max_chars: usize,
}

fn timeout_default() -> u64 {
    30
}

fn lines_default() -> u64 {
    200
}

async fn start(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: StartArguments = read(arguments)?;
    let ready_by = arguments.ready_by()?;
    let timeout = within("ready_timeout_seconds", arguments.ready_timeout_seconds, 1, READY_SECONDS_MAX)?;
    let port = |text: &String| {
        parse_port(text)
            .map_err(|wrong| Failure::new(Kind::Usage, format!("the argument 'publish' holds '{text}'")).hint(wrong))
    };
    let connected = server.connect(&arguments.workspace).await?;
    let ready = ready_by.map(|by| ReadyRequest {
        by,
        timeout: Duration::from_secs(timeout),
        interval: pyro_engine::workspace::services::READY_INTERVAL_DEFAULT,
    });
    let request = ServiceRequest {
        name: arguments.name,
        argv: shell(&arguments.command)?,
        env: variables(arguments.env),
        cwd: GuestPath::new(&arguments.cwd)?.as_bytes().to_vec(),
        ready,
        publish: arguments.publish.iter().map(port).collect::<Result<_, _>>()?,
        restart_on_start: arguments.restart_on_start,
        wait: Some(call.time_left()),
        by: call.by.clone(),
        secret_env: arguments.secret_env,
    };
    let id = connected.workspace.record.id;
    // A call that is cancelled leaves, and the supervisor ends what it was waiting for.
    let workspaces = server.workspaces();
    let service = tokio::select! {
        started = workspaces.start_service(&id, request) => started.map_err(teach)?,
        () = call.context.ct.cancelled() => {
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled, and the service stopped"));
        }
    };
    Ok(Answer::record(&ServiceReport::new(id, service)))
}

impl StartArguments {
    fn ready_by(&self) -> Result<Option<ReadyBy>, Failure> {
        let wrong = |name: &str, why: &str| {
            Failure::new(Kind::Usage, format!("the argument '{name}' does not fit: {why}"))
                .hint("correct it, and call again")
        };
        let mut found = Vec::new();
        if let Some(url) = &self.ready_http {
            found.push(ReadyRequest::http(url).map_err(|why| wrong("ready_http", why))?);
        }
        if let Some(place) = &self.ready_tcp {
            found.push(ReadyRequest::tcp(place).map_err(|why| wrong("ready_tcp", why))?);
        }
        if let Some(path) = &self.ready_file {
            found.push(ReadyRequest::file(GuestPath::new(path)?.as_bytes().to_vec()));
        }
        found.extend(self.ready_command.clone().map(ReadyBy::Command));
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(Failure::new(
                Kind::Usage,
                "more than one of ready_http, ready_tcp, ready_file, ready_command is given",
            )
            .hint("give the one that tells it best")),
        }
    }
}

async fn list(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: ListArguments = read(arguments)?;
    let (workspace, services) = server.workspaces().services(&arguments.workspace).await.map_err(teach)?;
    let services = services.into_iter().map(ServiceRow::from).collect();
    Ok(Answer::record(&ServiceList { workspace: workspace.record.id, services }))
}

async fn status(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let OneArguments { workspace, name } = read(arguments)?;
    let (workspace, service) = server.workspaces().service(&workspace, &name).await.map_err(teach)?;
    Ok(Answer::record(&ServiceReport::new(workspace.record.id, service)))
}

async fn stop(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let OneArguments { workspace, name } = read(arguments)?;
    let id = server.workspaces().find(&workspace).map_err(teach)?.record.id;
    let service = server.workspaces().stop_service(&id, &name).await.map_err(teach)?;
    Ok(Answer::record(&ServiceReport::new(id, service)))
}

async fn logs(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: LogsArguments = read(arguments)?;
    let lines = within("tail_lines", arguments.tail_lines, 1, TAIL_LINES_MAX)?;
    let chars_max = chars(arguments.max_chars)?;
    let (workspace, service) =
        server.workspaces().service(&arguments.workspace, &arguments.name).await.map_err(teach)?;
    let log = ServiceLog::of(&workspace, &service);
    let from = match arguments.cursor {
        Some(cursor) => cursor,
        None => log.tail(usize::try_from(lines).unwrap_or(usize::MAX)).map_err(teach)?,
    };
    let (_, end) = log.extent().map_err(teach)?;
    let excerpt = Excerpt { tool: LOGS.name, cursor: from, end, chars_max };
    let read = |position, count| log.read(position, count as u64).map(|piece| (piece.position, piece.bytes));
    let (text, cursor) = excerpt.text(read, readable).map_err(teach)?;
    let row = ServiceRow::from(service);
    let body = if text.is_empty() { "(nothing was printed)" } else { &text };
    Ok(Answer::Text(format!("service {} {} [go on with cursor {cursor}]\n{body}", row.name, row.state_words())))
}
