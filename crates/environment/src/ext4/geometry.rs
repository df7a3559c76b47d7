//! Where the parts of the filesystem lie: group descriptors, bitmaps and inode tables, all packed at the front.

use super::{BLOCK_BYTES, Ext4Error, FormatOptions};

/// Blocks of a group: as many as one bitmap block has bits.
pub(super) const BLOCKS_PER_GROUP: u32 = 8 * BLOCK_BYTES as u32;
/// Bytes of an inode on disk.
pub(super) const INODE_BYTES: u32 = 256;
/// Bytes of a group descriptor.
pub(super) const DESCRIPTOR_BYTES: u32 = 32;

const INODES_PER_BLOCK: u32 = BLOCK_BYTES as u32 / INODE_BYTES;
/// A last group shorter than this is left out, as its descriptor would cost more than it gives.
const LAST_GROUP_BLOCKS_MIN: u32 = 64;

/// The positions, in blocks, and counts of one filesystem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) block_count: u32,
    pub(super) group_count: u32,
    pub(super) inodes_per_group: u32,
    pub(super) block_bitmaps: u32,
    pub(super) inode_bitmaps: u32,
    pub(super) inode_tables: u32,
    /// First block that may hold content.
    pub(super) first_content: u32,
}

impl Geometry {
    pub(super) fn new(options: &FormatOptions) -> Result<Self, Ext4Error> {
        let block_count = u32::try_from(options.size_bytes.div_ceil(BLOCK_BYTES))
            .map_err(|_| Ext4Error::Limit { what: "an image of 16 TiB or more" })?;
        let remainder = block_count % BLOCKS_PER_GROUP;
        let block_count = if remainder < LAST_GROUP_BLOCKS_MIN && block_count > BLOCKS_PER_GROUP {
            block_count - remainder
        } else {
            block_count
        };
        let group_count = block_count.div_ceil(BLOCKS_PER_GROUP);

        let wanted_inodes = (options.size_bytes / options.bytes_per_inode.max(1)).max(64);
        let inodes_per_group = wanted_inodes.div_ceil(u64::from(group_count).max(1)).min(u64::from(BLOCKS_PER_GROUP));
        let inodes_per_group = (inodes_per_group as u32).next_multiple_of(INODES_PER_BLOCK);

        let descriptor_blocks = (group_count * DESCRIPTOR_BYTES).div_ceil(BLOCK_BYTES as u32);
        let block_bitmaps = 1 + descriptor_blocks;
        let inode_bitmaps = block_bitmaps + group_count;
        let inode_tables = inode_bitmaps + group_count;
        let table_blocks = u64::from(inodes_per_group / INODES_PER_BLOCK) * u64::from(group_count);
        let first_content = u64::from(inode_tables) + table_blocks;
        if first_content >= u64::from(block_count) {
            return Err(Ext4Error::NoRoom { size_bytes: options.size_bytes });
        }
        let first_content = first_content as u32;
        Ok(Self {
            block_count,
            group_count,
            inodes_per_group,
            block_bitmaps,
            inode_bitmaps,
            inode_tables,
            first_content,
        })
    }

    pub(super) fn inode_count(&self) -> u32 {
        self.group_count * self.inodes_per_group
    }

    pub(super) fn table_blocks_per_group(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    pub(super) fn blocks_in_group(&self, group: u32) -> u32 {
        (self.block_count - group * BLOCKS_PER_GROUP).min(BLOCKS_PER_GROUP)
    }

    /// Where inode `number` (from 1) is written. The tables of all groups follow each other, so it is one row.
    pub(super) fn inode_offset(&self, number: u32) -> u64 {
        u64::from(self.inode_tables) * BLOCK_BYTES + u64::from(number - 1) * u64::from(INODE_BYTES)
    }
}

/// One bit a block, set when in use.
#[derive(Debug)]
pub(super) struct BlockMap {
    words: Vec<u64>,
    block_count: u32,
    cursor: u32,
    used: u32,
}

/// A run of blocks that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl BlockMap {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let words = vec![0; (geometry.block_count as usize).div_ceil(64)];
        let mut map = Self { words, block_count: geometry.block_count, cursor: geometry.first_content, used: 0 };
        for block in 0..geometry.first_content {
            map.set(block);
        }
        map
    }

    /// Takes `count` blocks, in as few runs as the free space allows, going forward and then round once.
    pub(super) fn allocate(&mut self, count: u32) -> Option<Vec<Run>> {
        if self.block_count - self.used < count {
            return None;
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut missing = count;
        while missing > 0 {
            if self.cursor >= self.block_count {
                self.cursor = 0;
            }
            let block = self.cursor;
            self.cursor += 1;
            if self.is_used(block) {
                continue;
            }
            self.set(block);
            missing -= 1;
            match runs.last_mut() {
                Some(run) if run.start + run.len == block => run.len += 1,
                _ => runs.push(Run { start: block, len: 1 }),
            }
        }
        Some(runs)
    }

    pub(super) fn free(&mut self, run: Run) {
        for block in run.start..run.start + run.len {
            self.words[block as usize / 64] &= !(1 << (block % 64));
        }
        self.used -= run.len;
    }

    pub(super) fn free_count(&self) -> u32 {
        self.block_count - self.used
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// The bitmap block of a group; bits past the end of the filesystem are set.
    pub(super) fn group_bitmap(&self, geometry: &Geometry, group: u32) -> (Vec<u8>, u32) {
        let mut bytes = vec![0xff; BLOCK_BYTES as usize];
        let first = group * BLOCKS_PER_GROUP;
        let last = first + geometry.blocks_in_group(group);
        let words = &self.words[first as usize / 64..last as usize / 64];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut free: u32 = words.iter().map(|word| word.count_zeros()).sum();
        // The last group need not end at a whole word.
        for block in last / 64 * 64..last {
            if !self.is_used(block) {
                let index = block - first;
                bytes[index as usize / 8] &= !(1 << (index % 8));
                free += 1;
            }
        }
        (bytes, free)
    }

    fn is_used(&self, block: u32) -> bool {
        self.words[block as usize / 64] & (1 << (block % 64)) != 0
    }

    fn set(&mut self, block: u32) {
        self.words[block as usize / 64] |= 1 << (block % 64);
        self.used += 1;
    }
}
