//! Indexed directories: the blocks of a large directory with a tree of name hashes in front, so that a name is found
//! without reading all of them.
//!
//! The first block is the root of the tree, then come the nodes of a second level if there are any, then the entries in the
//! order of their hashes. To a kernel that ignores the tree it is a plain directory all the same.

use super::encode::{Entry, put_entry, put16, put32, stretch_last};
use super::{BLOCK_BYTES, Ext4Error};

const BLOCK: usize = BLOCK_BYTES as usize;
/// Half MD4, as the superblock has it.
const HASH_VERSION: u8 = 1;
/// Where the entries of the tree begin in its root, and in a node.
const ROOT_ENTRIES_AT: usize = 32;
const NODE_ENTRIES_AT: usize = 8;
const ROOT_ENTRIES_MAX: usize = (BLOCK - ROOT_ENTRIES_AT) / 8;
const NODE_ENTRIES_MAX: usize = (BLOCK - NODE_ENTRIES_AT) / 8;
/// The hash that stands for the end of a directory; names never get it.
const HASH_END: u32 = 0xffff_fffe;

/// The blocks of a directory with its tree.
///
/// # Errors
/// [`Ext4Error::Limit`] for more entries than two levels can index, about ten million.
pub(super) fn directory_blocks(
    dots: [Entry<'_>; 2],
    entries: &[Entry<'_>],
    seed: &[u8; 16],
) -> Result<Vec<u8>, Ext4Error> {
    let mut hashed: Vec<(u32, &Entry<'_>)> = entries.iter().map(|entry| (hash(entry.name, seed), entry)).collect();
    hashed.sort_by_key(|(hash, entry)| (*hash, entry.name));
    let (leaves, firsts) = leaves(&hashed);
    let node_count = if firsts.len() <= ROOT_ENTRIES_MAX { 0 } else { firsts.len().div_ceil(NODE_ENTRIES_MAX) };
    if node_count > ROOT_ENTRIES_MAX {
        return Err(Ext4Error::Limit { what: "a directory of more than ten million entries" });
    }
    let first_leaf = 1 + node_count as u32;
    let numbered: Vec<(u32, u32)> = firsts.iter().zip(first_leaf..).map(|(hash, block)| (*hash, block)).collect();
    let mut nodes = Vec::with_capacity(node_count * BLOCK);
    let mut of_root = numbered.clone();
    if node_count > 0 {
        of_root.clear();
        for (part, block) in numbered.chunks(NODE_ENTRIES_MAX).zip(1..) {
            of_root.push((part[0].0, block));
            nodes.extend_from_slice(&node(part));
        }
    }
    Ok([root(dots, &of_root, u8::from(node_count > 0)), nodes, leaves].concat())
}

/// The entries in their blocks, and the first hash of each block; its lowest bit says that the block before has it too.
fn leaves(hashed: &[(u32, &Entry<'_>)]) -> (Vec<u8>, Vec<u32>) {
    let (mut blocks, mut firsts) = (Vec::new(), Vec::new());
    let (mut last_at, mut last_hash) = (0, None);
    for (hash, entry) in hashed {
        let room = blocks.len().next_multiple_of(BLOCK) - blocks.len();
        if room < entry.len() {
            if !blocks.is_empty() {
                stretch_last(&mut blocks, last_at);
            }
            firsts.push(hash | u32::from(last_hash == Some(*hash)));
        }
        last_at = blocks.len();
        last_hash = Some(*hash);
        put_entry(&mut blocks, entry);
    }
    stretch_last(&mut blocks, last_at);
    (blocks, firsts)
}

fn root(dots: [Entry<'_>; 2], entries: &[(u32, u32)], levels: u8) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    dots.iter().for_each(|entry| put_entry(&mut block, entry));
    block.resize(BLOCK, 0);
    // The parent's entry covers the tree.
    put16(&mut block, 12 + 4, (BLOCK - 12) as u16);
    block[28] = HASH_VERSION;
    block[29] = 8;
    block[30] = levels;
    put_tree(&mut block, ROOT_ENTRIES_AT, ROOT_ENTRIES_MAX, entries);
    block
}

fn node(entries: &[(u32, u32)]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    // An empty entry that covers the block.
    put16(&mut block, 4, BLOCK as u16);
    put_tree(&mut block, NODE_ENTRIES_AT, NODE_ENTRIES_MAX, entries);
    block
}

/// Hashes and blocks; in the place of the first hash, which is nothing, stand the limit and the count.
fn put_tree(block: &mut [u8], at: usize, max: usize, entries: &[(u32, u32)]) {
    for (index, (hash, number)) in entries.iter().enumerate() {
        put32(block, at + 8 * index, *hash);
        put32(block, at + 8 * index + 4, *number);
    }
    put16(block, at, max as u16);
    put16(block, at + 2, entries.len() as u16);
}

/// The hash of a name: half MD4 of its bytes as signed numbers, with the filesystem's seed, which is not zero.
fn hash(name: &[u8], seed: &[u8; 16]) -> u32 {
    let mut state = [0; 4];
    for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for part in 0..name.len().div_ceil(32) {
        mix(&mut state, &words(&name[32 * part..]));
    }
    let hash = state[1] & !1;
    if hash == HASH_END { HASH_END - 2 } else { hash }
}

/// Up to 32 bytes as eight words, padded with the length of what is left of the name.
fn words(rest: &[u8]) -> [u32; 8] {
    let len = rest.len() as u32;
    let pad = (len | len << 8) | (len | len << 8) << 16;
    let mut words = [pad; 8];
    for (word, bytes) in words.iter_mut().zip(rest[..rest.len().min(32)].chunks(4)) {
        for byte in bytes {
            *word = (i32::from(*byte as i8) as u32).wrapping_add(*word << 8);
        }
    }
    words
}

fn mix(state: &mut [u32; 4], words: &[u32; 8]) {
    const ORDERS: [[usize; 8]; 3] = [[0, 1, 2, 3, 4, 5, 6, 7], [1, 3, 5, 7, 0, 2, 4, 6], [3, 7, 2, 6, 1, 5, 0, 4]];
    const TURNS: [[u32; 4]; 3] = [[3, 7, 11, 19], [3, 5, 9, 13], [3, 9, 11, 15]];
    const ADDED: [u32; 3] = [0, 0x5a82_7999, 0x6ed9_eba1];
    let [mut a, mut b, mut c, mut d] = *state;
    for round in 0..3 {
        for (step, word) in ORDERS[round].iter().enumerate() {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let sum = a.wrapping_add(mixed).wrapping_add(words[*word]).wrapping_add(ADDED[round]);
            (a, b, c, d) = (d, sum.rotate_left(TURNS[round][step % 4]), b, c);
        }
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(more);
    }
}
