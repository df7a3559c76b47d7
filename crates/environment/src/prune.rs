//! Removing: one environment, or what no environment needs.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_store::hold::Hold;
use pyro_store::lock::Lock;
use pyro_store::staging;

use super::error::io_error;
use super::{EnvironmentError, Environments, blank, cache, fetch, kernel};

/// A download that was broken off so long ago is not gone on with any more.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Something that [`Environments::prune`] removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedItem {
    /// What it is.
    pub kind: PrunedKind,
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk.
    pub disk_bytes: u64,
}

/// What kind of thing was pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrunedKind {
    /// Left over from work that was interrupted.
    Staging,
    /// A guest kernel that no installed environment boots.
    Kernel,
    /// An initramfs around another agent than this program's.
    Initramfs,
    /// A package file that no installed environment was made of, or the part of one.
    Download,
    /// A machine template of an environment or a kernel that is gone.
    Template,
    /// An empty disk of a layout of the past, or of a size that no workspace has.
    BlankDisk,
}

/// What to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Downloads that no installed environment was made of, and those that were broken off just now, too. What an offline
    /// pull of an installed environment needs is kept in any case.
    pub all: bool,
}

impl Environments {
    pub(super) fn remove_installed(&self, name: &str) -> Result<u64, EnvironmentError> {
        let dir = cache::dir_of(&self.home, name);
        if !dir.exists() {
            return Err(self.missing(name));
        }
        let _lock = Lock::try_take(&cache::lock_of(&self.home, name))?;
        let _alone = self.hold_alone(name, &dir)?;
        let disk_bytes = cache::disk_bytes(&dir).map_err(io_error("read", &dir))?;
        // Moved away first: an environment is there whole or not at all.
        let staged = staging::Staging::create(&self.home, "removed")?;
        let target = staged.dir().join("environment");
        std::fs::rename(&dir, &target).map_err(io_error("remove", &dir))?;
        Ok(disk_bytes)
    }

    pub(super) fn prune_unused(&self, options: PruneOptions) -> Result<Vec<PrunedItem>, EnvironmentError> {
        let _locks = self.lock_all(options)?;
        let mut items = self.prune_staging(options)?;
        let (mut kernels, mut downloads) = (HashSet::new(), HashSet::new());
        for name in cache::names(&self.home)? {
            // Nothing is removed while it is not known what is needed.
            let Some(stored) = cache::read(&self.home, &name)? else { continue };
            downloads.extend(stored.record.packages.into_iter().map(|package| package.sha256));
            if let Some(reference) = stored.record.kernel {
                kernels.insert(reference.digest);
                let packages = std::iter::once(reference.package).chain(reference.led_by);
                downloads.extend(packages.map(|package| package.sha256));
            }
        }
        if let Some(custom) = &self.settings.kernel {
            kernels.extend(kernel::custom_digest(custom));
        }
        items.extend(self.prune_kernels(&kernels, options)?);
        items.extend(self.prune_downloads(&downloads, options)?);
        items.extend(self.prune_blank_disks(options)?);
        Ok(items)
    }

    /// A disk that is some workspace's has its other name there, and frees nothing; the next one of its size shares it.
    fn prune_blank_disks(&self, options: PruneOptions) -> Result<Vec<PrunedItem>, EnvironmentError> {
        let mut items = Vec::new();
        for path in self.entries(&self.home.blank_disks_dir())? {
            let names = std::fs::metadata(&path).map_err(io_error("read", &path))?.nlink();
            if blank::is_current(&path) && (!options.all || names > 1) {
                continue;
            }
            // One on which something is being made stays.
            if let Some(_alone) = Hold::alone(&path).map_err(io_error("lock", &path))? {
                items.push(self.prune_one(PrunedKind::BlankDisk, path, options)?);
            }
        }
        Ok(items)
    }

