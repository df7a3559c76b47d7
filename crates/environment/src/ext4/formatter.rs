//! [`Formatter`]: the tree being built, and its writing out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::encode::{self, EXTENTS_IN_BLOCK, EXTENTS_IN_INODE, Entry, FIRST_INODE, GroupCounts, Inode, JOURNAL_INODE};
use super::geometry::{BlockMap, Geometry, Run};
use super::{Attributes, BLOCK_BYTES, Ext4Error, FormatOptions, Formatted, Kind, htree};

const ROOT_INODE: u32 = 2;
const NAME_BYTES_MAX: usize = 255;
const COPY_BYTES: usize = 1 << 20;
/// Directories of more blocks get an index.
const PLAIN_DIRECTORY_BLOCKS_MAX: u64 = 2;

/// Builds one filesystem in one file. Dropping it without [`Formatter::finish`] leaves a file that no kernel mounts.
#[derive(Debug)]
pub struct Formatter {
    image: PathBuf,
    file: File,
    options: FormatOptions,
    geometry: Geometry,
    blocks: BlockMap,
    /// Inode `n` is at `n - 1`; `None` where there is none.
    inodes: Vec<Option<Inode>>,
    free_inodes: Vec<u32>,
    directories: BTreeMap<u32, Directory>,
    buffer: Vec<u8>,
    /// Whether a block was given back: a new one may then hold something old.
    blocks_reused: bool,
}

#[derive(Debug)]
struct Directory {
    parent: u32,
    entries: BTreeMap<Vec<u8>, u32>,
}

impl Formatter {
    /// Begins a filesystem in `file`, an empty file open for writing; `image` is its name for messages.
    ///
    /// # Errors
    /// [`Ext4Error::NoRoom`] when not even the metadata fits, [`Ext4Error::Write`] when the file cannot be sized.
    pub fn new(image: &Path, file: File, options: FormatOptions) -> Result<Self, Ext4Error> {
        let geometry = Geometry::new(&options)?;
        let write_error = |source| Ext4Error::Write { image: image.to_owned(), source };
        file.set_len(u64::from(geometry.block_count) * BLOCK_BYTES).map_err(write_error)?;
        let mut formatter = Self {
            image: image.to_owned(),
            file,
            blocks: BlockMap::new(&geometry),
            geometry,
            inodes: vec![None; FIRST_INODE as usize - 1],
            free_inodes: Vec::new(),
            directories: BTreeMap::new(),
            buffer: vec![0; COPY_BYTES],
            blocks_reused: false,
            options,
        };
        let root = new_inode(Kind::Directory, Attributes::of_root(0o755, formatter.options.time_seconds), 0);
        formatter.inodes[ROOT_INODE as usize - 1] = Some(root);
        formatter.directories.insert(ROOT_INODE, Directory { parent: ROOT_INODE, entries: BTreeMap::new() });
        let lost_found = Attributes::of_root(0o700, formatter.options.time_seconds);
        formatter.add_directory(b"lost+found", lost_found)?;
        if formatter.options.journal_blocks > 0 {
            formatter.add_journal()?;
        }
        Ok(formatter)
    }

