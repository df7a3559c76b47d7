//! The tools for commands in a workspace: run one, follow one that goes on, look at all that ran.

use std::collections::BTreeMap;
use std::time::Duration;

use pyro_engine::supervisor::protocol::{Ask, Steer};
use pyro_engine::workspace::client::{CommandInput, ExecOptions, RunEvent, RunningCommand};
use pyro_engine::workspace::command::{CommandOutcome, CommandRequest};
use pyro_engine::workspace::logs::{LoggedCommand, commands, read_output};
use pyro_engine::workspace::{Workspace, WorkspaceError};
use regex::Regex;
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, CHARS_DEFAULT, CHARS_MAX, LINES_MAX, cut, readable};
use super::arguments::{read, within};
use super::progress::beat;
use super::run::{ended, shell};
use super::server::{Server, teach};
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::captured::Capture;
use crate::report::exec::LogRow;

/// Longest time that a call waits for a command: its answer must be there before any host gives up.
const WAIT_SECONDS_MAX: u64 = 40;
/// Time limit of a command that asks for none.
const TIMEOUT_SECONDS_DEFAULT: u64 = 600;
const TIMEOUT_SECONDS_MAX: u64 = 86_400;
/// Bytes of a command's output that are read from the disk at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of each command's output in the log of all.
const LOG_OUTPUT_BYTES: u64 = 2_000;
/// Commands in one page of the log.
const LOG_COMMANDS_MAX: usize = 30;

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
    /// Working directory in the machine
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

fn cwd_default() -> String {
    "/workspace".to_owned()
}

fn timeout_default() -> u64 {
    TIMEOUT_SECONDS_DEFAULT
}

fn wait_default() -> u64 {
    WAIT_SECONDS_MAX
}

fn chars_default() -> usize {
    CHARS_DEFAULT
}

async fn exec(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: ExecArguments = read(arguments)?;
    let timeout = within("timeout_seconds", arguments.timeout_seconds, 1, TIMEOUT_SECONDS_MAX)?;
    let wait = Duration::from_secs(within("wait_seconds", arguments.wait_seconds, 0, WAIT_SECONDS_MAX)?);
    let max_chars = chars(arguments.max_chars)?;
    let ready = server.connect(&arguments.workspace).await?;
    let request = CommandRequest {
        argv: shell(&arguments.command),
        env: arguments.env.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        cwd: arguments.cwd.into_bytes(),
        timeout: Duration::from_secs(timeout),
        terminal: None,
    };
    let options = ExecOptions { stays: true, by: call.by.clone() };
    let mut running = ready.connection.start_command(request, arguments.stdin.is_some(), options).await?;
    let exec_id = running.sequence.unwrap_or(0);
    let input = running.input();
    let mut output = Capture::default();
    let followed = tokio::select! {
        outcome = follow(&mut running, &mut output) => Some(outcome?),
        () = feed(arguments.stdin, &input) => None,
        () = tokio::time::sleep(wait) => None,
        () = call.context.ct.cancelled() => {
            // The machine may be gone by now, which ends the command, too.
            drop(input.steer(Steer::Kill).await);
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled, and its command killed"));
        }
        never = beat(call, "the command runs") => match never {},
    };
    let mut text = ready.note.map(|note| note + "\n").unwrap_or_default();
    match followed {
        Some(outcome) => {
            text.push_str(&format!("exec {exec_id} {}\n", ended(outcome.end, outcome.duration_ms, timeout)));
        }
        None => text.push_str(&still_running(exec_id)),
    }
    text.push_str(&body(exec_id, output, max_chars));
    Ok(Answer::Text(text))
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
            () = tokio::time::sleep(limit) => {}
            () = call.context.ct.cancelled() => {}
            never = beat(call, "the command runs") => match never {},
        }
        command = known().map_err(teach)?;
    }
    let row = LogRow::new(command.clone(), Capture::default());
    let head = match command.ended {
        Some(_) => format!("exec {}", row.foot().trim_start_matches('[').replacen("] ", " ", 1)),
        None => still_running(exec_id),
    };
    let body = match (pattern, arguments.cursor) {
        (Some(pattern), _) => matching(&workspace, exec_id, &pattern, max_chars)?,
        (None, Some(cursor)) => page(&workspace, exec_id, cursor, max_chars)?,
        (None, None) => {
            let mut output = Capture::default();
            each_piece(&workspace, exec_id, |piece| output.push(piece))?;
            body(exec_id, output, max_chars)
        }
    };
    Ok(Answer::Text(head + &body))
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
        let from = kept.saturating_sub(LOG_OUTPUT_BYTES);
        let piece = read_output(&workspace, sequence, from, LOG_OUTPUT_BYTES).map_err(teach)?;
        let row = LogRow::new(command, Capture::default());
        text.push_str(&row.head());
        if from > 0 {
            text.push_str(&format!(
                "[… the first {from} bytes left out; workspace_exec_wait with exec_id {sequence} shows all]\n"
            ));
        }
        let output = readable(&piece.bytes);
        text.push_str(&output);
        if !output.is_empty() && !output.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&row.foot());
    }
    if more > 0 {
        text.push_str(&format!("[{more} more commands; call again with since_exec]\n"));
    }
    Ok(Answer::Text(cut(&text, CHARS_MAX, "; call again with since_exec")))
}

