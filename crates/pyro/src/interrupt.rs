//! Runs asynchronous work until it is done or a signal ends it. After a signal the work is dropped, and with it goes
//! everything it had started; work that does not let itself be dropped in time, or a second signal, ends the process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Failure, Kind};
use crate::terminal;

/// How long dropped work may take to let go before the process ends without waiting for it.
const LETTING_GO_MAX: Duration = Duration::from_secs(5);

/// How long killed children may take to be gone.
const CHILDREN_MAX: Duration = Duration::from_secs(1);

const HANGUP: u8 = 1;
const INTERRUPT: u8 = 2;
const TERMINATE: u8 = 15;

/// Who hears of a signal now. When nobody does, a signal ends the process as it does by default.
static HEARER: Mutex<Option<mpsc::UnboundedSender<u8>>> = Mutex::new(None);

/// Runs `work` to its end.
///
/// # Errors
/// The failure of the work, or that a signal ended it.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime().map_err(|error| no_runtime(&error))?;
    let (sender, mut signals) = mpsc::unbounded_channel();
    *hearer() = Some(sender);
    listen().map_err(|error| no_runtime(&error))?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            Some(signal) = signals.recv() => Err(interrupted(signal)),
            result = work => result,
        }
    });
    // A thread may still sit in a blocking read of standard input; it ends with the process.
    runtime.shutdown_background();
    if result.is_err() {
        see_children_off();
    }
    hearer().take();
    result
}

fn hearer() -> MutexGuard<'static, Option<mpsc::UnboundedSender<u8>>> {
    HEARER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until what was killed is gone, so that nobody who looks after our exit code finds it dying.
fn see_children_off() {
    let begun = Instant::now();
    while begun.elapsed() < CHILDREN_MAX {
        match wait(WaitOptions::NOHANG) {
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn no_runtime(error: &io::Error) -> Failure {
    Failure::new(Kind::HostNotReady, format!("cannot start: {error}"))
        .hint("is a limit of this process too low? see ulimit -a")
}

fn interrupted(signal: u8) -> Failure {
    let words = match signal {
        INTERRUPT => "interrupted",
        HANGUP => "the terminal went away",
        _ => "asked to end",
    };
    Failure::new(Kind::Interrupted { signal }, words)
}

/// Listens on a thread of its own, so that a signal is heard also while the work computes.
fn listen() -> io::Result<()> {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if LISTENS.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let runtime = runtime()?;
    let mut streams = {
        let _inside = runtime.enter();
        // `nohup` means it: such a process goes on when its terminal goes away.
        let hangup = if hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        [hangup, Some(signal(SignalKind::interrupt())?), Some(signal(SignalKind::terminate())?)]
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let first = next(&mut streams).await;
            let heard = hearer().as_ref().is_some_and(|sender| sender.send(first).is_ok());
            if heard {
                // A second signal is impatience.
                drop(tokio::time::timeout(LETTING_GO_MAX, next(&mut streams)).await);
            }
            end_process(128 + first);
        });
    })?;
    Ok(())
}

/// Waits for the next of the signals.
async fn next(streams: &mut [Option<Signal>; 3]) -> u8 {
    let [hangup, interrupt, terminate] = streams;
    tokio::select! {
        () = heard(hangup) => HANGUP,
        () = heard(interrupt) => INTERRUPT,
        () = heard(terminate) => TERMINATE,
    }
}

async fn heard(stream: &mut Option<Signal>) {
    let heard = match stream {
        Some(stream) => stream.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending().await
    }
}

/// Whether this process was started to ignore hang-ups.
fn hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & (1 << (HANGUP - 1)) != 0)
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "the work did not let go; machines die with this process")]
fn end_process(code: u8) -> ! {
    terminal::restore();
    std::process::exit(i32::from(code))
}
