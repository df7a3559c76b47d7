//! `workspace service logs`: what a service printed, and prints.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::services::ServiceLog;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::captured::Capture;
use crate::report::clean;
use crate::report::service::ServiceLogReport;
use crate::report::units;
use crate::{interrupt, report};

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 256 * 1024;

/// How often new output is looked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(150);

const DETAILS: &str = "\
The newest 16 MiB or so that a service printed are kept, of earlier runs too, until its workspace is deleted. They can
be read also after it crashed, was stopped or reset.";

/// Arguments of `workspace service logs`.
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct LogsArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The service
    name: String,
    /// Show this many of the last lines of its last run
    #[arg(long, value_name = "LINES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tail_lines: u32,
    /// Show everything that is kept, of earlier runs too
    #[arg(long, conflicts_with = "tail_lines")]
    all: bool,
    /// Go on with what comes, until the service ends or Ctrl-C
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl LogsArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        interrupt::block_on(async {
            let (workspace, service) = workspaces.service(&self.workspace, &self.name).await?;
            let log = ServiceLog::of(&workspace, &service);
            let tail_lines = usize::try_from(self.tail_lines).unwrap_or(usize::MAX);
            let from = if self.all { 0 } else { log.tail(tail_lines)? };
            if self.json {
                return report::print_json(true, &whole(workspace.record.id, service.name, &log, from)?);
            }
            let mut position = from;
            loop {
                // Before the reading, so that nothing is missed that was printed last.
                let (_, now) = workspaces.service(&workspace.record.id, &self.name).await?;
                position = pass_on(&log, position, face)?;
                if !self.follow {
                    return Ok(());
                }
                if !now.state.is_alive() {
                    let row = crate::report::service::ServiceRow::from(now);
                    face.say(&format!("service {} {}", row.name, row.state_words()));
                    return Ok(());
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what is there from a position on, and says where that ends.
fn pass_on(log: &ServiceLog, mut position: u64, face: &Face) -> Result<u64, Failure> {
    loop {
        let piece = log.read(position, PIECE_BYTES)?;
        if piece.bytes.is_empty() {
            return Ok(position);
        }
        if piece.position > position {
            face.say(&format!(
                "{} that were printed before are not kept any more",
                units::size(piece.position - position)
            ));
        }
        report::print_bytes(clean::lines(&piece.bytes).as_bytes())?;
        position = piece.end();
    }
}

fn whole(workspace: String, name: String, log: &ServiceLog, from: u64) -> Result<ServiceLogReport, Failure> {
    let (dropped_bytes, _) = log.extent()?;
    let from_byte = from.max(dropped_bytes);
    let (mut capture, mut to_byte) = (Capture::default(), from_byte);
    loop {
        let piece = log.read(to_byte, PIECE_BYTES)?;
        if piece.bytes.is_empty() {
            break;
        }
        to_byte = piece.end();
        capture.push(&piece.bytes);
    }
    let (bytes, is_whole) = capture.into_bytes();
    let output = String::from_utf8_lossy(&bytes).into_owned();
    Ok(ServiceLogReport { workspace, name, output, output_truncated: !is_whole, from_byte, to_byte, dropped_bytes })
}
