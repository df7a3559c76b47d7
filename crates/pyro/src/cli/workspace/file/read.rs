//! `workspace file read`: a file of a workspace, or a part of it.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::files::{self, FilePart, READ_MAX, ReadRange};

use super::super::super::Face;
use super::guest_path;
use crate::failure::Failure;
use crate::report::clean;
use crate::report::files::{FileRead, rest_words};
use crate::report::units;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace file read fix src/main.rs
  pyro workspace file read fix build.log --offset 200 --lines 50
  pyro workspace file read fix logo.png --content-only --max-bytes 1000000 > logo.png

A terminal shows text without what could move its cursor; everything else gets the bytes as they are.";

/// Arguments of `workspace file read`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReadArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A file; one that is not absolute is in the workspace
    path: OsString,
    /// The line to begin with; the first is 1
    #[arg(long, value_name = "LINE", default_value_t = NonZeroU64::MIN)]
    offset: NonZeroU64,
    /// How many lines [default: all that fit]
    #[arg(long, value_name = "N")]
    lines: Option<u64>,
    /// The byte to begin with, instead of a line; the first is 0
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["offset", "lines"])]
    offset_bytes: Option<u64>,
    /// How many bytes at most
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(READ_MAX)))]
    max_bytes: u32,
    /// Print the bytes exactly, on a terminal, too
    #[arg(long, conflicts_with = "json")]
    content_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ReadArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let path = guest_path(Some(self.path))?;
        let range = match self.offset_bytes {
            Some(offset) => ReadRange::Bytes { offset },
            None => ReadRange::Lines { first: self.offset.get(), count: self.lines },
        };
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let part = interrupt::block_on(async { Ok(files::read(&connection, &path, range, self.max_bytes).await?) })?;
        if self.json {
            report::print_json(true, &FileRead::new(connection.id, &path, part))?;
            return Ok(ExitCode::SUCCESS);
        }
        let rest = rest_words(&part);
        let secrets = part.secrets.join(", ");
        if self.content_only || !std::io::stdout().is_terminal() {
            report::print_bytes(&part.content)?;
        } else {
            show(&part, face)?;
        }
        if !secrets.is_empty() {
            face.say(&format!("warning: it holds the secret {secrets}, which is cut out here"));
        }
        // Who asked for some lines knows that there are others.
        if let Some(words) = rest.filter(|_| self.lines.is_none()) {
            face.say(&words);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a part of a file: on a terminal without what could move its cursor, otherwise as it is.
pub(crate) fn print_part(part: &FilePart, face: &Face) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        show(part, face)?
    } else {
        report::print_bytes(&part.content)?
    }
    rest_words(part).iter().for_each(|words| face.say(words));
    Ok(())
}

/// Shows a part of a file on a terminal.
fn show(part: &FilePart, face: &Face) -> Result<(), Failure> {
    if !part.is_text {
        let size = units::size(part.size_bytes);
        face.say(&format!("this is no text, but {size} of something else; --content-only prints it"));
        return Ok(());
    }
    let mut text = clean::lines(&part.content);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    report::print_bytes(text.as_bytes())
}
