//! The package lists of a suite: fetched, verified, and kept so that pyro works offline.
//!
//! A list is trusted only by this chain: a trusted key signed the release, the release names the list's size and hash, the
//! list has them. Kept files go the same way each time, so nothing on disk is trusted for being there. One process at a
//! time works on the lists of a suite.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use pyro_store::home::{Home, create_private_dir};
use pyro_store::lock::{Lock, LockError};
use pyro_store::{atomic, hex};

use super::error::AcquireError;
use super::openpgp::{self, Keyring};
use super::release::{ListedFile, Release, show_date};
use super::tally::Tally;
use crate::fetch::{FetchError, Fetcher, RemoteFile, digest_of, shown};
use crate::progress::Progress;

/// A suite and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suite {
    /// Base URL of its archive, without a slash at its end.
    pub(super) base_url: String,
    /// Its directory under `dists/`.
    pub(super) name: String,
}

/// A verified list of packages.
#[derive(Debug)]
pub(super) struct List {
    /// Base URL of the archive that its paths go on from.
    pub(super) base_url: String,
    /// Where the list is from, for errors.
    pub(super) url: String,
    /// The list.
    pub(super) text: String,
}

/// What loading lists needs.
pub(super) struct Loader<'a> {
    pub(super) home: &'a Home,
    pub(super) fetcher: &'a Fetcher,
    pub(super) keyring: &'a Keyring,
    /// Seconds since 1970.
    pub(super) now: u64,
    pub(super) tally: &'a Tally<'a>,
}

const RELEASE_BYTES_MAX: u64 = 8 << 20;
/// Of a list whose unpacked size the release does not say. Debian's largest has about 50 MB.
const UNPACKED_BYTES_MAX: u64 = 512 << 20;
const UNPACK_MEMORY_MAX: u64 = 256 << 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const LIST_DIR: &str = "main/binary-amd64";
const KEPT_RELEASE: &str = "InRelease";

/// How a list can be packed, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Xz,
    Gzip,
    None,
}

const PACKINGS: [(&str, Packing); 3] =
    [("Packages.xz", Packing::Xz), ("Packages.gz", Packing::Gzip), ("Packages", Packing::None)];

/// A release that was verified, and the file it was read from.
struct Verified {
    release: Release,
    file: Vec<u8>,
    url: String,
}

/// A list that a release offers.
struct Offer<'a> {
    name: &'static str,
    packing: Packing,
    listed: &'a ListedFile,
}

impl Suite {
    fn release_url(&self) -> String {
        format!("{}/dists/{}/InRelease", self.base_url, self.name)
    }

    /// Where its files are kept; another archive of the same suite is kept elsewhere.
    fn kept_name(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = hex::encode(&Sha256::digest(&self.base_url));
        format!("{}-{}", self.name.replace('/', "_"), digest.get(..16).unwrap_or_default())
    }
}

