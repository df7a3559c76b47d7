//! `diff`: what a workspace changed since its baseline, as a patch that `git apply` takes, or as a list.
//!
//! The guest says what changed and sends the contents; the patch is made here, file by file, so that memory holds two
//! versions of one file at most. What git cannot express (empty directories, devices, permissions) is told in notes.
//! What comes from the guest is hostile: a path that leads out, or an answer that does not add up, ends the diff.

mod binary;
mod names;
mod section;
mod text;

use pyro_wire::changes::{
    self, CHANGES_MAX, CONTENT_BYTES_MAX, ChangeContent, ChangeNoteKind, Changes, ChangesEnd, ChangesLine, NOTES_MAX,
};
use ring::digest::{Context as Digest, SHA256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use self::section::{Contents, Extent};
use super::answer::{self, Answer};
use super::looker::{Looker, SecretHolder};
use super::seen;
use super::tool::{Tool, ToolError, ToolHost, Word, garbled};

use crate::store::hex;

pub use self::text::LineCount;
pub use pyro_wire::changes::{ChangeNoteKind as NoteKind, Version, VersionKind};

/// Largest file whose content a patch holds; of a larger one only its name is told.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most bytes of all paths of a diff.
const PATH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest path Linux takes.
const ONE_PATH_BYTES_MAX: usize = 4096;

/// What to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffRequest {
    /// Only what is at or below these, absolute or relative to the workspace; empty for everything.
    pub paths: Vec<Vec<u8>>,
    /// Also new files that are ignored.
    pub all: bool,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffSummary {
    /// Each path that changed, in the order of its bytes.
    pub files: Vec<FileChange>,
    /// What a patch does not tell.
    pub notes: DiffNotes,
    /// Paths with secrets of the workspace in them, in what was there or in what is.
    pub secrets: Vec<SecretHolder>,
    /// SHA-256 of the patch as it is with its secrets; none where none was made.
    pub digest: Option<String>,
}

/// One path that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The path and its two versions.
    pub change: Change,
    /// What happened to it.
    pub status: ChangeStatus,
    /// How much of it, where that was asked for.
    pub extent: Option<ChangeExtent>,
    /// When what is there was last changed in any way, nanoseconds since 1970, where it is too large to be looked at.
    pub changed_unix_ns: Option<i64>,
}

/// A path and its two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    /// Where it was before.
    pub renamed_from: Option<Vec<u8>>,
    /// What was there.
    pub old: Option<Version>,
    /// What is there.
    pub new: Option<Version>,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStatus {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content, or whether it may be executed.
    Modified,
    /// It was elsewhere, with the same content.
    Renamed,
    /// A file became a link, or a link a file.
    Retyped,
    /// Only permissions of which git knows nothing.
    Permissions,
}

/// How much of a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeExtent {
    /// Text.
    Lines(LineCount),
    /// No text.
    Binary,
    /// Too large to be looked at.
    TooLarge,
}

/// What a patch does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffNotes {
    /// New files and directories that are ignored.
    pub ignored: u64,
    /// What git cannot express, by kind.
    pub kinds: Vec<NoteCount>,
}

/// Things of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteCount {
    /// Which.
    pub kind: NoteKind,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Vec<u8>>,
}

/// A patch in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// What changed.
    pub summary: DiffSummary,
    /// The patch, or its beginning.
    pub text: Vec<u8>,
    /// How long the whole patch is.
    pub text_bytes: u64,
}

