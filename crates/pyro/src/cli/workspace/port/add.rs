//! `workspace port add`: a port of the guest, published.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::supervisor::protocol::PortAsk;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::ports::parse_port;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::port::PortReport;
use crate::{interrupt, report};

const DETAILS: &str = "\
  pyro workspace port add fix 8000          at a free port of this host, which is shown
  pyro workspace port add fix 8080:8000     at port 8080

It listens on 127.0.0.1 and ::1 of this host only, and reaches what listens on the guest's loopback only. The guest is
asked when somebody connects: where nothing listens there, the connection is closed at once. It goes with 'port remove',
and when the workspace is stopped or deleted; a reset leaves it.";

/// Arguments of `workspace port add`.
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct AddArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The port of the guest, and with HOST: that of this host
    #[arg(value_name = "[HOST:]GUEST", value_parser = parse_port)]
    port: PortAsk,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl AddArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let (workspace, pair) =
            interrupt::block_on(async { Ok(workspaces.add_port(&self.workspace, self.port).await?) })?;
        report::print(&PortReport::new(workspace.record.id, pair), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
