//! The end of a supervisor: its machine ended as it is wished, its commands written down, its state what it is from then on.

use std::time::Duration;

use super::driver::{Keeper, MachineSource};
use super::events::{Done, Event};
use super::notes::{host, log, set_phase, write_state};
use crate::machine::MachineExit;
use crate::store::workspace_record::WorkspacePhase;

/// How long a guest gets to write everything to its disk and power off.
const SHUT_DOWN_GRACE: Duration = Duration::from_secs(20);

/// How long commands get to write down their end when the machine is gone.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// Lines of the guest's console that are kept when the machine is lost.
const CONSOLE_LINES: usize = 12;

/// How the supervisor comes to its end.
pub(super) enum Ending {
    Stop {
        reason: String,
        done: Option<Done>,
    },
    /// Nobody needs its disk; it may be gone already.
    Discard(Option<Done>),
    Lost(MachineExit),
}

impl<S: MachineSource> Keeper<'_, S> {
    /// Brings everything to its end.
    pub(super) async fn end(mut self, ending: Ending) {
        self.life.end_began();
        self.shells.end_all(&match &ending {
            Ending::Stop { reason, .. } => format!("the workspace was stopped: {reason}"),
            Ending::Discard(_) => "the workspace is being deleted".to_owned(),
            Ending::Lost(exit) => format!("its machine was lost: {exit}"),
        });
        let (phase, reason, told) = match ending {
            Ending::Stop { reason, done } => {
                self.services.stop_all("its workspace was stopped", true).await;
                let result = self.machine.shut_down(SHUT_DOWN_GRACE).await;
                if let Err(error) = &result {
                    log(&self.dir, &format!("the guest did not shut down in order: {error}"));
                }
                (WorkspacePhase::Stopped, reason, done)
            }
            Ending::Discard(done) => {
                self.machine.abandon().await;
                (WorkspacePhase::Stopped, "it is being deleted".to_owned(), done)
            }
            Ending::Lost(exit) => {
                let console = self.machine.machine.console_tail(CONSOLE_LINES);
                log(&self.dir, &self.vault.cut(&format!("the machine was lost: {exit}\n{console}")));
                self.machine.abandon().await;
                (WorkspacePhase::Failed, format!("its machine was lost: {exit}"), None)
            }
        };
        self.ports.remove_all();
        self.services.stop_all("its workspace was stopped", false).await;
        // Commands hear of the lost link, and write down their end.
        let deadline = tokio::time::Instant::now() + LAST_WORDS_LIMIT;
        while self.life.uses() > 0 {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(Event::Over)) => self.life.use_over(Duration::ZERO),
                // Dropping what is asked answers it.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        set_phase(&mut self.state, phase, Some(reason));
        let written = write_state(&self.dir, &self.state).map_err(|error| host("write the state", &error));
        if let Some(done) = told {
            drop(done.send(written));
            // The answer is on its way through the connection's task.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
