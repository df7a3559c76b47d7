//! `workspace file write`: a file of a workspace, new or with new content.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::files::{self, WRITE_BYTES_MAX};

use super::super::super::Face;
use super::guest_path;
use crate::failure::{Failure, Kind};
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
        let content = self.content.read()?;
        let written = interrupt::block_on(async { Ok(files::write(&connection, &path, &content).await?) })?;
        report::print(&FileWritten::new(connection.id, &path, &written), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Content {
    fn read(self) -> Result<Vec<u8>, Failure> {
        let Some(file) = self.text_file else { return Ok(self.text.unwrap_or_default().into_vec()) };
        read_bounded(&file).map_err(|error| {
            Failure::new(Kind::Usage, format!("cannot read {}", file.display()))
                .caused_by(error.to_string())
                .hint("name a file of this host, or - for standard input")
        })
    }
}

/// At most one byte more than a write takes, which is then refused.
fn read_bounded(file: &OsStr) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> = if file == "-" { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let mut content = Vec::new();
    source.take(u64::from(WRITE_BYTES_MAX) + 1).read_to_end(&mut content)?;
    Ok(content)
}