/// Why there is no diff.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The guest did not answer, or answered something else.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// There is too much of it.
    #[error("more than {limit} paths changed")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The patch could not be written.
    #[error("cannot write the patch")]
    Output {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// What changed, without looking at contents.
///
/// # Errors
/// See [`DiffError`].
pub async fn names(host: &impl ToolHost, request: &DiffRequest) -> Result<DiffSummary, DiffError> {
    compare(host, request, None, Wanted::Names, Secrecy::Cut).await
}

/// What changed, and how much.
///
/// # Errors
/// See [`DiffError`].
pub async fn stat(host: &impl ToolHost, request: &DiffRequest) -> Result<DiffSummary, DiffError> {
    compare(host, request, None, Wanted::Extents, Secrecy::Cut).await
}

/// Writes the patch, each file's part as soon as it is made.
///
/// # Errors
/// See [`DiffError`].
pub async fn patch(
    host: &impl ToolHost,
    request: &DiffRequest,
    secrecy: Secrecy,
    out: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<DiffSummary, DiffError> {
    compare(host, request, Some(out), Wanted::Extents, secrecy).await
}

/// What becomes of the workspace's secrets in a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// They are cut out, and the paths that hold them named.
    Cut,
    /// They stay, and nobody looks for them.
    Keep,
}

/// The patch in memory, of which at most `text_bytes_max` are kept, for somebody to look at.
///
/// # Errors
/// See [`DiffError`].
pub async fn diff(host: &impl ToolHost, request: &DiffRequest, text_bytes_max: usize) -> Result<Diff, DiffError> {
    let mut head = Head { bytes: Vec::new(), limit_bytes: text_bytes_max, total_bytes: 0 };
    let summary = seen::show(host, request, &mut head).await?.summary;
    Ok(Diff { summary, text: head.bytes, text_bytes: head.total_bytes })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Names,
    Extents,
}

async fn compare(
    host: &impl ToolHost,
    request: &DiffRequest,
    out: Option<&mut (dyn AsyncWrite + Unpin + Send)>,
    wanted: Wanted,
    secrecy: Secrecy,
) -> Result<DiffSummary, DiffError> {
    let looker = if secrecy == Secrecy::Cut { host.looker().await? } else { None };
    let tool = Tool::Changes(Changes {
        paths: request.paths.iter().map(|path| Word::from(path.clone())).collect(),
        all: request.all,
        apart: false,
        content_bytes_max: (wanted == Wanted::Extents).then_some(FILE_BYTES_MAX),
    });
    let (feed, answer) = answer::pair();
    let reader = Reader {
        answer,
        out,
        wanted,
        looker,
        summary: DiffSummary::default(),
        digest: Digest::new(&SHA256),
        last_path: Vec::new(),
        path_bytes: 0,
    };
    answer::both(answer::feed(host, tool, None, feed), reader.read()).await
}

struct Reader<'a> {
    answer: Answer,
    out: Option<&'a mut (dyn AsyncWrite + Unpin + Send)>,
    wanted: Wanted,
    looker: Option<Looker>,
    summary: DiffSummary,
    digest: Digest,
    last_path: Vec<u8>,
    path_bytes: usize,
}

impl Reader<'_> {
    async fn read(mut self) -> Result<DiffSummary, DiffError> {
        loop {
            match self.answer.line().await? {
                ChangesLine::Change(change) => self.change(change).await?,
                ChangesLine::Note(note) => {
                    let path = note.path.as_bytes().to_vec();
                    self.note(note.kind, path)?;
                }
                ChangesLine::End(end) => {
                    self.answer.end().await?;
                    self.summary.notes.conclude(end);
                    break;
                }
            }
        }
        if let Some(out) = self.out {
            self.summary.digest = Some(hex::encode(self.digest.finish().as_ref()));
            out.flush().await.map_err(|source| DiffError::Output { source })?;
        }
        Ok(self.summary)
    }

    async fn change(&mut self, said: changes::Change) -> Result<(), DiffError> {
        let (content, changed_unix_ns) = (said.content, said.changed_unix_ns);
        let mut change = checked(said)?;
        self.path_bytes += change.path.len() + change.renamed_from.as_ref().map_or(0, Vec::len);
        if self.summary.files.len() >= CHANGES_MAX || self.path_bytes > PATH_BYTES_MAX {
            return Err(DiffError::TooMany { limit: CHANGES_MAX });
        }
        if !self.summary.files.is_empty() && self.last_path >= change.path {
            return Err(garbled("paths in disorder").into());
        }
        self.last_path.clone_from(&change.path);
        let contents = match content {
            ChangeContent::Sent => Some(self.contents(&change).await?),
            ChangeContent::Unchanged | ChangeContent::TooLarge | ChangeContent::Withheld => None,
        };
        let secrets = match &mut self.looker {
            Some(looker) => find(looker, &change, contents.as_ref()).await?,
            None => Vec::new(),
        };
        let extent = match content {
            ChangeContent::Sent | ChangeContent::Unchanged => {
                Some(self.section(&change, contents.as_ref(), !secrets.is_empty()).await?)
            }
            ChangeContent::TooLarge => Some(ChangeExtent::TooLarge),
            ChangeContent::Withheld => None,
        };
        let status = status(&change, content);
        if let Some(looker) = self.looker.as_mut().filter(|_| !secrets.is_empty()) {
            for path in [Some(&mut change.path), change.renamed_from.as_mut()].into_iter().flatten() {
                *path = looker.cut(path).await?;
            }
            self.summary.secrets.push(SecretHolder { path: change.path.clone(), secrets });
        }
        self.summary.files.push(FileChange { change, status, extent, changed_unix_ns });
        Ok(())
    }

    async fn contents(&mut self, change: &Change) -> Result<Contents, ToolError> {
        let length = |version: &Option<Version>| version.as_ref().map_or(0, |version| version.size_bytes);
        let (old, new) = (length(&change.old), length(&change.new));
        if self.wanted == Wanted::Names || old.max(new) > FILE_BYTES_MAX.min(CONTENT_BYTES_MAX) {
            return Err(garbled("content that nobody asked for"));
        }
        Ok(Contents { old: self.answer.bytes(old).await?, new: self.answer.bytes(new).await? })
    }

    /// Writes a change's part of the patch, or only looks how much it is.
    async fn section(
        &mut self,
        change: &Change,
        contents: Option<&Contents>,
        is_secret: bool,
    ) -> Result<ChangeExtent, DiffError> {
        let extent = match (&mut self.out, contents) {
            (Some(out), contents) => {
                let mut text = Vec::new();
                let extent = section::write(change, contents, &mut text);
                self.digest.update(&text);
                if let Some(looker) = self.looker.as_mut().filter(|_| is_secret) {
                    if extent == Extent::Binary {
                        section::leave_binary_out(&mut text);
                    }
                    text = looker.cut(&text).await?;
                }
                out.write_all(&text).await.map_err(|source| DiffError::Output { source })?;
                extent
            }
            (None, Some(contents)) => section::extent(contents),
            (None, None) => Extent::Lines(LineCount::default()),
        };
        Ok(match extent {
            Extent::Lines(count) => ChangeExtent::Lines(count),
            Extent::Binary => ChangeExtent::Binary,
        })
    }

    fn note(&mut self, kind: ChangeNoteKind, path: Vec<u8>) -> Result<(), ToolError> {
        let notes = &mut self.summary.notes.kinds;
        let at = notes.iter().position(|note| note.kind == kind).unwrap_or_else(|| {
            notes.push(NoteCount { kind, count: 0, examples: Vec::new() });
            notes.len() - 1
        });
        let examples = &mut notes[at].examples;
        if examples.len() as u64 >= NOTES_MAX || path.len() > ONE_PATH_BYTES_MAX {
            return Err(garbled("more notes than there may be"));
        }
        examples.push(path);
        Ok(())
    }
}

