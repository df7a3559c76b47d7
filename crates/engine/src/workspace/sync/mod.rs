//! `sync push`: a directory or archive of the host into a live workspace, of which only what differs is sent.
//!
//! What is taken of the source is what a seed takes of it. A file of the same size, time and mode is the same; of the same size
//! and another time it is hashed. Git's own directory is sent only to where there is none: a repository that is at work in
//! the guest is not overwritten by the host's. What was overwritten is told, and whether somebody in the guest had made it.
//!
//! With `delete`, what the source lacks goes, but not what a seed would leave out (ignored files, secrets), and no repository
//! that was made in the guest.

mod compare;
mod send;

use std::sync::Arc;

use pyro_wire::sync::{DigestLine, Digests, DirectoryFound, Inventory, InventoryLine, Receive, ReceiveLine, Received};

use self::compare::{Comparison, Entries, Guest, Step};
use self::send::Sending;
use super::answer;
use super::guest_path::GuestPath;
use super::seed::tree::{ENTRIES_MAX, SeedTree};
use super::seed::{SeedError, SeedNotes, SeedRequest, survey};
use super::tool::{Tool, ToolError, ToolHost, garbled};
use crate::progress::{Progress, Reporter, Unit};
use crate::store::crossing_record::{CrossedFiles, Crossing};

/// What was overwritten is named up to this number; beyond it is counted.
const NAMED_MAX: usize = 1000;

/// How deep below what the source has is looked for what it lacks; what lies deeper stays.
const ROUNDS_MAX: usize = 200;

/// What to bring up to date, and with what.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The source.
    pub source: SeedRequest,
    /// The directory of the guest that is to be as the source is.
    pub destination: GuestPath,
    /// Whether what the source lacks goes.
    pub delete: bool,
    /// What the source is called where it is written down: the path as its user knows it.
    pub called: String,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Put where nothing had been.
    pub created: u64,
    /// Put in the place of something, or given another mode.
    pub replaced: u64,
    /// Removed.
    pub removed: u64,
    /// The same on both sides.
    pub same: u64,
    /// Bytes of content that were sent.
    pub sent_bytes: u64,
    /// What had been there and is not any more; the first thousand.
    pub overwritten: Vec<Overwritten>,
    /// How much of it there is.
    pub overwritten_count: u64,
    /// How much of it somebody in the guest had made or changed.
    pub guest_changes: u64,
    /// What could not be done; the first thousand.
    pub failed: Vec<Failed>,
    /// How much of it there is.
    pub failed_count: u64,
    /// Repositories of the guest, by the path of their `.git`, that were left as they are.
    pub repositories_kept: Vec<Vec<u8>>,
    /// SHA-256 of what was sent, in hex; of nothing when nothing was.
    pub digest: String,
    /// What should be known of the source.
    pub notes: SeedNotes,
}

/// Something of the guest that is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overwritten {
    /// Where, below the destination.
    pub path: Vec<u8>,
    /// Nothing is there now; otherwise what the source has.
    pub removed: bool,
    /// It was neither as in the baseline nor as an earlier push had left it.
    pub guest_change: bool,
}

/// Something that could not be put or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Where, below the destination.
    pub path: Vec<u8>,
    /// Why, in the guest's words.
    pub reason: String,
}

/// Why a push failed. What was sent before stays.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The source is no seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The guest could not.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// All of the guest's system would go.
    #[error("--delete at this place would remove the guest's own system")]
    RemovesSystem,
    /// A thread of pyro's own broke.
    #[error("the source could not be read to its end")]
    Reader(#[from] tokio::task::JoinError),
}

