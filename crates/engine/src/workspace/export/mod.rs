//! `export`: a file or a directory of a guest on the host, owned by the caller.
//!
//! What comes is hostile: it is unpacked into a [`stage`] that nothing leads out of, without the bits that give rights away;
//! links are kept where they stay inside, everything else that is no file or directory is left out with a note. The output
//! is there whole at the end, or is not there.

mod stage;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pyro_wire::export::{EXPORT_ENTRIES_MAX, EXPORT_NOTES_MAX, Export, ExportEntry, ExportKind, ExportLine};
use ring::digest::{Context, SHA256};
use rustix::io::Errno;

use self::stage::{Attributes, Replace, Stage, stays_inside};
use super::answer::{self, Answer};
use super::diff::{self, DiffError, DiffRequest, DiffSummary, Secrecy};
use super::guest_path::{GuestPath, PATH_BYTES_MAX};
use super::looker::{Looker, SecretHolder};
use super::seen::Seen;
use super::tool::{Tool, ToolError, ToolHost, garbled};
use crate::progress::{Progress, Reporter, Unit};
use crate::store::crossing_record::{CrossedFiles, CrossedPatch, Crossing};
use crate::store::hex;

pub use pyro_wire::export::ExportNoteKind as GuestNoteKind;

/// Most bytes of one export.
pub const EXPORT_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;

/// Most bytes of all paths of an export.
const PATHS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes that are written at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// Entries with secrets in them that are named; more are counted.
const HOLDERS_MAX: usize = 100;

/// What to take home, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// What.
    pub path: GuestPath,
    /// Where it will be.
    pub output: Output,
}

/// Where something is written to on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The path. Its directory must be there.
    pub path: PathBuf,
    /// What it is called where it is written down: the path as its user knows it.
    pub called: String,
    /// Replace what is there.
    pub force: bool,
    /// Write it also where it holds secrets of the workspace.
    pub secrets: bool,
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// It is a directory.
    pub is_directory: bool,
    /// Files written.
    pub files: u64,
    /// Directories made, the output itself included.
    pub directories: u64,
    /// Links made.
    pub links: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// SHA-256 of the file; of a directory, of all that is in it with names and modes, in the order in which it came.
    pub sha256: String,
    /// What was left out or is not as it was; the first ones.
    pub notes: Vec<ExportNote>,
    /// How many notes there are in all.
    pub note_count: u64,
}

/// Something that was left out or is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportNote {
    /// Relative to what was exported.
    pub path: Vec<u8>,
    /// Why.
    pub kind: ExportNoteKind,
}

/// Why something was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportNoteKind {
    /// A link that leads out of what was exported.
    LinkOut {
        /// Where to.
        target: Vec<u8>,
    },
    /// What the guest noted.
    Guest(GuestNoteKind),
}

/// Why nothing was exported. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Something is in the output's place.
    #[error("{path} is there already")]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// There is no directory for the output.
    #[error("{path} cannot be made: it has no name, or its directory is not there")]
    NoDirectory {
        /// The output.
        path: PathBuf,
    },
    /// The host's disk did not take it.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is too much of it.
    #[error("there is more to export than {limit_bytes} bytes")]
    TooMuch {
        /// The limit.
        limit_bytes: u64,
    },
    /// It holds secrets of the workspace.
    #[error("{}", holders_words(holders, *count))]
    Secrets {
        /// What does; the first ones.
        holders: Vec<SecretHolder>,
        /// How much does.
        count: u64,
    },
    /// The patch could not be made.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The guest did not answer, or not what it should.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// Exports a file or a directory.
///
/// # Errors
/// See [`ExportError`].
pub async fn export(
    host: &impl ToolHost,
    request: &ExportRequest,
    report: Reporter<'_>,
) -> Result<ExportSummary, ExportError> {
    let output = &request.output;
    let stage = begin(output)?;
    let looker = if output.secrets { None } else { host.looker().await? };
    report(Progress::Stage { name: "export", unit: Unit::Bytes, total: None });
    let (feed, answer) = answer::pair();
    let tool = Tool::Export(Export { path: request.path.to_word() });
    let unpacker = Unpacker {
        answer,
        stage,
        output: &output.path,
        summary: ExportSummary::default(),
        digest: Context::new(&SHA256),
        entries: 0,
        path_bytes: 0,
        guest_notes: 0,
        looker,
        holders: Vec::new(),
        holder_count: 0,
        report,
    };
    let (stage, summary) = answer::both(answer::feed(host, tool, None, feed), unpacker.unpack()).await?;
    host.cross(Crossing::Export(CrossedFiles {
        source: request.path.to_string(),
        destination: output.called.clone(),
        entries: summary.files + summary.directories + summary.links,
        removed: 0,
        bytes: summary.bytes,
        digest: summary.sha256.clone(),
    }))
    .await?;
    publish(stage, output)?;
    Ok(summary)
}