    /// Adds a directory, or gives one that exists these attributes. Its parent must exist.
    ///
    /// # Errors
    /// As [`Ext4Error`] says.
    pub fn add_directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), Ext4Error> {
        if let Some(number) = self.lookup_number(path)? {
            let inode = self.inode_mut(number);
            if inode.kind != Kind::Directory {
                return Err(Ext4Error::NotADirectory { path: shown(path) });
            }
            set_attributes(inode, attributes);
            return Ok(());
        }
        let (parent, name) = self.place_for(path)?;
        let number = self.insert(parent, name, new_inode(Kind::Directory, attributes, 0))?;
        self.directories.insert(number, Directory { parent, entries: BTreeMap::new() });
        self.inode_mut(parent).links += 1;
        Ok(())
    }

    /// Adds a regular file of exactly `size_bytes`, read from `content`.
    ///
    /// # Errors
    /// As [`Ext4Error`] says. After an error the image is of no use.
    pub fn add_file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), Ext4Error> {
        let (parent, name) = self.place_for(path)?;
        let mut inode = new_inode(Kind::File, attributes, size_bytes);
        inode.runs = self.allocate(size_bytes)?;
        self.write_content(path, &inode, content)?;
        self.place_extents(&mut inode)?;
        self.insert(parent, name, inode)?;
        Ok(())
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`Ext4Error`] says; a target of more than 4095 bytes is beyond the limit.
    pub fn add_symlink(&mut self, path: &[u8], attributes: Attributes, target: &[u8]) -> Result<(), Ext4Error> {
        if target.len() >= BLOCK_BYTES as usize {
            return Err(Ext4Error::Limit { what: "a symbolic link of more than 4095 bytes" });
        }
        let (parent, name) = self.place_for(path)?;
        let mut inode = new_inode(Kind::Symlink, attributes, target.len() as u64);
        inode.mode = 0o777;
        if target.len() <= encode::SYMLINK_IN_INODE_MAX {
            inode.inline = target.to_vec();
        } else {
            inode.runs = self.allocate(target.len() as u64)?;
            self.write_content(path, &inode, &mut &target[..])?;
        }
        self.insert(parent, name, inode)?;
        Ok(())
    }

    /// Adds a device, pipe or socket.
    ///
    /// # Errors
    /// As [`Ext4Error`] says.
    pub fn add_special(&mut self, path: &[u8], attributes: Attributes, kind: Kind) -> Result<(), Ext4Error> {
        let (parent, name) = self.place_for(path)?;
        self.insert(parent, name, new_inode(kind, attributes, 0))?;
        Ok(())
    }

    /// Adds another name for the entry at `target`, which must not be a directory.
    ///
    /// # Errors
    /// As [`Ext4Error`] says.
    pub fn add_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Ext4Error> {
        let number = self.lookup_number(target)?.ok_or_else(|| Ext4Error::NotFound { path: shown(target) })?;
        if self.inode(number).kind == Kind::Directory {
            return Err(Ext4Error::DirectoryInUse { path: shown(target) });
        }
        if self.inode(number).links >= 65_000 {
            return Err(Ext4Error::Limit { what: "more than 65000 links to one file" });
        }
        let (parent, name) = self.place_for(path)?;
        self.directory_mut(parent).entries.insert(name, number);
        self.inode_mut(number).links += 1;
        Ok(())
    }

    /// Takes an entry away; a directory must be empty.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::DirectoryInUse`].
    pub fn remove(&mut self, path: &[u8]) -> Result<(), Ext4Error> {
        let number = self.lookup_number(path)?.ok_or_else(|| Ext4Error::NotFound { path: shown(path) })?;
        let (parent_path, name) = split(path)?;
        let parent = self.lookup_number(parent_path)?.ok_or_else(|| Ext4Error::NotFound { path: shown(path) })?;
        if self.inode(number).kind == Kind::Directory {
            if !self.directory_mut(number).entries.is_empty() {
                return Err(Ext4Error::DirectoryInUse { path: shown(path) });
            }
            self.directories.remove(&number);
            self.inode_mut(parent).links -= 1;
            self.inode_mut(number).links = 1;
        }
        self.directory_mut(parent).entries.remove(name);
        let inode = self.inode_mut(number);
        inode.links -= 1;
        if inode.links == 0 {
            let gone = self.inodes[number as usize - 1].take();
            for inode in gone.iter() {
                self.blocks_reused = true;
                inode.runs.iter().for_each(|run| self.blocks.free(*run));
                inode.extent_blocks.iter().for_each(|block| self.blocks.free(Run { start: *block, len: 1 }));
            }
            self.free_inodes.push(number);
        }
        Ok(())
    }

    /// What is at `path`, if anything.
    ///
    /// # Errors
    /// When the path itself is impossible.
    pub fn kind_at(&self, path: &[u8]) -> Result<Option<Kind>, Ext4Error> {
        Ok(self.lookup_number(path)?.map(|number| self.inode(number).kind))
    }

    /// Where the symbolic link at `path` leads; `None` when there is no link, or one of more than 59 bytes.
    ///
    /// # Errors
    /// When the path itself is impossible.
    pub fn link_target(&self, path: &[u8]) -> Result<Option<&[u8]>, Ext4Error> {
        let inode = self.lookup_number(path)?.map(|number| self.inode(number));
        let link = inode.filter(|inode| inode.kind == Kind::Symlink && inode.runs.is_empty());
        Ok(link.map(|inode| &inode.inline[..]))
    }

    /// Bytes left for content, directories and what describes them.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.blocks.free_count()) * BLOCK_BYTES
    }

    /// Inodes left.
    #[must_use]
    pub fn free_inodes(&self) -> u32 {
        self.geometry.inode_count() - (self.inodes.len() - self.free_inodes.len()) as u32
    }

    /// Writes directories and metadata. The file is not synced.
    ///
    /// # Errors
    /// [`Ext4Error::NoRoom`] and [`Ext4Error::Write`].
    pub fn finish(mut self) -> Result<Formatted, Ext4Error> {
        self.write_directories()?;
        self.write_inodes()?;
        self.write_groups_and_superblock()
    }

    fn add_journal(&mut self) -> Result<(), Ext4Error> {
        let size_bytes = u64::from(self.options.journal_blocks) * BLOCK_BYTES;
        let attributes = Attributes::of_root(0o600, self.options.time_seconds);
        let mut inode = new_inode(Kind::File, attributes, size_bytes);
        inode.runs = self.allocate(size_bytes)?;
        self.place_extents(&mut inode)?;
        let head = encode::journal_superblock(self.options.journal_blocks, &self.options.uuid);
        let start = u64::from(inode.runs.first().map_or(0, |run| run.start)) * BLOCK_BYTES;
        self.write_at(&head, start)?;
        self.inodes[JOURNAL_INODE as usize - 1] = Some(inode);
        Ok(())
    }

    fn write_directories(&mut self) -> Result<(), Ext4Error> {
        let numbers: Vec<u32> = self.directories.keys().copied().collect();
        for number in numbers {
            let directory = &self.directories[&number];
            let entry = |name, inode| Entry { name, inode, kind: self.inode(inode).kind };
            let dots = [entry(b".", number), entry(b"..", directory.parent)];
            let entries: Vec<_> = directory.entries.iter().map(|(name, inode)| entry(name, *inode)).collect();
            let mut bytes = encode::directory_blocks(dots, &entries);
            let indexed = bytes.len() as u64 > PLAIN_DIRECTORY_BLOCKS_MAX * BLOCK_BYTES;
            if indexed {
                bytes = htree::directory_blocks(dots, &entries, &self.options.uuid)?;
            }
            let runs = self.allocate(bytes.len() as u64)?;
            let mut inode = self.inode(number).clone();
            inode.indexed = indexed;
            inode.runs = runs;
            inode.size_bytes = bytes.len() as u64;
            self.write_content(b"a directory", &inode, &mut &bytes[..])?;
            self.place_extents(&mut inode)?;
            *self.inode_mut(number) = inode;
        }
        Ok(())
    }

    fn write_inodes(&self) -> Result<(), Ext4Error> {
        let mut bytes = Vec::with_capacity(COPY_BYTES);
        let mut first = 1;
        for (index, inode) in self.inodes.iter().enumerate() {
            match inode {
                Some(inode) => bytes.extend_from_slice(&inode.encode(self.options.time_seconds)),
                None => bytes.resize(bytes.len() + 256, 0),
            }
            if bytes.len() >= COPY_BYTES {
                self.write_at(&bytes, self.geometry.inode_offset(first))?;
                bytes.clear();
                first = index as u32 + 2;
            }
        }
        self.write_at(&bytes, self.geometry.inode_offset(first))
    }

    fn write_groups_and_superblock(&self) -> Result<Formatted, Ext4Error> {
        let geometry = &self.geometry;
        let mut descriptors = Vec::new();
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for group in 0..geometry.group_count {
            let (bitmap, free) = self.blocks.group_bitmap(geometry, group);
            self.write_at(&bitmap, u64::from(geometry.block_bitmaps + group) * BLOCK_BYTES)?;
            let (bitmap, mut counts) = self.inode_bitmap(group);
            self.write_at(&bitmap, u64::from(geometry.inode_bitmaps + group) * BLOCK_BYTES)?;
            counts.free_blocks = free;
            free_blocks += counts.free_blocks;
            free_inodes += counts.free_inodes;
            descriptors.extend_from_slice(&encode::group_descriptor(geometry, group, counts));
        }
        self.write_at(&descriptors, BLOCK_BYTES)?;
        let journal = self.inodes[JOURNAL_INODE as usize - 1].as_ref();
        let superblock = encode::superblock(&self.options, geometry, (free_blocks, free_inodes), journal);
        self.write_at(&superblock, 1024)?;
        Ok(Formatted {
            size_bytes: u64::from(geometry.block_count) * BLOCK_BYTES,
            used_bytes: u64::from(self.blocks.used()) * BLOCK_BYTES,
            used_inodes: geometry.inode_count() - free_inodes,
        })
    }

    /// The inode bitmap of a group; bits past its inodes are set.
    fn inode_bitmap(&self, group: u32) -> (Vec<u8>, GroupCounts) {
        let mut bytes = vec![0xff; BLOCK_BYTES as usize];
        let mut counts = GroupCounts { free_blocks: 0, free_inodes: 0, directories: 0 };
        for index in 0..self.geometry.inodes_per_group {
            let position = (group * self.geometry.inodes_per_group + index) as usize;
            let inode = self.inodes.get(position).and_then(Option::as_ref);
            if inode.is_some_and(|inode| inode.kind == Kind::Directory) {
                counts.directories += 1;
            }
            if inode.is_none() && position >= FIRST_INODE as usize - 1 {
                bytes[index as usize / 8] &= !(1 << (index % 8));
                counts.free_inodes += 1;
            }
        }
        (bytes, counts)
    }

    /// The parent and the name for a new entry at `path`.
    fn place_for(&self, path: &[u8]) -> Result<(u32, Vec<u8>), Ext4Error> {
        let (parent_path, name) = split(path)?;
        let parent =
            self.lookup_number(parent_path)?.ok_or_else(|| Ext4Error::NotFound { path: shown(parent_path) })?;
        let directory =
            self.directories.get(&parent).ok_or_else(|| Ext4Error::NotADirectory { path: shown(parent_path) })?;
        if directory.entries.contains_key(name) {
            return Err(Ext4Error::Exists { path: shown(path) });
        }
        Ok((parent, name.to_vec()))
    }

    fn insert(&mut self, parent: u32, name: Vec<u8>, inode: Inode) -> Result<u32, Ext4Error> {
        let number = match self.free_inodes.pop() {
            Some(number) => number,
            None => {
                self.inodes.push(None);
                self.inodes.len() as u32
            }
        };
        if number > self.geometry.inode_count() {
            return Err(Ext4Error::NoRoom { size_bytes: self.options.size_bytes });
        }
        self.inodes[number as usize - 1] = Some(inode);
        self.directory_mut(parent).entries.insert(name, number);
        Ok(number)
    }

    fn lookup_number(&self, path: &[u8]) -> Result<Option<u32>, Ext4Error> {
        let mut number = ROOT_INODE;
        for name in components(path)? {
            let Some(directory) = self.directories.get(&number) else {
                return Err(Ext4Error::NotADirectory { path: shown(path) });
            };
            match directory.entries.get(name) {
                Some(next) => number = *next,
                None => return Ok(None),
            }
        }
        Ok(Some(number))
    }

    fn allocate(&mut self, size_bytes: u64) -> Result<Vec<Run>, Ext4Error> {
        let no_room = || Ext4Error::NoRoom { size_bytes: self.options.size_bytes };
        let count = u32::try_from(size_bytes.div_ceil(BLOCK_BYTES)).map_err(|_| no_room())?;
        self.blocks.allocate(count).ok_or(Ext4Error::NoRoom { size_bytes: self.options.size_bytes })
    }

    /// Writes the blocks of extents that do not fit into the inode.
    fn place_extents(&mut self, inode: &mut Inode) -> Result<(), Ext4Error> {
        let extents = inode.extents();
        if extents.len() <= EXTENTS_IN_INODE {
            return Ok(());
        }
        if extents.len() > EXTENTS_IN_INODE * EXTENTS_IN_BLOCK {
            return Err(Ext4Error::Limit { what: "a file in more than 1360 pieces" });
        }
        for part in extents.chunks(EXTENTS_IN_BLOCK) {
            let block = self.allocate(BLOCK_BYTES)?[0].start;
            self.write_at(&encode::extent_block(part), u64::from(block) * BLOCK_BYTES)?;
            inode.extent_blocks.push(block);
        }
        Ok(())
    }

    fn write_content(&mut self, path: &[u8], inode: &Inode, content: &mut dyn Read) -> Result<(), Ext4Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.copy_content(path, inode, content, &mut buffer);
        self.buffer = buffer;
        result
    }

    fn copy_content(
        &self,
        path: &[u8],
        inode: &Inode,
        content: &mut dyn Read,
        buffer: &mut [u8],
    ) -> Result<(), Ext4Error> {
        let mut missing = inode.size_bytes;
        for run in &inode.runs {
            let mut at = u64::from(run.start) * BLOCK_BYTES;
            let mut room = (u64::from(run.len) * BLOCK_BYTES).min(missing);
            while room > 0 {
                let part = &mut buffer[..room.min(COPY_BYTES as u64) as usize];
                content.read_exact(part).map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        Ext4Error::ContentEnds { path: shown(path), size_bytes: inode.size_bytes }
                    }
                    _ => Ext4Error::Content { path: shown(path), source },
                })?;
                // The image was a hole from end to end: zeros need not be written, and stay a hole.
                if self.blocks_reused || part.iter().any(|byte| *byte != 0) {
                    self.write_at(part, at)?;
                }
                at += part.len() as u64;
                room -= part.len() as u64;
                missing -= part.len() as u64;
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Ext4Error> {
        let write_error = |source| Ext4Error::Write { image: self.image.clone(), source };
        self.file.write_all_at(bytes, offset).map_err(write_error)
    }

    fn inode(&self, number: u32) -> &Inode {
        self.inodes[number as usize - 1].as_ref().expect("an inode that an entry names exists")
    }

    fn inode_mut(&mut self, number: u32) -> &mut Inode {
        self.inodes[number as usize - 1].as_mut().expect("an inode that an entry names exists")
    }

    fn directory_mut(&mut self, number: u32) -> &mut Directory {
        self.directories.get_mut(&number).expect("a directory inode has its entries")
    }
}

