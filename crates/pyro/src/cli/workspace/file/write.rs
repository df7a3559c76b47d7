//! `workspace file write`: a file of a workspace, new or with new content.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::files::{self, WRITE_BYTES_MAX};

use super::super::super::Face;
use super::super::given;
use super::guest_path;
use crate::failure::Failure;
use crate::report::files::FileWritten;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace file write fix notes.txt --text 'call it a day'
  pyro workspace file write fix src/main.rs --text-file main.rs
  make-report | pyro workspace file write fix report.html --text-file -

A file that is replaced keeps its mode and owner; directories that are missing are made.";

/// Arguments of `workspace file write`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WriteArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A file; one that is not absolute is in the workspace
    path: OsString,
    #[command(flatten)]
    content: Content,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the content comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Content {
    /// The content
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<OsString>,
    /// A file of this host with the content; - is standard input
    #[arg(long, value_name = "FILE")]
    text_file: Option<OsString>,
}

impl WriteArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let path = guest_path(Some(self.path))?;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let content = given::read(self.content.text, self.content.text_file, u64::from(WRITE_BYTES_MAX))?;
        let written = interrupt::block_on(async { Ok(files::write(&connection, &path, &content).await?) })?;
        report::print(&FileWritten::new(connection.id, &path, &written), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
