//! `workspace logs`: what was run in a workspace, and what it printed.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::logs::{LoggedCommand, commands, read_output};
use pyro_engine::workspace::{Workspace, WorkspaceError, Workspaces};

use super::super::Face;
use super::follow::{FollowArgs, next_look};
use crate::failure::Failure;
use crate::report;
use crate::report::captured::Capture;
use crate::report::exec::{LogReport, LogRow};
use crate::report::log_page::LogPage;

/// Bytes of output that are read at a time.
const PIECE_BYTES: u64 = 256 * 1024;

/// Arguments of `workspace logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(super) record: FollowArgs,
}

impl LogsArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let FollowArgs { workspace, since, json, .. } = &self.record;
        let list = |workspaces: &Workspaces<'_>| {
            let (workspace, found) = workspaces.logs(workspace, *since)?;
            let commands = found.into_iter().map(|command| row(&workspace, command)).collect();
            Ok(LogReport { workspace: workspace.record.id, commands })
        };
        let follow = async |workspaces: &Workspaces<'_>| {
            let workspace = workspaces.find(workspace)?;
            let mut following =
                Following { workspace, seen: *since, open: BTreeMap::new(), page: LogPage::default(), json: *json };
            loop {
                if following.is_quiet()? {
                    // Of one that lost its machine all commands have ended.
                    match next_look(workspaces, &following.workspace.record.id).await? {
                        Some(workspace) => following.workspace = workspace,
                        None => return Ok(()),
                    }
                }
            }
        };
        self.record.handle(face, list, follow)
    }
}

/// The log of a workspace, as far as it was printed.
struct Following {
    workspace: Workspace,
    /// The number of the last command that is known.
    seen: u64,
    /// Those of which more may come, and how much was printed of each.
    open: BTreeMap<u64, u64>,
    page: LogPage,
    json: bool,
}

impl Following {
    /// Prints what came, command by command; whether that was nothing.
    fn is_quiet(&mut self) -> Result<bool, Failure> {
        let mut quiet = true;
        for command in commands(&self.workspace)? {
            let sequence = command.started.sequence;
            if sequence > self.seen {
                self.seen = sequence;
                self.open.insert(sequence, 0);
                self.print(LogPage::head, &command)?;
                quiet = false;
            }
            let Some(&printed) = self.open.get(&sequence) else { continue };
            let now = if self.json { printed } else { self.print_output(sequence, printed)? };
            quiet &= now == printed;
            self.open.insert(sequence, now);
            if command.ended.is_some() {
                self.open.remove(&sequence);
                if self.json {
                    report::print_json(true, &row(&self.workspace, command))?;
                } else {
                    self.print(LogPage::foot, &command)?;
                }
                quiet = false;
            }
        }
        Ok(quiet)
    }

    fn print(&mut self, part: fn(&mut LogPage, &LogRow) -> String, command: &LoggedCommand) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let text = part(&mut self.page, &LogRow::new(command.clone(), Capture::default()));
        report::print_bytes(text.as_bytes())
    }

    /// Prints what a command printed from a position on, and gives the position after it.
    fn print_output(&mut self, sequence: u64, mut position: u64) -> Result<u64, Failure> {
        loop {
            let bytes = match read_output(&self.workspace, sequence, position, PIECE_BYTES) {
                // It is not kept any more, or its workspace is just being removed.
                Err(WorkspaceError::OutputDropped { .. } | WorkspaceError::NoCommand { .. }) => return Ok(position),
                read => read?.bytes,
            };
            if bytes.is_empty() {
                return Ok(position);
            }
            report::print_bytes(self.page.output(sequence, &bytes).as_bytes())?;
            position += bytes.len() as u64;
        }
    }
}

/// A command with the beginning and the end of what it printed.
fn row(workspace: &Workspace, command: LoggedCommand) -> LogRow {
    let sequence = command.started.sequence;
    let mut capture = Capture::short();
    let mut position = 0;
    loop {
        match read_output(workspace, sequence, position, PIECE_BYTES) {
            Ok(piece) if !piece.bytes.is_empty() => {
                position += piece.bytes.len() as u64;
                capture.push(&piece.bytes);
            }
            Err(WorkspaceError::OutputDropped { .. }) => return LogRow::new(command, capture).without_output(),
            // Output that cannot be read is as good as none; the numbers beside it say what there was.
            Ok(_) | Err(_) => return LogRow::new(command, capture),
        }
    }
}
