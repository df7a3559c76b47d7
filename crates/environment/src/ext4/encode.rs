//! The bytes of superblock, group descriptors, inodes, extents, directory entries and the journal's head, as
//! `Documentation/filesystems/ext4` of the Linux kernel lays them down.

use super::geometry::{BLOCKS_PER_GROUP, DESCRIPTOR_BYTES, Geometry, INODE_BYTES, Run};
use super::{BLOCK_BYTES, FormatOptions, Kind};

/// Blocks one extent can describe.
const EXTENT_BLOCKS_MAX: u32 = 32768;
/// Extents in the inode itself.
pub(super) const EXTENTS_IN_INODE: usize = 4;
/// Extents in a block of their own.
pub(super) const EXTENTS_IN_BLOCK: usize = (BLOCK_BYTES as usize - 12) / 12;
/// The inode of the journal.
pub(super) const JOURNAL_INODE: u32 = 8;
/// First inode that is not reserved; `lost+found`.
pub(super) const FIRST_INODE: u32 = 11;
/// Bytes of a symbolic link that fit into the inode.
pub(super) const SYMLINK_IN_INODE_MAX: usize = 59;

const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INDEX: u32 = 0x1000;
const EXTRA_INODE_BYTES: u16 = 32;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_EXT_ATTR: u32 = 0x8;
const COMPAT_DIR_INDEX: u32 = 0x20;
/// With no backup group named: the only superblock is the first.
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_HUGE_FILE: u32 = 0x8;
const RO_COMPAT_DIR_NLINK: u32 = 0x20;
const RO_COMPAT_EXTRA_ISIZE: u32 = 0x40;

/// An inode before it is written.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime_seconds: i64,
    pub(super) mtime_nanoseconds: u32,
    pub(super) links: u32,
    pub(super) size_bytes: u64,
    /// Blocks of content, in their logical order.
    pub(super) runs: Vec<Run>,
    /// The block that holds the extents when the inode cannot.
    pub(super) extent_blocks: Vec<u32>,
    /// Target of a short symbolic link.
    pub(super) inline: Vec<u8>,
    /// Whether this is a directory with an index.
    pub(super) indexed: bool,
}

impl Inode {
    /// The runs cut to the length one extent can have, with their logical positions.
    pub(super) fn extents(&self) -> Vec<(u32, Run)> {
        let mut extents = Vec::with_capacity(self.runs.len());
        let mut logical = 0;
        for run in &self.runs {
            let mut rest = *run;
            while rest.len > 0 {
                let len = rest.len.min(EXTENT_BLOCKS_MAX);
                extents.push((logical, Run { start: rest.start, len }));
                logical += len;
                rest = Run { start: rest.start + len, len: rest.len - len };
            }
        }
        extents
    }

    fn block_field(&self) -> [u8; 60] {
        let mut field = [0; 60];
        match self.kind {
            Kind::Symlink if self.runs.is_empty() => field[..self.inline.len()].copy_from_slice(&self.inline),
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                let number = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12);
                put32(&mut field, 4, number);
            }
            Kind::Fifo | Kind::Socket => {}
            Kind::Directory | Kind::File | Kind::Symlink => self.extent_root(&mut field),
        }
        field
    }

    fn extent_root(&self, field: &mut [u8; 60]) {
        let extents = self.extents();
        if self.extent_blocks.is_empty() {
            put_extents(field, &extents, EXTENTS_IN_INODE as u16);
            return;
        }
        put_extent_header(field, self.extent_blocks.len() as u16, EXTENTS_IN_INODE as u16, 1);
        for (index, block) in self.extent_blocks.iter().enumerate() {
            let at = 12 + 12 * index;
            put32(field, at, extents[index * EXTENTS_IN_BLOCK].0);
            put32(field, at + 4, *block);
        }
    }

    fn has_extents(&self) -> bool {
        match self.kind {
            Kind::Directory | Kind::File => true,
            Kind::Symlink => !self.runs.is_empty(),
            Kind::CharDevice(..) | Kind::BlockDevice(..) | Kind::Fifo | Kind::Socket => false,
        }
    }

    /// The 256 bytes of the inode.
    pub(super) fn encode(&self, made_seconds: i64) -> [u8; INODE_BYTES as usize] {
        let mut bytes = [0; INODE_BYTES as usize];
        put16(&mut bytes, 0, type_bits(self.kind) | self.mode);
        put16(&mut bytes, 2, self.uid as u16);
        put32(&mut bytes, 4, self.size_bytes as u32);
        let (mtime, mtime_extra) = time(self.mtime_seconds, self.mtime_nanoseconds);
        let (made, made_extra) = time(made_seconds, 0);
        put32(&mut bytes, 8, mtime);
        put32(&mut bytes, 12, made);
        put32(&mut bytes, 16, mtime);
        put16(&mut bytes, 24, self.gid as u16);
        // A directory with more links than the field holds says 1: "not counted".
        put16(&mut bytes, 26, if self.links >= 65_000 { 1 } else { self.links as u16 });
        let blocks: u64 = self.runs.iter().map(|run| u64::from(run.len)).sum::<u64>() + self.extent_blocks.len() as u64;
        let sectors = blocks * (BLOCK_BYTES / 512);
        put32(&mut bytes, 28, sectors as u32);
        let index = if self.indexed { FLAG_INDEX } else { 0 };
        put32(&mut bytes, 32, index | if self.has_extents() { FLAG_EXTENTS } else { 0 });
        bytes[40..100].copy_from_slice(&self.block_field());
        put32(&mut bytes, 108, (self.size_bytes >> 32) as u32);
        put16(&mut bytes, 116, (sectors >> 32) as u16);
        put16(&mut bytes, 120, (self.uid >> 16) as u16);
        put16(&mut bytes, 122, (self.gid >> 16) as u16);
        put16(&mut bytes, 128, EXTRA_INODE_BYTES);
        put32(&mut bytes, 132, made_extra);
        put32(&mut bytes, 136, mtime_extra);
        put32(&mut bytes, 140, mtime_extra);
        put32(&mut bytes, 144, made);
        put32(&mut bytes, 148, made_extra);
        bytes
    }
}

