//! Everything that making and keeping environments can be told from outside. Filled in by the face.

use std::path::PathBuf;

use crate::catalog::Catalog;

/// Which environments there are, and where what they are made of comes from.
#[derive(Debug, Clone)]
pub struct EnvironmentSettings {
    /// Another guest kernel than Debian's.
    pub kernel: Option<CustomKernel>,
    /// The environments there are by name.
    pub catalog: Catalog,
    /// Where Debian packages come from.
    pub debian: DebianArchive,
    /// Proxies for downloads.
    pub proxy: ProxySettings,
    /// The guest agent's program, a static x86_64 ELF file. It goes into the initramfs.
    pub agent: &'static [u8],
    /// Version of pyro, for manifests.
    pub pyro_version: &'static str,
}

/// A guest kernel given by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomKernel {
    /// A bzImage or an uncompressed vmlinux.
    pub image: PathBuf,
    /// Directory with `modules.dep` and the modules, as under `/lib/modules/<release>`; `None` when the drivers are built in.
    pub modules_dir: Option<PathBuf>,
}

/// Where Debian packages come from, and whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianArchive {
    /// Base URL of the main archive, without a slash at its end.
    pub mirror_url: String,
    /// Base URL of the security archive, without a slash at its end.
    pub security_url: String,
    /// An OpenPGP keyring (binary or armored) that replaces Debian's own keys, for a private archive.
    pub keyring_path: Option<PathBuf>,
    /// Which suites of a release are used. All named here must be there: a mirror cannot hide its updates.
    pub suites: Vec<DebianSuite>,
}

impl Default for DebianArchive {
    /// Debian's public mirror. Plain HTTP, as in Debian's own `sources.list`: what is fetched is proven by signature and hash.
    fn default() -> Self {
        Self {
            mirror_url: "http://deb.debian.org/debian".to_owned(),
            security_url: "http://deb.debian.org/debian-security".to_owned(),
            keyring_path: None,
            suites: vec![DebianSuite::Release, DebianSuite::Updates, DebianSuite::Security],
        }
    }
}

/// A suite of a Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DebianSuite {
    /// The release itself, such as `bookworm`, in the main archive.
    Release,
    /// Its updates between point releases, such as `bookworm-updates`, in the main archive.
    Updates,
    /// Its security updates, such as `bookworm-security`, in the security archive.
    Security,
}

/// Proxies, as in `http_proxy`, `https_proxy` and `no_proxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// URL of the proxy for `http://`.
    pub http: Option<String>,
    /// URL of the proxy for `https://`.
    pub https: Option<String>,
    /// Comma-separated hosts and domains reached directly.
    pub no_proxy: Option<String>,
}
