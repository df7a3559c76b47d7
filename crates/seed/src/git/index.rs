//! The paths in a repository's index (versions 2 to 4), and nothing else of it: what git tracks, whatever is ignored.

/// An index larger than this is not read.
pub(super) const INDEX_BYTES_MAX: u64 = 256 << 20;
/// Bytes of all paths together: version 4 writes what paths have in common only once.
const PATHS_BYTES_MAX: usize = 256 << 20;
/// Bytes of one path, as many as the kernel takes.
const PATH_BYTES_MAX: usize = 4096;

const HEAD_BYTES: usize = 12;
/// Times, device, inode, mode, owner, group and size of an entry.
const STAT_BYTES: usize = 40;
const MODE_AT: usize = 24;
const MODE_DIRECTORY: u32 = 0o040_000;
const FLAG_EXTENDED: u16 = 0x4000;

/// What an index lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// The paths of files, links and submodules.
    pub(super) paths: Vec<Vec<u8>>,
    /// Directories that stand for all that is in them (a sparse index).
    pub(super) sparse_dirs: Vec<Vec<u8>>,
    /// Name of the index that this one only amends (a split index), in hex.
    pub(super) shared: Option<String>,
}

/// The bytes are no index that this reader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an index of version 2 to 4")]
pub(super) struct IndexError;

/// Reads an index of a repository whose hashes have `hash_bytes` bytes.
pub(super) fn read(bytes: &[u8], hash_bytes: usize) -> Result<Index, IndexError> {
    let version =
        word(bytes, 4).filter(|version| bytes.starts_with(b"DIRC") && (2..=4).contains(version)).ok_or(IndexError)?;
    let count = word(bytes, 8).ok_or(IndexError)?;
    let end = bytes.len().checked_sub(hash_bytes).ok_or(IndexError)?;
    let mut cursor = Cursor { bytes: &bytes[..end], at: HEAD_BYTES, hash_bytes, version };
    let mut index = Index::default();
    let mut path = Vec::new();
    let mut paths_bytes = 0;
    for _ in 0..count {
        let mode = cursor.entry(&mut path).ok_or(IndexError)?;
        paths_bytes += path.len();
        if path.len() > PATH_BYTES_MAX || paths_bytes > PATHS_BYTES_MAX {
            return Err(IndexError);
        }
        if mode & 0o170_000 == MODE_DIRECTORY {
            index.sparse_dirs.push(path.strip_suffix(b"/").unwrap_or(&path).to_vec());
        } else if !path.is_empty() {
            // Replacements in a split index have no path of their own; the shared index has it.
            index.paths.push(path.clone());
        }
    }
    index.shared = cursor.shared().ok_or(IndexError)?;
    Ok(index)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    hash_bytes: usize,
    version: u32,
}

impl Cursor<'_> {
    /// Reads one entry; its path replaces `path`, which is that of the entry before. Gives the mode.
    fn entry(&mut self, path: &mut Vec<u8>) -> Option<u32> {
        let start = self.at;
        let mode = word(self.bytes, start + MODE_AT)?;
        let flags_at = start + STAT_BYTES + self.hash_bytes;
        let flags = u16::from_be_bytes(self.bytes.get(flags_at..flags_at + 2)?.try_into().ok()?);
        self.at = flags_at + 2;
        if flags & FLAG_EXTENDED != 0 {
            if self.version < 3 {
                return None;
            }
            self.at += 2;
        }
        if self.version == 4 {
            let gone = self.offset()?;
            path.truncate(path.len().checked_sub(gone)?);
        } else {
            path.clear();
        }
        let rest = self.bytes.get(self.at..)?;
        let len = rest.iter().position(|byte| *byte == 0)?;
        path.extend_from_slice(&rest[..len]);
        self.at += len + 1;
        if self.version < 4 {
            self.at = start + (self.at - start).next_multiple_of(8);
        }
        Some(mode)
    }

    /// A number in git's own variable length, seven bits a byte, each continuation counting one more.
    fn offset(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value = value.checked_add(usize::from(byte & 0x7f))?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            value = value.checked_add(1)?.checked_mul(128)?;
        }
    }

    /// The name of a shared index in the extensions that follow. `None` when they do not end where they should.
    fn shared(&self) -> Option<Option<String>> {
        let mut at = self.at;
        let mut shared = None;
        while at < self.bytes.len() {
            let len = word(self.bytes, at + 4)? as usize;
            let content = self.bytes.get(at + 8..(at + 8).checked_add(len)?)?;
            if self.bytes[at..].starts_with(b"link") {
                let name = content.get(..self.hash_bytes)?;
                shared = name.iter().any(|byte| *byte != 0).then(|| pyro_store::hex::encode(name));
            }
            at += 8 + len;
        }
        Some(shared)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// What is tracked, to be asked for each name of a walk.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Tracked {
    /// Sorted.
    paths: Vec<Vec<u8>>,
    sparse_dirs: Vec<Vec<u8>>,
}

