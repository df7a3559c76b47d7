//! Surveys an archive: a tar, plain or packed with gzip, zstd or xz, known by its first bytes and not by its name.
//!
//! Whoever packed it may be hostile. Names that lead out are left out, links are kept but never followed, what it unpacks to
//! is limited, and so is the memory that its headers may take. Owners are ignored. Of entries with one name the last counts.
//! What it holds is kept whole, secret-looking or not, as whoever packed it chose it; a single top directory stays.

mod names;
mod sparse;
mod unpack;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use pyro_store::sparse::unnamed_file;

use self::names::{Names, clean};
use self::sparse::Sparse;
use super::host_dir::{HostDir, bytes};
use super::ignored::Rules;
use super::notes::About;
use super::secrets;
use super::tree::{Attributes, Content, ENTRIES_MAX, Moment, SeedTree, TreeBuilder, name};
use super::{SeedError, SeedRequest};

/// Bytes of headers, long names and attributes that one entry may have.
const HEAD_BYTES_MAX: u64 = 1 << 20;
/// Bytes of all names together.
const NAMES_BYTES_MAX: u64 = 256 << 20;
const COPY_BYTES: usize = 256 << 10;
const BLOCK_BYTES: usize = 512;

/// Surveys the archive at `path`.
pub(super) fn survey(request: &SeedRequest, path: &Path) -> Result<SeedTree, SeedError> {
    let source_error = |source| SeedError::Source { path: path.to_owned(), source };
    let dir = HostDir::open_resolved(path.parent().unwrap_or(path)).map_err(source_error)?;
    let (mut file, _) = dir.open_file(name(bytes(path))).map_err(source_error)?;
    let mtime = modified(&file).map_err(source_error)?;
    let mut magic = [0; BLOCK_BYTES];
    let count = read_up_to(&mut file, &mut magic).map_err(source_error)?;
    file.seek(SeekFrom::Start(0)).map_err(source_error)?;
    let mut survey = Survey::new(request, path);
    match unpack::packing(&magic[..count]) {
        Some(packing) => {
            let mut content = unpack::reader(packing, file).map_err(|source| survey.damaged(source))?;
            let mut first = [0; BLOCK_BYTES];
            let count = read_up_to(&mut content, &mut first).map_err(|source| survey.damaged(source))?;
            if !is_tar(&first[..count]) {
                return Err(survey.unknown());
            }
            let spool = unnamed_file(&request.scratch_dir)
                .map_err(|source| SeedError::Scratch { path: request.scratch_dir.clone(), source })?;
            survey.streamed(io::Cursor::new(first[..count].to_vec()).chain(content), spool)?;
        }
        None if is_tar(&magic[..count]) => survey.in_place(file)?,
        None => return Err(survey.unknown()),
    }
    survey.finish(mtime)
}

struct Survey<'a> {
    request: &'a SeedRequest,
    path: &'a Path,
    tree: TreeBuilder,
    names: Names,
    entries: u64,
    names_bytes: u64,
    content_bytes: u64,
    buffer: Vec<u8>,
}

/// Where content ends up.
enum Store {
    /// It stays in the archive, which is this file of the tree and has this length.
    InPlace { number: usize, len: u64 },
    /// It is copied into this file of the tree.
    Spool { number: usize, file: File, end: u64 },
}

impl<'a> Survey<'a> {
    fn new(request: &'a SeedRequest, path: &'a Path) -> Self {
        Self {
            request,
            path,
            tree: TreeBuilder::default(),
            names: Names::default(),
            entries: 0,
            names_bytes: 0,
            content_bytes: 0,
            buffer: vec![0; COPY_BYTES],
        }
    }

    /// A plain tar: content is read from it when it is needed.
    fn in_place(&mut self, file: File) -> Result<(), SeedError> {
        let source_error = |source| SeedError::Source { path: self.path.to_owned(), source };
        let len = file.metadata().map_err(source_error)?.len();
        let number = self.tree.hold_file(file.try_clone().map_err(source_error)?);
        let budget = Rc::new(Cell::new(0));
        let mut archive = tar::Archive::new(Metered { inner: file, budget: Rc::clone(&budget) });
        let entries = archive.entries_with_seek().map_err(|source| self.damaged(source))?;
        self.entries(entries, &budget, &mut Store::InPlace { number, len })
    }

