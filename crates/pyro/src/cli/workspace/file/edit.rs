//! `workspace file edit`: one text of a file replaced by another.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::files::{self, Replacement};

use super::super::super::Face;
use super::guest_path;
use crate::failure::Failure;
use crate::report::files::FileEdited;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace file edit fix src/main.rs --old 'run(1)' --new 'run(2)'

The text is taken as it is, line breaks and all. A text that is not there changes nothing, and what is
most like it is shown.";

/// Arguments of `workspace file edit`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EditArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A file; one that is not absolute is in the workspace
    path: OsString,
    /// The text to replace; it must be there exactly once
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    old: OsString,
    /// The text to put in its place
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    new: OsString,
    /// Replace the text wherever it is
    #[arg(long)]
    replace_all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl EditArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let path = guest_path(Some(self.path))?;
        let (old, new) = (self.old.into_vec(), self.new.into_vec());
        let replacement = Replacement { old: &old, new: &new, everywhere: self.replace_all };
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let edited = interrupt::block_on(async { Ok(files::edit(&connection, &path, replacement).await?) })?;
        report::print(&FileEdited::new(connection.id, &path, edited), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
