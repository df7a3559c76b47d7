//! `workspace logs`: what was run in a workspace, and what it printed.

use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::journal;
use crate::store::output;
use crate::store::workspace_record::{CommandEnded, CommandEntry, CommandStarted};

/// A command of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedCommand {
    /// How it began.
    pub started: CommandStarted,
    /// How it ended; none while it runs.
    pub ended: Option<CommandEnded>,
}

/// A piece of a command's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPiece {
    /// The bytes, of both streams as they came.
    pub bytes: Vec<u8>,
    /// Where they begin.
    pub position: u64,
    /// How many are kept in all, so far.
    pub kept_bytes: u64,
}

/// All commands, in order.
///
/// # Errors
/// The log cannot be read.
pub fn commands(workspace: &Workspace) -> Result<Vec<LoggedCommand>, WorkspaceError> {
    let path = workspace.dir.commands();
    let (entries, _) =
        journal::read(&path, 0).map_err(|source| WorkspaceError::File { what: "read", path: path.clone(), source })?;
    let mut commands: Vec<LoggedCommand> = Vec::new();
    for entry in entries {
        match entry {
            CommandEntry::Started(started) => commands.push(LoggedCommand { started, ended: None }),
            CommandEntry::Ended(ended) => {
                // A command's end is near its beginning.
                if let Some(command) = commands.iter_mut().rev().find(|one| one.started.sequence == ended.sequence) {
                    command.ended = Some(ended);
                }
            }
        }
    }
    Ok(commands)
}

/// Up to `count_max` bytes of what a command printed, from `position` on.
///
/// # Errors
/// There is no such command, or its output cannot be read.
pub fn read_output(
    workspace: &Workspace,
    sequence: u64,
    position: u64,
    count_max: u64,
) -> Result<OutputPiece, WorkspaceError> {
    let path = workspace.dir.command_output(sequence);
    let read = || {
        let kept_bytes = output::kept_bytes(&path)?;
        Ok(OutputPiece { bytes: output::read(&path, position, count_max)?, position, kept_bytes })
    };
    read().map_err(|source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => WorkspaceError::NoCommand { id: workspace.record.id.clone(), sequence },
        _ => WorkspaceError::File { what: "read", path: path.clone(), source },
    })
}

/// Everything that is kept of what a command printed: standard output, standard error.
///
/// # Errors
/// As [`read_output`].
pub fn read_streams(workspace: &Workspace, sequence: u64) -> Result<[Vec<u8>; 2], WorkspaceError> {
    let path = workspace.dir.command_output(sequence);
    output::read_streams(&path, &workspace.dir.command_output_runs(sequence)).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => WorkspaceError::NoCommand { id: workspace.record.id.clone(), sequence },
        _ => WorkspaceError::File { what: "read", path: path.clone(), source },
    })
}

impl Workspaces<'_> {
    /// The commands of the workspace that `word` means whose number is greater than `since`.
    ///
    /// # Errors
    /// There is none.
    pub fn logs(&self, word: &str, since: u64) -> Result<(Workspace, Vec<LoggedCommand>), WorkspaceError> {
        let workspace = self.find(word)?;
        let mut all = commands(&workspace)?;
        all.retain(|command| command.started.sequence > since);
        Ok((workspace, all))
    }
}
