//! `supervise`: the hidden verb that is the supervisor of a workspace. pyro starts it; no person does.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::progress::Progress;
use pyro_engine::supervisor::protocol::Birth;
use pyro_engine::supervisor::secrets::Secrets;
use pyro_engine::supervisor::spawn::{detach, hang_up, leave_session, take_secrets, tell};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::supervise::supervise;

use super::Face;
use crate::failure::{Failure, Kind};

/// Arguments of `supervise`.
#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The workspace
    id: String,
    /// Only start a supervisor, as nobody's child, and end
    #[arg(long)]
    detach: bool,
}

impl SuperviseArgs {
    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let no_process = |error: std::io::Error| {
            Failure::new(Kind::HostNotReady, "cannot start the supervisor of a workspace").caused_by(error.to_string())
        };
        if self.detach {
            detach(&self.id).map_err(no_process)?;
            return Ok(ExitCode::SUCCESS);
        }
        leave_session().map_err(no_process)?;
        let secrets = take_secrets().map_err(no_process)?;
        match self.supervise(secrets, face) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(failure) => {
                // It goes to the log, too: whoever waits may be gone.
                let told = tell(&failure.as_birth());
                if told { Ok(ExitCode::FAILURE) } else { Err(failure) }
            }
        }
    }

    fn supervise(&self, secrets: Secrets, face: &Face) -> Result<(), Failure> {
        let settings = face.settings()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Kind::HostNotReady, format!("cannot start: {error}")))?;
        let report = |progress| {
            let birth = match progress {
                Progress::Stage { name, .. } => Birth::Stage { name: name.to_owned() },
                Progress::Note(text) => Birth::Note { text },
                Progress::Done(_) | Progress::Item(_) | Progress::Over => return,
            };
            // Nobody waits any more; the end of it says so.
            let _ = tell(&birth);
        };
        let running = || {
            let told = tell(&Birth::Running);
            // Without a standard output nothing is told to anyone from here on, which is the wish.
            drop(hang_up());
            told
        };
        let workspaces = Workspaces::new(&settings);
        runtime.block_on(supervise(&workspaces, &self.id, secrets, &report, running))?;
        Ok(())
    }
}