impl Tracked {
    pub(super) fn new(indexes: Vec<Index>) -> Self {
        let mut tracked = Self::default();
        for index in indexes {
            tracked.paths.extend(index.paths);
            tracked.sparse_dirs.extend(index.sparse_dirs);
        }
        tracked.paths.sort_unstable();
        tracked.paths.dedup();
        tracked
    }

    /// Whether git tracks a file, link or submodule of this path.
    pub(in super::super) fn has(&self, path: &[u8]) -> bool {
        self.paths.binary_search_by(|known| known[..].cmp(path)).is_ok() || self.is_in_sparse(path)
    }

    /// Whether something in this directory is tracked, or it is a submodule.
    pub(in super::super) fn has_below(&self, dir: &[u8]) -> bool {
        let first = [dir, b"/"].concat();
        let at = self.paths.partition_point(|known| known[..] < first[..]);
        self.paths.get(at).is_some_and(|known| known.starts_with(&first)) || self.has(dir)
    }

    fn is_in_sparse(&self, path: &[u8]) -> bool {
        let within = |dir: &Vec<u8>| path.strip_prefix(&dir[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        self.sparse_dirs.iter().any(within)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Index, Tracked, read};

    /// An index as git writes it, of files with an empty stat.
    fn index(version: u32, hash_bytes: usize, paths: &[&[u8]], extension: &[u8]) -> Vec<u8> {
        let mut bytes = b"DIRC".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend((paths.len() as u32).to_be_bytes());
        let mut before: &[u8] = b"";
        for path in paths {
            let start = bytes.len();
            bytes.resize(start + 40 + hash_bytes, 0);
            let mode: u32 = if path.ends_with(b"/") { 0o040_000 } else { 0o100_644 };
            bytes[start + 24..start + 28].copy_from_slice(&mode.to_be_bytes());
            bytes.extend((path.len().min(0xfff) as u16).to_be_bytes());
            if version == 4 {
                let same = path.iter().zip(before).take_while(|(one, other)| one == other).count();
                let gone = before.len() - same;
                if gone > 127 {
                    bytes.push(0x80 | (gone as u8 >> 7).wrapping_sub(1));
                }
                bytes.push(gone as u8 & 0x7f);
                bytes.extend(&path[same..]);
                bytes.push(0);
            } else {
                bytes.extend(*path);
                let padded = start + (bytes.len() + 1 - start).next_multiple_of(8);
                bytes.resize(padded, 0);
            }
            before = path;
        }
        bytes.extend(extension);
        bytes.resize(bytes.len() + hash_bytes, 9);
        bytes
    }

    #[test]
    fn paths_come_out_of_every_version() {
        let long = [b'l'; 200];
        let paths: [&[u8]; 5] = [b".gitignore", b"a/b", &long, b"sparse/", b"z\xff\n"];
        for version in [2, 3, 4] {
            for hash_bytes in [20, 32] {
                let read = read(&index(version, hash_bytes, &paths, b"TREE\0\0\0\x02xx"), hash_bytes).unwrap();
                let expected = [paths[0], paths[1], paths[2], paths[4]].map(<[u8]>::to_vec).to_vec();
                assert_eq!(read, Index { paths: expected, sparse_dirs: vec![b"sparse".to_vec()], shared: None });
            }
        }
    }

    #[test]
    fn a_split_index_names_the_shared_one() {
        let extension = [b"link\0\0\0\x14".as_slice(), &[0xab; 20]].concat();
        let read = read(&index(2, 20, &[b"a"], &extension), 20).unwrap();
        assert_eq!(read.shared, Some("ab".repeat(20)));
    }

    #[test]
    fn what_is_tracked_is_found_by_name_and_by_directory() {
        let listed =
            |paths: &[&[u8]]| Index { paths: paths.iter().map(|path| path.to_vec()).collect(), ..Index::default() };
        let sparse = Index { sparse_dirs: vec![b"big".to_vec()], ..Index::default() };
        let tracked = Tracked::new(vec![listed(&[b"a-b/c", b"a/b/c", b"sub"]), sparse]);
        assert!(tracked.has(b"a/b/c") && !tracked.has(b"a/b") && tracked.has(b"big/x"));
        assert!(tracked.has_below(b"a") && tracked.has_below(b"a/b") && tracked.has_below(b"sub"));
        assert!(!tracked.has_below(b"a/b/d") && !tracked.has_below(b"b") && !tracked.has_below(b"bigger"));
    }

    proptest! {
        #[test]
        fn junk_is_read_or_refused(
            version in 0_u32..6,
            count in any::<u32>(),
            body in prop::collection::vec(any::<u8>(), 0..400),
            cut in 0_usize..300,
        ) {
            let mut bytes = [b"DIRC".as_slice(), &version.to_be_bytes(), &count.to_be_bytes(), &body].concat();
            drop(read(&bytes, 20));
            drop(read(&body, 32));
            bytes = index(2 + version % 3, 20, &[b"one", b"two/three"], &body);
            bytes.truncate(cut);
            drop(read(&bytes, 20));
        }
    }
}