/// Brings a directory of the guest up to date.
///
/// # Errors
/// See [`PushError`].
pub async fn push(host: &impl ToolHost, request: PushRequest, report: Reporter<'_>) -> Result<Pushed, PushError> {
    let PushRequest { source, destination, delete, called } = request;
    let at_top = destination.as_bytes().split(|byte| *byte == b'/').all(|part| matches!(part, b"" | b"."));
    if delete && at_top {
        return Err(PushError::RemovesSystem);
    }
    report(Progress::Stage { name: "read source", unit: Unit::None, total: None });
    let tree = tokio::task::spawn_blocking(move || survey(&source)).await??;
    report(Progress::Stage { name: "compare", unit: Unit::None, total: None });
    let tree = Arc::new(tree);
    let guest = look(host, &destination, &tree, delete).await?;
    let mut comparison = Comparison::new(&tree, &guest, delete);
    settle(host, &destination, &tree, &mut comparison).await?;
    let total = comparison.content_bytes(&tree);
    report(Progress::Stage { name: "send", unit: Unit::Bytes, total: Some(total) });
    let Comparison { removals, steps, same, repositories_kept, .. } = comparison;
    let mut pushed = Pushed {
        created: 0,
        replaced: 0,
        removed: 0,
        same,
        sent_bytes: 0,
        overwritten: Vec::new(),
        overwritten_count: 0,
        guest_changes: 0,
        failed: Vec::new(),
        failed_count: 0,
        repositories_kept,
        digest: send::empty_digest(),
        notes: tree.notes.clone(),
    };
    if !removals.is_empty() || !steps.is_empty() {
        let files = CrossedFiles { source: called, destination: destination.to_string(), ..CrossedFiles::default() };
        host.cross(Crossing::SyncPushBegun {
            source: files.source.clone(),
            destination: files.destination.clone(),
            entries: (removals.len() + steps.len()) as u64,
            bytes: total,
        })
        .await?;
        send(host, &destination, Sending { tree, removals, steps }, (&mut pushed, report)).await?;
        host.cross(Crossing::SyncPush(CrossedFiles {
            entries: pushed.created + pushed.replaced,
            removed: pushed.removed,
            bytes: pushed.sent_bytes,
            digest: pushed.digest.clone(),
            ..files
        }))
        .await?;
    }
    report(Progress::Over);
    Ok(pushed)
}

/// Looks at the directories of the guest that the source has, and with `delete` at those below them, too.
async fn look(
    host: &impl ToolHost,
    destination: &GuestPath,
    tree: &SeedTree,
    delete: bool,
) -> Result<Guest, PushError> {
    let mut guest = Guest::default();
    let mut wanted = compare::directories(tree);
    for _ in 0..ROUNDS_MAX {
        if wanted.is_empty() {
            break;
        }
        inventory(host, destination, &wanted, &mut guest).await?;
        // A directory that the source lacks may hold what is to stay.
        wanted = if delete { guest.unlisted_surplus(tree) } else { Vec::new() };
    }
    Ok(guest)
}

async fn inventory(
    host: &impl ToolHost,
    destination: &GuestPath,
    directories: &[Vec<u8>],
    guest: &mut Guest,
) -> Result<(), PushError> {
    let input = send::words(directories);
    let (feed, mut lines) = answer::pair();
    let tool = Tool::Inventory(Inventory { path: destination.to_word() });
    let read = async {
        let mut names = directories.iter();
        let mut current: Option<(&Vec<u8>, Entries)> = None;
        loop {
            let line = lines.line::<InventoryLine>().await?;
            if let InventoryLine::Entry(entry) = line {
                let (_, entries) = current.as_mut().ok_or_else(|| garbled("an entry of no directory"))?;
                let name = entry.name.as_bytes().to_vec();
                let is_name = !matches!(&name[..], b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0);
                if !is_name
                    || entries.insert(name, entry).is_some()
                    || guest.count() + entries.len() as u64 > ENTRIES_MAX
                {
                    return Err(garbled("names that no directory has").into());
                }
                continue;
            }
            if let Some((directory, entries)) = current.take() {
                guest.add(directory.clone(), Some(entries));
            }
            let InventoryLine::Directory { found } = line else { break };
            let directory = names.next().ok_or_else(|| garbled("more directories than were asked for"))?;
            match found {
                DirectoryFound::Listed => current = Some((directory, Entries::new())),
                DirectoryFound::Missing | DirectoryFound::Other => guest.add(directory.clone(), None),
            }
        }
        if names.next().is_some() {
            return Err(garbled("less directories than were asked for").into());
        }
        lines.end().await.map_err(PushError::from)
    };
    answer::both(answer::feed(host, tool, Some(&mut &input[..]), feed), read).await
}

