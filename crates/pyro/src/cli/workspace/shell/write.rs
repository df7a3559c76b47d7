//! `workspace shell write`: keys for what runs in a shell.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::shell::{keys, shell_id};

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::shell::ShellWritten;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace shell write fix s1 --input 'make test'
  pyro workspace shell write fix s1 --no-newline --input q
  pyro workspace shell write fix s1 --no-newline --input $'\\x04'    the end of input, Ctrl-D
  pyro workspace shell write fix s1 --no-newline --input $'\\e[A'    the key for up

The end of a line is typed as the Enter key.";

/// Arguments of `workspace shell write`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WriteArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The shell, such as s1
    shell: String,
    /// What to type, at most 64 KiB
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    input: OsString,
    /// Do not press Enter after it
    #[arg(long)]
    no_newline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl WriteArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let shell = shell_id(&self.shell)?;
        let keys = keys(self.input.as_bytes(), !self.no_newline)?;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let cursor = interrupt::block_on(async { Ok(connection.type_into_shell(shell, keys).await?) })?;
        let written = ShellWritten { workspace: connection.id, shell: shell.to_string(), cursor };
        report::print(&written, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
