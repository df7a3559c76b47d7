//! Debian archives: from names of packages to verified files.
//!
//! The way of trust: a key of the keyring signed a suite's `InRelease` ([`openpgp`]), which names the hashes of its package
//! lists ([`release`], `lists`), which name the hashes of packages ([`index`]). [`resolve`] chooses among them without I/O.
//! [`acquire`] goes the whole way. Deliberately absent: apt's pins and priorities, other components than `main`, other
//! architectures than amd64, recommended packages.

pub mod deb822;
mod error;
pub mod index;
mod lists;
pub mod openpgp;
pub mod order;
pub mod relation;
pub mod release;
pub mod resolve;
mod tally;
pub mod version;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pyro_store::home::{Home, create_private_dir};

pub use error::AcquireError;
pub use resolve::Follow;

use super::super::fetch::{FetchError, Fetcher, RemoteFile};
use crate::package::Package;
use crate::progress::{Progress, Reporter, Unit};
use crate::settings::{DebianArchive, DebianSuite, ProxySettings};
use lists::{List, Loader, Suite};
use openpgp::Keyring;
use resolve::{Candidate, Request, ResolveError, Universe};
use tally::Tally;

/// Debian's own keys for bookworm; `keys/README.md` says where they are from.
const DEBIAN_KEYS: [&[u8]; 3] = [
    include_bytes!("keys/debian-archive-bookworm-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-stable.gpg"),
];

/// Downloads at a time. More make a mirror slower, not us faster.
const DOWNLOADS_AT_ONCE: usize = 6;

/// Space left free on the disk of the cache.
const RESERVE_BYTES: u64 = 16 << 20;

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is wanted from an archive.
#[derive(Debug, Clone)]
pub struct Want {
    /// The release, such as `bookworm`; which suites of it are used is the archive's setting.
    pub release: String,
    /// Names of packages.
    pub packages: Vec<String>,
    /// Whether every essential or required package is wanted too.
    pub include_essential: bool,
    /// Which dependencies are followed.
    pub follow: Follow<'static>,
}

/// Gets packages and what they depend on, in an order in which dependencies come first. Their files lie in the downloads
/// of `home` under their SHA-256; good ones that are there already are kept. May be dropped at any point: what was
/// downloaded is there for the next time.
///
/// # Errors
/// [`AcquireError`]; nothing that is wrong is left behind.
pub async fn acquire(
    home: &Home,
    archive: &DebianArchive,
    proxy: &ProxySettings,
    want: &Want,
    report: Reporter<'_>,
) -> Result<Vec<Package>, AcquireError> {
    let fetcher = Fetcher::new(proxy)?;
    Acquisition { home, archive, fetcher: &fetcher, now: now() }.run(want, report).await
}

/// Asks the archive for the head of a release, and says how long the answer took.
///
/// # Errors
/// [`FetchError`] when it does not answer within 5 s, or does not have it.
pub async fn probe_reachable(
    archive: &DebianArchive,
    proxy: &ProxySettings,
    release: &str,
) -> Result<Duration, FetchError> {
    let url = format!("{}/dists/{release}/InRelease", archive.mirror_url.trim_end_matches('/'));
    Fetcher::new(proxy)?.probe(&url, PROBE_TIMEOUT).await
}

/// One call of [`acquire`].
struct Acquisition<'a> {
    home: &'a Home,
    archive: &'a DebianArchive,
    fetcher: &'a Fetcher,
    /// Seconds since 1970.
    now: u64,
}

/// A package to download.
struct Chosen {
    package: Package,
    url: String,
}

