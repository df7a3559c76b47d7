//! `completions`: a script that completes pyro's words in a shell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::report;

/// For bash: pyro completions bash > ~/.local/share/bash-completion/completions/pyro
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn handle(&self) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "pyro", &mut script);
        report::print_bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
