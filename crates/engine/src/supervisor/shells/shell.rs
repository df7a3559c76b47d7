//! One shell: a command on a terminal that the supervisor holds itself, so that it needs no client.
//!
//! All that it prints goes one way, through [`Shell::absorb`]: into the transcript, onto the screen, to whoever is attached.
//! Nobody who reads can hold it up, and it holds up nobody: it is taken in at a bounded pace, and in small pieces.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_wire::exec::{Exit, TerminalSize};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use super::screen::{Screen, within};
use crate::store::home::WorkspaceDir;
use crate::store::shell_record::{self, ShellEnd, ShellEndRecord, ShellId, ShellRecord};
use crate::store::transcript::TranscriptWriter;
use crate::supervisor::commands::now_ms;
use crate::supervisor::guest_link::{ExecEvent, ExecHandle, ExecStdin, RunningExec};
use crate::supervisor::notes::log;
use crate::supervisor::pace::Pace;
use crate::supervisor::secrets::RedactedStream;
use crate::supervisor::shell_protocol::{ShellScreen, ShellStatus};

/// Bytes that are taken in before others get their turn: what the screen makes of a hostile guest's escapes takes time.
const PIECE_BYTES: usize = 4 * 1024;

/// Pieces that wait for a client that is attached; one that falls behind further is shown the screen anew instead.
const PIECES_WAITING_MAX: usize = 64;

/// Inputs that wait for the program to read; each is at most as long as a frame.
pub(super) const INPUTS_WAITING_MAX: usize = 16;

/// Why a shell whose machine went away without a word of the supervisor is over.
const MACHINE_LOST: &str = "its machine was lost";

/// A shell.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) id: ShellId,
    pub(super) handle: ExecHandle,
    pub(super) input: mpsc::Sender<Vec<u8>>,
    dir: WorkspaceDir,
    /// The size to go back to when nobody is attached.
    size: TerminalSize,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    live: broadcast::Sender<Arc<[u8]>>,
}

#[derive(Debug)]
struct State {
    record: ShellRecord,
    screen: Screen,
    transcript: TranscriptWriter,
    printed_at: Instant,
    attached: usize,
    /// Whether it was said that the transcript cannot be kept.
    complained: bool,
}

/// How far a shell is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) printed_bytes: u64,
    pub(super) ended: bool,
}

/// What comes to a client that is attached.
#[derive(Debug)]
pub(super) struct View {
    /// What shows the screen as it is now.
    pub(super) escapes: String,
    /// What is printed from then on.
    pub(super) live: broadcast::Receiver<Arc<[u8]>>,
}