/// A block of extents below the inode.
pub(super) fn extent_block(extents: &[(u32, Run)]) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    put_extents(&mut block, extents, EXTENTS_IN_BLOCK as u16);
    block
}

fn put_extents(target: &mut [u8], extents: &[(u32, Run)], max: u16) {
    put_extent_header(target, extents.len() as u16, max, 0);
    for (index, (logical, run)) in extents.iter().enumerate() {
        let at = 12 + 12 * index;
        put32(target, at, *logical);
        put16(target, at + 4, run.len as u16);
        put32(target, at + 8, run.start);
    }
}

fn put_extent_header(target: &mut [u8], entries: u16, max: u16, depth: u16) {
    put16(target, 0, 0xf30a);
    put16(target, 2, entries);
    put16(target, 4, max);
    put16(target, 6, depth);
}

/// The counts of one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupCounts {
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
}

/// The descriptor of one group.
pub(super) fn group_descriptor(
    geometry: &Geometry,
    group: u32,
    counts: GroupCounts,
) -> [u8; DESCRIPTOR_BYTES as usize] {
    let mut bytes = [0; DESCRIPTOR_BYTES as usize];
    put32(&mut bytes, 0, geometry.block_bitmaps + group);
    put32(&mut bytes, 4, geometry.inode_bitmaps + group);
    put32(&mut bytes, 8, geometry.inode_tables + group * geometry.table_blocks_per_group());
    put16(&mut bytes, 12, counts.free_blocks as u16);
    put16(&mut bytes, 14, counts.free_inodes as u16);
    put16(&mut bytes, 16, counts.directories as u16);
    bytes
}

/// The 1024 bytes of the superblock.
pub(super) fn superblock(
    options: &FormatOptions,
    geometry: &Geometry,
    free: (u32, u32),
    journal: Option<&Inode>,
) -> [u8; 1024] {
    let mut bytes = [0; 1024];
    let made = options.time_seconds as u32;
    put32(&mut bytes, 0, geometry.inode_count());
    put32(&mut bytes, 4, geometry.block_count);
    put32(&mut bytes, 12, free.0);
    put32(&mut bytes, 16, free.1);
    put32(&mut bytes, 24, 2);
    put32(&mut bytes, 28, 2);
    put32(&mut bytes, 32, BLOCKS_PER_GROUP);
    put32(&mut bytes, 36, BLOCKS_PER_GROUP);
    put32(&mut bytes, 40, geometry.inodes_per_group);
    put32(&mut bytes, 48, made);
    put16(&mut bytes, 54, 0xffff);
    put16(&mut bytes, 56, 0xef53);
    put16(&mut bytes, 58, 1);
    // On an error: remount read-only rather than write on.
    put16(&mut bytes, 60, 2);
    put32(&mut bytes, 64, made);
    put32(&mut bytes, 76, 1);
    put32(&mut bytes, 84, FIRST_INODE);
    put16(&mut bytes, 88, INODE_BYTES as u16);
    let journal_feature = if journal.is_some() { COMPAT_HAS_JOURNAL } else { 0 };
    put32(&mut bytes, 92, COMPAT_EXT_ATTR | COMPAT_DIR_INDEX | COMPAT_SPARSE_SUPER2 | journal_feature);
    put32(&mut bytes, 96, INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG);
    let ro_compat = RO_COMPAT_LARGE_FILE | RO_COMPAT_HUGE_FILE | RO_COMPAT_DIR_NLINK | RO_COMPAT_EXTRA_ISIZE;
    put32(&mut bytes, 100, ro_compat);
    bytes[104..120].copy_from_slice(&options.uuid);
    // The seed of directory hashes need only be fixed and not the same everywhere.
    bytes[236..252].copy_from_slice(&options.uuid);
    // Half MD4, of signed characters.
    bytes[252] = 1;
    put32(&mut bytes, 352, 1);
    // Mount with user attributes and ACLs.
    put32(&mut bytes, 256, 0xc);
    put32(&mut bytes, 264, made);
    put16(&mut bytes, 348, EXTRA_INODE_BYTES);
    put16(&mut bytes, 350, EXTRA_INODE_BYTES);
    bytes[372] = 4;
    if let Some(inode) = journal {
        put32(&mut bytes, 224, JOURNAL_INODE);
        // A copy of where the journal lies, for a repair.
        bytes[253] = 1;
        bytes[268..328].copy_from_slice(&inode.block_field());
        put32(&mut bytes, 328, (inode.size_bytes >> 32) as u32);
        put32(&mut bytes, 332, inode.size_bytes as u32);
    }
    bytes
}

