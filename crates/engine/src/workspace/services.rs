//! `workspace service`: commands that a workspace keeps running under a name.
//!
//! While the workspace runs, its supervisor knows all about them; what they were, and what they printed, can be read also
//! when it does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pyro_wire::exec::{ExecRequest, Program, Word};
use pyro_wire::ready::Probe;

use super::client::ClientError;
use super::create::check_name;
use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::service_log::{self, LogPiece};
use crate::store::service_record::ServiceRecord;
use crate::store::workspace_record::{Origin, WorkspacePhase};
use crate::supervisor::protocol::{Ask, PortAsk, ReadyAsk, ReadyBy, ServerMessage, ServiceAsk};
use crate::supervisor::services::at_rest;

/// How long a service may take to be ready when nothing else is said, and how often it is looked.
pub const READY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Between two looks when nothing else is said.
pub const READY_INTERVAL_DEFAULT: Duration = Duration::from_millis(500);

/// How much longer than it may take to be ready a service is waited for: it is ended when it is not.
const WAIT_SLACK: Duration = Duration::from_secs(30);

/// How often a supervisor that is just ending is looked for, and how long between.
const LOOKS_MAX: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Last lines of a log, and most bytes of them, that are told with a service that did not become ready.
const TOLD_LINES: usize = 20;
const TOLD_BYTES_MAX: u64 = 8 * 1024;

/// A service to start.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    /// Its name.
    pub name: String,
    /// Program and arguments, at least one word.
    pub argv: Vec<Vec<u8>>,
    /// Variables added to the guest's small default environment.
    pub env: BTreeMap<String, Vec<u8>>,
    /// Absolute working directory in the guest.
    pub cwd: Vec<u8>,
    /// How its readiness is seen; without it, it is ready when its process exists.
    pub ready: Option<ReadyRequest>,
    /// Ports to publish with it.
    pub publish: Vec<PortAsk>,
    /// Whether it is started again when its workspace is started after a stop.
    pub restart_on_start: bool,
    /// How long the answer may be waited for; without it as long as the service may take to be ready.
    pub wait: Option<Duration>,
    /// Who asks.
    pub by: Origin,
    /// Secrets that it gets, each by the name of the variable that is to hold it.
    pub secret_env: BTreeMap<String, String>,
}

/// How the readiness of a service is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyRequest {
    /// What is looked at.
    pub by: ReadyBy,
    /// How long it may take.
    pub timeout: Duration,
    /// Between two looks.
    pub interval: Duration,
}

/// What a service printed.
#[derive(Debug, Clone)]
pub struct ServiceLog {
    dir: PathBuf,
    /// Where the output of its last run begins.
    pub run_from: u64,
}

impl ReadyRequest {
    /// Ready when a file is there.
    #[must_use]
    pub fn file(path: Vec<u8>) -> ReadyBy {
        ReadyBy::Probe(Probe::File(Word::from(path)))
    }

    /// Ready when `HOST:PORT` accepts connections; without a host it is the guest's loopback.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn tcp(text: &str) -> Result<ReadyBy, &'static str> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let port = port.parse().ok().filter(|port| *port > 0).ok_or("it has no port; write HOST:PORT")?;
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(ReadyBy::Probe(Probe::Tcp { host: host.to_owned(), port }))
    }

    /// Ready when a GET is answered with a status of 200 to 399.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn http(url: &str) -> Result<ReadyBy, &'static str> {
        if !url.starts_with("http://") {
            return Err("it does not begin with http://; for anything else name a port or a command");
        }
        Ok(ReadyBy::Probe(Probe::Http(url.to_owned())))
    }
}

