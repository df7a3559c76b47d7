//! `workspace diff`: what a workspace changed since it was created.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use clap::Args;
use pyro_engine::store::disk_record::BASELINE;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::between::Between;
use pyro_engine::workspace::client::Connection;
use pyro_engine::workspace::diff::{self, DiffError, DiffRequest, DiffSummary};
use pyro_engine::workspace::seen::show;
use pyro_engine::workspace::tool::ToolHost;
use tokio::io::AsyncWrite;

use super::super::Face;
use crate::failure::Failure;
use crate::report::diff::{DiffForm, DiffReport, note_lines, terminal_line};
use crate::{interrupt, report};

/// Longest patch that is one part of a JSON object.
const JSON_PATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
  pyro workspace diff fix
  pyro workspace diff fix | git apply       the same changes in your own checkout
  pyro workspace diff fix src --stat
  pyro workspace diff fix --from tests-pass

Compared is with what the workspace was created with, or with a snapshot, for which a second machine is
started for the moment; renames are told as a file that is gone and a new one then. New files that .gitignore or .git/info/exclude
ignore are left out. What git cannot express (empty directories, devices, other permissions) is told
on standard error.";

/// Arguments of `workspace diff`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// Only what is at or below these; one that is not absolute is in the workspace
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Say how much changed in each file, not what
    #[arg(long)]
    stat: bool,
    /// Say which files changed, not what in them
    #[arg(long, conflicts_with = "stat")]
    name_status: bool,
    /// Compare with a snapshot
    #[arg(long, value_name = "SNAPSHOT", default_value = BASELINE)]
    from: String,
    /// Also new files that git ignores
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl DiffArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let connection = workspaces.connect(&self.workspace)?;
        let painter = face.painter();
        let report = |progress| painter.report(progress);
        let summary = interrupt::block_on(async {
            if self.from == BASELINE {
                let whole = self.paths.is_empty() && !self.all;
                return self.show(face, &connection, Some(&connection).filter(|_| whole), &connection.id).await;
            }
            let before = workspaces.open_snapshot(&self.workspace, &self.from, &report).await;
            painter.clear();
            let before = before?;
            let shown = self.show(face, &Between { before: &before, now: &connection }, None, &connection.id).await;
            before.close().await;
            shown
        })?;
        if !self.json {
            note_lines(&summary).iter().for_each(|line| face.say(line));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Shows what `host` tells. `seen` is told that it was all of it, if it was.
    async fn show(
        &self,
        face: &Face,
        host: &impl ToolHost,
        seen: Option<&Connection>,
        id: &str,
    ) -> Result<DiffSummary, Failure> {
        let (json, color, id) = (self.json, face.color(), id.to_owned());
        let paths = self.paths.iter().cloned().map(OsString::into_vec).collect();
        let request = DiffRequest { paths, all: self.all };
        let (form, summary) = match (self.stat, self.name_status) {
            (true, _) => (DiffForm::Stat, diff::stat(host, &request).await?),
            (_, true) => (DiffForm::NameStatus, diff::names(host, &request).await?),
            _ if json => {
                let diff = diff::diff(host, &request, JSON_PATCH_BYTES_MAX).await?;
                let summary = diff.summary.clone();
                report::print_json(true, &DiffReport::of_patch(id, diff))?;
                return Ok(summary);
            }
            _ => return print_patch(host, &request, seen, color).await,
        };
        report::print(&DiffReport::of_summary(id, &summary, form), json, color)?;
        Ok(summary)
    }
}

/// Prints the patch as it comes. A terminal gets it clean and in colour, everything else as it is.
async fn print_patch(
    host: &impl ToolHost,
    request: &DiffRequest,
    seen: Option<&Connection>,
    color: bool,
) -> Result<DiffSummary, Failure> {
    let (mut terminal, mut plain);
    let out: &mut (dyn AsyncWrite + Unpin + Send) = if io::stdout().is_terminal() {
        terminal = TerminalPatch { line: Vec::new(), color };
        &mut terminal
    } else {
        plain = tokio::io::stdout();
        &mut plain
    };
    let shown = show(host, request, out).await.map_err(|error| match error {
        DiffError::Output { source } => report::output_failed(&source),
        error => error.into(),
    })?;
    if let Some(connection) = seen {
        // A workspace that went away meanwhile has nothing to lose any more.
        drop(shown.tell(connection).await);
    }
    Ok(shown.summary)
}

/// Prints a patch on the terminal, line by line.
struct TerminalPatch {
    line: Vec<u8>,
    color: bool,
}

impl AsyncWrite for TerminalPatch {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut text = String::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                text.push_str(&terminal_line(&self.line, self.color));
                self.line.clear();
            }
        }
        Poll::Ready(io::stdout().write_all(text.as_bytes()).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(io::stdout().flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