/// Hashes, on both sides, what has the same size and another time.
async fn settle(
    host: &impl ToolHost,
    destination: &GuestPath,
    tree: &Arc<SeedTree>,
    comparison: &mut Comparison,
) -> Result<(), PushError> {
    let doubtful = std::mem::take(&mut comparison.doubtful);
    if doubtful.is_empty() {
        return Ok(());
    }
    let paths: Vec<Vec<u8>> = doubtful.iter().map(|(index, _)| tree.entries[*index].path.clone()).collect();
    let input = send::words(&paths);
    let (feed, mut lines) = answer::pair();
    let tool = Tool::Digests(Digests { path: destination.to_word() });
    let read = async {
        let mut digests = Vec::new();
        while let DigestLine::Digest(digest) = lines.line().await? {
            digests.push(digest);
            if digests.len() > paths.len() {
                return Err(garbled("more digests than were asked for").into());
            }
        }
        lines.end().await?;
        Ok::<_, PushError>(digests)
    };
    let of_guest = answer::both(answer::feed(host, tool, Some(&mut &input[..]), feed), read).await?;
    if of_guest.len() != paths.len() {
        return Err(garbled("less digests than were asked for").into());
    }
    let indexes: Vec<usize> = doubtful.iter().map(|(index, _)| *index).collect();
    let reader = Arc::clone(tree);
    let of_source = tokio::task::spawn_blocking(move || send::digests(&reader, &indexes)).await?;
    for ((index, if_same), (one, other)) in doubtful.into_iter().zip(of_source.into_iter().zip(of_guest)) {
        let is_same = one.is_some() && one == other;
        comparison.add(index, if is_same { if_same } else { Step::Put });
    }
    comparison.steps.sort_unstable_by_key(|(index, _)| *index);
    Ok(())
}

/// Sends what there is to do, and reads what was done.
async fn send(
    host: &impl ToolHost,
    destination: &GuestPath,
    sending: Sending,
    (pushed, report): (&mut Pushed, Reporter<'_>),
) -> Result<(), PushError> {
    let items = (sending.removals.len() + sending.steps.len()) as u64;
    let (mut input, writer) = send::begin(sending);
    let (feed, mut lines) = answer::pair();
    let tool = Tool::Receive(Receive { path: destination.to_word() });
    let read = async {
        let mut told = 0;
        loop {
            let line = lines.line::<ReceiveLine>().await?;
            told += 1;
            match line {
                ReceiveLine::End(done) => break pushed.take(done),
                _ if told > items => return Err(garbled("more than was sent").into()),
                ReceiveLine::Overwritten(gone) => pushed.take_overwritten(gone),
                ReceiveLine::Failed { path, reason } => pushed.take_failed(path.as_bytes(), reason),
            }
        }
        lines.end().await.map_err(PushError::from)
    };
    let call = async {
        let counted = &mut send::Counted { source: &mut input, report, bytes: 0 };
        answer::feed(host, tool, Some(counted), feed).await
    };
    let outcome = answer::both(call, read).await;
    // The writer ends when nobody reads on.
    drop(input);
    let written = writer.await?;
    outcome?;
    pushed.sent_bytes = written.content_bytes;
    pushed.digest = written.digest;
    pushed.notes.extend(written.notes);
    Ok(())
}

impl Pushed {
    fn take(&mut self, done: Received) {
        self.created = done.created;
        self.replaced = done.replaced;
        self.removed = done.removed;
    }

    fn take_overwritten(&mut self, gone: pyro_wire::sync::Overwritten) {
        self.overwritten_count += 1;
        self.guest_changes += u64::from(gone.guest_change);
        if self.overwritten.len() < NAMED_MAX {
            let path = gone.path.as_bytes().to_vec();
            self.overwritten.push(Overwritten { path, removed: gone.removed, guest_change: gone.guest_change });
        }
    }

    fn take_failed(&mut self, path: &[u8], reason: String) {
        self.failed_count += 1;
        if self.failed.len() < NAMED_MAX {
            self.failed.push(Failed { path: path.to_vec(), reason });
        }
    }
}

#[cfg(test)]
mod tests;
