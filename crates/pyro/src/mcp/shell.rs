//! The tools for shells that stay: open one, type, read, interrupt, close.

use std::collections::BTreeMap;
use std::time::Duration;

use pyro_engine::supervisor::shell_protocol::{SHELL_COLS_MAX, SHELL_INPUT_BYTES_MAX, SHELL_ROWS_MAX, ShellStatus};
use pyro_engine::workspace::command::TerminalSize;
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::shell::plain::PlainText;
use pyro_engine::workspace::shell::{ShellRequest, ShellSignal, ShellWait, Waited, keys, page, pattern, shell_id};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::answer::{Answer, cut};
use super::arguments::{chars, chars_default, cwd_default, no_longer, no_pattern, read, variables, within};
use super::excerpt::Excerpt;
use super::server::{Server, teach};
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::clean::lines;
use crate::report::shell::{Screen, ShellClosed, ShellFields, ShellReport, ShellSignaled, ShellWritten};

/// Longest time that a call waits: its answer must be there before any host gives up.
const WAIT_SECONDS_MAX: u64 = 40;

pub(super) const OPEN: ToolDef = ToolDef {
    name: "shell_open",
    title: "Open a shell",
    description: "Open an interactive shell (bash on a terminal, as root) that stays open between calls, and answer with its id. Use it \
        for what needs a terminal or keeps its state: a REPL, a debugger, a full-screen program, a session with cd and variables. For a \
        single command use workspace_exec. Then shell_write types and shell_read shows what comes of it.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<OpenArguments>,
    call: |server, arguments, call| Box::pin(open(server, arguments, call)),
};

pub(super) const READ: ToolDef = ToolDef {
    name: "shell_read",
    title: "Read from a shell",
    description: "Show what a shell printed from a cursor on, at once, or as soon as wait_for matches or it is quiet for \
        wait_for_idle_ms. The first line says whether the shell runs, and the cursor to go on with. screen shows what a person would see now: \
        use it for full-screen programs. workspace_status lists the shells that run.",
    promise: Promise::Looks,
    schema: schema_of::<ReadArguments>,
    call: |server, arguments, call| Box::pin(read_shell(server, arguments, call)),
};

pub(super) const WRITE: ToolDef = ToolDef {
    name: "shell_write",
    title: "Type into a shell",
    description: "Type text into a shell, then press Enter. Answers at once, with the cursor from which shell_read shows what comes of it. \
        Keys without a letter are written as escapes: \\u0003 is Ctrl-C, \\u0004 Ctrl-D, \\u001b[A the up key.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<WriteArguments>,
    call: |server, arguments, _| Box::pin(write(server, arguments)),
};

pub(super) const SIGNAL: ToolDef = ToolDef {
    name: "shell_signal",
    title: "Interrupt what runs in a shell",
    description: "Send a signal to what runs in a shell's foreground; INT is what Ctrl-C does. The shell itself gets it while it waits for a command.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<SignalArguments>,
    call: |server, arguments, _| Box::pin(signal(server, arguments)),
};

