//! The tools for commands in a workspace: run one, follow one that goes on, look at all that ran.

use std::collections::BTreeMap;
use std::time::Duration;

use pyro_engine::supervisor::protocol::{Ask, Steer};
use pyro_engine::workspace::WorkspaceError;
use pyro_engine::workspace::client::{CommandInput, ExecOptions, RunEvent, RunningCommand};
use pyro_engine::workspace::command::{CommandOutcome, CommandRequest};
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::logs::{LoggedCommand, commands, read_output};
use regex::Regex;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, CHARS_MAX, cut, readable};
use super::arguments::{chars, chars_default, cwd_default, no_pattern, read, variables, within};
use super::network::refusals_in;
use super::output::{View, body, read_back};
use super::run::{ended, shell};
use super::server::{Server, teach};
use super::tool::{Call, Promise, ToolDef, schema_of, with_properties};
use crate::failure::{Failure, Kind};
use crate::report::captured::Capture;
use crate::report::exec::LogRow;

/// Longest time that a call waits for a command: its answer must be there before any host gives up.
const WAIT_SECONDS_MAX: u64 = 40;
/// Time limit of a command that asks for none.
const TIMEOUT_SECONDS_DEFAULT: u64 = 600;
const TIMEOUT_SECONDS_MAX: u64 = 86_400;
/// Bytes of each command's output in the log of all.
const LOG_OUTPUT_BYTES: u64 = 2_000;
/// Commands in one page of the log.
const LOG_COMMANDS_MAX: usize = 30;
/// A command's duration is by the guest's clock, a refusal's time by ours.
const CLOCKS_APART_MS: u64 = 500;

pub(super) const EXEC: ToolDef = ToolDef {
    name: "workspace_exec",
    title: "Run a command in a workspace",
    description: "Run a shell command in a workspace, as root, in /workspace unless cwd says otherwise: build, test, install, git, \
        anything. Answers with exit code and output (both streams, as they came). Answers within 45 s: a command that takes longer \
        goes on, and workspace_exec_wait with its exec_id follows it. Long output is cut in the middle; the whole stays readable \
        with workspace_exec_wait. Each call is a shell of its own.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<ExecArguments>,
    call: |server, arguments, call| Box::pin(exec(server, arguments, call)),
};

/// [`EXEC`], which can also be given secrets.
pub(super) const EXEC_FULL: ToolDef = ToolDef {
    schema: || with_properties(schema_of::<ExecArguments>(), schema_of::<SecretArguments>()),
    call: |server, arguments, call| Box::pin(exec_with_secrets(server, arguments, call)),
    ..EXEC
};

pub(super) const EXEC_WAIT: ToolDef = ToolDef {
    name: "workspace_exec_wait",
    title: "Wait for a command, or read its output",
    description: "Wait for a command of workspace_exec that still runs, read the whole output of any command piece by piece with \
        cursor, search it with pattern, or end it with kill.",
    promise: Promise::ChangesGuestOnce,
    schema: schema_of::<WaitArguments>,
    call: |server, arguments, call| Box::pin(wait(server, arguments, call)),
};

