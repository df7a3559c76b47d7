//! Root filesystems: where they come from, how they are made without root, where they are kept.
//!
//! [`Environments`] is the door. `pull` makes one: packages come verified from [`sources`], [`rootfs`] unpacks them into an
//! ext4 image ([`ext4`]), their scripts run inside a machine, and the result is sealed in the cache with its kernel
//! ([`kernel`]). The step inside the machine needs a machine. This crate knows none, so it asks a [`Finisher`], which the
//! engine implements.
//!
//! Deliberately absent: mounting, root, loop devices, parsing a filesystem after a guest wrote to it.

pub mod blank;
mod cache;
pub mod catalog;
mod configure;
pub mod deb;
mod error;
pub mod ext4;
pub mod fetch;
#[cfg(test)]
mod hostile_tests;
pub mod kernel;
pub mod package;
pub mod progress;
mod prune;
mod pull;
pub mod rootfs;
pub mod settings;
pub mod sources;
#[cfg(test)]
mod tests;
mod usage;

use std::fs::File;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pyro_store::environment_record::EnvironmentRecord;
use pyro_store::hold::Hold;
use pyro_store::home::Home;
use pyro_store::staging::Staging;

use crate::progress::Reporter;
use crate::settings::EnvironmentSettings;
use cache::Stored;
use catalog::Catalog;
pub use error::EnvironmentError;
use error::io_error;
pub use prune::{PruneOptions, PrunedItem, PrunedKind};
pub use usage::{CacheKind, CacheUsage};

/// The environments of one cache.
#[derive(Debug, Clone)]
pub struct Environments {
    settings: Arc<EnvironmentSettings>,
    home: Home,
    catalog: Arc<Catalog>,
}

/// How to pull.
pub struct Pull<'a> {
    /// Make it again even if it is there and whole.
    pub force: bool,
    /// Runs the step that needs a machine.
    pub finisher: &'a dyn Finisher,
}

/// What a pull led to.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The environment.
    pub environment: InstalledEnvironment,
    /// Whether it was made now; otherwise it was there.
    pub fresh: bool,
}

/// A line of the list of environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentSummary {
    /// Its name.
    pub name: String,
    /// What it is for; empty for one that the catalog does not know.
    pub description: String,
    /// What is on this disk of it.
    pub installed: InstalledState,
}

/// Whether an environment is on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstalledState {
    /// It can be pulled.
    No,
    /// It is here.
    Yes {
        /// When it was made, seconds since 1970.
        built_at_seconds: u64,
        /// What it takes on the disk, without its kernel.
        disk_bytes: u64,
    },
    /// It is here, and cannot be used; the reason, as a sentence without its full stop.
    Damaged(String),
}

/// Everything known of an installed environment.
#[derive(Debug, Clone)]
pub struct EnvironmentDetails {
    /// What it is for; empty for one that the catalog does not know.
    pub description: String,
    /// SHA-256 of its manifest.
    pub digest: String,
    /// Its manifest.
    pub record: EnvironmentRecord,
    /// The image.
    pub rootfs: PathBuf,
    /// What it takes on the disk, without its kernel.
    pub disk_bytes: u64,
    /// What its kernel takes on the disk; other environments may share it.
    pub kernel_disk_bytes: Option<u64>,
}

/// What a removal led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What it took on the disk.
    pub disk_bytes: u64,
    /// Other environments that boot the same kernel, which is kept for them.
    pub kernel_shared_with: Vec<String>,
}

impl Environments {
    /// Those of the cache in `home`. Nothing is read or created yet.
    #[must_use]
    pub fn new(home: Home, settings: &EnvironmentSettings) -> Self {
        Self { settings: Arc::new(settings.clone()), home, catalog: Arc::new(settings.catalog.clone()) }
    }

    /// The catalog of names that can be pulled.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// All environments: those of the catalog in its order, then others that are installed.
    ///
    /// # Errors
    /// [`EnvironmentError::Io`].
    pub fn list(&self) -> Result<Vec<EnvironmentSummary>, EnvironmentError> {
        let mut names = self.catalog.names();
        for name in cache::names(&self.home)? {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names.into_iter().map(|name| self.summary(name)).collect())
    }

    fn summary(&self, name: String) -> EnvironmentSummary {
        let state = || -> Result<InstalledState, EnvironmentError> {
            let Some(stored) = cache::read(&self.home, &name)? else { return Ok(InstalledState::No) };
            stored.check()?;
            let disk_bytes = cache::disk_bytes(&stored.dir).map_err(io_error("read", &stored.dir))?;
            Ok(InstalledState::Yes { built_at_seconds: stored.record.built_at_seconds, disk_bytes })
        };
        let installed = state().unwrap_or_else(|error| InstalledState::Damaged(error.to_string()));
        EnvironmentSummary { description: self.description(&name), installed, name }
    }

