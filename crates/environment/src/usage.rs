//! What the cache takes on the disk, kind by kind.

use std::path::Path;

use super::error::io_error;
use super::{EnvironmentError, Environments, cache};

/// What of the cache takes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKind {
    /// Installed environments.
    Environments,
    /// Guest kernels with their modules and initramfs.
    Kernels,
    /// Machine templates.
    Templates,
    /// Empty disks, one a size.
    BlankDisks,
    /// Package files.
    Downloads,
    /// Package lists.
    Lists,
    /// Work in progress, or left over from it.
    Staging,
}

/// What one kind takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUsage {
    /// The kind.
    pub kind: CacheKind,
    /// How many of them there are.
    pub count: u64,
    /// What they take.
    pub disk_bytes: u64,
}

impl Environments {
    /// What the cache takes on the disk.
    ///
    /// # Errors
    /// [`EnvironmentError::Io`].
    pub fn usage(&self) -> Result<Vec<CacheUsage>, EnvironmentError> {
        let home = &self.home;
        let dirs = [
            (CacheKind::Environments, home.environments_dir()),
            (CacheKind::Kernels, home.kernels_dir()),
            (CacheKind::Templates, home.templates_dir()),
            (CacheKind::BlankDisks, home.blank_disks_dir()),
            (CacheKind::Downloads, home.downloads_dir()),
            (CacheKind::Lists, home.lists_dir()),
            (CacheKind::Staging, home.staging_dir()),
        ];
        dirs.into_iter().map(|(kind, dir)| self.usage_of(kind, &dir)).collect()
    }

    fn usage_of(&self, kind: CacheKind, dir: &Path) -> Result<CacheUsage, EnvironmentError> {
        let mut usage = CacheUsage { kind, count: 0, disk_bytes: 0 };
        for path in self.entries(dir)? {
            if path.extension().is_some_and(|extension| extension == "lock") {
                continue;
            }
            match cache::disk_bytes(&path) {
                Ok(bytes) => usage.disk_bytes += bytes,
                // Removed since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("read", &path)(error)),
            }
            usage.count += 1;
        }
        Ok(usage)
    }
}