fn new_inode(kind: Kind, attributes: Attributes, size_bytes: u64) -> Inode {
    let links = if kind == Kind::Directory { 2 } else { 1 };
    let mut inode = Inode {
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime_seconds: 0,
        mtime_nanoseconds: 0,
        links,
        size_bytes,
        runs: Vec::new(),
        extent_blocks: Vec::new(),
        inline: Vec::new(),
        indexed: false,
    };
    set_attributes(&mut inode, attributes);
    inode
}

fn set_attributes(inode: &mut Inode, attributes: Attributes) {
    inode.mode = attributes.mode & 0o7777;
    inode.uid = attributes.uid;
    inode.gid = attributes.gid;
    inode.mtime_seconds = attributes.mtime_seconds;
    inode.mtime_nanoseconds = attributes.mtime_nanoseconds.min(999_999_999);
}

/// The parent's path and the last component.
fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Ext4Error> {
    let name = components(path)?.pop().ok_or_else(|| Ext4Error::BadPath { path: shown(path) })?;
    // `name` is a part of `path`; what stands before it is the parent.
    let end = name.as_ptr() as usize - path.as_ptr() as usize;
    Ok((&path[..end], name))
}

fn components(path: &[u8]) -> Result<Vec<&[u8]>, Ext4Error> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let bad = |part: &&[u8]| *part == b"." || *part == b".." || part.len() > NAME_BYTES_MAX || part.contains(&0);
    if parts.iter().any(bad) {
        return Err(Ext4Error::BadPath { path: shown(path) });
    }
    Ok(parts)
}

/// A path for messages: no control characters, not endless.
fn shown(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).chars().take(512).collect();
    text.escape_debug().to_string()
}
