//! `workspace shell signal`: a signal for the job in a shell's foreground.

use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::shell::{ShellSignal, shell_id};

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::shell::ShellSignaled;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace shell signal fix s1                 as Ctrl-C
  pyro workspace shell signal fix s1 --signal KILL

It goes to what runs in the foreground; that is the shell itself while it waits for a command.";

/// Arguments of `workspace shell signal`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SignalArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The shell, such as s1
    shell: String,
    /// Which
    #[arg(long, ignore_case = true, default_value = "INT", value_parser = signal_parser())]
    signal: ShellSignal,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl SignalArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let shell = shell_id(&self.shell)?;
        let signal = self.signal;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        interrupt::block_on(async { Ok(connection.signal_shell(shell, signal).await?) })?;
        let sent = ShellSignaled { workspace: connection.id, shell: shell.to_string(), signal: signal.name() };
        report::print(&sent, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads the name of a signal.
fn signal_parser() -> ValueParser {
    let names = PossibleValuesParser::new(ShellSignal::ALL.map(ShellSignal::name));
    ValueParser::new(names.map(|name| {
        let named = |signal: &ShellSignal| signal.name().eq_ignore_ascii_case(&name);
        ShellSignal::ALL.into_iter().find(named).unwrap_or(ShellSignal::Int)
    }))
}
