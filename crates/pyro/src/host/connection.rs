//! The proof that a registered command is a server that works: it is started as its host would, and spoken to.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rmcp::ServiceExt as _;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation};
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::process::Command;

/// Longest wait for all the answers; the most patient of the hosts waits as long.
const ANSWERS_LIMIT: Duration = Duration::from_secs(30);

/// How long the server may take to end once its input has.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What a server said of itself.
#[derive(Debug)]
pub(crate) struct Answered {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its tools.
    pub(crate) tools: Vec<String>,
    /// From its start to the list of its tools.
    pub(crate) took: Duration,
}

/// Why there was no such answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The program does not start.
    #[error("{program} does not start: {source}")]
    NotStarted { program: String, source: std::io::Error },
    /// It started, but does not speak the protocol.
    #[error("it does not answer as an MCP server: {reason}")]
    NoServer { reason: String },
    /// It took too long.
    #[error("no answer within {} s", limit.as_secs())]
    Late { limit: Duration },
}

/// How a command is started.
pub(super) struct Start<'a> {
    pub(super) argv: &'a [String],
    /// What the entry adds to the environment.
    pub(super) variables: Vec<(String, String)>,
    /// The environment that its host gives it; the whole of ours if none is named.
    pub(super) environment: Option<Vec<(OsString, OsString)>>,
    pub(super) dir: &'a Path,
}

/// Starts the command, asks it who it is and which tools it has, and ends it.
pub(super) async fn ask(start: Start<'_>) -> Result<Answered, Unanswered> {
    let begun = Instant::now();
    let (program, arguments) = start.argv.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(start.dir).kill_on_drop(true);
    if let Some(environment) = start.environment {
        command.env_clear().envs(environment);
    }
    command.envs(start.variables);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let not_started = |source| Unanswered::NotStarted { program: program.clone(), source };
    let mut child = command.spawn().map_err(not_started)?;
    let input = child.stdin.take().expect("it is piped");
    let output = child.stdout.take().expect("it is piped");
    let talk = async {
        let no_server = |reason: String| Unanswered::NoServer { reason };
        let us = Implementation::new("pyro-host-status", env!("CARGO_PKG_VERSION"));
        let client = ClientConfig::new(ClientCapabilities::default(), us);
        let transport = AsyncRwTransport::new_client(output, input);
        let session = client.serve(transport).await.map_err(|error| no_server(error.to_string()))?;
        let tools = session.list_all_tools().await.map_err(|error| no_server(error.to_string()))?;
        let server = session.peer_info().and_then(|info| info.server_info.clone());
        let (name, version) = server.map(|server| (server.name, server.version)).unwrap_or_default();
        drop(session.cancel().await);
        let tools = tools.into_iter().map(|tool| tool.name.into_owned()).collect();
        Ok(Answered { name, version, tools, took: begun.elapsed() })
    };
    let answer = tokio::time::timeout(ANSWERS_LIMIT, talk).await;
    // Its input is closed by now, which asks it to end; one that does not is killed as the child is dropped.
    drop(tokio::time::timeout(END_LIMIT, child.wait()).await);
    answer.unwrap_or(Err(Unanswered::Late { limit: ANSWERS_LIMIT }))
}