/// Writes the patch of what changed at or below a path; the workspace's own is everything.
///
/// # Errors
/// See [`ExportError`].
pub async fn export_patch(
    host: &impl ToolHost,
    request: &DiffRequest,
    output: &Output,
) -> Result<ExportedPatch, ExportError> {
    let mut stage = begin(output)?;
    let write = |source: Errno| ExportError::Write { path: output.path.clone(), source: source.into() };
    let file = stage.file(b"").map_err(write)?;
    let mut writer = tokio::fs::File::from_std(file);
    let secrecy = if output.secrets { Secrecy::Keep } else { Secrecy::Cut };
    let mut seen = Seen::new(&mut writer);
    let summary = diff::patch(host, request, secrecy, &mut seen).await?;
    let digest = seen.digest();
    if !summary.secrets.is_empty() {
        let count = summary.secrets.len() as u64;
        return Err(ExportError::Secrets { holders: summary.secrets, count });
    }
    let file = writer.into_std().await;
    let bytes = file.metadata().map_err(|source| ExportError::Write { path: output.path.clone(), source })?.len();
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o644)).map_err(write)?;
    host.cross(Crossing::PatchOut(CrossedPatch {
        path: Some(output.called.clone()),
        entries: summary.files.len() as u64,
        bytes,
        digest: digest.clone(),
    }))
    .await?;
    publish(stage, output)?;
    Ok(ExportedPatch { summary, bytes, sha256: digest })
}

/// A patch that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedPatch {
    /// What is in it.
    pub summary: DiffSummary,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

fn holders_words(holders: &[SecretHolder], count: u64) -> String {
    let Some(SecretHolder { path, secrets }) = holders.first() else { return "it holds secrets".to_owned() };
    let path = if path.is_empty() { "it".into() } else { String::from_utf8_lossy(path) };
    let noun = if secrets.len() == 1 { "the secret" } else { "the secrets" };
    let more = if count > 1 { format!(", and {} more hold secrets", count - 1) } else { String::new() };
    format!("{path} holds {noun} {}{more}", secrets.join(", "))
}

fn begin(output: &Output) -> Result<Stage, ExportError> {
    let path = || output.path.clone();
    if output.path.file_name().is_none() {
        return Err(ExportError::NoDirectory { path: path() });
    }
    if !output.force && std::fs::symlink_metadata(&output.path).is_ok() {
        return Err(ExportError::Exists { path: path() });
    }
    Stage::beside(&output.path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ExportError::NoDirectory { path: path() },
        _ => ExportError::Write { path: path(), source },
    })
}

fn publish(stage: Stage, output: &Output) -> Result<(), ExportError> {
    let replace = if output.force { Replace::Whatever } else { Replace::Never };
    stage.publish(&output.path, replace).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => ExportError::Exists { path: output.path.clone() },
        _ => ExportError::Write { path: output.path.clone(), source },
    })
}

struct Unpacker<'a> {
    answer: Answer,
    stage: Stage,
    output: &'a Path,
    summary: ExportSummary,
    digest: Context,
    entries: u64,
    path_bytes: usize,
    guest_notes: u64,
    looker: Option<Looker>,
    holders: Vec<SecretHolder>,
    holder_count: u64,
    report: Reporter<'a>,
}

