//! `vm_run`: one command in a machine of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use pyro_engine::store::workspace_record::NetworkRecord;
use pyro_engine::supervisor::start::Warmth;
use pyro_engine::workspace::command::{CommandEnd, CommandRequest, CommandStreams, Exit};
use pyro_engine::workspace::machines::MachineSize;
use pyro_engine::workspace::run::{RunRequest, run};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::answer::{Answer, CHARS_DEFAULT, cut, readable};
use super::arguments::{no_longer, read, within};
use super::server::Server;
use super::tool::{Call, Promise, ToolDef, schema_of};
use crate::failure::{Failure, Kind};
use crate::report::captured::Shared;
use crate::report::units;

/// Longest time of a `vm_run`: its answer must be there before any host gives up.
const TIMEOUT_SECONDS_MAX: u64 = 40;
const TIMEOUT_SECONDS_DEFAULT: u64 = 30;

/// Longest command line: the longest argument that a kernel takes, in bytes.
const COMMAND_BYTES_MAX: usize = 131_071;
/// Longest name of an environment, in bytes.
const ENVIRONMENT_BYTES_MAX: usize = 200;

pub(super) const VM_RUN: ToolDef = ToolDef {
    name: "vm_run",
    title: "Run a command in a throw-away machine",
    description: "Run one shell command in a fresh, disposable Linux virtual machine and get its output; the machine is gone \
        afterwards. Use it to try a command, a snippet or an untrusted program that needs no files of the user. No network. For \
        work on a project use workspace_create. Environments: {environments}.",
    promise: Promise::ChangesGuest,
    schema: schema_of::<VmRunArguments>,
    call: |server, arguments, call| Box::pin(vm_run(server, arguments, call)),
};

#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct VmRunArguments {
    /// Shell command line, run by bash as root
    command: String,
    /// What is in the machine
    #[serde(default = "environment_default")]
    environment: String,
    /// Text for the command's standard input
    stdin: Option<String>,
    /// Kill the command after this many seconds
    #[serde(default = "timeout_default")]
    #[schemars(range(min = 1, max = 40))]
    timeout_seconds: u64,
    /// Virtual processors
    #[serde(default = "vcpu_default")]
    #[schemars(range(min = 1, max = 64))]
    vcpu_count: u32,
    /// Memory in MiB
    #[serde(default = "mem_default")]
    #[schemars(range(min = 256, max = 32768))]
    mem_mib: u32,
}

pub(super) fn environment_default() -> String {
    "debian:12".to_owned()
}

pub(super) fn vcpu_default() -> u32 {
    1
}

pub(super) fn mem_default() -> u32 {
    1024
}

fn timeout_default() -> u64 {
    TIMEOUT_SECONDS_DEFAULT
}

async fn vm_run(server: &Server, arguments: JsonObject, call: &Call) -> Result<Answer, Failure> {
    let arguments: VmRunArguments = read(arguments)?;
    let timeout = within("timeout_seconds", arguments.timeout_seconds, 1, TIMEOUT_SECONDS_MAX)?;
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    within("vcpu_count", arguments.vcpu_count.into(), 1, processors)?;
    within("mem_mib", arguments.mem_mib.into(), 256, 32_768)?;
    let request = RunRequest {
        environment: environment(arguments.environment)?,
        size: MachineSize { vcpu_count: arguments.vcpu_count, mem_mib: arguments.mem_mib, ..MachineSize::default() },
        warmth: Warmth::Warm,
        command: CommandRequest {
            argv: shell(&arguments.command)?,
            env: BTreeMap::new(),
            cwd: b"/root".to_vec(),
            timeout: Duration::from_secs(timeout),
            terminal: None,
        },
        network: NetworkRecord::default(),
    };
    // Both streams in one, as they come.
    let output = Shared::default();
    let (mut stdout, mut stderr) = (output.clone(), output.clone());
    let input = arguments.stdin.map(String::into_bytes);
    let mut source = input.as_deref();
    let (_control, receiver) = mpsc::channel(1);
    let streams = CommandStreams {
        stdin: source.as_mut().map(|source| source as _),
        stdout: &mut stdout,
        stderr: &mut stderr,
        control: receiver,
    };
    let outcome = tokio::select! {
        outcome = run(&server.settings, request, streams, &|_| ()) => outcome?,
        () = call.context.ct.cancelled() => {
            return Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled; the machine is gone"));
        }
    };
    let head = format!("{}\n", ended(outcome.command.end, outcome.command.duration_ms, timeout));
    let (bytes, _) = output.into_capture().into_bytes();
    let text = readable(&bytes);
    let body = if text.is_empty() { "(no output)".to_owned() } else { cut(&text, CHARS_DEFAULT, "") };
    Ok(Answer::Text(head + &body))
}

/// The command as a shell takes it.
///
/// # Errors
/// It is longer than a kernel takes.
pub(super) fn shell(command: &str) -> Result<Vec<Vec<u8>>, Failure> {
    no_longer(
        "command",
        command,
        COMMAND_BYTES_MAX,
        "run a script instead: pass it as stdin to a command such as bash -s",
    )?;
    Ok(["/bin/bash", "-lc", command].map(|word| word.as_bytes().to_vec()).to_vec())
}

/// The name of an environment, if it may be one.
///
/// # Errors
/// It is longer than any.
pub(super) fn environment(name: String) -> Result<String, Failure> {
    no_longer("environment", &name, ENVIRONMENT_BYTES_MAX, "pass one of those that the tool's description names")?;
    Ok(name)
}

/// How a command ended, in a line.
pub(super) fn ended(end: CommandEnd, duration_ms: u64, timeout_seconds: u64) -> String {
    let after = units::duration(Duration::from_millis(duration_ms));
    match end {
        CommandEnd::Exited(Exit::Code(code)) => format!("[exit code {code} after {after}]"),
        CommandEnd::Exited(Exit::Signal(signal)) => format!("[ended by signal {signal} after {after}]"),
        CommandEnd::Exited(Exit::TimedOut) => {
            format!("[exit code 124: killed at its time limit of {timeout_seconds} s; timeout_seconds sets it]")
        }
        CommandEnd::Exited(Exit::Killed) | CommandEnd::Interrupted | CommandEnd::OutputClosed => {
            format!("[killed after {after}]")
        }
    }
}
