//! `mcp serve`: the tools of pyro for a chat host, over standard input and output.
//!
//! The server starts no machine before it is asked to. Its workspaces live in processes of their own, so that it may be
//! killed at any time. It ends with its input, with its parent, and on a signal.
//!
//! Deliberately absent: any way to run something on the host, and any host path that its user did not allow.

mod answer;
mod arguments;
mod diff;
mod exec;
mod export;
mod files;
mod host_paths;
mod patch;
mod profile;
mod progress;
mod run;
mod server;
mod sync;
mod tool;
mod transport;
mod words;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyro_engine::Settings;
use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::io::stdio_pipes;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use profile::Profile;

use self::host_paths::HostPaths;
use self::server::Server;
use self::transport::Patient;
use crate::failure::{Failure, Kind};

/// How often it is looked whether the parent is still there. The kernel's own signal for that tells of the end of the thread
/// that started us, which need not be its process's.
const PARENT_EVERY: Duration = Duration::from_secs(1);

/// How a server is started.
#[derive(Debug)]
pub(crate) struct Serve {
    /// Which tools it has.
    pub(crate) profile: Profile,
    /// Directories of the host that its tools may reach.
    pub(crate) allowed: Vec<PathBuf>,
    /// The chat host's session, where its environment tells it.
    pub(crate) session: Option<String>,
}

/// Serves a chat host until it is gone.
///
/// # Errors
/// An allowed path is none, or the host does not speak the protocol.
pub(crate) fn serve(settings: Settings, serve: Serve) -> Result<(), Failure> {
    let Serve { profile, allowed, session } = serve;
    let host_paths = Arc::new(HostPaths::new(&allowed)?);
    let server = Server { settings: Arc::new(settings), host_paths, profile, session };
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
    let transport = Patient::new(AsyncRwTransport::new_server(input, output));
    let running = match server.serve(transport).await {
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

/// Waits until the parent is gone, or a signal asks the server to end.
async fn ended_from_outside() {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut interrupt = signal(SignalKind::interrupt()).ok();
    let mut hang_up = signal(SignalKind::hangup()).ok();
    tokio::select! {
        () = parent_gone() => {}
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

/// Waits until the process that started this one is gone. Somebody else may hold its end of our input open.
async fn parent_gone() {
    let parent = rustix::process::getppid();
    while rustix::process::getppid() == parent {
        tokio::time::sleep(PARENT_EVERY).await;
    }
}
