//! `df` and `prune`: what pyro takes on this host's disk, and giving back what nobody needs.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::directory::{Workspace, Workspaces};
use super::env;
use super::error::WorkspaceError;
use super::leftovers::{Leftover, LeftoverKind};
use super::lifecycle::own_bytes;
use crate::Settings;
use crate::environment::{CacheUsage, EnvironmentError, PruneOptions, PrunedItem};

/// What pyro takes on this host's disk.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The cache, kind by kind.
    pub cache: Vec<CacheUsage>,
    /// The workspaces, the one that was used last first.
    pub workspaces: Vec<WorkspaceUsage>,
    /// What a prune would remove; none while something is pulled, which nobody can judge then.
    pub prunable: Option<Vec<Pruned>>,
    /// What a prune of all that can be made again would remove.
    pub prunable_all: Option<Vec<Pruned>>,
}

/// What one workspace takes.
#[derive(Debug, Clone)]
pub struct WorkspaceUsage {
    /// The workspace.
    pub workspace: Workspace,
    /// Its own files: the layers of its disk, its seed, the output of its commands.
    pub own_bytes: u64,
    /// Of it, layers of the disk that are not written to any more: what snapshots keep.
    pub snapshot_bytes: u64,
    /// What it shares with the cache or with other workspaces.
    pub shared_bytes: u64,
}

/// Something that a prune removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pruned {
    /// Something of the cache.
    Cached(PrunedItem),
    /// What a dead process left of a workspace, or one that was stopped for too long.
    Leftover(Leftover),
}

impl Pruned {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Cached(item) => &item.path,
            Self::Leftover(leftover) => &leftover.path,
        }
    }

    /// Room it took.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        match self {
            Self::Cached(item) => item.disk_bytes,
            Self::Leftover(leftover) => leftover.disk_bytes,
        }
    }
}

/// What pyro takes on this host's disk. Nothing is changed.
///
/// # Errors
/// A directory cannot be read.
pub fn usage(settings: &Settings) -> Result<Usage, WorkspaceError> {
    let workspaces = Workspaces::new(settings);
    let prunable = |all| match prune(settings, PruneOptions { dry_run: true, all }) {
        Ok(items) => Ok(Some(items)),
        Err(WorkspaceError::Environment(EnvironmentError::Lock(_))) => Ok(None),
        Err(error) => Err(error),
    };
    // Before the list is made, which mends what it meets.
    let (prunable, prunable_all) = (prunable(false)?, prunable(true)?);
    let of = |workspace: Workspace| {
        let own_bytes_of = own_bytes(workspace.dir.path());
        let shared_bytes = shared_bytes(workspace.dir.path());
        let disk = &workspace.state.disk;
        let frozen = disk.layers.iter().filter(|layer| layer.number != disk.live);
        let snapshot_bytes = frozen.map(|layer| own_bytes(&workspace.dir.layer(layer.number))).sum();
        WorkspaceUsage { workspace, own_bytes: own_bytes_of, snapshot_bytes, shared_bytes }
    };
    Ok(Usage {
        cache: settings.environments().usage()?,
        workspaces: workspaces.list()?.into_iter().map(of).collect(),
        prunable,
        prunable_all,
    })
}

/// Removes what nobody needs: of the cache as [`env::prune`] does, and what was left of workspaces. A workspace that is kept is
/// never touched.
///
/// # Errors
/// Something is being pulled, or cannot be removed.
pub fn prune(settings: &Settings, options: PruneOptions) -> Result<Vec<Pruned>, WorkspaceError> {
    let workspaces = Workspaces::new(settings);
    let left = match options.dry_run {
        true => workspaces.leftovers(),
        false => workspaces.clear_leftovers(),
    };
    let left = left.map_err(|source| WorkspaceError::File {
        what: "clear what was left in",
        path: workspaces.home().workspaces_dir(),
        source,
    })?;
    // Staged work is the cache's, whose prune counts it.
    let mut items: Vec<Pruned> =
        left.into_iter().filter(|leftover| leftover.kind != LeftoverKind::Staging).map(Pruned::Leftover).collect();
    items.extend(env::prune(settings, options)?.into_iter().map(Pruned::Cached));
    Ok(items)
}

/// Space of the files in a directory that have another name elsewhere, each counted once.
fn shared_bytes(dir: &Path) -> u64 {
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let shared = entries.filter_map(|entry| entry.metadata().ok()).filter(|file| file.is_file() && file.nlink() > 1);
    shared.filter(|file| seen.insert((file.dev(), file.ino()))).map(|file| file.blocks() * 512).sum()
}
