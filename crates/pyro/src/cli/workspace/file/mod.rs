//! `workspace file`: look at the files of a workspace, and change them.

mod edit;
mod list;
mod read;
mod search;
mod write;

pub(super) use read::print_part;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Subcommand;
use pyro_engine::workspace::guest_path::GuestPath;

use super::super::Face;
use crate::failure::Failure;

/// The verbs of `workspace file`.
#[derive(Debug, Subcommand)]
pub(crate) enum FileVerb {
    /// List a directory
    List(list::ListArgs),
    /// Print a file, or a part of it
    Read(read::ReadArgs),
    /// Make a file, or replace the content of one
    Write(write::WriteArgs),
    /// Replace a text in a file
    Edit(edit::EditArgs),
    /// Find lines by a pattern, or files by name
    Search(search::SearchArgs),
}

impl FileVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Read(args) => args.json,
            Self::Write(args) => args.json,
            Self::Edit(args) => args.json,
            Self::Search(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::List(args) => args.handle(face),
            Self::Read(args) => args.handle(face),
            Self::Write(args) => args.handle(face),
            Self::Edit(args) => args.handle(face),
            Self::Search(args) => args.handle(face),
        }
    }
}

/// The place in the guest that a word names; without one, the workspace itself.
fn guest_path(word: Option<OsString>) -> Result<GuestPath, Failure> {
    Ok(GuestPath::new(word.as_deref().map_or(b".".as_slice(), OsStr::as_bytes))?)
}
