//! `workspace exec`: a command in a workspace. The guest's bytes pass through as they come.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pyro_engine::progress::{Progress, Reporter};
use pyro_engine::supervisor::protocol::{LiveStatus, NetworkRefusal};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::client::{Connection, ExecOptions};
use pyro_engine::workspace::command::{CommandRequest, CommandStreams};
use pyro_engine::workspace::shell::LOGIN_SHELL;

use super::super::Face;
use super::super::attached::{Attached, TIMEOUT_DEFAULT_SECONDS, TIMEOUT_MAX_SECONDS, terminal_size, variable_parser};
use super::command_line;
use super::secrets::grant;
use crate::failure::{Failure, Kind};
use crate::report::exec::{DetachedReport, ExecReport};
use crate::report::network::{Advice, refused};
use crate::{interrupt, report};

const EXAMPLES: &str = "\
The words after -- are passed to the guest as they are, without a shell in between:
  pyro workspace exec fix -- make test
  pyro workspace exec fix -- sh -lc 'cd src && ls | wc -l'
  pyro workspace exec -t fix                a shell in the workspace
  pyro workspace exec --detach fix -- make  goes on by itself; 'pyro workspace wait' and 'kill' know it by its number

Exit code: the command's own; 124 when it ran too long, 125 when pyro failed, 126 and 127 when the
command cannot be executed or is not there, 130 after Ctrl-C.";

/// Arguments of `workspace exec`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The program and its arguments; with -i or -t a shell when left out
    #[arg(last = true, value_name = "ARG")]
    argv: Vec<OsString>,
    /// Kill the command after this long [default: 30, with -t and --detach no limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MAX_SECONDS))]
    timeout_seconds: Option<u64>,
    /// Working directory in the guest
    #[arg(long, value_name = "DIR", default_value = "/workspace")]
    cwd: OsString,
    /// A variable of the command's environment; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable_parser())]
    env: Vec<(String, Vec<u8>)>,
    /// A secret of the workspace for the command, in the variable of its name or another; may be repeated
    #[arg(long, value_name = "SECRET[=ENV]", value_parser = grant)]
    secret_env: Vec<(String, String)>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal; passes standard input on, too
    #[arg(short = 't', long, conflicts_with_all = ["json", "detach"])]
    tty: bool,
    /// Start it, and leave it running
    #[arg(long, conflicts_with = "stdin")]
    detach: bool,
    /// Print one JSON object with the command's output when it has ended
    #[arg(long)]
    pub(super) json: bool,
}

impl ExecArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let (json, stdin, detach) = (self.json, self.stdin || self.tty, self.detach);
        let workspace = self.workspace.clone();
        let secret_env: BTreeMap<_, _> = self.secret_env.iter().cloned().map(|(secret, name)| (name, secret)).collect();
        let request = self.request()?;
        let connection = Workspaces::new(&settings).connect(&workspace)?;
        if detach {
            let options = ExecOptions { stays: true, by: command_line(), secret_env };
            return interrupt::block_on(leave_running(connection, request, options, json, face));
        }
        let attached = Attached::new(face.painter(), stdin, request.terminal.is_some());
        let timeout = request.timeout;
        let id = connection.id.clone();
        let work = async |streams: CommandStreams<'_>, report: Reporter<'_>| {
            let options = ExecOptions { stays: false, by: command_line(), secret_env };
            let mut sequence = 0;
            let begun = |number| {
                sequence = number;
                report(Progress::Over);
            };
            let outcome = connection.exec(request, options, streams, begun).await?;
            Ok((outcome, sequence))
        };
        let started = SystemTime::now();
        if json {
            let ((outcome, sequence), output) = interrupt::block_on(attached.captured(work))?;
            let refusals = interrupt::block_on(async { Ok(refused_since(&connection, started).await) })?;
            let report = ExecReport::new(id, sequence, outcome, output).with_refusals(&refusals);
            report::print_json(true, &report)?;
            return Ok(ExitCode::from(report.command.exit_code));
        }
        let (outcome, _) = interrupt::block_on(attached.live(work))?;
        let refusals = interrupt::block_on(async { Ok(refused_since(&connection, started).await) })?;
        for words in refused(&refusals, &Advice::Command(&connection.id)) {
            face.say(&words);
        }
        if let Some(words) = report::run::parting_words(outcome.end, timeout) {
            face.say(&words);
        }
        Ok(ExitCode::from(ExecReport::exit_code(outcome)))
    }

    fn request(self) -> Result<CommandRequest, Failure> {
        let argv = match self.argv.is_empty() {
            false => self.argv.into_iter().map(OsString::into_vec).collect(),
            true if self.stdin || self.tty => LOGIN_SHELL.map(|word| word.as_bytes().to_vec()).to_vec(),
            true => {
                return Err(Failure::new(Kind::Usage, "no command was given")
                    .hint("put it after --, as in: pyro workspace exec W -- make test; or use -t for a shell"));
            }
        };
        let unlimited = self.tty || self.detach;
        let limit =
            self.timeout_seconds.unwrap_or(if unlimited { TIMEOUT_MAX_SECONDS } else { TIMEOUT_DEFAULT_SECONDS });
        Ok(CommandRequest {
            argv,
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            cwd: self.cwd.into_vec(),
            timeout: Duration::from_secs(limit),
            terminal: self.tty.then(terminal_size),
        })
    }
}

/// What the network of the workspace refused meanwhile. Who cannot be asked any more says nothing.
async fn refused_since(connection: &Connection, started: SystemTime) -> Vec<NetworkRefusal> {
    let Ok(LiveStatus { network: Some(network), .. }) = connection.live_status().await else { return Vec::new() };
    let is_new = |refusal: &NetworkRefusal| UNIX_EPOCH + Duration::from_millis(refusal.at_ms) >= started;
    network.refusals.into_iter().filter(is_new).collect()
}

async fn leave_running(
    connection: Connection,
    request: CommandRequest,
    options: ExecOptions,
    json: bool,
    face: &Face,
) -> Result<ExitCode, Failure> {
    let running = connection.start_command(request, false, options).await?;
    let detached = DetachedReport { workspace: connection.id, exec: running.sequence.unwrap_or(0), state: "running" };
    report::print(&detached, json, face.color())?;
    Ok(ExitCode::SUCCESS)
}
