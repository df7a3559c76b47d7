//! `mcp serve`: the tools of pyro for a chat host, over standard input and output.
//!
//! The server starts no machine before it is asked to. Its workspaces live in processes of their own, so that it may be
//! killed at any time. It ends when it is of no use to anybody any more: with its input, with the last reader of its output,
//! with its parent, and on a signal; never because nobody asked for anything for a while.
//!
//! Deliberately absent: any way to run something on the host, and any host path that its user did not allow.

mod answer;
mod arguments;
mod crossings;
mod diff;
mod disk;
mod envelope;
mod excerpt;
mod exec;
mod export;
mod files;
mod host_paths;
mod network;
mod output;
mod patch;
mod profile;
mod progress;
mod prompts;
mod run;
mod server;
mod service;
mod shell;
mod snapshot;
mod sync;
mod tool;
mod transport;
mod words;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyro_engine::Settings;
use pyro_engine::supervisor::secrets::Secrets;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use profile::Profile;

use self::host_paths::HostPaths;
use self::server::Server;
use self::transport::Lines;
use crate::failure::{Failure, Kind};

/// How often it is looked whether the host is still there. The kernel's own signal for that tells of the end of the thread
/// that started us, which need not be its process's.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a server is started.
#[derive(Debug)]
pub(crate) struct Serve {
    /// Which tools it has.
    pub(crate) profile: Profile,
    /// Directories of the host that its tools may reach.
    pub(crate) allowed: Vec<PathBuf>,
    /// The chat host's session, where its environment tells it.
    pub(crate) session: Option<String>,
    /// Secrets for the workspaces it makes.
    pub(crate) secrets: Secrets,
    /// Hosts that a model may open for a workspace, besides what is public.
    pub(crate) allowed_hosts: Vec<String>,
}

/// Serves a chat host until it is gone.
///
/// # Errors
/// An allowed path is none, or the host does not speak the protocol.
pub(crate) fn serve(settings: Settings, serve: Serve) -> Result<(), Failure> {
    let Serve { profile, allowed, session, secrets, allowed_hosts } = serve;
    let host_paths = Arc::new(HostPaths::new(&allowed)?);
    let server = Server {
        settings: Arc::new(settings),
        host_paths,
        profile,
        session,
        secrets: Arc::new(secrets),
        allowed_hosts: Arc::new(allowed_hosts),
        disk_exports: disk::DiskExports::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::HostNotReady, format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = session_of(server) => result,
            () = ended_from_outside() => Ok(()),
        }
    });
    // What was being carried out is dropped, and with it what was half made; a seed that is being read ends with the process.
    runtime.shutdown_background();
    result
}

async fn session_of(server: Server) -> Result<(), Failure> {
    let (input, output) = stdio_pipes();
    let running = match server.serve(Lines::new(input, output)).await {
        Ok(running) => running,
        // A host that looks and goes away without a word is none's failure.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => {
            return Err(Failure::new(Kind::Usage, "the chat host does not speak MCP")
                .caused_by(error.to_string())
                .hint("'pyro mcp serve' is started by a chat host, as in: claude mcp add pyro -- pyro mcp serve"));
        }
    };
    drop(running.waiting().await);
    Ok(())
}

/// Waits until the parent or the reader of the output is gone, or a signal asks the server to end.
async fn ended_from_outside() {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut interrupt = signal(SignalKind::interrupt()).ok();
    let mut hang_up = signal(SignalKind::hangup()).ok();
    tokio::select! {
        () = host_gone() => {}
        () = heard(&mut terminate) => {}
        () = heard(&mut interrupt) => {}
        () = heard(&mut hang_up) => {}
    }
}

async fn heard(signal: &mut Option<tokio::signal::unix::Signal>) {
    let heard = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending().await
    }
}

/// Waits until the process that started this one is gone, or nobody can read our output any more. Somebody else may hold
/// their end of our input open all the while.
async fn host_gone() {
    let parent = rustix::process::getppid();
    while rustix::process::getppid() == parent && !unread() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the last reader of the output is gone. A file has none that could go, and never counts.
fn unread() -> bool {
    let output = std::io::stdout();
    let mut looked = [PollFd::new(&output, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut looked, Some(&now)).is_ok_and(|count| count > 0)
        && looked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