impl Shell {
    /// Writes it down, and takes care of it from now on. `redacted` cuts out what nobody may see.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(super) fn begin(
        dir: &WorkspaceDir,
        record: ShellRecord,
        mut running: RunningExec,
        redacted: Option<RedactedStream>,
    ) -> io::Result<Arc<Self>> {
        shell_record::write(dir, &record)?;
        let size = TerminalSize { rows: record.rows, cols: record.cols };
        let (input, waiting) = mpsc::channel(INPUTS_WAITING_MAX);
        if let Some(stdin) = running.take_stdin() {
            tokio::spawn(type_in(waiting, stdin));
        }
        let transcript = TranscriptWriter::begin(&dir.shell(record.id));
        let shell = Arc::new(Self {
            id: record.id,
            handle: running.handle(),
            input,
            dir: dir.clone(),
            size,
            state: Mutex::new(State {
                record,
                screen: Screen::new(size),
                transcript,
                printed_at: Instant::now(),
                attached: 0,
                complained: false,
            }),
            progress: watch::Sender::new(Progress::default()),
            live: broadcast::Sender::new(PIECES_WAITING_MAX),
        });
        tokio::spawn(Arc::clone(&shell).run(running, redacted));
        Ok(shell)
    }

    async fn run(self: Arc<Self>, mut running: RunningExec, mut redacted: Option<RedactedStream>) {
        let mut pace = Pace::new();
        loop {
            match running.next().await {
                Some(ExecEvent::Output(_, bytes)) => {
                    let count = bytes.len();
                    // Secrets are cut out of it before anybody sees it, and before it is kept.
                    let shown = match &mut redacted {
                        Some(redacted) => redacted.push(&bytes),
                        None => bytes,
                    };
                    self.absorb(&shown).await;
                    // What is left of one that is over holds up nobody, and is waited for.
                    if !running.is_over() {
                        pace.keep(count).await;
                    }
                }
                Some(ExecEvent::Exited { exit, .. }) => {
                    if let Some(redacted) = &mut redacted {
                        self.absorb(&redacted.finish()).await;
                    }
                    return self.over(how(exit));
                }
                None => return self.over(ShellEnd::Gone { reason: MACHINE_LOST.to_owned() }),
            }
        }
    }

    /// Takes in what it printed.
    async fn absorb(&self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.take(piece);
            tokio::task::yield_now().await;
        }
    }

    fn take(&self, piece: &[u8]) {
        let mut state = self.state();
        if state.record.end.is_some() {
            return;
        }
        if let Err(error) = state.transcript.write(piece)
            && !std::mem::replace(&mut state.complained, true)
        {
            log(&self.dir, &format!("cannot keep what shell {} prints: {error}", self.id));
        }
        state.screen.feed(piece);
        state.printed_at = Instant::now();
        let printed_bytes = state.transcript.total_bytes();
        // Nobody may be attached.
        drop(self.live.send(piece.into()));
        drop(state);
        self.progress.send_modify(|progress| progress.printed_bytes = printed_bytes);
    }

    /// It ended; the first word on how it did counts.
    pub(super) fn over(&self, how: ShellEnd) {
        let mut state = self.state();
        if state.record.end.is_some() {
            return;
        }
        state.record.end = Some(ShellEndRecord { at_ms: now_ms(), how });
        if let Err(error) = shell_record::write(&self.dir, &state.record) {
            // The next supervisor writes that it was lost.
            log(&self.dir, &format!("cannot write down the end of shell {}: {error}", self.id));
        }
        drop(state);
        self.progress.send_modify(|progress| progress.ended = true);
    }

    /// How far it is, now and from now on.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How it ended, if it did.
    pub(super) fn end(&self) -> Option<ShellEnd> {
        self.state().record.end.as_ref().map(|end| end.how.clone())
    }

    /// Where it is.
    pub(super) fn status(&self) -> ShellStatus {
        let state = self.state();
        ShellStatus {
            record: state.record.clone(),
            printed_bytes: state.transcript.total_bytes(),
            quiet_ms: u64::try_from(state.printed_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            attached: state.attached,
        }
    }

    /// What is on its screen.
    pub(super) fn look(&self) -> ShellScreen {
        let state = self.state();
        state.screen.look(state.transcript.total_bytes())
    }

    /// The screen, and all that is printed after it.
    pub(super) fn view(&self) -> View {
        let state = self.state();
        View { escapes: state.screen.escapes(), live: self.live.subscribe() }
    }

    /// A client is attached from now on, with a terminal of this size.
    pub(super) async fn join(&self, size: TerminalSize) -> View {
        self.state().attached += 1;
        self.resize(size).await;
        self.view()
    }

    /// One is no longer attached. When nobody is, the terminal has again the size that it was opened with.
    pub(super) async fn leave(&self) {
        let left = {
            let mut state = self.state();
            state.attached = state.attached.saturating_sub(1);
            state.attached
        };
        if left == 0 && self.end().is_none() {
            self.resize(self.size).await;
        }
    }

    /// Gives its terminal the nearest size that it may have.
    pub(super) async fn resize(&self, size: TerminalSize) {
        let size = within(size);
        {
            let mut state = self.state();
            state.screen.resize(size);
            (state.record.rows, state.record.cols) = (size.rows, size.cols);
        }
        // A session that ended is told by the shell's own task.
        drop(self.handle.resize(size).await);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No critical section leaves values half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a shell ended whose program ended so.
fn how(exit: Exit) -> ShellEnd {
    const KILL: u8 = 9;
    match exit {
        Exit::Code(code) => ShellEnd::Exited(code),
        Exit::Signal(signal) => ShellEnd::Signaled(signal),
        Exit::Killed | Exit::TimedOut => ShellEnd::Signaled(KILL),
    }
}

/// Passes on what is typed, as the program takes it.
async fn type_in(mut waiting: mpsc::Receiver<Vec<u8>>, mut stdin: ExecStdin) {
    while let Some(bytes) = waiting.recv().await {
        if stdin.write(&bytes).await.is_err() {
            return;
        }
    }
}
