//! `workspace sync`: files of the host, brought into a workspace that runs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::create::SeedSource;
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::seed::Reach;
use pyro_engine::workspace::sync::{PushRequest, push};

use super::super::Face;
use crate::failure::{EXIT_REFUSED, Failure};
use crate::interrupt;
use crate::report::sync::PushReport;
use crate::report::{self, Report};

/// The verbs of `workspace sync`.
#[derive(Debug, Subcommand)]
pub(crate) enum SyncVerb {
    /// Send what differs from this host
    Push(PushArgs),
}

impl SyncVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Push(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Push(args) => args.handle(face),
        }
    }
}

const EXAMPLES: &str = "\
  pyro workspace sync push fix .
  pyro workspace sync push fix ../data --dest /srv/data --delete

What is taken is what 'workspace create --seed-path' takes. The source wins: what was changed in the guest and
overwritten is named. A git repository that is in the guest keeps its own history.";

/// Arguments of `workspace sync push`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PushArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A directory of this host, taken as git sees it, or a tar archive
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The directory in the guest; one that is not absolute is in the workspace
    #[arg(long, value_name = "PATH", default_value = "/workspace")]
    dest: OsString,
    /// Remove what the source lacks, but not what git ignores, and no secrets
    #[arg(long)]
    delete: bool,
    /// Take what git ignores along, too; with --delete, remove it too
    #[arg(long)]
    all: bool,
    /// Take what looks secret along, too: keys, .env files, credentials
    #[arg(long)]
    secrets: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl PushArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let destination = GuestPath::new(self.dest.as_bytes())?;
        let workspace = Workspaces::new(&settings).find(&self.workspace)?;
        let connection = workspace.connect()?;
        let source = SeedSource {
            called: self.source.display().to_string(),
            path: self.source,
            all: self.all,
            secrets: self.secrets,
            git: crate::settings::git_user(),
            reach: Reach::Anywhere,
        };
        let called = source.called.clone();
        let source = source.for_workspace(&workspace);
        let request =
            PushRequest { source, destination: destination.clone(), delete: self.delete, called: called.clone() };
        let painter = face.painter();
        let report = |progress| painter.report(progress);
        let pushed = interrupt::block_on(async { Ok(push(&connection, request, &report).await?) });
        painter.clear();
        let pushed = PushReport::new(connection.id, called, &destination, pushed?);
        for note in &pushed.notes {
            face.say(note.line());
        }
        report::print(&pushed, self.json, face.color())?;
        Ok(if pushed.ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
    }
}
