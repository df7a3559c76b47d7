//! `workspace file list`: what a directory of a workspace holds.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::files::{self, ENTRIES_MAX};

use super::super::super::Face;
use super::guest_path;
use crate::failure::Failure;
use crate::report::files::FileList;
use crate::{interrupt, report};

/// Arguments of `workspace file list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A directory; one that is not absolute is in the workspace [default: /workspace]
    path: Option<OsString>,
    /// Also what is in the directories below
    #[arg(long)]
    recursive: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ListArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let path = guest_path(self.path)?;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let listing =
            interrupt::block_on(async { Ok(files::list(&connection, &path, self.recursive, ENTRIES_MAX).await?) })?;
        let list = FileList::new(connection.id, &path, listing);
        report::print(&list, self.json, face.color())?;
        if list.truncated && !self.json {
            face.say(&format!("there is more than these {} entries; name a directory further down", list.len()));
        }
        Ok(ExitCode::SUCCESS)
    }
}
