//! `workspace wait`: a command that was left running, followed to its end.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::logs::{LoggedCommand, command, open_output};
use pyro_engine::workspace::{Workspace, WorkspaceError, Workspaces};

use super::super::Face;
use crate::failure::{EXIT_TIMED_OUT, Failure, Kind};
use crate::report::captured::Capture;
use crate::report::exec::WaitReport;
use crate::{interrupt, report};

/// Bytes of output that are read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// How often new output is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
  pyro workspace exec --detach fix -- make       says which command it is, such as 3
  pyro workspace wait fix 3                      passes on what it prints, and its exit code
  pyro workspace wait fix 3 --timeout-seconds 0  only what it printed so far
  pyro workspace wait fix 3 --cursor 51200       only what it printed from that byte on

Exit code: the command's own; 124 when it ran too long, or still runs when the waiting is over; 125 when pyro failed or
the machine was lost. Ctrl-C ends the waiting, not the command.";

/// Arguments of `workspace wait`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WaitArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The command's number, as 'exec --detach' and 'logs' say it
    #[arg(value_name = "EXEC")]
    exec: u64,
    /// Leave out what it printed before this byte
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    cursor: u64,
    /// Wait no longer than this; the command goes on
    #[arg(long, value_name = "SECONDS")]
    timeout_seconds: Option<u64>,
    /// Print one JSON object with what it printed
    #[arg(long)]
    pub(super) json: bool,
}

/// Where what it prints goes.
enum Sink {
    Live,
    Captured([Capture; 2]),
}

impl WaitArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let workspace = workspaces.find(&self.workspace)?;
        let mut sink = if self.json { Sink::Captured([Capture::default(), Capture::default()]) } else { Sink::Live };
        let (command, cursor) = interrupt::block_on(self.follow(&workspaces, &workspace, &mut sink))?;
        let report = WaitReport::new(workspace.record.id, command, cursor);
        let code = report.exit_code().unwrap_or(EXIT_TIMED_OUT);
        match sink {
            Sink::Captured(output) => report::print_json(true, &report.with_output(output))?,
            Sink::Live => report.parting_words().iter().for_each(|words| face.say(words)),
        }
        Ok(ExitCode::from(code))
    }

    /// Passes on what comes until the command or the waiting is over, and says where the output goes on.
    async fn follow(
        &self,
        workspaces: &Workspaces<'_>,
        workspace: &Workspace,
        sink: &mut Sink,
    ) -> Result<(LoggedCommand, u64), Failure> {
        let mut known = command(workspace, self.exec)?;
        let mut output = open_output(workspace, self.exec, self.cursor)?;
        let mut end = std::pin::pin!(ended(workspaces, &workspace.record.id, self.exec));
        let limit = async {
            match self.timeout_seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        let mut limit = std::pin::pin!(limit);
        loop {
            let is_over = known.ended.is_some();
            while let Some((of_stderr, bytes)) =
                output.next(PIECE_BYTES, is_over).map_err(|error| unreadable(&error))?
            {
                sink.take(of_stderr, &bytes)?;
            }
            if is_over {
                return Ok((known, output.position()));
            }
            tokio::select! {
                over = &mut end => known = over?,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = &mut limit => return Ok((known, output.position())),
            }
        }
    }
}

impl Sink {
    fn take(&mut self, of_stderr: bool, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Captured(streams) => streams[usize::from(of_stderr)].push(bytes),
            Self::Live if of_stderr => {
                let mut stderr = std::io::stderr().lock();
                stderr.write_all(bytes).map_err(|error| report::output_failed(&error))?;
            }
            Self::Live => report::print_bytes(bytes)?,
        }
        Ok(())
    }
}

/// The command, when its end is known.
async fn ended(workspaces: &Workspaces<'_>, id: &str, exec: u64) -> Result<LoggedCommand, WorkspaceError> {
    loop {
        // Whoever looks for a workspace finds out whether its supervisor lives.
        let workspace = workspaces.find(id)?;
        let known = command(&workspace, exec)?;
        if known.ended.is_some() {
            return Ok(known);
        }
        let asked = match workspace.connect() {
            Ok(connection) => connection.wait(exec).await.is_ok(),
            Err(_) => false,
        };
        if !asked {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Kind::HostNotReady, "cannot read what the command printed")
        .caused_by(error.to_string())
        .hint("is the state directory yours to read?")
}
