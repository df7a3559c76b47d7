//! `workspace export`: files of a workspace, or its patch, on this host.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::client::Connection;
use pyro_engine::workspace::diff::DiffRequest;
use pyro_engine::workspace::export::{ExportRequest, Output, export, export_patch};
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::seen;

use super::super::Face;
use crate::failure::Failure;
use crate::report::diff::note_lines;
use crate::report::export::ExportReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace export fix target/release/tool --output tool
  pyro workspace export fix --output fix-result
  pyro workspace export fix --as patch --output fix.patch

What arrives is yours: owned by you, without setuid bits, devices and links that lead out of it. It is there
whole, or not at all.";

/// Arguments of `workspace export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A file or a directory; one that is not absolute is in the workspace [default: /workspace]
    path: Option<OsString>,
    /// Where it will be on this host; nothing may be there
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// What to write: files, or a patch of what changed at or below the path
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t, hide_possible_values = true)]
    form: Form,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Write it also where it holds a secret of the workspace
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The files as they are
    #[default]
    Files,
    /// What changed, for git apply
    Patch,
}

impl ExportArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let output = Output {
            called: self.output.display().to_string(),
            path: self.output,
            force: self.force,
            secrets: self.with_secrets,
        };
        let (report, notes) = match self.form {
            Form::Files => {
                let path = self.path.as_deref().map_or(b".".as_slice(), OsStrExt::as_bytes);
                let request = ExportRequest { path: GuestPath::new(path)?, output };
                let report = files(&connection, &request, face)?;
                let notes = report.note_lines();
                (report, notes)
            }
            Form::Patch => {
                let paths = self.path.into_iter().map(OsString::into_vec).collect();
                patch(&connection, paths, &output)?
            }
        };
        report::print(&report, self.json, face.color())?;
        if !self.json {
            notes.iter().for_each(|line| face.say(line));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn files(connection: &Connection, request: &ExportRequest, face: &Face) -> Result<ExportReport, Failure> {
    let painter = face.painter();
    let report = |progress| painter.report(progress);
    let summary = interrupt::block_on(async {
        // What changes while the files are on their way was not taken home, so the name is from before.
        let whole = request.path == GuestPath::workspace();
        let name = if whole { seen::current(connection).await.ok().flatten() } else { None };
        let summary = export(connection, request, &report).await?;
        drop(seen::tell(connection, name).await);
        Ok(summary)
    });
    painter.clear();
    Ok(ExportReport::of_files(connection.id.clone(), &request.output.path, &summary?))
}

fn patch(
    connection: &Connection,
    paths: Vec<Vec<u8>>,
    output: &Output,
) -> Result<(ExportReport, Vec<String>), Failure> {
    let request = DiffRequest { paths, all: false };
    let exported = interrupt::block_on(async {
        let exported = export_patch(connection, &request, output).await?;
        if request.paths.is_empty() {
            drop(seen::tell(connection, seen::name(&exported.summary)).await);
        }
        Ok(exported)
    })?;
    let notes = note_lines(&exported.summary);
    Ok((ExportReport::of_patch(connection.id.clone(), &output.path, &exported), notes))
}
