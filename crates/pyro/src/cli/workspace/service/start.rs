//! `workspace service start`: a command that goes on under a name, ready or not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::supervisor::protocol::{PortAsk, ReadyBy};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::ports::parse_port;
use pyro_engine::workspace::services::{READY_TIMEOUT_MAX, ReadyRequest, ServiceRequest};

use super::super::super::Face;
use super::super::super::attached::variable_parser;
use super::super::command_line;
use super::super::secrets::grant;
use crate::failure::{EXIT_REFUSED, Failure, Kind};
use crate::report::service::ServiceReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace service start fix web --ready-http http://localhost:8000/ --publish 8000 -- python3 -m http.server
  pyro workspace service start fix db --ready-command 'pg_isready -q' --ready-timeout-seconds 120 -- postgres -D /data
  pyro workspace service start fix worker --restart-on-start -- sh -lc 'cd app && npm run worker'

Readiness is looked at inside the guest, again and again. Without one a service is ready when its process exists.
A service that is not ready in its time is stopped, and the last lines it printed are shown: exit code 1.

--publish 8000 makes port 8000 of the guest reachable at a free port of this host's 127.0.0.1 and ::1, which is
shown; --publish 8080:8000 at port 8080. It reaches what listens on the guest's loopback only. The guest is asked
when somebody connects: where nothing listens there, the connection is closed at once.

A workspace in which nothing but a service goes on is not in use: it is stopped after its time to live. Connections
to a published port count as use.";

/// Arguments of `workspace service start`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StartArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// What to call the service
    name: String,
    /// The program and its arguments
    #[arg(last = true, value_name = "ARG", required = true)]
    argv: Vec<OsString>,
    /// Working directory in the guest
    #[arg(long, value_name = "DIR", default_value = "/workspace")]
    cwd: OsString,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable_parser())]
    env: Vec<(String, Vec<u8>)>,
    /// A secret of the workspace for it, in the variable of its name or another; may be repeated
    #[arg(long, value_name = "SECRET[=ENV]", value_parser = grant)]
    secret_env: Vec<(String, String)>,
    #[command(flatten)]
    ready: ReadyArgs,
    /// Publish a port of the guest on this host's loopback, with HOST: at that port; may be repeated
    #[arg(long, value_name = "[HOST:]GUEST", value_parser = parse_port)]
    publish: Vec<PortAsk>,
    /// Start it again when the workspace is started after a stop; how it is started is written down for that
    #[arg(long)]
    restart_on_start: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// How readiness is seen.
#[derive(Debug, Args)]
struct ReadyArgs {
    /// Ready when this path is there
    #[arg(long, value_name = "PATH", group = "ready")]
    ready_file: Option<OsString>,
    /// Ready when connections are accepted there
    #[arg(long, value_name = "HOST:PORT", group = "ready", value_parser = ReadyRequest::tcp)]
    ready_tcp: Option<ReadyBy>,
    /// Ready when a GET of this URL is answered with a status of 200 to 399
    #[arg(long, value_name = "URL", group = "ready", value_parser = ReadyRequest::http)]
    ready_http: Option<ReadyBy>,
    /// Ready when this line of shell succeeds
    #[arg(long, value_name = "COMMAND", group = "ready")]
    ready_command: Option<String>,
    /// How long it may take to be ready
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "ready",
          value_parser = clap::value_parser!(u64).range(1..=READY_TIMEOUT_MAX.as_secs()))]
    ready_timeout_seconds: u64,
    /// Between two looks whether it is
    #[arg(long, value_name = "MS", default_value_t = 500, requires = "ready",
          value_parser = clap::value_parser!(u64).range(10..=60_000))]
    ready_interval_ms: u64,
}

impl StartArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let (json, word) = (self.json, self.workspace.clone());
        let request = self.request()?;
        let workspaces = Workspaces::new(&settings);
        let workspace = workspaces.find(&word)?;
        // A program that is not there is what any other refusal is: no exit code of the guest's is passed on here.
        let refused = |error| Failure::from(error).exit_with(EXIT_REFUSED);
        let id = workspace.record.id;
        let service = interrupt::block_on(async { workspaces.start_service(&id, request).await.map_err(refused) })?;
        report::print(&ServiceReport::new(id, service), json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(self) -> Result<ServiceRequest, Failure> {
        Ok(ServiceRequest {
            name: self.name,
            argv: self.argv.into_iter().map(OsString::into_vec).collect(),
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            cwd: self.cwd.into_vec(),
            ready: self.ready.request()?,
            publish: self.publish,
            restart_on_start: self.restart_on_start,
            wait: None,
            by: command_line(),
            secret_env: self.secret_env.into_iter().map(|(secret, variable)| (variable, secret)).collect(),
        })
    }
}

impl ReadyArgs {
    fn request(self) -> Result<Option<ReadyRequest>, Failure> {
        let timeout = Duration::from_secs(self.ready_timeout_seconds);
        let interval = Duration::from_millis(self.ready_interval_ms);
        let file = self.ready_file.map(|path| match path.as_encoded_bytes().starts_with(b"/") {
            true => Ok(ReadyRequest::file(path.into_vec())),
            false => Err(Failure::new(Kind::Usage, "the path of --ready-file is not absolute")
                .hint("name the file as the guest does, such as /run/ready")),
        });
        let command = self.ready_command.map(ReadyBy::Command);
        let by = file.transpose()?.or(self.ready_tcp).or(self.ready_http).or(command);
        Ok(by.map(|by| ReadyRequest { by, timeout, interval }))
    }
}
