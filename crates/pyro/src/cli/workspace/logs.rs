//! `workspace logs`: what was run in a workspace, and what it printed.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::Settings;
use pyro_engine::workspace::logs::{LoggedCommand, commands, read_output};
use pyro_engine::workspace::{Workspace, Workspaces};

use super::super::Face;
use crate::failure::Failure;
use crate::report::captured::Capture;
use crate::report::clean;
use crate::report::exec::{LogReport, LogRow};
use crate::{interrupt, report};

/// Bytes of output that are read at a time.
const PIECE_BYTES: u64 = 256 * 1024;

/// How often new output is looked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(150);

/// Arguments of `workspace logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// Go on until Ctrl-C, with what comes
    #[arg(long)]
    follow: bool,
    /// Only commands after the one of this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    since: u64,
    /// Print one JSON object; with --follow one a command, when it has ended
    #[arg(long)]
    pub(super) json: bool,
}

impl LogsArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        if self.follow {
            interrupt::block_on(self.follow(&settings))?;
            return Ok(ExitCode::SUCCESS);
        }
        let (workspace, found) = Workspaces::new(&settings).logs(&self.workspace, self.since)?;
        let commands = found.into_iter().map(|command| row(&workspace, command)).collect();
        report::print(&LogReport { workspace: workspace.record.id, commands }, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints what is there and what comes, command by command, until a signal ends it.
    async fn follow(&self, settings: &Settings) -> Result<(), Failure> {
        let workspaces = Workspaces::new(settings);
        let workspace = workspaces.find(&self.workspace)?;
        let mut done = self.since;
        let mut position: Option<u64> = None;
        loop {
            let next = commands(&workspace)?.into_iter().find(|command| command.started.sequence > done);
            let Some(command) = next else {
                tokio::time::sleep(FOLLOW_EVERY).await;
                // A workspace that is gone has no more to tell.
                workspaces.find(&workspace.record.id)?;
                continue;
            };
            let sequence = command.started.sequence;
            let over = command.ended.is_some();
            if self.json {
                if over {
                    report::print_json(true, &row(&workspace, command))?;
                    done = sequence;
                } else {
                    tokio::time::sleep(FOLLOW_EVERY).await;
                }
                continue;
            }
            let at = match position {
                Some(at) => at,
                None => {
                    report::print_bytes(LogRow::new(command.clone(), Capture::default()).head().as_bytes())?;
                    0
                }
            };
            let piece = read_output(&workspace, sequence, at, PIECE_BYTES)?;
            report::print_bytes(clean::lines(&piece.bytes).as_bytes())?;
            position = Some(at + piece.bytes.len() as u64);
            if piece.bytes.is_empty() {
                if over {
                    report::print_bytes(LogRow::new(command, Capture::default()).foot().as_bytes())?;
                    (done, position) = (sequence, None);
                } else {
                    tokio::time::sleep(FOLLOW_EVERY).await;
                }
            }
        }
    }
}

/// A command with the beginning and the end of what it printed.
fn row(workspace: &Workspace, command: LoggedCommand) -> LogRow {
    let sequence = command.started.sequence;
    let mut capture = Capture::short();
    let mut position = 0;
    // Output that cannot be read is as good as none; the numbers beside it say what there was.
    while let Ok(piece) = read_output(workspace, sequence, position, PIECE_BYTES) {
        if piece.bytes.is_empty() {
            break;
        }
        position += piece.bytes.len() as u64;
        capture.push(&piece.bytes);
    }
    LogRow::new(command, capture)
}
