//! What is different between a source and a directory of a guest, and what is to be done about it. Decides; does nothing.

use std::collections::{HashMap, HashSet};

use pyro_wire::files::EntryKind;
use pyro_wire::sync::InventoryEntry;

use super::super::seed::tree::{Moment, SeedEntry, SeedKind, SeedTree, join, name, parent};

/// What is in a directory, by name.
pub(super) type Entries = HashMap<Vec<u8>, InventoryEntry>;

/// What the guest has, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// The entries of each directory by name; `None` where there is no directory that could be listed.
    directories: HashMap<Vec<u8>, Option<Entries>>,
    count: u64,
}

impl Guest {
    pub(super) fn add(&mut self, directory: Vec<u8>, entries: Option<Entries>) {
        self.count += 1 + entries.as_ref().map_or(0, Entries::len) as u64;
        self.directories.insert(directory, entries);
    }

    /// Entries so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn at(&self, path: &[u8]) -> Option<&InventoryEntry> {
        self.directories.get(parent(path))?.as_ref()?.get(name(path))
    }

    /// Paths that the guest has and the source lacks, but not what a seed would leave out, nor a repository made in the guest.
    fn surplus<'a>(&'a self, tree: &'a SeedTree) -> impl Iterator<Item = (Vec<u8>, &'a InventoryEntry)> {
        let source: HashMap<&[u8], bool> =
            tree.entries.iter().map(|entry| (&entry.path[..], entry.kind == SeedKind::Directory)).collect();
        let listed = self.directories.iter().filter_map(|(dir, entries)| Some((dir, entries.as_ref()?)));
        let all = listed.flat_map(|(dir, entries)| entries.iter().map(move |(name, entry)| (join(dir, name), entry)));
        all.filter(move |(path, entry)| {
            let is_dir = entry.kind == EntryKind::Directory;
            // A directory in the place of a file is taken apart, so that the file can be put.
            let lacks = source.get(&path[..]).is_none_or(|wanted| is_dir && !wanted);
            let is_git = entry.name.as_bytes() == b".git";
            lacks && !is_git && !tree.leaves_out(path, is_dir) && !self.is_in_own_repository(path, &source)
        })
    }

    /// Whether a path is, or lies in, a directory that the source lacks and that has a `.git`.
    fn is_in_own_repository(&self, path: &[u8], source: &HashMap<&[u8], bool>) -> bool {
        let mut dir = path;
        while !dir.is_empty() {
            if !source.contains_key(dir) && self.at(&join(dir, b".git")).is_some() {
                return true;
            }
            dir = parent(dir);
        }
        false
    }

    /// Directories among them that were not listed yet.
    pub(super) fn unlisted_surplus(&self, tree: &SeedTree) -> Vec<Vec<u8>> {
        let directories = self.surplus(tree).filter(|(_, entry)| entry.kind == EntryKind::Directory);
        directories.map(|(path, _)| path).filter(|path| !self.directories.contains_key(path)).collect()
    }
}

/// The directories of a source whose counterparts are to be listed: all but what is in `.git`.
pub(super) fn directories(tree: &SeedTree) -> Vec<Vec<u8>> {
    let directories = tree.entries.iter().filter(|entry| entry.kind == SeedKind::Directory);
    let named = directories.filter(|entry| git_dir(&entry.path).is_none()).map(|entry| entry.path.clone());
    [Vec::new()].into_iter().chain(named).collect()
}

/// The `.git` that a path is or lies in.
fn git_dir(path: &[u8]) -> Option<&[u8]> {
    let mut start = 0;
    for part in path.split(|byte| *byte == b'/') {
        if part == b".git" {
            return Some(&path[..start + part.len()]);
        }
        start += part.len() + 1;
    }
    None
}

/// What is to be done about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Same,
    /// It is given its mode.
    Mode,
    /// It is put.
    Put,
}