fn chars(value: usize) -> Result<usize, Failure> {
    within("max_chars", value as u64, 200, CHARS_MAX as u64)?;
    Ok(value)
}

fn regex(pattern: &str) -> Result<Regex, Failure> {
    Regex::new(pattern).map_err(|error| {
        let words = error.to_string().lines().last().unwrap_or_default().to_owned();
        Failure::new(Kind::Usage, format!("the argument 'pattern' is no regular expression: {words}"))
            .hint("escape what is meant literally, and call again")
    })
}

fn still_running(exec_id: u64) -> String {
    format!("exec {exec_id} [still running; call workspace_exec_wait with exec_id {exec_id}; so far it printed:]\n")
}

/// The beginning and the end of an output.
fn body(exec_id: u64, output: Capture, max_chars: usize) -> String {
    let total_bytes = output.total_bytes();
    let (bytes, whole) = output.into_bytes();
    let text = readable(&bytes);
    if text.is_empty() {
        return "(no output)".to_owned();
    }
    let all = if whole { String::new() } else { format!(" of {total_bytes} bytes in all") };
    let more = format!("{all}; workspace_exec_wait with exec_id {exec_id} and a cursor or a pattern reads them");
    cut(&text, max_chars, &more)
}

fn each_piece(workspace: &Workspace, exec_id: u64, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut position = 0;
    loop {
        let piece = read_output(workspace, exec_id, position, PIECE_BYTES).map_err(teach)?;
        if piece.bytes.is_empty() {
            return Ok(());
        }
        position += piece.bytes.len() as u64;
        take(&piece.bytes);
    }
}

/// The output from a position on, as much as is asked for.
fn page(workspace: &Workspace, exec_id: u64, cursor: u64, max_chars: usize) -> Result<String, Failure> {
    let piece = read_output(workspace, exec_id, cursor, max_chars as u64).map_err(teach)?;
    let lines = piece.bytes.split_inclusive(|byte| *byte == b'\n').take(LINES_MAX - 10);
    let mut length: usize = lines.map(<[u8]>::len).sum();
    if cursor + (length as u64) < piece.kept_bytes {
        // A page ends with a line, where it holds one.
        length = piece.bytes[..length].iter().rposition(|byte| *byte == b'\n').map_or(length, |at| at + 1);
    }
    let next = cursor + length as u64;
    let foot = match next < piece.kept_bytes {
        true => format!("\n[bytes {cursor} to {next} of {}; go on with cursor {next}]", piece.kept_bytes),
        false => format!("\n[the end, at byte {next}]"),
    };
    Ok(readable(&piece.bytes[..length]) + &foot)
}

/// The lines of an output that match.
fn matching(workspace: &Workspace, exec_id: u64, pattern: &Regex, max_chars: usize) -> Result<String, Failure> {
    let mut all = Vec::new();
    each_piece(workspace, exec_id, |piece| all.extend_from_slice(piece))?;
    let text = readable(&all);
    let mut found = String::new();
    let mut count = 0_usize;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| pattern.is_match(line)) {
        count += 1;
        found.push_str(&format!("{}: {line}\n", number + 1));
    }
    Ok(match count {
        0 => format!("(none of {} lines matches)", text.lines().count()),
        _ => cut(&found, max_chars, "; a narrower pattern shows fewer"),
    })
}
