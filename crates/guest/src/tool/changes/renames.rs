//! Renames: a file that is gone and a new one with the same content are one file that moved.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::{self, Read};

use super::Found;
use super::content;
use super::layers::{Leaf, LeafKind};

/// Bytes that are read, in all, to find renames: past that, files are told as gone and new.
const READ_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Files of one content among which one of the same name is looked for.
const NAMES_COMPARED_MAX: usize = 1000;

/// Joins each new file with the one it was, which is then no change of its own.
pub(super) fn pair(found: &mut Vec<Found>) {
    let mut sizes: HashMap<u64, Candidates> = HashMap::new();
    for (number, change) in found.iter().enumerate() {
        match (&change.old, &change.new) {
            (Some(old), None) if is_candidate(old) => sizes.entry(old.size_bytes).or_default().gone.push(number),
            (None, Some(new)) if is_candidate(new) => sizes.entry(new.size_bytes).or_default().come.push(number),
            _ => {}
        }
    }
    let mut left_bytes = READ_BYTES_MAX;
    let mut moved = Vec::new();
    for (size_bytes, candidates) in sizes {
        if !candidates.gone.is_empty() && !candidates.come.is_empty() {
            candidates.join(found, size_bytes, &mut left_bytes, &mut moved);
        }
    }
    for &(from, to) in &moved {
        let old = found[from].old.take();
        let path = std::mem::take(&mut found[from].path);
        let change = &mut found[to];
        (change.old, change.renamed_from, change.same_content) = (old, Some(path), true);
    }
    found.retain(|change| change.old.is_some() || change.new.is_some());
}

/// git takes empty files for unrelated, too.
fn is_candidate(leaf: &Leaf) -> bool {
    leaf.kind == LeafKind::File && leaf.size_bytes > 0
}

/// Changes of one size, by their numbers.
#[derive(Default)]
struct Candidates {
    gone: Vec<usize>,
    come: Vec<usize>,
}

/// What tells contents apart: the inode, where a directory moved with all that is in it, else a hash.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Inode(u64, u64),
    Hash(u64),
}

impl Candidates {
    fn join(self, found: &[Found], size_bytes: u64, left_bytes: &mut u64, moved: &mut Vec<(usize, usize)>) {
        let (gone, come) =
            Self::join_by(&self, found, moved, |leaf| Some(Key::Inode(leaf.identity.0, leaf.identity.1)));
        let rest = Self { gone, come };
        if rest.gone.is_empty() || rest.come.is_empty() {
            return;
        }
        Self::join_by(&rest, found, moved, |leaf| {
            *left_bytes = left_bytes.checked_sub(size_bytes)?;
            hash(leaf).ok().map(Key::Hash)
        });
    }

    /// Joins those of one key, and gives back the others.
    fn join_by(
        &self,
        found: &[Found],
        moved: &mut Vec<(usize, usize)>,
        mut key: impl FnMut(&Leaf) -> Option<Key>,
    ) -> (Vec<usize>, Vec<usize>) {
        let mut by_key: HashMap<Key, Vec<usize>> = HashMap::new();
        let mut gone_left = Vec::new();
        for &number in &self.gone {
            match found[number].old.as_ref().and_then(&mut key) {
                Some(key) => by_key.entry(key).or_default().push(number),
                None => gone_left.push(number),
            }
        }
        let mut come_left = Vec::new();
        for &number in &self.come {
            let new = found[number].new.as_ref();
            let sources = new.and_then(&mut key).and_then(|key| by_key.get_mut(&key));
            let is_same = |from: usize| match (&found[from].old, new) {
                (Some(old), Some(new)) => content::same(old, new).unwrap_or(false),
                _ => false,
            };
            match sources.and_then(|sources| take_best(sources, found, number, is_same)) {
                Some(from) => moved.push((from, number)),
                None => come_left.push(number),
            }
        }
        gone_left.extend(by_key.into_values().flatten());
        gone_left.sort_unstable();
        (gone_left, come_left)
    }
}

/// The source that kept its name, or else the first.
fn take_best(sources: &mut Vec<usize>, found: &[Found], to: usize, is_same: impl Fn(usize) -> bool) -> Option<usize> {
    let name = |number: usize| found[number].path.rsplit(|byte| *byte == b'/').next();
    let kept = sources.iter().take(NAMES_COMPARED_MAX).position(|from| name(*from) == name(to));
    let at = kept.filter(|at| is_same(sources[*at])).or_else(|| sources.iter().position(|from| is_same(*from)))?;
    Some(sources.remove(at))
}

fn hash(leaf: &Leaf) -> io::Result<u64> {
    let mut file = content::open(leaf)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.write(&buffer[..count]),
        }
    }
}