impl Workspaces<'_> {
    /// Starts a service, and comes back when it is ready, or when its wait is over.
    ///
    /// # Errors
    /// It runs already, cannot be started, or did not become ready: then it was ended, and what it said last is told.
    pub async fn start_service(&self, word: &str, request: ServiceRequest) -> Result<ServiceRecord, WorkspaceError> {
        check_name(&request.name)?;
        let workspace = self.find(word)?;
        let connection = workspace.connect()?;
        let ask = Ask::ServiceStart(Box::new(to_ask(request)));
        match connection.ask(ask).await {
            Ok(ServerMessage::Service { service }) => settled(&workspace, *service),
            Ok(_) => Err(connection.nonsense().into()),
            Err(error) => Err(self.name_holder(error, &workspace).await),
        }
    }

    /// Ends a service if it runs, and starts it as it was started before.
    ///
    /// # Errors
    /// As [`Self::start_service`]; or there is none.
    pub async fn restart_service(
        &self,
        word: &str,
        name: &str,
        wait: Option<Duration>,
    ) -> Result<ServiceRecord, WorkspaceError> {
        let (workspace, _) = self.service(word, name).await?;
        let connection = workspace.connect()?;
        // How long it may take stands in what it was started with, which the supervisor knows: no less than the most there is.
        let wait_ms = as_ms(wait.unwrap_or(READY_TIMEOUT_MAX + WAIT_SLACK));
        match connection.ask(Ask::ServiceRestart { name: name.to_owned(), wait_ms }).await {
            Ok(ServerMessage::Service { service }) => settled(&workspace, *service),
            Ok(_) => Err(connection.nonsense().into()),
            Err(error) => Err(self.name_holder(error, &workspace).await),
        }
    }

    /// Ends a service.
    ///
    /// # Errors
    /// There is none.
    pub async fn stop_service(&self, word: &str, name: &str) -> Result<ServiceRecord, WorkspaceError> {
        let (workspace, _) = self.service(word, name).await?;
        let connection = workspace.connect()?;
        match connection.ask(Ask::ServiceStop { name: name.to_owned() }).await? {
            ServerMessage::Service { service } => Ok(*service),
            _ => Err(connection.nonsense().into()),
        }
    }

    /// All services of a workspace, by name.
    ///
    /// # Errors
    /// There is no such workspace, or they cannot be read.
    pub async fn services(&self, word: &str) -> Result<(Workspace, Vec<ServiceRecord>), WorkspaceError> {
        let mut looks = 0;
        loop {
            let workspace = self.find(word)?;
            if workspace.state.phase != WorkspacePhase::Running {
                let read = |source| WorkspaceError::File { what: "read", path: workspace.dir.services(), source };
                let services = at_rest(&workspace.dir).map_err(read)?;
                return Ok((workspace, services));
            }
            looks += 1;
            let connection = workspace.connect()?;
            match connection.ask(Ask::Services).await {
                Ok(ServerMessage::Services { services }) => return Ok((workspace, services)),
                Ok(_) => return Err(connection.nonsense().into()),
                // It is just ending: what is written down says more in a moment.
                Err(ClientError::Gone { .. }) if looks < LOOKS_MAX => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One service of a workspace.
    ///
    /// # Errors
    /// There is none.
    pub async fn service(&self, word: &str, name: &str) -> Result<(Workspace, ServiceRecord), WorkspaceError> {
        let (workspace, services) = self.services(word).await?;
        let known = services.iter().map(|service| service.name.clone()).collect();
        match services.into_iter().find(|service| service.name == name) {
            Some(service) => Ok((workspace, service)),
            None => Err(WorkspaceError::NoService { id: workspace.record.id, name: name.to_owned(), known }),
        }
    }

    /// The names of the services that run in a workspace: those that end with its machine.
    pub async fn running_services(&self, word: &str) -> Vec<String> {
        let services = self.services(word).await.map(|(_, services)| services).unwrap_or_default();
        services.into_iter().filter(|service| service.state.is_alive()).map(|service| service.name).collect()
    }
}

/// The longest that a service may take to be ready.
pub const READY_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

impl ServiceLog {
    /// That of a service.
    #[must_use]
    pub fn of(workspace: &Workspace, service: &ServiceRecord) -> Self {
        Self { dir: workspace.dir.service_log(&service.name), run_from: service.log_from }
    }

    /// Up to `count_max` bytes from `position` on, or from where what is kept begins; none are the end for now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, position: u64, count_max: u64) -> Result<LogPiece, WorkspaceError> {
        service_log::read(&self.dir, position, count_max).map_err(|source| self.unreadable(source))
    }

    /// Where the last `lines` lines of the last run begin.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tail(&self, lines: usize) -> Result<u64, WorkspaceError> {
        service_log::tail(&self.dir, self.run_from, lines).map_err(|source| self.unreadable(source))
    }

    /// Where what is kept begins, and where it ends so far.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn extent(&self) -> Result<(u64, u64), WorkspaceError> {
        service_log::extent(&self.dir).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: std::io::Error) -> WorkspaceError {
        WorkspaceError::File { what: "read", path: self.dir.clone(), source }
    }

    /// The last lines, to be told with a failure.
    fn last_lines(&self) -> Vec<u8> {
        let read = || -> Result<Vec<u8>, WorkspaceError> {
            let (_, end) = self.extent()?;
            let from = self.tail(TOLD_LINES)?.max(end.saturating_sub(TOLD_BYTES_MAX));
            Ok(self.read(from, TOLD_BYTES_MAX)?.bytes)
        };
        read().unwrap_or_default()
    }
}