pub(super) const CLOSE: ToolDef = ToolDef {
    name: "shell_close",
    title: "Close a shell",
    description: "End a shell with everything that runs in it, and forget what it printed.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<CloseArguments>,
    call: |server, arguments, _| Box::pin(close(server, arguments)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct OpenArguments {
    /// Id or name
    workspace: String,
    /// Working directory in the machine, absolute or relative to /workspace
    #[serde(default = "cwd_default")]
    cwd: String,
    /// Variables of its environment
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Variables to fill with secrets of the workspace, each by the secret's name; workspace_status lists the names. Their
    /// values are never shown
    #[serde(default)]
    secret_env: BTreeMap<String, String>,
    /// Columns of its terminal
    #[serde(default = "cols_default")]
    #[schemars(range(min = 2, max = 400))]
    cols: u16,
    /// Lines of its terminal
    #[serde(default = "rows_default")]
    #[schemars(range(min = 2, max = 200))]
    rows: u16,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadArguments {
    /// Id or name
    workspace: String,
    /// Id of the shell, such as s1
    shell: String,
    /// Leave out what it printed before this position; the answer to shell_write or shell_read names it
    #[serde(default)]
    cursor: u64,
    /// Wait until this regular expression matches what it prints from the cursor on, such as ">>> $" for a prompt
    wait_for: Option<String>,
    /// Wait until it has printed nothing for so many milliseconds
    #[schemars(range(min = 1, max = 30000))]
    wait_for_idle_ms: Option<u64>,
    /// Answer after this many seconds although what is waited for did not come
    #[serde(default = "wait_default")]
    #[schemars(range(min = 0, max = 40))]
    wait_seconds: u64,
    /// Show what is on the screen now instead
    #[serde(default)]
    screen: bool,
    /// Leave terminal escapes out; false shows them as text
    #[serde(default = "plain_default")]
    plain: bool,
    /// Most characters to answer with
    #[serde(default = "chars_default")]
    #[schemars(range(min = 200, max = 36000))]
    max_chars: usize,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteArguments {
    /// Id or name
    workspace: String,
    /// Id of the shell, such as s1
    shell: String,
    /// What to type, at most 64 KiB
    input: String,
    /// Press Enter after it
    #[serde(default = "newline_default")]
    newline: bool,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignalArguments {
    /// Id or name
    workspace: String,
    /// Id of the shell, such as s1
    shell: String,
    /// Which
    #[serde(default = "signal_default")]
    #[schemars(extend("enum" = ["HUP", "INT", "TERM", "KILL"]))]
    signal: String,
}

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct CloseArguments {
    /// Id or name
    workspace: String,
    /// Id of the shell, such as s1
    shell: String,
}

fn cols_default() -> u16 {
    120
}

fn rows_default() -> u16 {
    30
}

fn wait_default() -> u64 {
    10
}

fn plain_default() -> bool {
    true
}

fn newline_default() -> bool {
    true
}

fn signal_default() -> String {
    ShellSignal::Int.name().to_owned()
}

async fn open(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: OpenArguments = read(arguments)?;
    within("cols", arguments.cols.into(), 2, SHELL_COLS_MAX.into())?;
    within("rows", arguments.rows.into(), 2, SHELL_ROWS_MAX.into())?;
    let request = ShellRequest {
        cwd: GuestPath::new(&arguments.cwd)?.as_bytes().to_vec(),
        env: variables(arguments.env),
        size: TerminalSize { rows: arguments.rows, cols: arguments.cols },
        by: call.by.clone(),
        secret_env: arguments.secret_env,
    };
    let ready = server.connect(&arguments.workspace).await?;
    let status = ready.connection.open_shell(request).await?;
    let mut record = Answer::value(&ShellReport::new(ready.workspace.record.id, status));
    if let (Some(note), Some(record)) = (ready.note, record.as_object_mut()) {
        record.insert("note".to_owned(), note.into());
    }
    Ok(Answer::Record(record))
}

async fn read_shell(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: ReadArguments = read(arguments)?;
    let wait = wait(&arguments, call)?;
    chars(arguments.max_chars)?;
    let shell = shell_id(&arguments.shell).map_err(teach)?;
    let workspaces = server.workspaces();
    let workspace = workspaces.find(&arguments.workspace).map_err(teach)?;
    let id = &workspace.record.id;
    let (status, waited) = match &wait {
        Some(wait) => tokio::select! {
            done = workspaces.wait_for_shell(id, shell, arguments.cursor, wait) => {
                let (status, waited) = done.map_err(teach)?;
                (status, Some(waited))
            }
            () = call.context.ct.cancelled() => {
                return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled; the shell goes on"));
            }
        },
        None => (workspaces.shell(id, shell).await.map_err(teach)?, None),
    };
    if arguments.screen {
        let screen = Screen::from(workspaces.shell_screen(id, shell).await.map_err(teach)?);
        let text = screen.text();
        let head = head(status, waited.as_ref(), screen.cursor());
        return Ok(Answer::Text(head + &cut(&text, arguments.max_chars, "; a smaller terminal shows less")));
    }
    let excerpt = Excerpt {
        tool: READ.name,
        cursor: arguments.cursor,
        end: status.printed_bytes,
        chars_max: arguments.max_chars,
    };
    let read = |position, count| page(&workspace, &status, position, count).map(|part| (part.position, part.bytes));
    let (body, cursor) = excerpt.text(read, |bytes| shown(bytes, &status, arguments.plain)).map_err(teach)?;
    Ok(Answer::Text(head(status, waited.as_ref(), cursor) + &body))
}

/// What was printed as text: plain, or with its escapes written out.
fn shown(bytes: &[u8], status: &ShellStatus, plain: bool) -> String {
    if !plain {
        return lines(bytes);
    }
    let mut text = PlainText::new(status.record.cols);
    text.push(bytes);
    text.text()
}

fn wait(arguments: &ReadArguments, call: &Call) -> Result<Option<ShellWait>, Failure> {
    let seconds = within("wait_seconds", arguments.wait_seconds, 0, WAIT_SECONDS_MAX)?;
    let pattern = arguments.wait_for.as_deref().map(pattern).transpose();
    let pattern = pattern.map_err(|error| no_pattern("wait_for", &error))?;
    let quiet = arguments.wait_for_idle_ms.map(|ms| within("wait_for_idle_ms", ms, 1, 30_000)).transpose()?;
    if pattern.is_none() && quiet.is_none() {
        return Ok(None);
    }
    let limit = Duration::from_secs(seconds).min(call.time_left());
    Ok(Some(ShellWait { pattern, quiet: quiet.map(Duration::from_millis), limit }))
}

/// The line that says where a shell is, and where it goes on.
fn head(status: ShellStatus, waited: Option<&Waited>, cursor: u64) -> String {
    let waited = match waited {
        None => "",
        Some(Waited::Matched(_)) => ", wait_for matched",
        Some(Waited::Quiet) => ", it is quiet",
        Some(Waited::Ended) => ", it ended",
        Some(Waited::TimedOut) => ", what was waited for did not come in time",
    };
    let shell = ShellFields::from(status);
    format!("shell {} [{}{waited}; go on with cursor {cursor}]\n", shell.shell, shell.in_words())
}

async fn write(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: WriteArguments = read(arguments)?;
    no_longer("input", &arguments.input, SHELL_INPUT_BYTES_MAX - 1, "write it to a file with workspace_file_write")?;
    let shell = shell_id(&arguments.shell).map_err(teach)?;
    let keys = keys(arguments.input.as_bytes(), arguments.newline).map_err(teach)?;
    let connection = server.workspaces().connect(&arguments.workspace).map_err(teach)?;
    let cursor = connection.type_into_shell(shell, keys).await?;
    Ok(Answer::record(&ShellWritten { workspace: connection.id, shell: shell.to_string(), cursor }))
}

async fn signal(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: SignalArguments = read(arguments)?;
    let shell = shell_id(&arguments.shell).map_err(teach)?;
    let named = |signal: &ShellSignal| signal.name() == arguments.signal;
    let Some(signal) = ShellSignal::ALL.into_iter().find(named) else {
        let given: String = arguments.signal.chars().take(40).collect();
        return Err(Failure::new(
            Kind::Usage,
            format!("the argument 'signal' is '{given}', expected HUP, INT, TERM or KILL"),
        )
        .hint("call again with one of those"));
    };
    let connection = server.workspaces().connect(&arguments.workspace).map_err(teach)?;
    connection.signal_shell(shell, signal).await?;
    let sent = ShellSignaled { workspace: connection.id, shell: shell.to_string(), signal: signal.name() };
    Ok(Answer::record(&sent))
}

async fn close(server: &Server, arguments: JsonObject) -> Result<Answer, Failure> {
    let arguments: CloseArguments = read(arguments)?;
    let shell = shell_id(&arguments.shell).map_err(teach)?;
    let workspace = server.workspaces().close_shell(&arguments.workspace, shell).await.map_err(teach)?;
    Ok(Answer::record(&ShellClosed::new(workspace.record.id, shell)))
}
