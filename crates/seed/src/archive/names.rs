//! The names in an archive and what they stand for at its end: later entries replace earlier ones, links share files.

use std::collections::{BTreeMap, HashMap};

use super::super::SeedError;
use super::super::tree::{Attributes, Content, Moment, SeedKind, TreeBuilder, parent};

const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4095;

/// The entries so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_path: BTreeMap<Vec<u8>, Node>,
    files: Vec<StoredFile>,
}

#[derive(Debug)]
enum Node {
    Directory(Attributes),
    Symlink(Attributes, Vec<u8>),
    /// A file, by its place in the list.
    File(usize),
}

#[derive(Debug)]
struct StoredFile {
    attributes: Attributes,
    size_bytes: u64,
    content: Content,
}

/// Why an entry is left out, as the rest of a sentence about it.
pub(super) type Refusal = &'static str;

/// A name without leading slashes, empty parts and dots.
pub(super) fn clean(name: &[u8]) -> Result<Vec<u8>, Refusal> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("its name leads out of the archive");
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX || part.contains(&0)) || name.len() > PATH_BYTES_MAX {
        return Err("its name is too long or no name");
    }
    Ok(parts.join(&b'/'))
}

impl Names {
    pub(super) fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), Refusal> {
        self.parents(path, attributes.mtime)?;
        self.by_path.insert(path.to_vec(), Node::Directory(attributes));
        Ok(())
    }

    pub(super) fn symlink(&mut self, path: &[u8], attributes: Attributes, target: Vec<u8>) -> Result<(), Refusal> {
        if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(&0) {
            return Err("it is a link to nowhere");
        }
        self.place(path, attributes.mtime)?;
        self.by_path.insert(path.to_vec(), Node::Symlink(attributes, target));
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        size_bytes: u64,
        content: Content,
    ) -> Result<(), Refusal> {
        self.place(path, attributes.mtime)?;
        self.files.push(StoredFile { attributes, size_bytes, content });
        self.by_path.insert(path.to_vec(), Node::File(self.files.len() - 1));
        Ok(())
    }

    /// Adds another name for what `target` stands for by now.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Refusal> {
        let target = clean(target)?;
        let (node, mtime) = match self.by_path.get(&target) {
            Some(Node::File(file)) => (Node::File(*file), self.files[*file].attributes.mtime),
            Some(Node::Symlink(attributes, to)) => (Node::Symlink(*attributes, to.clone()), attributes.mtime),
            Some(Node::Directory(_)) | None => return Err("it is a hard link to what is not in the archive"),
        };
        if target != path {
            self.place(path, mtime)?;
            self.by_path.insert(path.to_vec(), node);
        }
        Ok(())
    }

    /// Makes room for something that is no directory.
    fn place(&mut self, path: &[u8], mtime: Moment) -> Result<(), Refusal> {
        self.parents(path, mtime)?;
        let below = [path, b"/"].concat();
        let next = self.by_path.range(below.clone()..).next();
        if next.is_some_and(|(next, _)| next.starts_with(&below)) {
            return Err("it would replace a directory that is not empty");
        }
        Ok(())
    }

    fn parents(&mut self, path: &[u8], mtime: Moment) -> Result<(), Refusal> {
        let dir = parent(path);
        match self.by_path.get(dir) {
            _ if dir.is_empty() => Ok(()),
            Some(Node::Directory(_)) => Ok(()),
            Some(_) => Err("it lies below something that is no directory"),
            None => {
                self.parents(dir, mtime)?;
                self.by_path.insert(dir.to_vec(), Node::Directory(Attributes { mode: 0o755, mtime }));
                Ok(())
            }
        }
    }

    pub(super) fn flatten(self, tree: &mut TreeBuilder) -> Result<(), SeedError> {
        let mut files: Vec<Option<StoredFile>> = self.files.into_iter().map(Some).collect();
        let mut first_names: HashMap<usize, (usize, Attributes)> = HashMap::new();
        for (path, node) in self.by_path {
            match node {
                Node::Directory(attributes) => drop(tree.add(path, attributes, SeedKind::Directory)?),
                Node::Symlink(attributes, target) => drop(tree.add(path, attributes, SeedKind::Symlink(target))?),
                Node::File(number) => {
                    if let Some(StoredFile { attributes, size_bytes, content }) = files[number].take() {
                        let index = tree.add(path, attributes, SeedKind::File { size_bytes, content })?;
                        first_names.insert(number, (index, attributes));
                    } else if let Some((first, attributes)) = first_names.get(&number) {
                        tree.add(path, *attributes, SeedKind::HardLink(*first))?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn names_are_cleaned_or_refused() {
        let check = |name: &[u8], expected: Option<&[u8]>| assert_eq!(clean(name).ok().as_deref(), expected);
        check(b"./a//b/./c/", Some(b"a/b/c"));
        check(b"/etc/passwd", Some(b"etc/passwd"));
        check(b"./", Some(b""));
        check(b"a/../../b", None);
        check(b"..", None);
        check(b"a/..b", Some(b"a/..b"));
        check(&[b'x'; 256], None);
        check(b"a\0b", None);
        check("ab/".repeat(1400).as_bytes(), None);
    }
}