    /// Makes an environment, or finds it made. Of two pulls of the same, one waits for the other. May be dropped at any
    /// point: nothing half-made stays.
    ///
    /// # Errors
    /// [`EnvironmentError`]; what was installed before is still there then.
    pub async fn pull(&self, name: &str, pull: Pull<'_>, report: Reporter<'_>) -> Result<Pulled, EnvironmentError> {
        let Some(entry) = self.catalog.find(name) else { return Err(self.missing(name)) };
        let cache_dir = self.home.cache_dir();
        pyro_store::home::create_private_dir(cache_dir).map_err(io_error("create", cache_dir))?;
        self.pull_whole(entry, pull, report).await.map_err(|error| error.or_disk_full(cache_dir))
    }

    /// The environment of this name, checked cheaply (the image looks as it did when it was sealed).
    ///
    /// # Errors
    /// [`EnvironmentError::Unknown`], [`EnvironmentError::NotInstalled`], [`EnvironmentError::Damaged`],
    /// [`EnvironmentError::KernelMissing`] and others.
    pub fn open(&self, name: &str) -> Result<InstalledEnvironment, EnvironmentError> {
        let held = self.hold(name)?;
        let stored = self.stored(name)?;
        stored.check()?;
        let kernel = match (&self.settings.kernel, &stored.record.kernel) {
            (Some(_), _) => self.custom_kernel()?,
            (None, None) => return Err(EnvironmentError::KernelMissing { name: name.to_owned() }),
            (None, Some(reference)) => {
                let dir = self.home.kernels_dir().join(&reference.digest);
                if !dir.exists() {
                    return Err(EnvironmentError::KernelMissing { name: name.to_owned() });
                }
                kernel::open(&dir, self.settings.agent)?
            }
        };
        let (name, rootfs) = (name.to_owned(), stored.rootfs());
        Ok(InstalledEnvironment { name, rootfs, digest: stored.digest, kernel, _held: Arc::new(held) })
    }

    /// Reads the whole image and compares it with the manifest.
    ///
    /// # Errors
    /// [`EnvironmentError::Damaged`] and others.
    pub fn verify(&self, name: &str) -> Result<(), EnvironmentError> {
        self.stored(name)?.verify()
    }

    /// Everything known of an installed environment.
    ///
    /// # Errors
    /// [`EnvironmentError::Unknown`], [`EnvironmentError::NotInstalled`] and others.
    pub fn inspect(&self, name: &str) -> Result<EnvironmentDetails, EnvironmentError> {
        let stored = self.stored(name)?;
        let kernel_dir = stored.record.kernel.as_ref().map(|kernel| self.home.kernels_dir().join(&kernel.digest));
        Ok(EnvironmentDetails {
            description: self.description(name),
            rootfs: stored.rootfs(),
            disk_bytes: cache::disk_bytes(&stored.dir).map_err(io_error("read", &stored.dir))?,
            kernel_disk_bytes: kernel_dir.and_then(|dir| cache::disk_bytes(&dir).ok()),
            digest: stored.digest,
            record: stored.record,
        })
    }

    /// Removes an installed environment, damaged or not. Its kernel stays until a prune.
    ///
    /// # Errors
    /// [`EnvironmentError::Unknown`], [`EnvironmentError::NotInstalled`], [`EnvironmentError::Lock`] while it is pulled.
    pub fn remove(&self, name: &str) -> Result<Removed, EnvironmentError> {
        let kernel_of = |name: &str| -> Option<String> {
            let stored: Option<Stored> = cache::read(&self.home, name).ok().flatten();
            stored?.record.kernel.map(|kernel| kernel.digest)
        };
        let own = kernel_of(name);
        let others = cache::names(&self.home)?.into_iter().filter(|other| other != name);
        let kernel_shared_with = others.filter(|other| own.is_some() && kernel_of(other) == own).collect();
        Ok(Removed { disk_bytes: self.remove_installed(name)?, kernel_shared_with })
    }

    /// Removes what no installed environment needs.
    ///
    /// # Errors
    /// [`EnvironmentError::Lock`] while something is pulled, and others.
    pub fn prune(&self, options: PruneOptions) -> Result<Vec<PrunedItem>, EnvironmentError> {
        self.prune_unused(options)
    }

    /// An empty, formatted disk of so many GiB, made on first use; workspaces' disks grow on top of it. No prune takes it as long as it
    /// is open.
    ///
    /// # Errors
    /// [`EnvironmentError::Io`], [`EnvironmentError::BlankDisk`].
    pub fn blank_disk(&self, gib: u32) -> Result<File, EnvironmentError> {
        blank::provide(&self.home, gib).map_err(|error| error.or_disk_full(self.home.cache_dir()))
    }