impl Loader<'_> {
    /// The list of a suite: the archive's present one, or the kept one when the archive cannot be reached.
    pub(super) async fn load(&self, suite: &Suite) -> Result<List, AcquireError> {
        let dir = self.home.lists_dir().join(suite.kept_name());
        create_private_dir(&dir).map_err(|source| AcquireError::Disk { path: dir.clone(), source })?;
        let _lock = take_lock(&self.home.locks_dir().join(format!("lists-{}.lock", suite.kept_name()))).await?;
        match self.refresh(suite, &dir).await {
            Err(AcquireError::Fetch(error)) if error.is_unreachable() => self.open_kept(suite, &dir, error).await,
            outcome => outcome,
        }
    }

    async fn refresh(&self, suite: &Suite, dir: &Path) -> Result<List, AcquireError> {
        (self.tally.report)(Progress::Item(suite.name.clone()));
        let url = suite.release_url();
        let file = self.fetcher.bytes(&url, RELEASE_BYTES_MAX).await?;
        let mut current = self.verify(suite, file, shown(&url))?;
        // A mirror that lags behind, or is made to, must not take back what was published already.
        if let Some(kept) = self.read_kept(suite, dir)?.filter(|kept| kept.release.date > current.release.date) {
            current = kept;
        }
        if let Some(valid_until) = current.release.valid_until.filter(|end| *end < self.now) {
            return Err(AcquireError::Expired { url: current.url, valid_until, now: self.now });
        }
        let offer = choose_list(&current)?;
        let path = dir.join(&offer.listed.sha256);
        let list_url = self.fetch_list(suite, &current, &offer, &path).await?;
        let list = unpack_list(suite, &current, offer.packing, &path, list_url).await?;
        let kept = dir.join(KEPT_RELEASE);
        atomic::write(&kept, &current.file).map_err(|source| AcquireError::Disk { path: kept, source })?;
        remove_others(dir, &offer.listed.sha256);
        Ok(list)
    }

    /// Fetches a list, under the name of its hash where that is offered: that name never means another file.
    async fn fetch_list(
        &self,
        suite: &Suite,
        verified: &Verified,
        offer: &Offer<'_>,
        path: &Path,
    ) -> Result<String, AcquireError> {
        let listed = offer.listed;
        let base = format!("{}/dists/{}/{LIST_DIR}", suite.base_url, suite.name);
        let plain = format!("{base}/{}", offer.name);
        let got = self.tally.file();
        if verified.release.by_hash {
            let url = format!("{base}/by-hash/SHA256/{}", listed.sha256);
            match self.fetcher.file(&remote(&url, listed), path, &got).await {
                Err(error) if error.is_not_found() => {}
                outcome => return outcome.map(|()| shown(&plain)).map_err(AcquireError::from),
            }
        }
        self.fetcher.file(&remote(&plain, listed), path, &got).await?;
        Ok(shown(&plain))
    }

    /// The list of an earlier time; its end, if it had one, does not matter: there is nothing newer, and that is said.
    async fn open_kept(&self, suite: &Suite, dir: &Path, error: FetchError) -> Result<List, AcquireError> {
        let Some(kept) = self.read_kept(suite, dir)? else {
            return Err(AcquireError::Offline { suite: suite.name.clone(), source: error });
        };
        let offer = choose_list(&kept)?;
        let path = dir.join(&offer.listed.sha256);
        let whole = path.exists() && digest_of(&path).await? == offer.listed.sha256;
        if !whole {
            return Err(AcquireError::Offline { suite: suite.name.clone(), source: error });
        }
        let note = format!(
            "the archive of {} cannot be reached: using its package list of {}",
            suite.name,
            show_date(kept.release.date)
        );
        (self.tally.report)(Progress::Note(note));
        let url = dir.join(offer.name).display().to_string();
        unpack_list(suite, &kept, offer.packing, &path, url).await
    }

    fn read_kept(&self, suite: &Suite, dir: &Path) -> Result<Option<Verified>, AcquireError> {
        let path = dir.join(KEPT_RELEASE);
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AcquireError::Disk { path, source }),
            // What is kept and not good (any more: keys end) is as if it were not there.
            Ok(file) => Ok(self.verify(suite, file, path.display().to_string()).ok()),
        }
    }

    fn verify(&self, suite: &Suite, file: Vec<u8>, url: String) -> Result<Verified, AcquireError> {
        let text = match openpgp::verify(&file, self.keyring, self.now) {
            Ok(text) => text,
            Err(source) => return Err(AcquireError::Signature { url, source }),
        };
        match Release::read(&text) {
            Err(source) => Err(AcquireError::Release { url, source }),
            Ok(release) if release.is_suite(&suite.name) => Ok(Verified { release, file, url }),
            Ok(release) => Err(AcquireError::WrongSuite { url, expected: suite.name.clone(), found: release.codename }),
        }
    }
}

fn choose_list(verified: &Verified) -> Result<Offer<'_>, AcquireError> {
    let offered = |(name, packing)| {
        let listed = verified.release.file(&format!("{LIST_DIR}/{name}"))?;
        Some(Offer { name, packing, listed })
    };
    let chosen = PACKINGS.into_iter().find_map(offered);
    chosen.ok_or_else(|| AcquireError::NoList { url: verified.url.clone() })
}

fn remote(url: &str, listed: &ListedFile) -> RemoteFile {
    RemoteFile { url: url.to_owned(), size_bytes: listed.size_bytes, sha256: listed.sha256.clone() }
}

async fn unpack_list(
    suite: &Suite,
    verified: &Verified,
    packing: Packing,
    path: &Path,
    url: String,
) -> Result<List, AcquireError> {
    let plain = verified.release.file(&format!("{LIST_DIR}/Packages"));
    let size_bytes_max = plain.map_or(UNPACKED_BYTES_MAX, |plain| plain.size_bytes.min(UNPACKED_BYTES_MAX));
    let packed = path.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || unpack(&packed, packing, size_bytes_max));
    let text = unpacking.await.map_err(|_| AcquireError::Stopped)?;
    let text = text.map_err(|source| AcquireError::Unpack { url: url.clone(), source })?;
    Ok(List { base_url: suite.base_url.clone(), url, text })
}

fn unpack(path: &Path, packing: Packing, size_bytes_max: u64) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    let reader: Box<dyn Read> = match packing {
        Packing::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(UNPACK_MEMORY_MAX, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(file, stream))
        }
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::None => Box::new(file),
    };
    let mut text = String::new();
    reader.take(size_bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > size_bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than its release says"));
    }
    Ok(text)
}

/// Removes what an earlier release left; a file that cannot be removed only takes space.
fn remove_others(dir: &Path, list: &str) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name != list && name != KEPT_RELEASE {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

async fn take_lock(path: &Path) -> Result<Lock, LockError> {
    loop {
        match Lock::try_take(path) {
            // Asked again rather than waited for in a thread, so that whoever drops this future stops it.
            Err(LockError::Held { .. }) => tokio::time::sleep(LOCK_PAUSE).await,
            outcome => return outcome,
        }
    }
}
