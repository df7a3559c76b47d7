//! `workspace shell attach`: the caller's terminal becomes a shell's, until the caller leaves or the shell ends.

use std::io::IsTerminal;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use clap::Args;
use pyro_engine::progress::{Progress, Reporter};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::command::{CommandEnd, CommandStreams, Exit};
use pyro_engine::workspace::shell::shell_id;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use super::super::super::Face;
use super::super::super::attached::{Attached, terminal_size};
use crate::failure::{Failure, Kind};
use crate::{interrupt, terminal};

/// The key that leaves: Ctrl-].
const LEAVE: u8 = 0x1d;

const EXAMPLES: &str = "\
Ctrl-] leaves the shell, which goes on. All other keys are passed on, Ctrl-C too. The shell's terminal has the size of
yours as long as you are there. Several may be attached at once; chat hosts read and type meanwhile.

Exit code: the shell's own when it ended, 0 when you left it.";

/// Arguments of `workspace shell attach`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The shell, such as s1
    shell: String,
}

impl AttachArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let shell = shell_id(&self.shell)?;
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Err(Failure::new(Kind::Usage, "this is no terminal")
                .hint("'pyro workspace shell write' and 'read' work without one"));
        }
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let id = connection.id.clone();
        let attached = Attached::new(face.painter(), true, true);
        let work = async |streams: CommandStreams<'_>, report: Reporter<'_>| {
            let running = connection.attach_shell(shell, terminal_size()).await?;
            report(Progress::Over);
            terminal::lend_screen();
            let left = Notify::new();
            let CommandStreams { stdin, stdout, stderr, control } = streams;
            let mut keys = stdin.map(|source| Keys { source, left: &left, is_over: false });
            let stdin = keys.as_mut().map(|keys| keys as &mut (dyn AsyncRead + Unpin + Send));
            tokio::select! {
                outcome = running.pass(CommandStreams { stdin, stdout, stderr, control }) => Ok(Some(outcome?.end)),
                () = left.notified() => Ok(None),
            }
        };
        let end = interrupt::block_on(attached.live(work))?;
        let code = match end {
            Some(CommandEnd::Exited(Exit::Code(code))) => code,
            Some(CommandEnd::Exited(Exit::Signal(signal))) => 128_u8.saturating_add(signal),
            Some(_) | None => 0,
        };
        match end {
            Some(CommandEnd::Exited(_)) => face.say(&format!("shell {shell} ended with {code}")),
            Some(_) | None => {
                face.say(&format!("left shell {shell}, which goes on: pyro workspace shell attach {id} {shell}"));
            }
        }
        Ok(ExitCode::from(code))
    }
}

/// What is typed, up to the key that leaves.
struct Keys<'a> {
    source: &'a mut (dyn AsyncRead + Unpin + Send),
    left: &'a Notify,
    is_over: bool,
}

impl AsyncRead for Keys<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.is_over {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut *self.source).poll_read(context, buffer))?;
        let typed = &buffer.filled()[before..];
        let leaves = typed.iter().position(|key| *key == LEAVE);
        // A terminal that went away is left, too: the end of its input is not the shell's.
        if leaves.is_some() || typed.is_empty() {
            self.is_over = true;
            self.left.notify_one();
        }
        let Some(at) = leaves else {
            return if self.is_over { Poll::Pending } else { Poll::Ready(Ok(())) };
        };
        buffer.set_filled(before + at);
        if at == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::sync::Notify;

    use super::Keys;

    #[track_caller]
    fn check(typed: &[u8], passed_on: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (left, mut source) = (Notify::new(), typed);
            let mut keys = Keys { source: &mut source, left: &left, is_over: false };
            let mut passed = Vec::new();
            tokio::select! {
                _ = keys.read_to_end(&mut passed) => {}
                () = left.notified() => {}
            }
            assert_eq!(passed, passed_on);
        });
    }

    #[test]
    fn what_is_typed_before_leaving_is_passed_on() {
        check(b"ls\r\x1dmore", b"ls\r");
        check(b"\x1d", b"");
        check(b"no more", b"no more");
    }
}
