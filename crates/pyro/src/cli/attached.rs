//! A guest's command attached to the caller's streams: its bytes pass live and unchanged, its terminal is the caller's, or
//! its output is captured to be reported. Shared by `run` and `workspace exec`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};
use pyro_engine::progress::{Progress, Reporter};
use pyro_engine::workspace::command::{CommandControl, CommandStreams, TerminalSize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::progress::Painter;
use crate::report::captured::Capture;
use crate::streams::Live;
use crate::terminal::{self, RawMode};

/// Seconds a command may run when nothing else is said.
pub(crate) const TIMEOUT_DEFAULT_SECONDS: u64 = 30;
/// Longest limit that can be asked for, and the one of a command on a terminal.
pub(crate) const TIMEOUT_MAX_SECONDS: u64 = 7 * 86_400;
/// Size of a terminal that does not tell its own: rows and columns.
const TERMINAL_DEFAULT: (u16, u16) = (24, 80);

/// The caller's side of a guest's command.
pub(crate) struct Attached {
    painter: Painter,
    stdin: bool,
    on_terminal: bool,
    /// Raw mode, from the moment the command begins: until then Ctrl-C still ends pyro.
    raw: Mutex<Option<RawMode>>,
}

impl Attached {
    /// With standard input passed on if `stdin`, and on the caller's terminal if `on_terminal`.
    pub(crate) fn new(painter: Painter, stdin: bool, on_terminal: bool) -> Self {
        Self { painter, stdin, on_terminal, raw: Mutex::new(None) }
    }

    /// Runs `work` with the caller's own streams. It reports [`Progress::Over`] when the command begins.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) async fn live<T>(
        self,
        work: impl AsyncFnOnce(CommandStreams<'_>, Reporter<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut stdout = Live::new(tokio::io::stdout(), &self.painter);
        let mut stderr = Live::new(tokio::io::stderr(), &self.painter);
        let result = self.pass(work, &mut stdout, &mut stderr).await;
        // The terminal is put right before anything is said.
        self.raw().take();
        result
    }

    /// Runs `work` and keeps what the command prints.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) async fn captured<T>(
        self,
        work: impl AsyncFnOnce(CommandStreams<'_>, Reporter<'_>) -> Result<T, Failure>,
    ) -> Result<(T, [Capture; 2]), Failure> {
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let outcome = self.pass(work, &mut stdout, &mut stderr).await?;
        Ok((outcome, [stdout, stderr]))
    }

    async fn pass<T>(
        &self,
        work: impl AsyncFnOnce(CommandStreams<'_>, Reporter<'_>) -> Result<T, Failure>,
        stdout: &mut (dyn AsyncWrite + Unpin + Send),
        stderr: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<T, Failure> {
        let (wishes, control) = mpsc::channel(1);
        let mut source = self.stdin.then(tokio::io::stdin);
        let stdin = source.as_mut().map(|source| source as &mut (dyn AsyncRead + Unpin + Send));
        let report = |progress| {
            let begins = progress == Progress::Over;
            self.painter.report(progress);
            if begins && self.on_terminal {
                // A terminal that refuses raw mode still shows what the guest prints.
                *self.raw() = RawMode::enter().ok();
            }
        };
        tokio::select! {
            result = work(CommandStreams { stdin, stdout, stderr, control }, &report) => result,
            never = follow_size(wishes), if self.on_terminal => match never {},
        }
    }

    fn raw(&self) -> MutexGuard<'_, Option<RawMode>> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the guest whenever the terminal gets another size.
async fn follow_size(wishes: mpsc::Sender<CommandControl>) -> Infallible {
    if let Ok(mut changes) = signal(SignalKind::window_change()) {
        while changes.recv().await.is_some() {
            if wishes.send(CommandControl::Resize(terminal_size())).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

/// Size of the caller's terminal.
pub(crate) fn terminal_size() -> TerminalSize {
    let (rows, cols) = terminal::size().unwrap_or(TERMINAL_DEFAULT);
    TerminalSize { rows, cols }
}

/// Reads `K=V` of a flag.
pub(crate) fn variable_parser() -> ValueParser {
    ValueParser::new(OsStringValueParser::new().try_map(variable))
}

/// Takes `K=V` apart. The name is text, the value any bytes.
fn variable(text: OsString) -> Result<(String, Vec<u8>), &'static str> {
    let bytes = text.into_vec();
    let Some(middle) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err("it has no '='; write NAME=VALUE");
    };
    let name = String::from_utf8(bytes[..middle].to_vec()).map_err(|_| "its name is no UTF-8")?;
    if name.is_empty() {
        return Err("it has no name before the '='");
    }
    Ok((name, bytes[middle + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_are_taken_apart_at_the_first_sign() {
        let check = |text: &str| variable(text.into());
        assert_eq!(check("A=b=c"), Ok(("A".into(), b"b=c".to_vec())));
        assert_eq!(check("A="), Ok(("A".into(), Vec::new())));
        assert!(check("A").is_err() && check("=b").is_err());
    }
}
