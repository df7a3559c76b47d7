//! `workspace logs`: what was run in a workspace, and what it printed.

use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::journal;
use crate::store::output::{self, OutputReader};
use crate::store::workspace_record::{CommandEndRecord, CommandEnded, CommandEntry, CommandStarted, WorkspacePhase};

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

/// All commands, in order. Those that ran when the machine of a workspace was lost with its supervisor were lost with it.
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
    if matches!(workspace.state.phase, WorkspacePhase::Stopped | WorkspacePhase::Failed) {
        for command in commands.iter_mut().filter(|command| command.ended.is_none()) {
            let sequence = command.started.sequence;
            let kept_bytes = output::kept_bytes(&workspace.dir.command_output(sequence)).unwrap_or(0);
            let (end, output_bytes) = (CommandEndRecord::Lost, kept_bytes);
            command.ended = Some(CommandEnded { sequence, end, duration_ms: 0, output_bytes, kept_bytes });
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
    let read = || -> std::io::Result<OutputPiece> {
        let kept_bytes = output::kept_bytes(&path)?;
        Ok(OutputPiece { bytes: output::read(&path, position, count_max)?, position, kept_bytes })
    };
    read().map_err(|source| output_error(workspace, sequence, source))
}

/// Opens what a command printed, to be read on from `position` as it comes.
///
/// # Errors
/// As [`read_output`].
pub fn open_output(workspace: &Workspace, sequence: u64, position: u64) -> Result<OutputReader, WorkspaceError> {
    let dir = &workspace.dir;
    OutputReader::open(&dir.command_output(sequence), &dir.command_output_runs(sequence), position)
        .map_err(|source| output_error(workspace, sequence, source))
}

/// The command of this number.
///
/// # Errors
/// There is none.
pub fn command(workspace: &Workspace, sequence: u64) -> Result<LoggedCommand, WorkspaceError> {
    let found = commands(workspace)?.into_iter().find(|command| command.started.sequence == sequence);
    found.ok_or_else(|| WorkspaceError::NoCommand { id: workspace.record.id.clone(), sequence })
}

/// Why the output of a command cannot be read.
fn output_error(workspace: &Workspace, sequence: u64, source: std::io::Error) -> WorkspaceError {
    let id = workspace.record.id.clone();
    match source.kind() {
        std::io::ErrorKind::NotFound if command(workspace, sequence).is_ok() => {
            WorkspaceError::OutputDropped { id, sequence }
        }
        std::io::ErrorKind::NotFound => WorkspaceError::NoCommand { id, sequence },
        _ => WorkspaceError::File { what: "read", path: workspace.dir.command_output(sequence), source },
    }
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