pub(super) const LOGS: ToolDef = ToolDef {
    name: "workspace_logs",
    title: "Show what was run in a workspace",
    description: "List the commands that were run in a workspace, how each ended, and the end of what it printed.",
    promise: Promise::Looks,
    schema: schema_of::<LogsArguments>,
    call: |server, arguments, _| Box::pin(logs(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExecArguments {
    /// Id or name
    workspace: String,
    /// Shell command line, run by bash as root
    command: String,
    /// Working directory in the machine, absolute or relative to /workspace
    #[serde(default = "cwd_default")]
    cwd: String,
    /// Variables for the command
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Text for its standard input
    stdin: Option<String>,
    /// Kill it after this many seconds
    #[serde(default = "timeout_default")]
    #[schemars(range(min = 1, max = 86400))]
    timeout_seconds: u64,
    /// Answer after this many seconds although it still runs; 0 answers at once
    #[serde(default = "wait_default")]
    #[schemars(range(min = 0, max = 40))]
    wait_seconds: u64,
    /// Most characters of output to answer with
    #[serde(default = "chars_default")]
    #[schemars(range(min = 200, max = 36000))]
    max_chars: usize,
}

/// What [`EXEC_FULL`] takes besides.
#[derive(Default, Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretArguments {
    /// Variables to fill with secrets of the workspace, each by the secret's name; workspace_status lists the names. Their
    /// values never appear in any answer
    #[serde(default)]
    secret_env: BTreeMap<String, String>,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct WaitArguments {
    /// Id or name
    workspace: String,
    /// Number of the command, as workspace_exec gave it
    exec_id: u64,
    /// Answer after this many seconds although it still runs
    #[serde(default = "wait_default")]
    #[schemars(range(min = 0, max = 40))]
    wait_seconds: u64,
    /// Read its output on from this position; without it the beginning and the end are shown
    cursor: Option<u64>,
    /// Show only lines that this regular expression matches, with their numbers
    pattern: Option<String>,
    /// Kill it, with everything it started
    #[serde(default)]
    kill: bool,
    /// Most characters of output to answer with
    #[serde(default = "chars_default")]
    #[schemars(range(min = 200, max = 36000))]
    max_chars: usize,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogsArguments {
    /// Id or name
    workspace: String,
    /// Only commands after the one of this number
    #[serde(default)]
    since_exec: u64,
}

fn timeout_default() -> u64 {
    TIMEOUT_SECONDS_DEFAULT
}

fn wait_default() -> u64 {
    WAIT_SECONDS_MAX
}

async fn exec(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    run(server, arguments, BTreeMap::new(), call).await
}

async fn exec_with_secrets(server: &Server, mut arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let secrets = arguments.remove_entry("secret_env").into_iter().collect();
    let SecretArguments { secret_env } = read(secrets)?;
    run(server, arguments, secret_env, call).await
}

async fn run(
    server: &Server,
    arguments: JsonObject,
    secret_env: BTreeMap<String, String>,
    call: &Call,
) -> Result<Answer, Failure> {
    let arguments: ExecArguments = read(arguments)?;
    let timeout = within("timeout_seconds", arguments.timeout_seconds, 1, TIMEOUT_SECONDS_MAX)?;
    let wait = Duration::from_secs(within("wait_seconds", arguments.wait_seconds, 0, WAIT_SECONDS_MAX)?);
    let max_chars = chars(arguments.max_chars)?;
    let ready = server.connect(&arguments.workspace).await?;
    let began_ms = now_ms();
    let request = CommandRequest {
        argv: shell(&arguments.command)?,
        env: variables(arguments.env),
        cwd: GuestPath::new(&arguments.cwd)?.as_bytes().to_vec(),
        timeout: Duration::from_secs(timeout),
        terminal: None,
    };
    let options = ExecOptions { stays: true, by: call.by.clone(), secret_env };
    let mut running = ready.connection.start_command(request, arguments.stdin.is_some(), options).await?;
    let exec_id = running.sequence.unwrap_or(0);
    let input = running.input();
    let mut output = Capture::default();
    let followed = tokio::select! {
        outcome = follow(&mut running, &mut output) => Some(outcome?),
        () = feed(arguments.stdin, &input) => None,
        () = tokio::time::sleep(wait.min(call.time_left())) => None,
        () = call.context.ct.cancelled() => {
            // The machine may be gone by now, which ends the command, too.
            drop(input.steer(Steer::Kill).await);
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled, and its command killed"));
        }
    };
    let mut text = ready.note.map(|note| note + "\n").unwrap_or_default();
    match followed {
        Some(outcome) => {
            text.push_str(&format!("exec {exec_id} {}\n", ended(outcome.end, outcome.duration_ms, timeout)));
        }
        None => text.push_str(&still_running(exec_id)),
    }
    text.push_str(&refusals_in(server, &ready.workspace, began_ms..=now_ms()).await);
    text.push_str(&body(exec_id, output, max_chars));
    Ok(Answer::Text(text))
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps what a command prints until it ends.
async fn follow(running: &mut RunningCommand, output: &mut Capture) -> Result<CommandOutcome, Failure> {
    loop {
        match running.next().await? {
            RunEvent::Output(_, bytes) => output.push(&bytes),
            RunEvent::Exited(outcome) => return Ok(outcome),
        }
    }
}

/// Passes standard input on; never comes back.
async fn feed(stdin: Option<String>, input: &CommandInput) {
    if let Some(text) = stdin {
        // A command that ended does not want it.
        if input.write(text.as_bytes()).await.is_ok() {
            drop(input.close().await);
        }
    }
    std::future::pending().await
}

async fn wait(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: WaitArguments = read(arguments)?;
    let limit = Duration::from_secs(within("wait_seconds", arguments.wait_seconds, 0, WAIT_SECONDS_MAX)?);
    let max_chars = chars(arguments.max_chars)?;
    let pattern = arguments.pattern.as_deref().map(regex).transpose()?;
    let workspace = server.workspaces().find(&arguments.workspace).map_err(teach)?;
    let exec_id = arguments.exec_id;
    let known = || -> Result<LoggedCommand, WorkspaceError> {
        let id = workspace.record.id.clone();
        let found = commands(&workspace)?.into_iter().find(|command| command.started.sequence == exec_id);
        found.ok_or(WorkspaceError::NoCommand { id, sequence: exec_id })
    };
    let mut command = known().map_err(teach)?;
    if command.ended.is_none()
        && let Ok(connection) = workspace.connect()
    {
        if arguments.kill {
            // It may have ended just now.
            drop(connection.ask(Ask::Kill { sequence: exec_id }).await);
        }
        tokio::select! {
            // A machine that is lost meanwhile has ended the command, which the log tells.
            _ = connection.wait(exec_id) => {}
            () = tokio::time::sleep(limit.min(call.time_left())) => {}
            () = call.context.ct.cancelled() => {}
        }
        command = known().map_err(teach)?;
    }
    let began_ms = command.started.at_ms;
    let until_ms = command.ended.map_or_else(now_ms, |ended| began_ms + ended.duration_ms + CLOCKS_APART_MS);
    let refusals = refusals_in(server, &workspace, began_ms..=until_ms).await;
    let row = LogRow::new(command.clone(), Capture::default());
    let head = match command.ended {
        Some(_) => format!("exec {}", row.foot().trim_start_matches('[').replacen("] ", " ", 1)),
        None => still_running(exec_id),
    };
    let view = match (pattern, arguments.cursor) {
        (Some(pattern), _) => View::Matching(pattern),
        (None, Some(cursor)) => View::From(cursor),
        (None, None) => View::Ends,
    };
    // There may be much of it, and other calls wait for this thread.
    let reading = tokio::task::spawn_blocking(move || read_back(&workspace, exec_id, view, max_chars));
    let body = reading.await.map_err(|error| Failure::of(Kind::Internal, &error))??;
    Ok(Answer::Text(head + &refusals + &body))
}

async fn logs(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: LogsArguments = read(arguments)?;
    let (workspace, found) = server.workspaces().logs(&arguments.workspace, arguments.since_exec).map_err(teach)?;
    if found.is_empty() {
        return Ok(Answer::Text("(nothing was run)".to_owned()));
    }
    let more = found.len().saturating_sub(LOG_COMMANDS_MAX);
    let mut text = String::new();
    for command in found.into_iter().take(LOG_COMMANDS_MAX) {
        let sequence = command.started.sequence;
        let kept = command.ended.map_or(0, |ended| ended.kept_bytes);
        let mut from = kept.saturating_sub(LOG_OUTPUT_BYTES);
        let output = match read_output(&workspace, sequence, from, LOG_OUTPUT_BYTES) {
            Err(WorkspaceError::OutputDropped { .. }) => "[what it printed is not kept any more]".to_owned(),
            piece => {
                let bytes = piece.map_err(teach)?.bytes;
                // The end of a long output begins with a whole line, where it has one.
                let line = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                let skipped = line.filter(|at| from > 0 && *at < bytes.len()).unwrap_or(0);
                from += skipped as u64;
                readable(&bytes[skipped..])
            }
        };
        let row = LogRow::new(command, Capture::default());
        text.push_str(&row.head());
        if from > 0 {
            text.push_str(&format!(
                "[… the first {from} bytes left out; workspace_exec_wait with exec_id {sequence} shows all]\n"
            ));
        }
        // Set in, so that nothing a command prints passes for a line of ours.
        for line in output.lines() {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str(&row.foot());
    }
    if more > 0 {
        text.push_str(&format!("[{more} more commands; call again with since_exec]\n"));
    }
    Ok(Answer::Text(cut(&text, CHARS_MAX, "; call again with since_exec")))
}

fn regex(pattern: &str) -> Result<Regex, Failure> {
    Regex::new(pattern).map_err(|error| no_pattern("pattern", &error))
}

fn still_running(exec_id: u64) -> String {
    format!("exec {exec_id} [still running; call workspace_exec_wait with exec_id {exec_id}; so far it printed:]\n")
}