impl Acquisition<'_> {
    async fn run(&self, want: &Want, report: Reporter<'_>) -> Result<Vec<Package>, AcquireError> {
        let lists = self.load_lists(&want.release, report).await?;
        let (wanted, downloads_dir) = (want.clone(), self.home.downloads_dir());
        // Lists of 60,000 packages take a while to read.
        let choosing = tokio::task::spawn_blocking(move || choose(&lists, &wanted, &downloads_dir));
        let chosen = choosing.await.map_err(|_| AcquireError::Stopped)??;
        self.download(chosen, report).await
    }

    async fn load_lists(&self, release: &str, report: Reporter<'_>) -> Result<Vec<List>, AcquireError> {
        report(Progress::Stage { name: "fetch lists", unit: Unit::Bytes, total: None });
        let keyring = self.keyring()?;
        let tally = Tally::new(report);
        let loader = Loader { home: self.home, fetcher: self.fetcher, keyring: &keyring, now: self.now, tally: &tally };
        let suites: Vec<Suite> = self.archive.suites.iter().map(|kind| self.suite(release, *kind)).collect();
        let lists = try_join_all(suites.iter().map(|suite| loader.load(suite))).await?;
        tally.finish();
        Ok(lists)
    }

    fn suite(&self, release: &str, kind: DebianSuite) -> Suite {
        let (base_url, name) = match kind {
            DebianSuite::Release => (&self.archive.mirror_url, release.to_owned()),
            DebianSuite::Updates => (&self.archive.mirror_url, format!("{release}-updates")),
            DebianSuite::Security => (&self.archive.security_url, format!("{release}-security")),
        };
        Suite { base_url: base_url.trim_end_matches('/').to_owned(), name }
    }

    fn keyring(&self) -> Result<Keyring, AcquireError> {
        let read =
            |bytes: &[u8], path: PathBuf| Keyring::read(bytes).map_err(|source| AcquireError::Keyring { path, source });
        if let Some(path) = &self.archive.keyring_path {
            let bytes = std::fs::read(path);
            let bytes = bytes.map_err(|source| AcquireError::KeyringFile { path: path.clone(), source })?;
            return read(&bytes, path.clone());
        }
        let mut keyring = Keyring::default();
        for bytes in DEBIAN_KEYS {
            keyring.extend(read(bytes, PathBuf::from("of Debian"))?);
        }
        Ok(keyring)
    }

    async fn download(&self, chosen: Vec<Chosen>, report: Reporter<'_>) -> Result<Vec<Package>, AcquireError> {
        let dir = self.home.downloads_dir();
        create_private_dir(&dir).map_err(|source| AcquireError::Disk { path: dir.clone(), source })?;
        check_space(&dir, &chosen)?;
        let total = chosen.iter().map(|one| one.package.size_bytes).sum();
        report(Progress::Stage { name: "download packages", unit: Unit::Bytes, total: Some(total) });
        let tally = Tally::new(report);
        let downloads = chosen.iter().map(|one| async {
            let package = &one.package;
            let (url, sha256) = (one.url.clone(), package.sha256.clone());
            let remote = RemoteFile { url, size_bytes: package.size_bytes, sha256 };
            report(Progress::Item(package.name.clone()));
            self.fetcher.file(&remote, &package.file, &tally.file()).await
        });
        stream::iter(downloads).buffer_unordered(DOWNLOADS_AT_ONCE).try_collect::<()>().await?;
        tally.finish();
        Ok(chosen.into_iter().map(|one| one.package).collect())
    }
}

/// Reads the lists and resolves what is wanted. Takes seconds of computing.
fn choose(lists: &[List], want: &Want, downloads_dir: &Path) -> Result<Vec<Chosen>, AcquireError> {
    let mut records = Vec::new();
    for list in lists {
        let read = index::parse(&list.text);
        records.push(read.map_err(|source| AcquireError::List { url: list.url.clone(), source })?);
    }
    let packages: Vec<&str> = want.packages.iter().map(String::as_str).collect();
    let request = Request { packages: &packages, include_essential: want.include_essential, follow: want.follow };
    let candidates = Universe::new(&records)?.resolve(&request)?;
    candidates.into_iter().map(|candidate| prepare(&candidate, lists, downloads_dir)).collect()
}

fn prepare(candidate: &Candidate<'_>, lists: &[List], downloads_dir: &Path) -> Result<Chosen, AcquireError> {
    let record = candidate.record;
    let unknown = || ResolveError::UnknownPackage { name: record.name.to_owned() };
    let list = lists.get(candidate.list).ok_or_else(unknown)?;
    let mut control = Vec::new();
    for field in record.stanza.fields() {
        let (name, value) = field.map_err(|_| unknown())?;
        control.push((name.to_owned(), value.to_owned()));
    }
    let package = Package {
        name: record.name.to_owned(),
        version: record.version.to_owned(),
        architecture: record.architecture.to_owned(),
        sha256: record.sha256.to_owned(),
        size_bytes: record.size_bytes,
        file: downloads_dir.join(record.sha256),
        control,
        essential: record.essential,
    };
    Ok(Chosen { package, url: format!("{}/{}", list.base_url, record.filename) })
}

fn check_space(dir: &Path, chosen: &[Chosen]) -> Result<(), AcquireError> {
    let here = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let missing = chosen.iter().map(|one| {
        let kept = here(&one.package.file).max(here(&one.package.file.with_extension("part")));
        one.package.size_bytes.saturating_sub(kept)
    });
    let needed_bytes = missing.sum::<u64>() + RESERVE_BYTES;
    let status =
        rustix::fs::statvfs(dir).map_err(|errno| AcquireError::Disk { path: dir.to_owned(), source: errno.into() })?;
    let available_bytes = status.f_bavail.saturating_mul(status.f_frsize);
    if available_bytes < needed_bytes {
        return Err(AcquireError::NoSpace { path: dir.to_owned(), needed_bytes, available_bytes });
    }
    Ok(())
}

fn now() -> u64 {
    // Before 1970 every signature is from the future, and that is what is said then.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "acquire_tests.rs"]
mod tests;
