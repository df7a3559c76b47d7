//! A configuration file on disk: read whole, replaced whole, its permissions and a link to it kept.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pyro_engine::store::atomic;
use similar::TextDiff;

use super::HostError;
use super::document::{Document, Format, Syntax};

/// Largest configuration that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A configuration file of a chat host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// What a new one begins with.
    pub(super) blank: &'static str,
}

impl ConfigFile {
    /// Its text, if it is there.
    pub(super) fn read(&self) -> Result<Option<String>, HostError> {
        let unreadable = |source| HostError::Unreadable { path: self.path.clone(), source };
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
        }
        String::from_utf8(bytes).map(Some).map_err(|_| unreadable(io::Error::other("it is no UTF-8")))
    }

    /// A text of it as a configuration.
    pub(super) fn parse(&self, text: Option<&str>) -> Result<Document, HostError> {
        Document::parse(self.format, text.unwrap_or(self.blank)).map_err(|Syntax { line, reason }| HostError::Syntax {
            path: self.path.clone(),
            line,
            reason,
        })
    }

    /// Whether a text says no more than a new file does.
    pub(super) fn is_blank(&self, text: &str) -> bool {
        let same = |text: &str| text.split_whitespace().collect::<String>();
        same(text) == same(self.blank)
    }

    /// Replaces `before` by `after`, where nothing is a file that is not there.
    pub(super) fn replace(&self, before: Option<&str>, after: Option<&str>) -> Result<(), HostError> {
        if self.read()?.as_deref() != before {
            return Err(HostError::ChangedMeanwhile { path: self.path.clone() });
        }
        let unwritable = |source| HostError::Unwritable { path: self.path.clone(), source };
        let Some(after) = after else { return fs::remove_file(&self.path).map_err(unwritable) };
        // Where the file is kept elsewhere and linked to, the link stays.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mode = fs::metadata(&target).map_or(0o600, |metadata| metadata.permissions().mode());
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(unwritable)?;
        }
        atomic::write_with_mode(&target, after.as_bytes(), mode).map_err(unwritable)
    }
}

/// What a change of a file would be, as a unified diff.
pub(super) fn diff(path: &Path, before: Option<&str>, after: Option<&str>) -> String {
    let (old, new) = (before.unwrap_or_default(), after.unwrap_or_default());
    let name = |text: Option<&str>| match text {
        Some(_) => path.display().to_string(),
        None => "/dev/null".to_owned(),
    };
    TextDiff::from_lines(old, new).unified_diff().header(&name(before), &name(after)).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::document::Format;
    use super::{ConfigFile, diff};

    #[test]
    fn a_link_and_the_permissions_stay() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("dotfiles.json");
        std::fs::write(&real, "{}").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        let path = dir.path().join("settings.json");
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let file = ConfigFile { path: path.clone(), format: Format::Json, blank: "{}\n" };
        file.replace(Some("{}"), Some("{\"a\": 1}")).unwrap();
        assert!(path.is_symlink());
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "{\"a\": 1}");
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile { path: dir.path().join("c.toml"), format: Format::Toml, blank: "" };
        std::fs::write(&file.path, "a = 2\n").unwrap();
        assert!(file.replace(Some("a = 1\n"), Some("a = 3\n")).is_err());
        assert!(file.replace(None, Some("a = 3\n")).is_err());
        assert_eq!(std::fs::read_to_string(&file.path).unwrap(), "a = 2\n");
    }

    #[test]
    fn a_diff_is_one_that_people_know() {
        let shown = diff(Path::new("/c.toml"), Some("a = 1\nb = 2\n"), Some("a = 1\nb = 3\n"));
        assert_eq!(shown, "--- /c.toml\n+++ /c.toml\n@@ -1,2 +1,2 @@\n a = 1\n-b = 2\n+b = 3\n");
        assert!(diff(Path::new("/c"), None, Some("x\n")).starts_with("--- /dev/null\n+++ /c\n"));
        assert_eq!(diff(Path::new("/c"), Some("x"), Some("x")), "");
    }
}