    fn custom_kernel(&self) -> Result<GuestKernel, EnvironmentError> {
        let custom = self.settings.kernel.as_ref().expect("only called when the settings name a kernel");
        let dir = self.home.kernels_dir().join(kernel::custom_digest(custom)?);
        if !dir.exists() {
            let staging = Staging::create(&self.home, "kernel")?;
            kernel::build_custom(custom, staging.dir())?;
            staging.publish(&dir).map_err(io_error("write", &dir))?;
        }
        Ok(kernel::open(&dir, self.settings.agent)?)
    }

    fn stored(&self, name: &str) -> Result<Stored, EnvironmentError> {
        cache::read(&self.home, name)?.ok_or_else(|| self.missing(name))
    }

    fn hold(&self, name: &str) -> Result<Hold, EnvironmentError> {
        let dir = cache::dir_of(&self.home, name);
        Hold::share(&dir).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => self.missing(name),
            _ => io_error("use", &dir)(source),
        })
    }

    /// Makes sure that nobody uses the environment in `dir`, if it is there, and that nobody begins to.
    fn hold_alone(&self, name: &str, dir: &std::path::Path) -> Result<Option<Hold>, EnvironmentError> {
        match Hold::alone(dir) {
            Ok(None) => Err(EnvironmentError::InUse { name: name.to_owned() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            held => held.map_err(io_error("lock", dir)),
        }
    }

    fn missing(&self, name: &str) -> EnvironmentError {
        match self.catalog.find(name) {
            Some(_) => EnvironmentError::NotInstalled { name: name.to_owned() },
            None => {
                let mut known = self.catalog.names();
                known.extend(cache::names(&self.home).unwrap_or_default());
                known.sort_unstable();
                known.dedup();
                EnvironmentError::Unknown { name: name.to_owned(), known }
            }
        }
    }

    fn description(&self, name: &str) -> String {
        self.catalog.find(name).map(|entry| entry.description.clone()).unwrap_or_default()
    }
}

/// An environment that is installed and sealed. It is neither removed nor replaced while this lives.
#[derive(Debug, Clone)]
pub struct InstalledEnvironment {
    /// Its name, such as `debian:12`.
    pub name: String,
    /// SHA-256 of its manifest, lower-case hex; names the environment in template keys.
    pub digest: String,
    /// Read-only ext4 image of the root filesystem.
    pub rootfs: PathBuf,
    /// The kernel its machines boot.
    pub kernel: GuestKernel,
    _held: Arc<Hold>,
}

/// A guest kernel, ready to boot. It is not pruned while this lives.
#[derive(Debug, Clone)]
pub struct GuestKernel {
    /// Names the kernel, its initramfs and so the agent in template keys; lower-case hex.
    pub digest: String,
    /// `uname -r` of it.
    pub release: String,
    /// bzImage or vmlinux.
    pub image: PathBuf,
    /// The agent and the modules it needs to reach its disks.
    pub initramfs: PathBuf,
    /// Read-only ext4 image with `<release>/…` at its top; `None` when the kernel has no modules.
    pub modules_image: Option<PathBuf>,
    _held: Arc<Hold>,
}

/// Runs the last step of making an environment inside a machine.
pub trait Finisher: Send + Sync {
    /// Boots `job.kernel` with `job.rootfs` as its writable root, runs the script, shuts down in an orderly way.
    fn finish<'a>(
        &'a self,
        job: FinishJob,
        report: Reporter<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FinishError>> + Send + 'a>>;
}

/// What a [`Finisher`] does.
#[derive(Debug, Clone)]
pub struct FinishJob {
    /// A raw ext4 image, written to in place.
    pub rootfs: PathBuf,
    /// The kernel to boot.
    pub kernel: GuestKernel,
    /// A script for `/bin/sh -eu`. A line `pyro-progress: <n> <item>` on its standard output becomes progress.
    pub script: String,
    /// Give up after this long.
    pub timeout_seconds: u64,
}

/// Why an environment was not finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The machine did not come up, or went away.
    #[error("the machine that configures packages failed")]
    Machine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The script ended with an error.
    #[error("configuring the packages failed with code {code}")]
    Script {
        /// The script's exit code.
        code: i32,
        /// The end of what it printed, cleaned for a terminal.
        output_tail: String,
    },
    /// The script ran past its time.
    #[error("configuring the packages took more than {timeout_seconds} s")]
    TimedOut {
        /// The limit.
        timeout_seconds: u64,
    },
}
