//! A package that was verified and lies on this disk: what a source of packages hands to the builder of images.

use std::path::PathBuf;

/// One verified package file and what the archive says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name, such as `git`.
    pub name: String,
    /// Its version, as the archive writes it.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// The file; its content has this SHA-256.
    pub file: PathBuf,
    /// The stanza of the package list, field by field in its order. A value keeps its line breaks, without the one at its end.
    pub control: Vec<(String, String)>,
    /// Whether the archive marks it `Essential: yes`.
    pub essential: bool,
}

impl Package {
    /// What it takes once it is unpacked, as the archive says; a guess where it does not say.
    #[must_use]
    pub fn installed_bytes(&self) -> u64 {
        let field = self.control.iter().find(|(name, _)| name.eq_ignore_ascii_case("Installed-Size"));
        let kib: Option<u64> = field.and_then(|(_, value)| value.trim().parse().ok());
        kib.map_or(self.size_bytes.saturating_mul(5), |kib| kib.saturating_mul(1024))
    }
}
