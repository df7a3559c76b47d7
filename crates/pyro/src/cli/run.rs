//! `run`: one command in a machine of its own. The guest's bytes pass through as they come; pyro's own words go to
//! standard error and only before the command begins and after it ended.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};
use clap::{Args, ValueEnum};
use pyro_engine::progress::Progress;
use pyro_engine::supervisor::start::Warmth;
use pyro_engine::workspace::command::{CommandControl, CommandRequest, CommandStreams, TerminalSize};
use pyro_engine::workspace::machines::{DISK_GIB_DEFAULT, MachineSize};
use pyro_engine::workspace::run::{RunOutcome, RunRequest, run};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Face;
use crate::failure::{Failure, Kind};
use crate::interrupt;
use crate::progress::Painter;
use crate::report;
use crate::report::captured::Capture;
use crate::report::run::RunReport;
use crate::streams::Live;
use crate::terminal::{self, RawMode};

/// Seconds a command may run when nothing else is said.
const TIMEOUT_DEFAULT: u64 = 30;
/// Longest limit that can be asked for, and the one of a command on a terminal.
const TIMEOUT_MAX: u64 = 7 * 86_400;
/// Size of a terminal that does not tell its own.
const TERMINAL_DEFAULT: (u16, u16) = (24, 80);

/// What is started when no command is named: the best shell the guest has.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l"];

const EXAMPLES: &str = "\
The words after -- are passed to the guest as they are, without a shell in between:
  pyro run debian:12 -- git --version
  pyro run debian:12 -- sh -lc 'echo $HOME | wc -c'
  tar c . | pyro run -i debian:12 -- tar t
  pyro run -t debian:12                     a shell; the machine is gone when it ends

Exit code: the command's own; 124 when it ran too long, 125 when pyro failed, 126 and 127 when the
command cannot be executed or is not there, 130 after Ctrl-C.";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// What to run it in; 'pyro env list' shows what there is
    #[arg(value_name = "ENVIRONMENT")]
    environment: String,
    /// The program and its arguments; with -i or -t a shell when left out
    #[arg(last = true, value_name = "ARG")]
    argv: Vec<OsString>,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    vcpu_count: u32,
    /// Memory of the machine in MiB, 256 to 32768
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=32768))]
    mem_mib: u32,
    /// Kill the command after this long [default: 30, with -t no limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MAX))]
    timeout_seconds: Option<u64>,
    /// What the machine may reach: off, which is no network device at all
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, hide_possible_values = true)]
    network: NetworkPolicy,
    /// A variable of the command's environment; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable_parser())]
    env: Vec<(String, Vec<u8>)>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal; passes standard input on, too
    #[arg(short = 't', long, conflicts_with = "json")]
    tty: bool,
    /// Boot the machine instead of restoring the environment's template
    #[arg(long)]
    cold: bool,
    /// Print one JSON object with the command's output when it has ended
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a machine may reach.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum NetworkPolicy {
    /// Nothing: the machine has no network device
    #[default]
    Off,
}

impl RunArgs {
    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let json = self.json;
        let stdin = self.stdin || self.tty;
        let request = self.request()?;
        let settings = face.settings()?;
        let call = Call { settings: &settings, painter: face.painter(), stdin, raw: Mutex::new(None) };
        if json {
            return interrupt::block_on(call.captured(request)).and_then(|report| {
                report::print_json(true, &report)?;
                Ok(ExitCode::from(report.exit_code))
            });
        }
        let timeout = request.command.timeout;
        let outcome = interrupt::block_on(call.live(request))?;
        if let Some(words) = report::run::parting_words(&outcome, timeout) {
            face.say(&words);
        }
        Ok(ExitCode::from(report::run::exit_code(&outcome)))
    }

    fn request(self) -> Result<RunRequest, Failure> {
        // The machine that an engine makes has no network device.
        let NetworkPolicy::Off = self.network;
        let processors =
            std::thread::available_parallelism().map_or(u32::MAX, |count| count.get().try_into().unwrap_or(u32::MAX));
        if self.vcpu_count > processors {
            let words = format!("--vcpu-count {}: this host has {processors} processors", self.vcpu_count);
            return Err(Failure::new(Kind::Usage, words).hint(format!("ask for 1 to {processors}")));
        }
        let argv = match self.argv.is_empty() {
            false => self.argv.into_iter().map(OsString::into_vec).collect(),
            true if self.stdin || self.tty => SHELL.map(|word| word.as_bytes().to_vec()).to_vec(),
            true => {
                return Err(Failure::new(Kind::Usage, "no command was given")
                    .hint("put it after --, as in: pyro run debian:12 -- git --version; or use -t for a shell"));
            }
        };
        let limit = self.timeout_seconds.unwrap_or(if self.tty { TIMEOUT_MAX } else { TIMEOUT_DEFAULT });
        let command = CommandRequest {
            argv,
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            cwd: b"/".to_vec(),
            timeout: Duration::from_secs(limit),
            terminal: self.tty.then(terminal_size),
        };
        let warmth = if self.cold { Warmth::Cold } else { Warmth::Warm };
        let size = MachineSize { vcpu_count: self.vcpu_count, mem_mib: self.mem_mib, disk_gib: DISK_GIB_DEFAULT };
        Ok(RunRequest { environment: self.environment, size, warmth, command })
    }
}