    /// A pull at work needs things that no manifest names yet, so there must be none: neither of an environment that this
    /// process knows, nor of one of another catalog.
    fn lock_all(&self, options: PruneOptions) -> Result<Vec<Lock>, EnvironmentError> {
        let mut locks: Vec<PathBuf> =
            self.catalog.names().iter().map(|name| cache::lock_of(&self.home, name)).collect();
        locks.extend(self.entries(&self.home.locks_dir())?.into_iter().filter(|path| cache::is_lock(path)));
        locks.sort_unstable();
        locks.dedup();
        if options.dry_run {
            // Who only looks makes no locks.
            locks.iter().try_for_each(|path| Lock::check_free(path))?;
            return Ok(Vec::new());
        }
        locks.iter().map(|path| Ok(Lock::try_take(path)?)).collect()
    }

    fn prune_kernels(
        &self,
        wanted: &HashSet<String>,
        options: PruneOptions,
    ) -> Result<Vec<PrunedItem>, EnvironmentError> {
        let mut items = Vec::new();
        let agent_file = kernel::initramfs_name(self.settings.agent);
        for path in self.entries(&self.home.kernels_dir())? {
            // One that a machine is about to boot stays, whoever's it is.
            let Some(_alone) = Hold::alone(&path).map_err(io_error("lock", &path))? else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !wanted.contains(&name) {
                items.push(self.prune_one(PrunedKind::Kernel, path, options)?);
                continue;
            }
            for file in self.entries(&path)? {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with("initramfs-") && name != agent_file {
                    items.push(self.prune_one(PrunedKind::Initramfs, file, options)?);
                }
            }
        }
        Ok(items)
    }

    fn prune_downloads(
        &self,
        wanted: &HashSet<String>,
        options: PruneOptions,
    ) -> Result<Vec<PrunedItem>, EnvironmentError> {
        let mut items = Vec::new();
        for path in self.entries(&self.home.downloads_dir())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_part = fetch::is_part(&path);
            let unwanted = match is_part {
                true => options.all || is_older(&path, STALE_AFTER),
                false => options.all && !wanted.contains(&name),
            };
            if !path.is_file() || !unwanted {
                continue;
            }
            // Whoever downloads into it holds it.
            let Some(_alone) = Hold::alone(&path).map_err(io_error("lock", &path))? else { continue };
            items.push(self.prune_one(PrunedKind::Download, path, options)?);
        }
        Ok(items)
    }

    fn prune_staging(&self, options: PruneOptions) -> Result<Vec<PrunedItem>, EnvironmentError> {
        let place = self.home.staging_dir();
        let item = |path: PathBuf| {
            let disk_bytes = cache::disk_bytes(&path).unwrap_or(0);
            PrunedItem { kind: PrunedKind::Staging, path, disk_bytes }
        };
        if options.dry_run {
            let left = self.entries(&place)?.into_iter().filter(|path| staging::is_abandoned(path));
            return Ok(left.map(item).collect());
        }
        let mut items = Vec::new();
        for (dir, _lock) in staging::abandoned(&self.home).map_err(io_error("read", &place))? {
            items.push(item(dir.clone()));
            staging::remove(&dir).map_err(io_error("remove", &dir))?;
        }
        Ok(items)
    }

    fn prune_one(
        &self,
        kind: PrunedKind,
        path: PathBuf,
        options: PruneOptions,
    ) -> Result<PrunedItem, EnvironmentError> {
        let disk_bytes = cache::disk_bytes(&path).map_err(io_error("read", &path))?;
        if !options.dry_run {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(io_error("remove", &path))?;
        }
        Ok(PrunedItem { kind, path, disk_bytes })
    }

    /// The paths in a directory, sorted; none if it is not there.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<PathBuf>, EnvironmentError> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(io_error("read", dir))?,
        };
        let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(io_error("read", dir))?;
        paths.sort_unstable();
        Ok(paths)
    }
}

/// Whether a file was not written to for so long.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed >= age))
}
