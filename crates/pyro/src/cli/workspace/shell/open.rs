//! `workspace shell open`: a shell on a terminal that nobody has to hold.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::supervisor::shell_protocol::{SHELL_COLS_MAX, SHELL_ROWS_MAX};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::command::TerminalSize;
use pyro_engine::workspace::shell::ShellRequest;

use super::super::super::Face;
use super::super::super::attached::variable_parser;
use super::super::command_line;
use super::super::secrets::grant;
use crate::failure::Failure;
use crate::report::shell::ShellReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace shell open fix                        says what it is called, such as s1
  pyro workspace shell write fix s1 --input python3
  pyro workspace shell read fix s1 --wait-for '>>> '
  pyro workspace shell attach fix s1                   be its terminal; Ctrl-] leaves it
  pyro workspace shell close fix s1

It is a login shell: bash where the guest has it, otherwise sh. It goes on without you, and what it prints
is kept: of each shell the newest 16 MiB. 16 shells of a workspace can be open. A shell that nobody reads or types
into does not keep its workspace from stopping at its time to live.";

/// Arguments of `workspace shell open`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OpenArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// Working directory in the guest
    #[arg(long, value_name = "DIR", default_value = "/workspace")]
    cwd: OsString,
    /// Columns of its terminal
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u16).range(2..=i64::from(SHELL_COLS_MAX)))]
    cols: u16,
    /// Lines of its terminal
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(2..=i64::from(SHELL_ROWS_MAX)))]
    rows: u16,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable_parser())]
    env: Vec<(String, Vec<u8>)>,
    /// A secret of the workspace for it, in the variable of its name or another; may be repeated
    #[arg(long, value_name = "SECRET[=ENV]", value_parser = grant)]
    secret_env: Vec<(String, String)>,
    /// Print its id and nothing else
    #[arg(long, conflicts_with = "json")]
    id_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl OpenArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let request = ShellRequest {
            cwd: self.cwd.into_vec(),
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            size: TerminalSize { rows: self.rows, cols: self.cols },
            by: command_line(),
            secret_env: self.secret_env.into_iter().map(|(secret, name)| (name, secret)).collect(),
        };
        let status = interrupt::block_on(async { Ok(connection.open_shell(request).await?) })?;
        if self.id_only {
            report::print_bytes(format!("{}\n", status.record.id).as_bytes())?;
        } else {
            report::print(&ShellReport::new(connection.id, status), self.json, face.color())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