/// One call of `run`, with what it needs of the host's terminal.
struct Call<'a> {
    settings: &'a pyro_engine::Settings,
    painter: Painter,
    stdin: bool,
    /// Raw mode, from the moment the command begins: until then Ctrl-C still ends pyro.
    raw: Mutex<Option<RawMode>>,
}

impl Call<'_> {
    async fn live(self, request: RunRequest) -> Result<RunOutcome, Failure> {
        let mut stdout = Live::new(tokio::io::stdout(), &self.painter);
        let mut stderr = Live::new(tokio::io::stderr(), &self.painter);
        let result = self.pass(request, &mut stdout, &mut stderr).await;
        // The terminal is put right before anything is said.
        self.raw().take();
        result
    }

    async fn captured(self, request: RunRequest) -> Result<RunReport, Failure> {
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let environment = request.environment.clone();
        let outcome = self.pass(request, &mut stdout, &mut stderr).await?;
        Ok(RunReport::new(environment, &outcome, stdout, stderr))
    }

    async fn pass(
        &self,
        request: RunRequest,
        stdout: &mut (dyn AsyncWrite + Unpin + Send),
        stderr: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<RunOutcome, Failure> {
        let on_terminal = request.command.terminal.is_some();
        let (wishes, control) = mpsc::channel(1);
        let mut source = self.stdin.then(tokio::io::stdin);
        let stdin = source.as_mut().map(|source| source as &mut (dyn AsyncRead + Unpin + Send));
        let report = |progress| {
            let begins = progress == Progress::Over;
            self.painter.report(progress);
            if begins && on_terminal {
                // A terminal that refuses raw mode still shows what the guest prints.
                *self.raw() = RawMode::enter().ok();
            }
        };
        tokio::select! {
            result = run(self.settings, request, CommandStreams { stdin, stdout, stderr, control }, &report) => Ok(result?),
            never = follow_size(wishes), if on_terminal => match never {},
        }
    }

    fn raw(&self) -> MutexGuard<'_, Option<RawMode>> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the guest whenever the terminal gets another size.
async fn follow_size(wishes: mpsc::Sender<CommandControl>) -> Infallible {
    if let Ok(mut changes) = signal(SignalKind::window_change()) {
        while changes.recv().await.is_some() {
            if wishes.send(CommandControl::Resize(terminal_size())).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

fn terminal_size() -> TerminalSize {
    let (rows, cols) = terminal::size().unwrap_or(TERMINAL_DEFAULT);
    TerminalSize { rows, cols }
}

fn variable_parser() -> ValueParser {
    ValueParser::new(OsStringValueParser::new().try_map(variable))
}

/// Takes `K=V` apart. The name is text, the value any bytes.
fn variable(text: OsString) -> Result<(String, Vec<u8>), &'static str> {
    let bytes = text.into_vec();
    let Some(middle) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err("it has no '='; write NAME=VALUE");
    };
    let name = String::from_utf8(bytes[..middle].to_vec()).map_err(|_| "its name is no UTF-8")?;
    if name.is_empty() {
        return Err("it has no name before the '='");
    }
    Ok((name, bytes[middle + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_are_taken_apart_at_the_first_sign() {
        let check = |text: &str| variable(text.into());
        assert_eq!(check("A=b=c"), Ok(("A".into(), b"b=c".to_vec())));
        assert_eq!(check("A="), Ok(("A".into(), Vec::new())));
        assert!(check("A").is_err() && check("=b").is_err());
    }
}