/// All that is to be done.
#[derive(Debug)]
pub(super) struct Comparison {
    /// What is removed, deepest first.
    pub(super) removals: Vec<Vec<u8>>,
    /// Entries of the source, by index, in their order; none that are the same.
    pub(super) steps: Vec<(usize, Step)>,
    /// Files that are the same or not, depending on their content; and the step if they are.
    pub(super) doubtful: Vec<(usize, Step)>,
    /// How many are the same.
    pub(super) same: u64,
    /// The `.git` of repositories that stay as the guest has them.
    pub(super) repositories_kept: Vec<Vec<u8>>,
}

impl Comparison {
    pub(super) fn new(tree: &SeedTree, guest: &Guest, delete: bool) -> Self {
        let mut comparison = Self {
            removals: Vec::new(),
            steps: Vec::new(),
            doubtful: Vec::new(),
            same: 0,
            repositories_kept: Vec::new(),
        };
        let mut kept = HashSet::new();
        for (index, entry) in tree.entries.iter().enumerate() {
            if let Some(git) = git_dir(&entry.path)
                && guest.at(git).is_some()
            {
                if kept.insert(git.to_vec()) {
                    comparison.repositories_kept.push(git.to_vec());
                }
                continue;
            }
            comparison.entry(tree, index, guest.at(&entry.path));
        }
        if delete {
            comparison.removals = guest.surplus(tree).map(|(path, _)| path).collect();
            // What is in a directory sorts after it.
            comparison.removals.sort_unstable_by(|one, other| other.cmp(one));
        }
        comparison
    }

    pub(super) fn add(&mut self, index: usize, step: Step) {
        match step {
            Step::Same => self.same += 1,
            Step::Mode | Step::Put => self.steps.push((index, step)),
        }
    }

    /// Bytes of content that are to be sent.
    pub(super) fn content_bytes(&self, tree: &SeedTree) -> u64 {
        let put = self.steps.iter().filter(|(_, step)| *step == Step::Put);
        put.map(
            |(index, _)| if let SeedKind::File { size_bytes, .. } = tree.entries[*index].kind { size_bytes } else { 0 },
        )
        .sum()
    }

    fn entry(&mut self, tree: &SeedTree, index: usize, there: Option<&InventoryEntry>) {
        let entry = &tree.entries[index];
        let Some(there) = there else { return self.add(index, Step::Put) };
        let mode = if there.mode == u32::from(entry.attributes.mode) { Step::Same } else { Step::Mode };
        let step = match &entry.kind {
            SeedKind::Directory if there.kind == EntryKind::Directory => mode,
            SeedKind::Symlink(target) => {
                let held = there.target.as_ref().map(|target| target.as_bytes());
                if held == Some(&target[..]) { Step::Same } else { Step::Put }
            }
            SeedKind::File { .. } => match likeness(entry, there) {
                Likeness::Same => mode,
                Likeness::Other => Step::Put,
                Likeness::Doubtful => return self.doubtful.push((index, mode)),
            },
            SeedKind::HardLink(first) => match likeness(&tree.entries[*first], there) {
                Likeness::Same => mode,
                Likeness::Other | Likeness::Doubtful => Step::Put,
            },
            SeedKind::Directory => Step::Put,
        };
        self.add(index, step);
    }
}

enum Likeness {
    Same,
    Other,
    Doubtful,
}

fn likeness(file: &SeedEntry, there: &InventoryEntry) -> Likeness {
    let size = if let SeedKind::File { size_bytes, .. } = file.kind { size_bytes } else { 0 };
    if there.kind != EntryKind::File || there.size_bytes != size {
        Likeness::Other
    } else if there.modified_unix_ns == nanoseconds(file.attributes.mtime) {
        Likeness::Same
    } else {
        Likeness::Doubtful
    }
}

/// A time as the wire has it.
pub(super) fn nanoseconds(moment: Moment) -> i64 {
    moment.seconds.saturating_mul(1_000_000_000).saturating_add(moment.nanoseconds.into())
}
