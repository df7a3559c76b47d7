//! `workspace crossings`: what crossed the border between a workspace and its host. It can be read also while the
//! workspace does not run; it goes when the workspace is deleted.

use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::crossing_record::{CrossingRecord, CrossingSummary};
use crate::store::crossings::{CrossingReader, Crossings};

/// Reads a workspace's record on from where it was read before.
#[derive(Debug)]
pub struct CrossingFollower {
    workspace: Workspace,
    reader: CrossingReader,
}

/// All that crossed, added up.
///
/// # Errors
/// The record cannot be read.
pub fn summary(workspace: &Workspace) -> Result<CrossingSummary, WorkspaceError> {
    Crossings::of(&workspace.dir).summary().map_err(|source| unreadable(workspace, source))
}

impl Workspaces<'_> {
    /// What crossed the border of the workspace that `word` means after the crossing of the number `since`.
    ///
    /// # Errors
    /// There is none, or its record cannot be read.
    pub fn crossings(&self, word: &str, since: u64) -> Result<(Workspace, Vec<CrossingRecord>), WorkspaceError> {
        let mut follower = self.follow_crossings(word, since)?;
        let found = follower.more()?;
        Ok((follower.workspace, found))
    }

    /// The same, to be read on.
    ///
    /// # Errors
    /// There is no such workspace.
    pub fn follow_crossings(&self, word: &str, since: u64) -> Result<CrossingFollower, WorkspaceError> {
        Ok(CrossingFollower { workspace: self.find(word)?, reader: CrossingReader::after(since) })
    }
}

impl CrossingFollower {
    /// What came since; nothing once the workspace is gone.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn more(&mut self) -> Result<Vec<CrossingRecord>, WorkspaceError> {
        let crossings = Crossings::of(&self.workspace.dir);
        self.reader.more(&crossings).map_err(|source| unreadable(&self.workspace, source))
    }

    /// Whose record it is.
    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }
}

fn unreadable(workspace: &Workspace, source: std::io::Error) -> WorkspaceError {
    WorkspaceError::File { what: "read", path: workspace.dir.crossings(), source }
}
