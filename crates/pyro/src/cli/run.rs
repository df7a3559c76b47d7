//! `run`: one command in a machine of its own. The guest's bytes pass through as they come; pyro's own words go to
//! standard error and only before the command begins and after it ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::Settings;
use pyro_engine::progress::Reporter;
use pyro_engine::store::workspace_record::NetworkPolicy;
use pyro_engine::supervisor::start::Warmth;
use pyro_engine::workspace::command::{CommandRequest, CommandStreams};
use pyro_engine::workspace::machines::{DISK_GIB_DEFAULT, MachineSize};
use pyro_engine::workspace::run::{RunRequest, run};
use pyro_engine::workspace::shell::LOGIN_SHELL;

use super::Face;
use super::attached::{Attached, TIMEOUT_DEFAULT_SECONDS, TIMEOUT_MAX_SECONDS, terminal_size, variable_parser};
use super::network::{AllowArgs, PolicyWord};
use crate::failure::{Failure, Kind};
use crate::report::network::Advice;
use crate::report::run::RunReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
The words after -- are passed to the guest as they are, without a shell in between:
  pyro run debian:12 -- git --version
  pyro run debian:12 -- sh -lc 'echo $HOME | wc -c'
  tar c . | pyro run -i debian:12 -- tar t
  pyro run -t debian:12                     a shell; the machine is gone when it ends
  pyro run --network egress debian:12 -- apt-get update
  pyro run --network egress --offer-proxy debian:12 -- apt-get update

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
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MAX_SECONDS))]
    timeout_seconds: Option<u64>,
    /// What the machine may reach: off, or egress for what is public
    #[arg(long, value_name = "POLICY", value_parser = ["off", "egress"], default_value = "off", hide_possible_values = true)]
    network: String,
    #[command(flatten)]
    allow: AllowArgs,
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

impl RunArgs {
    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let json = self.json;
        let stdin = self.stdin || self.tty;
        let settings = face.settings()?;
        let request = self.request(&settings, face)?;
        let attached = Attached::new(face.painter(), stdin, request.command.terminal.is_some());
        let (environment, timeout) = (request.environment.clone(), request.command.timeout);
        let work = async |streams: CommandStreams<'_>, report: Reporter<'_>| {
            Ok(run(&settings, request, streams, report).await?)
        };
        if json {
            let (outcome, output) = interrupt::block_on(attached.captured(work))?;
            let report = RunReport::new(environment, &outcome, output);
            report::print_json(true, &report)?;
            return Ok(ExitCode::from(report.command.exit_code));
        }
        let outcome = interrupt::block_on(attached.live(work))?;
        for words in report::network::refused(&outcome.refusals, &Advice::Flag) {
            face.say(&words);
        }
        if let Some(words) = report::run::parting_words(outcome.command.end, timeout) {
            face.say(&words);
        }
        Ok(ExitCode::from(report::run::exit_code(outcome.command.end)))
    }

    fn request(self, settings: &Settings, face: &Face) -> Result<RunRequest, Failure> {
        let policy = if self.network == "egress" { NetworkPolicy::Egress } else { NetworkPolicy::Off };
        let network = self.allow.with(PolicyWord(policy), settings, face)?;
        let processors =
            std::thread::available_parallelism().map_or(u32::MAX, |count| count.get().try_into().unwrap_or(u32::MAX));
        if self.vcpu_count > processors {
            let words = format!("--vcpu-count {}: this host has {processors} processors", self.vcpu_count);
            return Err(Failure::new(Kind::Usage, words).hint(format!("ask for 1 to {processors}")));
        }
        let argv = match self.argv.is_empty() {
            false => self.argv.into_iter().map(OsString::into_vec).collect(),
            true if self.stdin || self.tty => LOGIN_SHELL.map(|word| word.as_bytes().to_vec()).to_vec(),
            true => {
                return Err(Failure::new(Kind::Usage, "no command was given")
                    .hint("put it after --, as in: pyro run debian:12 -- git --version; or use -t for a shell"));
            }
        };
        let limit =
            self.timeout_seconds.unwrap_or(if self.tty { TIMEOUT_MAX_SECONDS } else { TIMEOUT_DEFAULT_SECONDS });
        let command = CommandRequest {
            argv,
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            cwd: b"/".to_vec(),
            timeout: Duration::from_secs(limit),
            terminal: self.tty.then(terminal_size),
        };
        let warmth = if self.cold { Warmth::Cold } else { Warmth::Warm };
        let size = MachineSize { vcpu_count: self.vcpu_count, mem_mib: self.mem_mib, disk_gib: DISK_GIB_DEFAULT };
        Ok(RunRequest { environment: self.environment, size, warmth, command, network })
    }
}