    /// A packed tar: content is copied into a file, as it can be read in order only.
    fn streamed(&mut self, content: impl Read, spool: File) -> Result<(), SeedError> {
        let copy = spool
            .try_clone()
            .map_err(|source| SeedError::Scratch { path: self.request.scratch_dir.clone(), source })?;
        let number = self.tree.hold_file(copy);
        let budget = Rc::new(Cell::new(0));
        let mut archive = tar::Archive::new(Metered { inner: content, budget: Rc::clone(&budget) });
        budget.set(HEAD_BYTES_MAX);
        let entries = archive.entries().map_err(|source| self.damaged(source))?;
        self.entries(entries, &budget, &mut Store::Spool { number, file: spool, end: 0 })?;
        // Only at its end does a packed file say whether it is whole.
        self.drain(&mut archive.into_inner().inner)
    }

    fn entries<R: Read>(
        &mut self,
        mut entries: tar::Entries<'_, R>,
        budget: &Cell<u64>,
        store: &mut Store,
    ) -> Result<(), SeedError> {
        loop {
            budget.set(HEAD_BYTES_MAX);
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(|source| self.damaged(source))?;
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(SeedError::TooManyEntries { limit: ENTRIES_MAX });
            }
            budget.set(u64::MAX);
            self.entry(&mut entry, store)?;
            if matches!(store, Store::Spool { .. }) {
                // Reads what is left of the content, which the next step would otherwise count as headers.
                self.drain(&mut entry)?;
            }
        }
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, store: &mut Store) -> Result<(), SeedError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let head = Head::of(entry).map_err(|source| self.damaged(source))?;
        self.names_bytes += head.name.len() as u64;
        let size_bytes = head.sparse.as_ref().map_or(entry.size(), |sparse| sparse.size_bytes);
        if kind.is_file() || kind.is_gnu_sparse() || kind.is_contiguous() {
            self.content_bytes = self.content_bytes.saturating_add(size_bytes);
        }
        if self.names_bytes > NAMES_BYTES_MAX || self.content_bytes > self.request.archive_bytes_max {
            return Err(self.too_large());
        }
        let name = match clean(&head.name) {
            Ok(name) if !name.is_empty() => name,
            // The top itself has nothing that a seed takes over.
            Ok(_) => return Ok(()),
            Err(reason) => {
                self.tree.note(About::EntryRefused, &head.name, reason);
                return Ok(());
            }
        };
        let refused = match kind {
            _ if kind.is_dir() => self.names.directory(&name, head.attributes),
            _ if kind.is_symlink() => self.names.symlink(&name, head.attributes, head.target),
            _ if kind.is_hard_link() => self.names.hard_link(&name, &head.target),
            _ if kind.is_file() || kind.is_gnu_sparse() || kind.is_contiguous() => {
                self.look_for_secrets(&name);
                let content = self.content(entry, head.sparse, size_bytes, store)?;
                self.names.file(&name, head.attributes, size_bytes, content)
            }
            _ if kind.is_fifo() || kind.is_character_special() || kind.is_block_special() => {
                let what = if kind.is_fifo() { "a named pipe" } else { "a device" };
                self.tree.note(About::SpecialLeftOut, &name, what);
                Ok(())
            }
            _ => Err("its type is unknown"),
        };
        if let Err(reason) = refused {
            self.tree.note(About::EntryRefused, &name, reason);
        }
        Ok(())
    }

    fn look_for_secrets(&mut self, name: &[u8]) {
        if let Some(found) = secrets::suspicion(name).filter(|found| found.clearing == secrets::Clearing::Never) {
            self.tree.note(About::SecretKept, name, found.reason);
        }
    }

    fn content<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        sparse: Option<Sparse>,
        size_bytes: u64,
        store: &mut Store,
    ) -> Result<Content, SeedError> {
        let is_sparse = sparse.is_some() || entry.header().entry_type().is_gnu_sparse();
        if let Store::InPlace { number, len } = store
            && !is_sparse
        {
            let offset = entry.raw_file_position();
            if offset.checked_add(size_bytes).is_none_or(|end| end > *len) {
                return Err(self.damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            return Ok(Content::Slice { file: *number, offset });
        }
        if let Store::InPlace { .. } = store {
            let file = unnamed_file(&self.request.scratch_dir).map_err(|source| self.scratch(source))?;
            let held = file.try_clone().map_err(|source| self.scratch(source))?;
            let number = self.tree.hold_file(held);
            return self.content(entry, sparse, size_bytes, &mut Store::Spool { number, file, end: 0 });
        }
        let Store::Spool { number, file, end } = store else { return Ok(Content::Bytes(Vec::new())) };
        let offset = *end;
        match sparse {
            Some(sparse) => {
                for (at, len) in sparse.segments(entry).map_err(|source| self.damaged(source))? {
                    self.copy(entry, file, offset + at, len)?;
                }
            }
            None => self.copy(entry, file, offset, size_bytes)?,
        }
        *end += size_bytes;
        file.set_len(*end).map_err(|source| self.scratch(source))?;
        Ok(Content::Slice { file: *number, offset })
    }

    /// Copies exactly `len` bytes; zeros are left as a hole.
    fn copy(&mut self, source: &mut dyn Read, target: &File, mut at: u64, mut len: u64) -> Result<(), SeedError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while len > 0 {
            let part = &mut buffer[..len.min(COPY_BYTES as u64) as usize];
            source.read_exact(part).map_err(|source| self.damaged(source))?;
            if part.iter().any(|byte| *byte != 0) {
                target.write_all_at(part, at).map_err(|source| self.scratch(source))?;
            }
            at += part.len() as u64;
            len -= part.len() as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn drain(&mut self, rest: &mut dyn Read) -> Result<(), SeedError> {
        loop {
            let count = rest.read(&mut self.buffer).map_err(|source| self.damaged(source))? as u64;
            if count == 0 {
                return Ok(());
            }
            self.content_bytes = self.content_bytes.saturating_add(count);
            if self.content_bytes > self.request.archive_bytes_max {
                return Err(self.too_large());
            }
        }
    }

    fn finish(self, mtime: Moment) -> Result<SeedTree, SeedError> {
        let Self { mut tree, names, .. } = self;
        names.flatten(&mut tree)?;
        let rules = Rules { all: true, secrets: true, parts: Vec::new() };
        Ok(tree.finish(Attributes { mode: 0o755, mtime }, rules))
    }

    fn damaged(&self, source: io::Error) -> SeedError {
        SeedError::Archive { path: self.path.to_owned(), source }
    }

    fn scratch(&self, source: io::Error) -> SeedError {
        SeedError::Scratch { path: self.request.scratch_dir.clone(), source }
    }

    fn unknown(&self) -> SeedError {
        SeedError::UnknownKind { path: self.path.to_owned() }
    }

    fn too_large(&self) -> SeedError {
        SeedError::ArchiveTooLarge { path: self.path.to_owned(), bytes_max: self.request.archive_bytes_max }
    }
}

/// What the headers of an entry say.
struct Head {
    name: Vec<u8>,
    target: Vec<u8>,
    attributes: Attributes,
    sparse: Option<Sparse>,
}

impl Head {
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let mut pax = Vec::new();
        if let Some(records) = entry.pax_extensions()? {
            for record in records {
                let record = record?;
                pax.push((record.key_bytes().to_vec(), record.value_bytes().to_vec()));
            }
        }
        let value = |key: &[u8]| pax.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &value[..]);
        let seconds = i64::try_from(entry.header().mtime()?).unwrap_or_default();
        let mtime = value(b"mtime").and_then(moment).unwrap_or(Moment { seconds, nanoseconds: 0 });
        let mode = (entry.header().mode()? & 0o7777) as u16;
        let name = value(b"GNU.sparse.name").map_or_else(|| entry.path_bytes().into_owned(), <[u8]>::to_vec);
        Ok(Self {
            name,
            target: entry.link_name_bytes().unwrap_or_default().into_owned(),
            attributes: Attributes { mode, mtime },
            sparse: Sparse::of(&pax)?,
        })
    }
}

/// A time as pax writes it: `1700000000.123456789`.
fn moment(text: &[u8]) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    Some(match (seconds, nanoseconds) {
        (_, 0) => Moment { seconds, nanoseconds },
        _ if whole.starts_with('-') => Moment { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
        _ => Moment { seconds, nanoseconds },
    })
}

/// Whether a block is the header of a tar, or its end.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < BLOCK_BYTES {
        return false;
    }
    let stored = std::str::from_utf8(&block[148..156]).ok();
    let stored = stored.and_then(|text| u32::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
    let sum: u32 = block[..148].iter().chain(&block[156..BLOCK_BYTES]).map(|byte| u32::from(*byte)).sum();
    block.iter().all(|byte| *byte == 0) || stored == Some(sum + 8 * 32)
}

fn modified(file: &File) -> io::Result<Moment> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok(Moment { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() as u32 })
}

fn read_up_to(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match source.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Reads no more than is allowed for now.
struct Metered<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.get();
        if budget == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry's headers are too long"));
        }
        let len = buffer.len().min(usize::try_from(budget).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..len])?;
        self.budget.set(budget - count as u64);
        Ok(count)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

#[cfg(test)]
mod tests;