impl Unpacker<'_> {
    async fn unpack(mut self) -> Result<(Stage, ExportSummary), ExportError> {
        loop {
            match self.answer.line().await? {
                ExportLine::Entry(entry) => self.entry(entry).await?,
                ExportLine::Note(note) => {
                    let path = note.path.as_bytes().to_vec();
                    if path.len() > PATH_BYTES_MAX {
                        return Err(garbled("a path longer than a path can be").into());
                    }
                    self.guest_notes += 1;
                    self.note(ExportNote { path, kind: ExportNoteKind::Guest(note.kind) });
                }
                ExportLine::End { notes } => {
                    let unsent = notes.saturating_sub(self.guest_notes);
                    self.summary.note_count = self.summary.note_count.saturating_add(unsent);
                    break;
                }
            }
        }
        if self.entries == 0 {
            return Err(garbled("an export of nothing").into());
        }
        self.answer.end().await?;
        if self.holder_count > 0 {
            return Err(ExportError::Secrets { holders: self.holders, count: self.holder_count });
        }
        if self.summary.is_directory {
            self.summary.sha256 = hex::encode(self.digest.finish().as_ref());
        }
        Ok((self.stage, self.summary))
    }

    async fn entry(&mut self, entry: ExportEntry) -> Result<(), ExportError> {
        let path = entry.path.as_bytes().to_vec();
        self.entries += 1;
        self.path_bytes += path.len();
        let is_first = self.entries == 1;
        if path.is_empty() != is_first || !is_first && (!self.summary.is_directory || !is_plain(&path)) {
            return Err(garbled("a path that leads out of the export").into());
        }
        if self.entries > EXPORT_ENTRIES_MAX || self.path_bytes > PATHS_BYTES_MAX {
            return Err(garbled("more entries than an export may have").into());
        }
        let attributes = Attributes { mode: entry.mode, modified_unix_ns: entry.modified_unix_ns };
        self.digest_entry(&entry);
        self.feed(&path).await?;
        self.feed(&[0]).await?;
        let named = path.clone();
        self.unpack_entry(path, entry.kind, attributes).await?;
        self.note_secrets(&named).await
    }

    async fn unpack_entry(
        &mut self,
        path: Vec<u8>,
        kind: ExportKind,
        attributes: Attributes,
    ) -> Result<(), ExportError> {
        let is_first = path.is_empty();
        match kind {
            ExportKind::Directory => {
                self.stage.directory(&path, attributes).map_err(|errno| self.refused(errno))?;
                self.summary.is_directory |= is_first;
                self.summary.directories += 1;
            }
            ExportKind::File { size_bytes } => self.file(&path, size_bytes, attributes).await?,
            ExportKind::Symlink { .. } if is_first => return Err(garbled("an export that is a link").into()),
            ExportKind::Symlink { target } => {
                let target = target.as_bytes();
                self.feed(target).await?;
                if !stays_inside(&path, target) {
                    let kind = ExportNoteKind::LinkOut { target: target[..target.len().min(PATH_BYTES_MAX)].to_vec() };
                    self.note(ExportNote { path, kind });
                    return Ok(());
                }
                self.stage.link(&path, target, attributes).map_err(|errno| self.refused(errno))?;
                self.summary.links += 1;
            }
        }
        Ok(())
    }

    async fn file(&mut self, path: &[u8], size_bytes: u64, attributes: Attributes) -> Result<(), ExportError> {
        if size_bytes > EXPORT_BYTES_MAX - self.summary.bytes {
            return Err(ExportError::TooMuch { limit_bytes: EXPORT_BYTES_MAX });
        }
        let file = self.stage.file(path).map_err(|errno| self.refused(errno))?;
        let mut own = (path.is_empty()).then(|| Context::new(&SHA256));
        // Of its full size first: what is all zero is then a hole, as it mostly was in the guest.
        file.set_len(size_bytes).map_err(|source| self.failed(source))?;
        let mut left = size_bytes;
        while left > 0 {
            let bytes = self.answer.bytes(left.min(STEP_BYTES)).await?;
            if bytes.iter().any(|byte| *byte != 0) {
                file.write_all_at(&bytes, size_bytes - left).map_err(|source| self.failed(source))?;
            }
            self.feed(&bytes).await?;
            own.as_mut().unwrap_or(&mut self.digest).update(&bytes);
            left -= bytes.len() as u64;
            self.summary.bytes += bytes.len() as u64;
            (self.report)(Progress::Done(self.summary.bytes));
        }
        Stage::finish_file(&file, attributes).map_err(|errno| self.failed(errno.into()))?;
        if let Some(own) = own {
            self.summary.sha256 = hex::encode(own.finish().as_ref());
        }
        self.summary.files += 1;
        Ok(())
    }

    /// Has bytes of an entry looked through.
    async fn feed(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        match &mut self.looker {
            Some(looker) => looker.feed(bytes).await,
            None => Ok(()),
        }
    }

    /// Notes an entry if it holds secrets.
    async fn note_secrets(&mut self, path: &[u8]) -> Result<(), ExportError> {
        let Some(looker) = &mut self.looker else { return Ok(()) };
        let secrets = looker.found().await?;
        if secrets.is_empty() {
            return Ok(());
        }
        self.holder_count += 1;
        if self.holders.len() < HOLDERS_MAX {
            self.holders.push(SecretHolder { path: looker.cut(path).await?, secrets });
        }
        Ok(())
    }

    /// What tells one tree from another: kinds, names, modes, lengths. Contents follow.
    fn digest_entry(&mut self, entry: &ExportEntry) {
        let (kind, number, target) = match &entry.kind {
            ExportKind::Directory => ("directory", 0, &b""[..]),
            ExportKind::File { size_bytes } => ("file", *size_bytes, &b""[..]),
            ExportKind::Symlink { target } => ("link", target.as_bytes().len() as u64, target.as_bytes()),
        };
        let path = entry.path.as_bytes();
        self.digest.update(format!("{kind} {:o} {number} {}\0", entry.mode & 0o777, path.len()).as_bytes());
        self.digest.update(path);
        self.digest.update(target);
    }

    fn note(&mut self, note: ExportNote) {
        self.summary.note_count += 1;
        if (self.summary.notes.len() as u64) < 2 * EXPORT_NOTES_MAX {
            self.summary.notes.push(note);
        }
    }

    /// Names that come twice, or whose directory never came, are the guest's doing; anything else is the host's.
    fn refused(&self, errno: Errno) -> ExportError {
        match errno {
            Errno::EXIST => garbled("a path that comes twice").into(),
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {
                garbled("a path that is in no directory of the export").into()
            }
            errno => self.failed(errno.into()),
        }
    }

    fn failed(&self, source: io::Error) -> ExportError {
        ExportError::Write { path: self.output.to_owned(), source }
    }
}

/// Whether a relative path is made of plain names.
fn is_plain(path: &[u8]) -> bool {
    path.len() <= PATH_BYTES_MAX
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests;
