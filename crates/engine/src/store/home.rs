//! Where things are: the paths under the cache and the state directory. No other file spells one of these names.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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

    /// The last verdict on KVM.
    #[must_use]
    pub fn kvm_verdict_file(&self) -> PathBuf {
        self.cache_dir.join("kvm-verdict.json")
    }
}

/// Creates a directory and its parents, readable by the owner only (0700).
///
/// # Errors
/// As `mkdir`.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
