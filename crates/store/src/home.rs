//! Where things are: the paths under the cache and the state directory. No other file spells one of these names.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::shell_record::ShellId;

/// The two directories pyro owns.
#[derive(Debug, Clone)]
pub struct Home {
    cache_dir: PathBuf,
    state_dir: PathBuf,
}

impl Home {
    /// Paths under the given directories; nothing is created.
    #[must_use]
    pub fn new(cache_dir: &Path, state_dir: &Path) -> Self {
        Self { cache_dir: cache_dir.to_owned(), state_dir: state_dir.to_owned() }
    }

    /// The cache directory itself.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The state directory itself.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Verified archive files, named by their SHA-256; unfinished ones end in `.part`.
    #[must_use]
    pub fn downloads_dir(&self) -> PathBuf {
        self.cache_dir.join("downloads")
    }

    /// The last verified package lists of an archive.
    #[must_use]
    pub fn lists_dir(&self) -> PathBuf {
        self.cache_dir.join("lists")
    }

    /// One directory an installed environment, see `environment`.
    #[must_use]
    pub fn environments_dir(&self) -> PathBuf {
        self.cache_dir.join("environments")
    }

    /// One directory a guest kernel, named by its digest.
    #[must_use]
    pub fn kernels_dir(&self) -> PathBuf {
        self.cache_dir.join("kernels")
    }

    /// One directory a template, named by its key.
    #[must_use]
    pub fn templates_dir(&self) -> PathBuf {
        self.cache_dir.join("templates")
    }

    /// Empty pre-formatted workspace disks, named by their size.
    #[must_use]
    pub fn blank_disks_dir(&self) -> PathBuf {
        self.cache_dir.join("blank-disks")
    }

    /// Lock files of the cache.
    #[must_use]
    pub fn locks_dir(&self) -> PathBuf {
        self.cache_dir.join("locks")
    }

    /// Work in progress; everything in it that no live process has locked is rubbish.
    #[must_use]
    pub fn staging_dir(&self) -> PathBuf {
        self.cache_dir.join("staging")
    }

    /// One directory a workspace, named by its id.
    #[must_use]
    pub fn workspaces_dir(&self) -> PathBuf {
        self.state_dir.join("workspaces")
    }

    /// What one workspace is made of.
    #[must_use]
    pub fn workspace(&self, id: &str) -> WorkspaceDir {
        WorkspaceDir { path: self.workspaces_dir().join(id) }
    }

    /// The workspaces that were removed because they had been stopped for too long, as JSON lines:
    /// [`super::workspace_record::RemovedWorkspace`].
    #[must_use]
    pub fn removed_workspaces(&self) -> PathBuf {
        self.state_dir.join("removed.jsonl")
    }

    /// What was changed in the configurations of chat hosts.
    #[must_use]
    pub fn hosts_dir(&self) -> PathBuf {
        self.state_dir.join("hosts")
    }

    /// What was changed in one of them, named by a digest of where it is.
    #[must_use]
    pub fn host_record(&self, configuration: &Path) -> PathBuf {
        let digest = Sha256::digest(configuration.as_os_str().as_encoded_bytes());
        self.hosts_dir().join(format!("{}.json", super::hex::encode(&digest[..8])))
    }

    /// The last verdict on KVM.
    #[must_use]
    pub fn kvm_verdict_file(&self) -> PathBuf {
        self.cache_dir.join("kvm-verdict.json")
    }
}

/// The paths of one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceDir {
    path: PathBuf,
}

impl WorkspaceDir {
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is: [`super::workspace_record::WorkspaceRecord`]. Written under [`Self::record_lock`].
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.path.join("workspace.json")
    }

    /// Held while the record is changed.
    #[must_use]
    pub fn record_lock(&self) -> PathBuf {
        self.path.join("workspace.lock")
    }

    /// Where it is in its life: [`super::workspace_record::StateRecord`]. Written by who holds [`Self::life_lock`].
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// Held by the supervisor as long as it lives, and by whoever mends what a dead one left.
    #[must_use]
    pub fn life_lock(&self) -> PathBuf {
        self.path.join("life.lock")
    }

    /// Held by whoever makes the workspace until its machine runs.
    #[must_use]
    pub fn maker_lock(&self) -> PathBuf {
        self.path.join("maker.lock")
    }

    /// The supervisor's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("supervisor.sock")
    }

    /// What the supervisor had to say.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// A layer of the disk, by its number in the state record.
    #[must_use]
    pub fn layer(&self, number: u64) -> PathBuf {
        if number == super::disk_record::BOTTOM {
            return self.path.join("base.raw");
        }
        self.path.join(format!("layer-{number}.qcow2"))
    }

    /// Every command that was run, as JSON lines: [`super::workspace_record::CommandEntry`].
    #[must_use]
    pub fn commands(&self) -> PathBuf {
        self.path.join("commands.jsonl")
    }

    /// All that crossed its border, as JSON lines: [`super::crossing_record::CrossingRecord`].
    #[must_use]
    pub fn crossings(&self) -> PathBuf {
        self.path.join("crossings.jsonl")
    }

    /// Held while something is added to [`Self::crossings`].
    #[must_use]
    pub fn crossings_lock(&self) -> PathBuf {
        self.path.join("crossings.lock")
    }

    /// Where it is kept what commands printed.
    #[must_use]
    pub fn command_outputs(&self) -> PathBuf {
        self.path.join("commands")
    }

    /// What a command printed.
    #[must_use]
    pub fn command_output(&self, sequence: u64) -> PathBuf {
        self.command_outputs().join(format!("{sequence}.out"))
    }

    /// One directory a service, by its name.
    #[must_use]
    pub fn services(&self) -> PathBuf {
        self.path.join("services")
    }

    /// What one service is: [`super::service_record::ServiceRecord`].
    #[must_use]
    pub fn service(&self, name: &str) -> PathBuf {
        self.services().join(name).join("service.json")
    }

    /// How one service is started again with its workspace, if it is to be.
    #[must_use]
    pub fn service_start(&self, name: &str) -> PathBuf {
        self.services().join(name).join("start.json")
    }

    /// What one service printed: [`super::service_log`].
    #[must_use]
    pub fn service_log(&self, name: &str) -> PathBuf {
        self.services().join(name).join("log")
    }

    /// Which bytes of [`Self::command_output`] are of which stream, see [`super::output`].
    #[must_use]
    pub fn command_output_runs(&self, sequence: u64) -> PathBuf {
        self.command_outputs().join(format!("{sequence}.runs"))
    }

    /// One directory a shell, named by its id.
    #[must_use]
    pub fn shells(&self) -> PathBuf {
        self.path.join("shells")
    }

    /// Number of the last shell that was opened.
    #[must_use]
    pub fn shells_last(&self) -> PathBuf {
        self.shells().join("last")
    }

    /// What is kept of a shell: its record, and its transcript, see [`super::transcript`].
    #[must_use]
    pub fn shell(&self, id: ShellId) -> PathBuf {
        self.shells().join(id.to_string())
    }

    /// What a shell is: [`super::shell_record::ShellRecord`].
    #[must_use]
    pub fn shell_record(&self, id: ShellId) -> PathBuf {
        self.shell(id).join("shell.json")
    }
}

/// Creates a directory and its parents, readable by the owner only (0700).
///
/// # Errors
/// As `mkdir`.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
