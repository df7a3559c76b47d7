//! Paths in a guest, as a person or a model writes them.

use std::fmt;

use pyro_wire::exec::Word;
use pyro_wire::lifecycle::WORKSPACE_MOUNT;

/// Longest path that the guest's kernel takes.
pub const PATH_BYTES_MAX: usize = 4095;

/// An absolute path in a guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestPath(Vec<u8>);

/// Why something is no path of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It has no bytes.
    #[error("the path is empty")]
    Empty,
    /// It holds a NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
    /// It is longer than the guest's kernel takes.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
}

impl GuestPath {
    /// What `path` names; one that is not absolute begins at the workspace.
    ///
    /// # Errors
    /// See [`BadPath`].
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, BadPath> {
        let path = path.as_ref();
        if path.is_empty() {
            return Err(BadPath::Empty);
        }
        if path.contains(&0) {
            return Err(BadPath::Nul);
        }
        let absolute = match path {
            [b'/', ..] => path.to_vec(),
            b"." => WORKSPACE_MOUNT.as_bytes().to_vec(),
            _ => [WORKSPACE_MOUNT.as_bytes(), b"/", path.strip_prefix(b"./").unwrap_or(path)].concat(),
        };
        if absolute.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        Ok(Self(absolute))
    }

    /// The workspace itself.
    #[must_use]
    pub fn workspace() -> Self {
        Self(WORKSPACE_MOUNT.as_bytes().to_vec())
    }

    /// What `name`, relative to it, names. An empty name is the path itself.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        match (name, self.0.last()) {
            ([], _) => self.clone(),
            (_, Some(b'/')) => Self([&self.0, name].concat()),
            _ => Self([&self.0, &b"/"[..], name].concat()),
        }
    }

    /// As a person in the workspace would write it: without the workspace's own path, where it begins with that.
    #[must_use]
    pub fn short(&self) -> String {
        let below = self.0.strip_prefix(WORKSPACE_MOUNT.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
        String::from_utf8_lossy(below.filter(|below| !below.is_empty()).unwrap_or(&self.0)).into_owned()
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the wire carries it.
    #[must_use]
    pub fn to_word(&self) -> Word {
        Word::from(self.0.clone())
    }
}

/// What is no UTF-8 is replaced.
impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPath, GuestPath, PATH_BYTES_MAX};

    #[track_caller]
    fn check(path: impl AsRef<[u8]>, expected: Result<&str, BadPath>) {
        assert_eq!(GuestPath::new(path).map(|path| path.to_string()), expected.map(str::to_owned));
    }

    #[test]
    fn paths_begin_at_the_workspace() {
        check("/etc/hosts", Ok("/etc/hosts"));
        check("src/main.rs", Ok("/workspace/src/main.rs"));
        check("./src", Ok("/workspace/src"));
        check(".", Ok("/workspace"));
        check("../etc", Ok("/workspace/../etc"));
        check(".github", Ok("/workspace/.github"));
    }

    #[test]
    fn names_are_joined_and_shortened() {
        let workspace = GuestPath::workspace();
        assert_eq!(workspace.join(b"a/b").to_string(), "/workspace/a/b");
        assert_eq!(workspace.join(b""), workspace);
        assert_eq!(GuestPath::new("/").unwrap().join(b"a").to_string(), "/a");
        let short = |path: &str| GuestPath::new(path).unwrap().short();
        assert_eq!([short("a/b"), short("/workspaces"), short("/workspace/")], ["a/b", "/workspaces", "/workspace/"]);
    }

    #[test]
    fn what_is_no_path_says_why() {
        check("", Err(BadPath::Empty));
        check("a\0b", Err(BadPath::Nul));
        check("/".repeat(PATH_BYTES_MAX + 1), Err(BadPath::TooLong));
        check("x".repeat(PATH_BYTES_MAX - 10), Err(BadPath::TooLong));
        assert!(GuestPath::new("x".repeat(PATH_BYTES_MAX - 11)).is_ok());
    }
}
