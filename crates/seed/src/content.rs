//! Reads the content of a seed's files, at most as much as there was when each was opened, and tells what changed meanwhile.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use super::host_dir::HostDir;
use super::tree::{Content, SeedTree, name, parent};

/// Opens the files of one tree. Best asked in the order of the tree, as it keeps the last directory open.
#[derive(Debug)]
pub struct Contents<'a> {
    tree: &'a SeedTree,
    last: Option<(usize, Vec<u8>, HostDir)>,
}

/// One file's content: exactly [`Opened::size_bytes`] bytes, whatever happens to the file.
#[derive(Debug)]
pub struct Opened<'a> {
    /// How long it is.
    pub size_bytes: u64,
    source: Source<'a>,
    left: u64,
    fault: Option<Fault>,
}

/// Why content is not what the file held when it was opened. Zeros stand for what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It changed meanwhile.
    Changed,
    /// It cannot be read to its end; the cause.
    Unreadable(String),
}

#[derive(Debug)]
enum Source<'a> {
    Host { file: File, before: Look },
    Slice { file: &'a File, at: u64 },
    Bytes(&'a [u8]),
}

/// What tells whether a file was changed between two looks at it.
type Look = (u64, i64, i64);

impl<'a> Contents<'a> {
    /// Those of this tree. Nothing is opened yet.
    #[must_use]
    pub fn new(tree: &'a SeedTree) -> Self {
        Self { tree, last: None }
    }

    /// Opens the content of a file that was `size_bytes` long.
    ///
    /// # Errors
    /// The file cannot be opened, or is no regular file any more.
    pub fn open(&mut self, content: &'a Content, size_bytes: u64) -> io::Result<Opened<'a>> {
        let (source, size_bytes) = match content {
            Content::Bytes(bytes) => (Source::Bytes(bytes), bytes.len() as u64),
            Content::Slice { file, offset } => {
                (Source::Slice { file: &self.tree.files[*file], at: *offset }, size_bytes)
            }
            Content::Host { dir, path } => {
                let (file, metadata) = self.host_dir(*dir, parent(path))?.open_file(name(path))?;
                let before = look(&metadata);
                (Source::Host { file, before }, before.0)
            }
        };
        Ok(Opened { size_bytes, source, left: size_bytes, fault: None })
    }

    fn host_dir(&mut self, dir: usize, path: &[u8]) -> io::Result<&HostDir> {
        let known = self.last.take().filter(|(last, known, _)| *last == dir && known == path);
        let opened = match known {
            Some((_, _, opened)) => opened,
            None => self.tree.dirs[dir].below(path)?,
        };
        Ok(&self.last.insert((dir, path.to_vec(), opened)).2)
    }
}

impl Opened<'_> {
    /// What went wrong; to be asked when everything was read.
    pub fn fault(&mut self) -> Option<Fault> {
        if let Source::Host { file, before } = &self.source
            && self.fault.is_none()
            && file.metadata().ok().map(|metadata| look(&metadata)) != Some(*before)
        {
            self.fault = Some(Fault::Changed);
        }
        self.fault.take()
    }
}

impl Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..len];
        if len == 0 {
            return Ok(0);
        }
        let read = match &mut self.source {
            _ if self.fault.is_some() => Ok(0),
            Source::Host { file, .. } => file.read(buffer),
            Source::Bytes(bytes) => bytes.read(buffer),
            Source::Slice { file, at } => file.read_at(buffer, *at).inspect(|count| *at += *count as u64),
        };
        let count = match read {
            Ok(0) => {
                self.fault.get_or_insert(Fault::Changed);
                buffer.fill(0);
                len
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.fault = Some(Fault::Unreadable(error.to_string()));
                buffer.fill(0);
                len
            }
        };
        self.left -= count as u64;
        Ok(count)
    }
}

fn look(metadata: &Metadata) -> Look {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