impl DiffNotes {
    fn conclude(&mut self, end: ChangesEnd) {
        self.ignored = end.ignored;
        for note in &mut self.kinds {
            let said = end.notes.iter().find(|(kind, _)| *kind == note.kind).map_or(0, |(_, count)| *count);
            note.count = said.max(note.examples.len() as u64);
        }
    }
}

/// Names of the secrets in a change.
async fn find(looker: &mut Looker, change: &Change, contents: Option<&Contents>) -> Result<Vec<String>, ToolError> {
    let mut parts: Vec<&[u8]> = vec![&change.path];
    parts.extend(change.renamed_from.as_deref());
    parts.extend(contents.into_iter().flat_map(|contents| [&contents.old[..], &contents.new]));
    looker.find(&parts).await
}

/// A change whose paths stay in the workspace and whose versions make sense.
fn checked(said: changes::Change) -> Result<Change, ToolError> {
    let path = said.path.as_bytes().to_vec();
    let renamed_from = said.renamed_from.map(|path| path.as_bytes().to_vec());
    for path in [Some(&path), renamed_from.as_ref()].into_iter().flatten() {
        if !stays_inside(path) {
            return Err(garbled("a path that leads out of the workspace"));
        }
    }
    let same = said.content == ChangeContent::Unchanged;
    let sound = match (&said.old, &said.new) {
        (None, None) => false,
        (Some(old), Some(new)) => {
            let both_directories = old.kind == VersionKind::Directory && new.kind == VersionKind::Directory;
            let neither = old.kind != VersionKind::Directory && new.kind != VersionKind::Directory;
            (both_directories && same || neither) && (!same || old.kind == new.kind) && (renamed_from.is_none() || same)
        }
        (Some(one), None) | (None, Some(one)) => one.kind != VersionKind::Directory && !same && renamed_from.is_none(),
    };
    if !sound {
        return Err(garbled("a change that makes no sense"));
    }
    Ok(Change { path, renamed_from, old: said.old, new: said.new })
}

/// Whether a relative path names something below, and nothing of git's own.
fn stays_inside(path: &[u8]) -> bool {
    let sound = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.eq_ignore_ascii_case(b".git");
    path.len() <= ONE_PATH_BYTES_MAX && !path.contains(&0) && path.split(|byte| *byte == b'/').all(sound)
}

fn status(change: &Change, content: ChangeContent) -> ChangeStatus {
    let (old, new) = (section::git_mode(change.old.as_ref()), section::git_mode(change.new.as_ref()));
    match (&change.old, &change.new) {
        _ if change.renamed_from.is_some() => ChangeStatus::Renamed,
        (None, _) => ChangeStatus::Added,
        (_, None) => ChangeStatus::Deleted,
        (Some(old), Some(new)) if old.kind != new.kind => ChangeStatus::Retyped,
        _ if content == ChangeContent::Unchanged && old == new => ChangeStatus::Permissions,
        _ => ChangeStatus::Modified,
    }
}

/// Keeps the beginning of what is written, and counts the rest.
struct Head {
    bytes: Vec<u8>,
    limit_bytes: usize,
    total_bytes: u64,
}

impl AsyncWrite for Head {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let room = self.limit_bytes - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total_bytes += bytes.len() as u64;
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
