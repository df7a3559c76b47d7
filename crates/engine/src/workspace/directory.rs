//! The workspaces of this host: found, listed, and brought to a known state where a process died over one.
//!
//! A workspace is a directory named by its id. Who holds its locks lives; what a dead process left is mended by the next
//! pyro command that looks: a supervisor that is gone leaves a stopped workspace, a maker that is gone leaves nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::client::Connection;
use super::error::WorkspaceError;
use super::leftovers::is_past_its_time;
use crate::Settings;
use crate::store::home::{Home, WorkspaceDir};
use crate::store::lock::{Lock, LockError};
use crate::store::workspace_record::{RemovedWorkspace, StateRecord, WorkspacePhase, WorkspaceRecord};
use crate::supervisor::layers;
use crate::supervisor::notes::{read_json, set_phase, write_state};

/// Hex digits of an id.
pub const ID_DIGITS: usize = 12;

/// Seconds after which a stopped workspace is removed.
pub const STOPPED_KEPT_SECONDS: u64 = 7 * 86_400;

/// What a workspace's directory is called while it is removed.
pub(super) const DELETING_PREFIX: &str = "deleting-";

/// The workspaces of this host.
#[derive(Debug, Clone)]
pub struct Workspaces<'a> {
    pub(super) settings: &'a Settings,
    pub(super) home: Home,
}

/// A workspace as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// What it is.
    pub record: WorkspaceRecord,
    /// Where it is in its life.
    pub state: StateRecord,
    /// Its files.
    pub dir: WorkspaceDir,
}

impl<'a> Workspaces<'a> {
    /// Those under the settings' state directory.
    #[must_use]
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, home: Home::new(&settings.cache_dir, &settings.state_dir) }
    }

    /// Brings what dead processes left into a known state, as each look at the workspaces does. What cannot be read is left to
    /// whoever needs it.
    pub fn reconcile(&self) {
        drop(self.list());
    }

    /// All of them, the one that was used last first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Workspace>, WorkspaceError> {
        let mut found = Vec::new();
        for name in self.names()? {
            if name.starts_with(DELETING_PREFIX) {
                // Whoever removes it may still be at it; both may.
                drop(std::fs::remove_dir_all(self.home.workspaces_dir().join(&name)));
            } else if is_id(&name) {
                found.extend(self.look(&name));
            }
        }
        found.sort_by(|a, b| {
            let used = b.state.used_at_seconds.cmp(&a.state.used_at_seconds);
            used.then(b.record.created_at_seconds.cmp(&a.record.created_at_seconds)).then(a.record.id.cmp(&b.record.id))
        });
        Ok(found)
    }

    /// Those with all of these labels.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn list_labelled(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Workspace>, WorkspaceError> {
        let mut found = self.list()?;
        found.retain(|workspace| {
            labels.iter().all(|(name, value)| workspace.record.labels.get(name).is_some_and(|own| own == value))
        });
        Ok(found)
    }

    /// The one that `word` means: a name, an id, or the beginning of one.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, word: &str) -> Result<Workspace, WorkspaceError> {
        let all = self.list()?;
        if let Some(at) = all.iter().position(|one| one.record.name.as_deref() == Some(word) || one.record.id == word) {
            return Ok(all.into_iter().nth(at).expect("the position was just found"));
        }
        let mut matching: Vec<&Workspace> =
            all.iter().filter(|one| !word.is_empty() && one.record.id.starts_with(word)).collect();
        match (matching.pop(), matching.is_empty()) {
            (Some(one), true) => Ok(one.clone()),
            (Some(one), false) => {
                let mut matches = vec![one.record.id.clone()];
                matches.extend(matching.iter().map(|one| one.record.id.clone()));
                Err(WorkspaceError::Ambiguous { word: word.to_owned(), matches })
            }
            (None, _) => Err(self.not_found(word, &all)),
        }
    }

    fn not_found(&self, word: &str, all: &[Workspace]) -> WorkspaceError {
        let is_it = |one: &RemovedWorkspace| one.id == word || one.name.as_deref() == Some(word);
        if let Some(removed) = self.removed().into_iter().find(is_it) {
            return WorkspaceError::Removed { word: word.to_owned(), removed };
        }
        WorkspaceError::NotFound {
            word: word.to_owned(),
            known: all.iter().map(|one| one.called().to_owned()).collect(),
        }
    }

    /// The way to the one that `word` means, which must run.
    ///
    /// # Errors
    /// There is none, or it does not run.
    pub fn connect(&self, word: &str) -> Result<Connection, WorkspaceError> {
        self.find(word)?.connect()
    }

    /// Where they are.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn names(&self) -> Result<Vec<String>, WorkspaceError> {
        let dir = self.home.workspaces_dir();
        let read = || -> io::Result<Vec<String>> {
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                result => result?,
            };
            entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
        };
        read().map_err(|source| WorkspaceError::File { what: "list the workspaces in", path: dir.clone(), source })
    }

    /// A workspace as it is after what a dead process left was mended; none if nothing of it is left.
    fn look(&self, id: &str) -> Option<Workspace> {
        let dir = self.home.workspace(id);
        if self.is_rubbish(&dir) {
            drop(self.remove_files(&dir));
            return None;
        }
        // One that is removed, or not yet written down, at this moment is none.
        let record: WorkspaceRecord = read_json(&dir.record()).ok()?;
        let mut state: StateRecord = read_json(&dir.state()).ok()?;
        if state.phase == WorkspacePhase::Running {
            mend(&dir, &mut state);
        }
        if is_past_its_time(&state) && self.remove_past_its_time(&dir, &record) {
            return None;
        }
        Some(Workspace { record, state, dir })
    }

    /// Whether it was being made by a process that is gone.
    fn is_rubbish(&self, dir: &WorkspaceDir) -> bool {
        let state = read_json::<StateRecord>(&dir.state());
        let unfinished = match &state {
            Ok(state) => state.phase == WorkspacePhase::Creating,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !unfinished {
            return false;
        }
        // Somebody may be about to take the locks of a new one. Where that is the caller itself, the next one looks again.
        let Ok(_all) = Lock::try_directory(&self.home.workspaces_dir()) else { return false };
        // Without its directory there is nothing to lock, and nothing must be made by trying.
        if !dir.path().is_dir() {
            return false;
        }
        let Ok(_maker) = Lock::try_take(&dir.maker_lock()) else { return false };
        let Ok(_life) = Lock::try_take(&dir.life_lock()) else { return false };
        // It may have become a workspace since.
        read_json::<StateRecord>(&dir.state()).map_or(true, |state| state.phase == WorkspacePhase::Creating)
    }

    /// Removes one that was stopped for too long, unless it is just being started.
    fn remove_past_its_time(&self, dir: &WorkspaceDir, record: &WorkspaceRecord) -> bool {
        let Ok(_life) = Lock::try_take(&dir.life_lock()) else { return false };
        match read_json::<StateRecord>(&dir.state()) {
            Ok(state) if is_past_its_time(&state) => {
                self.note_removed(record, &state);
                self.remove_files(dir).is_ok()
            }
            _ => false,
        }
    }

    /// Removes everything of a workspace that nobody holds.
    pub(super) fn remove_files(&self, dir: &WorkspaceDir) -> io::Result<()> {
        let id = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        // From here on it is no workspace any more, whatever becomes of the rest.
        let doomed: PathBuf = self.home.workspaces_dir().join(format!("{DELETING_PREFIX}{id}"));
        std::fs::rename(dir.path(), &doomed)?;
        std::fs::remove_dir_all(doomed)
    }
}