/// The first block of an empty journal. Its numbers are big-endian.
pub(super) fn journal_superblock(journal_blocks: u32, uuid: &[u8; 16]) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    let words =
        [(0, 0xc03b_3998_u32), (4, 4), (12, BLOCK_BYTES as u32), (16, journal_blocks), (20, 1), (24, 1), (64, 1)];
    for (at, word) in words {
        block[at..at + 4].copy_from_slice(&word.to_be_bytes());
    }
    block[48..64].copy_from_slice(uuid);
    block
}

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    pub(super) kind: Kind,
}

impl Entry<'_> {
    /// Bytes it takes at least.
    pub(super) fn len(&self) -> usize {
        (8 + self.name.len()).next_multiple_of(4)
    }
}

/// The blocks of a directory without an index: `.`, `..`, then the entries in the order given.
pub(super) fn directory_blocks(dots: [Entry<'_>; 2], entries: &[Entry<'_>]) -> Vec<u8> {
    let mut blocks: Vec<u8> = Vec::with_capacity(BLOCK_BYTES as usize);
    let mut last = 0;
    for entry in dots.iter().chain(entries) {
        let used = blocks.len() % BLOCK_BYTES as usize;
        if used + entry.len() > BLOCK_BYTES as usize {
            stretch_last(&mut blocks, last);
        }
        last = blocks.len();
        put_entry(&mut blocks, entry);
    }
    stretch_last(&mut blocks, last);
    blocks
}

/// Appends an entry that reaches to its own end.
pub(super) fn put_entry(blocks: &mut Vec<u8>, entry: &Entry<'_>) {
    let at = blocks.len();
    blocks.resize(at + entry.len(), 0);
    put32(blocks, at, entry.inode);
    put16(blocks, at + 4, entry.len() as u16);
    blocks[at + 6] = entry.name.len() as u8;
    blocks[at + 7] = entry_type(entry.kind);
    blocks[at + 8..at + 8 + entry.name.len()].copy_from_slice(entry.name);
}

/// Lets the entry at `last` reach to the end of its block.
pub(super) fn stretch_last(blocks: &mut Vec<u8>, last: usize) {
    let end = blocks.len().next_multiple_of(BLOCK_BYTES as usize);
    put16(blocks, last + 4, (end - last) as u16);
    blocks.resize(end, 0);
}

fn type_bits(kind: Kind) -> u16 {
    match kind {
        Kind::Fifo => 0x1000,
        Kind::CharDevice(..) => 0x2000,
        Kind::Directory => 0x4000,
        Kind::BlockDevice(..) => 0x6000,
        Kind::File => 0x8000,
        Kind::Symlink => 0xa000,
        Kind::Socket => 0xc000,
    }
}

fn entry_type(kind: Kind) -> u8 {
    match kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::CharDevice(..) => 3,
        Kind::BlockDevice(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink => 7,
    }
}

/// The low 32 bits of a time, and the field with the two bits that carry it past 2038 and its nanoseconds.
fn time(seconds: i64, nanoseconds: u32) -> (u32, u32) {
    let low = seconds as u32;
    let epoch = (seconds - i64::from(low as i32)) >> 32;
    (low, (epoch as u32) & 3 | nanoseconds << 2)
}

pub(super) fn put16(target: &mut [u8], at: usize, value: u16) {
    target[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put32(target: &mut [u8], at: usize, value: u32) {
    target[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
