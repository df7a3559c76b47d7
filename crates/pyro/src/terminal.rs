//! The terminal pyro runs in: whether there is one, its size, raw mode and the way back from it on every path.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyro_engine::supervisor::traffic::contains_panics;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::EXIT_PYRO_FAILED;
use crate::settings::terminal_wishes;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Whether to colour what goes to `stream`.
    pub(crate) fn applies_to(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let wishes = terminal_wishes();
                stream.is_terminal() && !wishes.no_color && !wishes.dumb
            }
        }
    }
}

/// The mode to go back to, while the terminal is raw. Kept here and not in the guard alone, because a panic and a
/// forced end do not run the guard.
static COOKED: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether programs of others draw on the terminal, and may leave it on its other screen, without a cursor, reporting its mouse.
static LENT: AtomicBool = AtomicBool::new(false);

/// What puts right again what a program on a screen may have changed, and goes on in a line of its own: the other screen, scrolling
/// region, cursor, colours and characters, reports of mouse and pastes, modes of keys.
const TAKE_SCREEN_BACK: &[u8] = b"\x1b[?1047l\x1b7\x1b[r\x1b8\x1b[?25h\x1b[0 q\x1b[m\x1b(B\x0f\x1b[?7h\x1b[?1l\x1b>\
    \x1b[?1000;1002;1003;1005;1006;2004l\r\n";

/// Raw mode of the terminal on standard input; dropping it ends the mode.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Passes every key on as it is, from now on. Does nothing when standard input is no terminal.
    ///
    /// # Errors
    /// The terminal refuses.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let cooked = tcgetattr(&stdin)?;
            let mut raw = cooked.clone();
            raw.make_raw();
            *COOKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(cooked);
            if let Err(errno) = tcsetattr(&stdin, OptionalActions::Drain, &raw) {
                restore();
                return Err(errno.into());
            }
        }
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// From now on programs of others draw on the terminal; [`restore`] puts right what they leave.
pub(crate) fn lend_screen() {
    LENT.store(true, Ordering::Relaxed);
}

/// Ends raw mode, if it is on, and what programs of others left on the screen.
pub(crate) fn restore() {
    if LENT.swap(false, Ordering::Relaxed) {
        let mut stdout = io::stdout();
        // A terminal that went away needs nothing.
        drop(stdout.write_all(TAKE_SCREEN_BACK).and_then(|()| stdout.flush()));
    }
    if let Some(cooked) = COOKED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that went away has no mode to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &cooked);
    }
}

/// Rows and columns of the first terminal among the standard streams.
pub(crate) fn size() -> Option<(u16, u16)> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams: [BorrowedFd<'_>; 3] = [stdout.as_fd(), stdin.as_fd(), stderr.as_fd()];
    let size = streams.into_iter().find_map(|stream| tcgetwinsize(stream).ok())?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A panic is a defect of pyro: it is told in two lines, after the terminal was put right, and never as a backtrace. It ends
/// the process unless it is one of those that are contained.
pub(crate) fn speak_plainly_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let contained = contains_panics();
        if !contained {
            restore();
        }
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("no reason given");
        let mut stderr = io::stderr().lock();
        drop(writeln!(stderr, "error: pyro has a defect{place}: {}", crate::report::clean::one_line(reason)));
        drop(writeln!(stderr, "hint: please report this line and what you were doing"));
        if !contained {
            end();
        }
    }));
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "a panic ends the process in every build profile alike")]
fn end() -> ! {
    std::process::exit(i32::from(EXIT_PYRO_FAILED))
}
