//! `workspace disk`: the disk of a workspace that does not run.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::disk::{DiskMachine, SecretsOnDisk};
use pyro_engine::workspace::files::{self, ENTRIES_MAX, READ_MAX, ReadRange};
use pyro_engine::workspace::guest_path::GuestPath;

use super::super::Face;
use crate::failure::Failure;
use crate::report::disk::DiskExport;
use crate::report::files::{FileList, FileRead};
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace disk list fix /var/log
  pyro workspace disk read fix /root/notes
  pyro workspace disk export fix --output fix.img

For a workspace that is stopped, or whose machine fails. A machine of its own is started on the disk
for the moment, and changes nothing of it: this host never reads a file system that a guest wrote.
The image of an export is an ext4 file system as it is, with holes where nothing is written; the
guest's files are in it under upper, those of /workspace under workspace/upper and workspace/lower.
Secrets are never written to a disk by pyro; a disk of a workspace that was given some may hold what
its commands made of them, and is shown with --with-secrets only.";

/// The verbs of `workspace disk`.
#[derive(Debug, Subcommand)]
pub(crate) enum DiskVerb {
    /// List a directory of a stopped workspace
    List(ListArgs),
    /// Print a file of a stopped workspace
    Read(ReadArgs),
    /// Write the whole disk of a stopped workspace to an image
    Export(ExportArgs),
}

/// Arguments of `workspace disk list`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
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
    json: bool,
}

/// Arguments of `workspace disk read`.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// A file; one that is not absolute is in the workspace
    path: OsString,
    /// How many bytes at most
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(READ_MAX)))]
    max_bytes: u32,
    /// Read it also where it may hold a secret of the workspace
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `workspace disk export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The image to write; it must not exist
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Write it also where it may hold a secret of the workspace
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl DiskVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Read(args) => args.json,
            Self::Export(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::List(args) => args.handle(face),
            Self::Read(args) => args.handle(face),
            Self::Export(args) => args.handle(face),
        }
    }
}

impl ListArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let path = GuestPath::new(self.path.as_deref().map_or(b".".as_slice(), OsStr::as_bytes))?;
        // Names are no secrets.
        let (id, listing) = look(face, &self.workspace, SecretsOnDisk::Given, async |disk| {
            Ok(files::list(disk, &path, self.recursive, ENTRIES_MAX).await?)
        })?;
        let list = FileList::new(id, &path, listing);
        report::print(&list, self.json, face.color())?;
        if list.truncated && !self.json {
            face.say(&format!("there is more than these {} entries; name a directory further down", list.len()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ReadArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let path = GuestPath::new(self.path.as_bytes())?;
        let range = ReadRange::Lines { first: 1, count: None };
        let (id, part) = look(face, &self.workspace, given(self.with_secrets), async |disk| {
            Ok(files::read(disk, &path, range, self.max_bytes).await?)
        })?;
        if self.json {
            report::print_json(true, &FileRead::new(id, &path, part))?;
        } else {
            super::file::print_part(&part, face)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ExportArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let painter = face.painter();
        let report = |progress| painter.report(progress);
        let done = interrupt::block_on(async {
            let workspaces = Workspaces::new(&settings);
            let exported = async {
                let disk = workspaces.open_disk(&self.workspace, given(self.with_secrets), &report).await?;
                disk.export(&self.output, &self.output.display().to_string(), &report).await
            };
            let exported = exported.await;
            painter.clear();
            Ok(DiskExport::from(exported?))
        })?;
        report::print(&done, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn given(with_secrets: bool) -> SecretsOnDisk {
    if with_secrets { SecretsOnDisk::Given } else { SecretsOnDisk::Refused }
}

/// Looks at something on the disk, through a machine that is gone afterwards.
fn look<T>(
    face: &Face,
    workspace: &str,
    secrets: SecretsOnDisk,
    work: impl AsyncFnOnce(&DiskMachine) -> Result<T, Failure>,
) -> Result<(String, T), Failure> {
    let settings = face.settings()?;
    let painter = face.painter();
    let report = |progress| painter.report(progress);
    interrupt::block_on(async {
        let opened = Workspaces::new(&settings).open_disk(workspace, secrets, &report).await;
        painter.clear();
        let disk = opened?;
        let id = disk.workspace.record.id.clone();
        let seen = work(&disk).await;
        disk.close().await;
        Ok((id, seen?))
    })
}
