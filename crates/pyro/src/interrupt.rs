//! Runs asynchronous work until it is done or a signal ends it. After a signal the work is dropped, and with it goes
//! everything it had started; work that does not let itself be dropped in time, or a second signal, ends the process.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Failure, Kind};
use crate::terminal;

/// How long dropped work may take to let go before the process ends without waiting for it.
const LETTING_GO_MAX: Duration = Duration::from_secs(5);

const HANGUP: u8 = 1;
const INTERRUPT: u8 = 2;
const TERMINATE: u8 = 15;

/// Runs `work` to its end.
///
/// # Errors
/// The failure of the work, or that a signal ended it.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime().map_err(|error| no_runtime(&error))?;
    let mut signals = listen().map_err(|error| no_runtime(&error))?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            Some(signal) = signals.recv() => Err(interrupted(signal)),
            result = work => result,
        }
    });
    // A thread may still sit in a blocking read of standard input; it ends with the process.
    runtime.shutdown_background();
    result
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
fn listen() -> io::Result<mpsc::UnboundedReceiver<u8>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let runtime = runtime()?;
    let ignored = ignored_signals();
    let mut streams = {
        let _inside = runtime.enter();
        [stream(HANGUP, ignored)?, stream(INTERRUPT, ignored)?, stream(TERMINATE, ignored)?]
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let first = next(&mut streams).await;
            if sender.send(first).is_err() {
                return;
            }
            let last = tokio::time::timeout(LETTING_GO_MAX, next(&mut streams)).await.unwrap_or(first);
            end_process(128 + last);
        });
    })?;
    Ok(receiver)
}

/// Waits for the next of the signals; for ever when all are ignored.
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

fn stream(number: u8, ignored: u64) -> io::Result<Option<Signal>> {
    if ignored & (1 << (number - 1)) != 0 {
        return Ok(None);
    }
    signal(SignalKind::from_raw(number.into())).map(Some)
}

/// The signals this process was started to ignore, one bit each: `nohup` and a shell's background jobs mean it.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "the work did not let go; machines die with this process")]
fn end_process(code: u8) -> ! {
    terminal::restore();
    std::process::exit(i32::from(code))
}
