//! Where a package's entries land in the merged tree, and which package owns a path.

use std::collections::HashMap;
use std::io::Read;

use md5::{Digest, Md5};

use super::super::deb::{self, DataEntry, DataKind};
use super::super::ext4::{Attributes, Ext4Error, Formatter, Kind};
use super::super::package::Package;
use super::super::sources::debian::relation;
use super::dpkg::PackageRecord;
use super::{RootfsError, shown, slim};

/// The top directories that are links into `/usr`.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Links that are followed in one path, as many as the kernel follows.
const LINKS_MAX: u32 = 40;

/// The tree while packages are added to it.
pub(super) struct Merge {
    formatter: Formatter,
    time_seconds: i64,
    /// Owner, as an index into `records`, of everything but directories.
    owners: HashMap<Vec<u8>, usize>,
    records: Vec<PackageRecord>,
}

impl Merge {
    pub(super) fn new(formatter: Formatter, time_seconds: i64) -> Result<Self, Ext4Error> {
        let mut merge = Self { formatter, time_seconds, owners: HashMap::new(), records: Vec::new() };
        let attributes = Attributes::of_root(0o755, time_seconds);
        merge.formatter.add_directory(b"usr", attributes)?;
        for name in MERGED {
            let target = format!("usr/{name}");
            merge.formatter.add_directory(target.as_bytes(), attributes)?;
            merge.formatter.add_symlink(name.as_bytes(), attributes, target.as_bytes())?;
        }
        Ok(merge)
    }

    pub(super) fn add_package(&mut self, package: &Package) -> Result<(), RootfsError> {
        let control = deb::control_files(&package.file)?;
        self.records.push(PackageRecord::new(package, control)?);
        deb::for_each_entry(&package.file, &mut |entry, content| self.add_entry(entry, content))
    }

    pub(super) fn into_parts(self) -> (Formatter, Vec<PackageRecord>) {
        (self.formatter, self.records)
    }

    fn add_entry(&mut self, entry: DataEntry, content: &mut dyn Read) -> Result<(), RootfsError> {
        let own = self.records.len() - 1;
        self.records[own].list.push(entry.path.clone());
        let path = self.resolved(&entry.path)?;
        if path.is_empty() || slim::leaves_out(&path, &entry.kind) {
            return Ok(());
        }
        if entry.kind == DataKind::Directory {
            return Ok(self.add_directory(&path, &entry)?);
        }
        match self.claim(own, &path, &entry)? {
            Claim::Keep => return Ok(()),
            Claim::Take => {}
        }
        self.make_parents(&path)?;
        self.put(own, &path, &entry, content)?;
        self.owners.insert(path, own);
        Ok(())
    }

    /// What exists stays as it is, whether a directory or a link to one: the first package decides.
    fn add_directory(&mut self, path: &[u8], entry: &DataEntry) -> Result<(), Ext4Error> {
        if self.formatter.kind_at(path)?.is_some() {
            return Ok(());
        }
        self.make_parents(path)?;
        self.formatter.add_directory(path, attributes(entry))
    }

    /// Decides between `own` and an earlier owner of the path, as `Replaces` says.
    fn claim(&mut self, own: usize, path: &[u8], entry: &DataEntry) -> Result<Claim, RootfsError> {
        let Some(existing) = self.formatter.kind_at(path)? else { return Ok(Claim::Take) };
        if existing == Kind::Directory {
            // As dpkg does: a directory is not replaced by a link to one.
            let is_link = matches!(entry.kind, DataKind::Symlink(_));
            return if is_link { Ok(Claim::Keep) } else { Err(Ext4Error::Exists { path: shown(path) }.into()) };
        }
        let owner = self.owners.get(path).copied().unwrap_or(own);
        let (earlier, later) = (&self.records[owner], &self.records[own]);
        if owner != own && replaces(earlier, later)? {
            return Ok(Claim::Keep);
        }
        if owner != own && !replaces(later, earlier)? {
            return Err(RootfsError::Conflict {
                path: shown(path),
                first: earlier.name.clone(),
                second: later.name.clone(),
            });
        }
        self.formatter.remove(path)?;
        if owner != own {
            self.records[owner].list.retain(|listed| *listed != entry.path);
        }
        Ok(Claim::Take)
    }