/// A service that runs or still starts; any other did not become what it was started for.
fn settled(workspace: &Workspace, service: ServiceRecord) -> Result<ServiceRecord, WorkspaceError> {
    if service.state.is_alive() {
        return Ok(service);
    }
    let last_lines = ServiceLog::of(workspace, &service).last_lines();
    let id = workspace.record.id.clone();
    Err(WorkspaceError::ServiceNotReady { id, service: Box::new(service), last_lines })
}

fn to_ask(request: ServiceRequest) -> ServiceAsk {
    let ServiceRequest { name, argv, env, cwd, ready, publish, restart_on_start, wait, by, secret_env } = request;
    let may_take = ready.as_ref().map_or(Duration::ZERO, |ready| ready.timeout);
    let ready = ready.map(|ReadyRequest { by, timeout, interval }| ReadyAsk {
        by,
        timeout_ms: as_ms(timeout),
        interval_ms: as_ms(interval),
    });
    ServiceAsk {
        name,
        request: ExecRequest {
            program: Program::Argv(argv.into_iter().map(Word::from).collect()),
            env: env.into_iter().map(|(name, value)| (name, Word::from(value))).collect(),
            cwd: Word::from(cwd),
            stdin: false,
            terminal: None,
            timeout_ms: None,
            whole: true,
        },
        ready,
        publish,
        restart_on_start,
        wait_ms: as_ms(wait.unwrap_or(may_take + WAIT_SLACK)),
        by,
        secret_env,
    }
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Probe, ReadyBy, ReadyRequest};

    #[test]
    fn what_is_looked_at_is_read() {
        let tcp = |host: &str, port| Ok(ReadyBy::Probe(Probe::Tcp { host: host.to_owned(), port }));
        assert_eq!(ReadyRequest::tcp("127.0.0.1:80"), tcp("127.0.0.1", 80));
        assert_eq!(ReadyRequest::tcp("[::1]:80"), tcp("[::1]", 80));
        assert_eq!(ReadyRequest::tcp("8000"), tcp("localhost", 8000));
        assert_eq!(ReadyRequest::tcp(":8000"), tcp("localhost", 8000));
        for wrong in ["", "a", "a:0", "a:99999", "a:b"] {
            assert!(ReadyRequest::tcp(wrong).is_err(), "{wrong}");
        }
        assert!(ReadyRequest::http("http://localhost/").is_ok() && ReadyRequest::http("https://localhost/").is_err());
    }
}