impl Workspace {
    /// The way to it, if it runs.
    ///
    /// # Errors
    /// It does not run.
    pub fn connect(&self) -> Result<Connection, WorkspaceError> {
        let id = self.record.id.clone();
        match self.state.phase {
            WorkspacePhase::Running => Ok(Connection { id, dir: self.dir.clone() }),
            WorkspacePhase::Creating => Err(WorkspaceError::Creating { id }),
            WorkspacePhase::Stopped => Err(WorkspaceError::Stopped { id, reason: self.state.reason.clone() }),
            WorkspacePhase::Failed => Err(WorkspaceError::Failed { id, reason: self.state.reason.clone() }),
        }
    }

    /// Until when it is kept, if it is stopped, in seconds since 1970.
    #[must_use]
    pub fn kept_until_seconds(&self) -> Option<u64> {
        (self.state.phase == WorkspacePhase::Stopped).then_some(self.state.since_seconds + STOPPED_KEPT_SECONDS)
    }

    /// What a person calls it: its name, or its id.
    #[must_use]
    pub fn called(&self) -> &str {
        self.record.name.as_deref().unwrap_or(&self.record.id)
    }
}

/// Whether a word has the form of an id.
#[must_use]
pub fn is_id(word: &str) -> bool {
    word.len() == ID_DIGITS && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Writes down that a supervisor is gone, if it is.
pub(super) fn mend(dir: &WorkspaceDir, state: &mut StateRecord) {
    let _life = match Lock::try_take(&dir.life_lock()) {
        Ok(lock) => lock,
        Err(LockError::Held { .. } | LockError::Io { .. }) => return,
    };
    // It may have ended in an orderly way meanwhile.
    if let Ok(now) = read_json::<StateRecord>(&dir.state()) {
        *state = now;
    }
    if state.phase == WorkspacePhase::Running {
        let reason = "its supervisor was killed, or the host was restarted";
        set_phase(state, WorkspacePhase::Stopped, Some(reason.to_owned()));
        drop(write_state(dir, state));
        // What cannot be removed now is named by `doctor`, and removed by its next supervisor.
        drop(std::fs::remove_file(dir.socket()));
        drop(layers::remove_others(dir, &state.disk));
    }
}