    fn put(&mut self, own: usize, path: &[u8], entry: &DataEntry, content: &mut dyn Read) -> Result<(), RootfsError> {
        let attributes = attributes(entry);
        match &entry.kind {
            DataKind::File(size_bytes) if self.records[own].is_conffile(&entry.path) => {
                let mut bytes = Vec::with_capacity(*size_bytes as usize);
                content.read_to_end(&mut bytes).map_err(|source| Ext4Error::Content { path: shown(path), source })?;
                let digest = Md5::digest(&bytes);
                self.records[own].set_conffile_digest(&entry.path, format!("{digest:x}"));
                self.formatter.add_file(path, attributes, *size_bytes, &mut &bytes[..])?;
            }
            DataKind::File(size_bytes) => self.formatter.add_file(path, attributes, *size_bytes, content)?,
            DataKind::Symlink(target) => self.formatter.add_symlink(path, attributes, target)?,
            DataKind::HardLink(target) => {
                let target = self.resolved(target)?;
                self.formatter.add_hard_link(path, &target).map_err(|error| match error {
                    Ext4Error::NotFound { .. } => RootfsError::DanglingHardLink {
                        path: shown(path),
                        package: self.records[own].name.clone(),
                        target: shown(&target),
                    },
                    other => other.into(),
                })?;
            }
            DataKind::Fifo => self.formatter.add_special(path, attributes, Kind::Fifo)?,
            DataKind::Directory => {}
        }
        Ok(())
    }

    /// The path with the links among its directories followed, as the kernel would: `bin/ls` is `usr/bin/ls`.
    fn resolved(&self, path: &[u8]) -> Result<Vec<u8>, Ext4Error> {
        let mut done: Vec<u8> = Vec::with_capacity(path.len());
        let mut rest: Vec<Vec<u8>> = components(path).rev().collect();
        let mut links_left = LINKS_MAX;
        while let Some(name) = rest.pop() {
            if name == b".." {
                done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let parent = done.len();
            if parent > 0 {
                done.push(b'/');
            }
            done.extend_from_slice(&name);
            if rest.is_empty() {
                break;
            }
            if let Some(target) = self.formatter.link_target(&done)? {
                if links_left == 0 {
                    return Err(Ext4Error::NotADirectory { path: shown(path) });
                }
                links_left -= 1;
                done.truncate(if target.starts_with(b"/") { 0 } else { parent });
                rest.extend(components(target).rev());
            }
        }
        Ok(done)
    }

    /// Directories that no package lists are made as root's.
    fn make_parents(&mut self, path: &[u8]) -> Result<(), Ext4Error> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in slashes {
            if self.formatter.kind_at(&path[..end])?.is_none() {
                self.formatter.add_directory(&path[..end], Attributes::of_root(0o755, self.time_seconds))?;
            }
        }
        Ok(())
    }
}

enum Claim {
    /// The entry that is there stays.
    Keep,
    /// The new entry goes in.
    Take,
}

/// Whether `package` declares that it replaces files of `other`.
fn replaces(package: &PackageRecord, other: &PackageRecord) -> Result<bool, RootfsError> {
    let clauses = relation::parse(&package.replaces)
        .map_err(|error| RootfsError::Control { package: package.name.clone(), what: error.to_string() })?;
    Ok(clauses.iter().flatten().any(|relation| {
        relation.name == other.name && relation.constraint.is_none_or(|constraint| constraint.admits(&other.version))
    }))
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

fn attributes(entry: &DataEntry) -> Attributes {
    let own = Attributes::of_root(entry.mode, entry.mtime_seconds);
    Attributes { uid: entry.uid, gid: entry.gid, ..own }
}
