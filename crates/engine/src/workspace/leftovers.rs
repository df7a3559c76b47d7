//! What dead processes left behind on this host: found by looking only, and cleared.
//!
//! Every command that looks at workspaces mends what it meets ([`super::directory`]), so this is what nobody has met yet, and
//! what only whoever needs it next would remove. Nothing of it does harm.

use std::io;
use std::path::PathBuf;

use super::directory::{DELETING_PREFIX, STOPPED_KEPT_SECONDS, Workspaces, is_id};
use super::lifecycle::own_bytes;
use crate::store::home::WorkspaceDir;
use crate::store::lock::Lock;
use crate::store::staging;
use crate::store::workspace_record::{StateRecord, WorkspacePhase};
use crate::supervisor::layers;
use crate::supervisor::notes::{now_seconds, read_json};

/// Something that was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk.
    pub disk_bytes: u64,
}

/// What can be left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftoverKind {
    /// A workspace whose maker died before it ran.
    HalfMade,
    /// One whose removal was begun.
    HalfRemoved,
    /// One that is said to run and has no supervisor any more.
    WithoutSupervisor,
    /// One that was stopped so long ago that it is not kept any longer.
    PastItsTime,
    /// A layer of a workspace's disk that is no part of it.
    Layer,
    /// The socket of a supervisor that is gone.
    Socket,
    /// Work that was staged by a process that is gone.
    Staging,
}

impl Workspaces<'_> {
    /// What was left behind. Nothing is made, changed or waited for.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let mut found = Vec::new();
        let all = self.home.workspaces_dir();
        for entry in entries(&all)? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(DELETING_PREFIX) {
                found.push(Leftover::at(LeftoverKind::HalfRemoved, entry));
            } else if is_id(&name) && !Lock::is_held(&all) {
                self.leftovers_of(&self.home.workspace(&name), &mut found)?;
            }
        }
        let staged = entries(&self.home.staging_dir())?.into_iter().filter(|path| staging::is_abandoned(path));
        found.extend(staged.map(|path| Leftover::at(LeftoverKind::Staging, path)));
        Ok(found)
    }

    fn leftovers_of(&self, dir: &WorkspaceDir, found: &mut Vec<Leftover>) -> io::Result<()> {
        if Lock::is_held(&dir.life_lock()) || Lock::is_held(&dir.maker_lock()) {
            return Ok(());
        }
        let whole = |kind| Leftover::at(kind, dir.path().to_owned());
        let state = match read_json::<StateRecord>(&dir.state()) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.push(whole(LeftoverKind::HalfMade));
                return Ok(());
            }
            // One of a newer pyro is none of ours to judge.
            Err(_) => return Ok(()),
        };
        match state.phase {
            WorkspacePhase::Creating => found.push(whole(LeftoverKind::HalfMade)),
            WorkspacePhase::Running => found.push(whole(LeftoverKind::WithoutSupervisor)),
            WorkspacePhase::Stopped if is_past_its_time(&state) => found.push(whole(LeftoverKind::PastItsTime)),
            WorkspacePhase::Stopped | WorkspacePhase::Failed => {
                let others = layers::others(dir, &state.disk)?;
                found.extend(others.into_iter().map(|path| Leftover::at(LeftoverKind::Layer, path)));
                if dir.socket().symlink_metadata().is_ok() {
                    found.push(Leftover::at(LeftoverKind::Socket, dir.socket()));
                }
            }
        }
        Ok(())
    }

    /// Removes what was left of workspaces, and says what it was. What somebody holds by now stays.
    ///
    /// # Errors
    /// A directory cannot be read, or something in it not be removed.
    pub fn clear_leftovers(&self) -> io::Result<Vec<Leftover>> {
        let found = self.leftovers()?;
        let cleared = self.list().map_err(io::Error::other)?;
        for workspace in cleared.iter().filter(|workspace| workspace.state.phase != WorkspacePhase::Running) {
            let Ok(_life) = Lock::try_take(&workspace.dir.life_lock()) else { continue };
            // It may have been started and stopped since.
            let Ok(state) = read_json::<StateRecord>(&workspace.dir.state()) else { continue };
            layers::remove_others(&workspace.dir, &state.disk)?;
            match std::fs::remove_file(workspace.dir.socket()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(found.into_iter().filter(|leftover| leftover.kind != LeftoverKind::Staging).collect())
    }
}

impl Leftover {
    fn at(kind: LeftoverKind, path: PathBuf) -> Self {
        // A workspace that only has to be marked as stopped keeps what it has.
        let stays = kind == LeftoverKind::WithoutSupervisor;
        let disk_bytes = if stays { 0 } else { own_bytes(&path) };
        Self { kind, path, disk_bytes }
    }
}

/// Whether a workspace was stopped longer ago than one is kept.
pub(super) fn is_past_its_time(state: &StateRecord) -> bool {
    state.phase == WorkspacePhase::Stopped && now_seconds().saturating_sub(state.since_seconds) > STOPPED_KEPT_SECONDS
}

/// The paths in a directory, sorted; none if it is not there.
fn entries(dir: &std::path::Path) -> io::Result<Vec<PathBuf>> {
    let read = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}
