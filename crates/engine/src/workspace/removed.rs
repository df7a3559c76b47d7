//! Workspaces that were removed because they had been stopped for too long: what is remembered of them, so that nobody wonders.

use std::collections::HashSet;
use std::path::Path;

use super::directory::Workspaces;
use crate::store::workspace_record::{RemovedWorkspace, StateRecord, WorkspaceRecord};
use crate::store::{atomic, journal};
use crate::supervisor::notes::now_seconds;

/// How long one is remembered.
const REMEMBERED_SECONDS: u64 = 7 * 86_400;

/// Size at which the file is written anew with what is remembered.
const FILE_BYTES_MAX: u64 = 256 * 1024;

impl Workspaces<'_> {
    /// Those that were removed within the last week, the last one first. What cannot be read is not remembered.
    #[must_use]
    pub fn removed(&self) -> Vec<RemovedWorkspace> {
        remembered(&self.home.removed_workspaces())
    }

    /// Writes down that one is removed. That it cannot be written keeps nobody from removing it.
    pub(super) fn note_removed(&self, record: &WorkspaceRecord, state: &StateRecord) {
        let path = self.home.removed_workspaces();
        if path.metadata().is_ok_and(|metadata| metadata.len() > FILE_BYTES_MAX) {
            let lines = remembered(&path).into_iter().rev().filter_map(|one| serde_json::to_string(&one).ok());
            let text: String = lines.map(|line| line + "\n").collect();
            drop(atomic::write(&path, text.as_bytes()));
        }
        let removed = RemovedWorkspace {
            id: record.id.clone(),
            name: record.name.clone(),
            environment: record.environment.clone(),
            stopped_at_seconds: state.since_seconds,
            removed_at_seconds: now_seconds(),
        };
        drop(journal::append(&path, &removed));
    }
}

fn remembered(path: &Path) -> Vec<RemovedWorkspace> {
    let (mut removed, _) = journal::read::<RemovedWorkspace>(path, 0).unwrap_or_default();
    let now = now_seconds();
    removed.retain(|one| now.saturating_sub(one.removed_at_seconds) < REMEMBERED_SECONDS);
    removed.reverse();
    // One whose files could not be removed at first was written down each time that it was tried.
    let mut known = HashSet::new();
    removed.retain(|one| known.insert(one.id.clone()));
    removed
}
