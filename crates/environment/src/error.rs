//! Why something could not be done with an environment.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use pyro_store::lock::LockError;

use super::FinishError;
use super::ext4::Ext4Error;
use super::kernel::KernelError;
use super::rootfs::RootfsError;
use super::sources::debian::AcquireError;

/// Why something could not be done with an environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// There is no such environment.
    #[error("there is no environment {name}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Workspaces are made of it.
    #[error("the environment {name} is what the workspaces {} are made of", workspaces.join(", "))]
    HasWorkspaces {
        /// Its name.
        name: String,
        /// What they are called.
        workspaces: Vec<String>,
    },
    /// It is in the catalog but not on this disk.
    #[error("the environment {name} is not installed")]
    NotInstalled {
        /// Its name.
        name: String,
    },
    /// Its image is not the one that was sealed. `env pull --force` makes it again.
    #[error("the environment {name} is damaged: {} {what}", path.display())]
    Damaged {
        /// Its name.
        name: String,
        /// The file that is wrong.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: &'static str,
    },
    /// Its manifest cannot be understood.
    #[error("the environment {name} is damaged: {} is malformed", path.display())]
    Manifest {
        /// Its name.
        name: String,
        /// The manifest.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A later pyro made it.
    #[error("the environment {name} was made by a later version of pyro (format {version})")]
    Newer {
        /// Its name.
        name: String,
        /// The version of its manifest.
        version: u32,
    },
    /// A machine of it runs, or is about to.
    #[error("the environment {name} is in use")]
    InUse {
        /// Its name.
        name: String,
    },
    /// The kernel it was made with is gone, and no other is configured. `env pull` fetches it again.
    #[error("the kernel of the environment {name} is not installed")]
    KernelMissing {
        /// The environment.
        name: String,
    },
    /// The archive's kernel package brought no kernel.
    #[error("the package {package} does not lead to a kernel")]
    NoKernelPackage {
        /// The package of the catalog.
        package: String,
    },
    /// There is not enough room on the disk, which was noticed before anything was written.
    #[error("{} needs {needed_bytes} bytes and has {free_bytes} free", path.display())]
    NoRoom {
        /// A directory on that disk.
        path: PathBuf,
        /// What is needed.
        needed_bytes: u64,
        /// What is there.
        free_bytes: u64,
    },
    /// The disk became full on the way.
    #[error("the disk of {} is full", path.display())]
    DiskFull {
        /// A directory on that disk.
        path: PathBuf,
        /// What was being done.
        #[source]
        source: Box<EnvironmentError>,
    },
    /// A file of pyro's cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The packages were not acquired.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The root filesystem was not built.
    #[error("cannot build the root filesystem")]
    Rootfs(#[from] RootfsError),
    /// The kernel cannot be used.
    #[error("cannot prepare the guest kernel")]
    Kernel(#[from] KernelError),
    /// The packages were not configured.
    #[error(transparent)]
    Finish(#[from] FinishError),
    /// An empty disk was not made.
    #[error("cannot make an empty disk")]
    BlankDisk(#[from] Ext4Error),
    /// A lock was not taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The program is ending.
    #[error("interrupted")]
    Stopped,
}

impl EnvironmentError {
    /// Gives an error that a full disk caused its name.
    pub(super) fn or_disk_full(self, cache_dir: &Path) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&self);
        while let Some(error) = cause {
            let io_kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if io_kind == Some(io::ErrorKind::StorageFull) {
                return Self::DiskFull { path: cache_dir.to_owned(), source: Box::new(self) };
            }
            cause = error.source();
        }
        self
    }
}

/// An [`EnvironmentError::Io`] about `path`.
pub(super) fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> EnvironmentError + 'a {
    move |source| EnvironmentError::Io { what, path: path.to_owned(), source }
}
