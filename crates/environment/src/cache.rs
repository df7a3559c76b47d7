//! Installed environments on disk: finding, reading, checking, sealing.
//!
//! `environments/<name>/` holds `rootfs.ext4` (read-only), `manifest.json` (what it is; its SHA-256 names the environment)
//! and `seal.json` (how the image looked when it was last known to be whole).

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pyro_store::environment_record::{ENVIRONMENT_RECORD_VERSION, EnvironmentRecord, SealRecord};
use pyro_store::home::Home;
use pyro_store::{atomic, hex};
use sha2::{Digest, Sha256};

use super::error::{EnvironmentError, io_error};

pub(super) const ROOTFS_FILE: &str = "rootfs.ext4";
const MANIFEST_FILE: &str = "manifest.json";
const SEAL_FILE: &str = "seal.json";

/// An environment as it lies on disk.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) dir: PathBuf,
    pub(super) record: EnvironmentRecord,
    pub(super) digest: String,
}

/// Where the environment of this name is, if it is installed.
pub(super) fn dir_of(home: &Home, name: &str) -> PathBuf {
    home.environments_dir().join(encoded(name))
}

/// The lock that whoever makes or removes the environment holds.
pub(super) fn lock_of(home: &Home, name: &str) -> PathBuf {
    home.locks_dir().join(format!("environment-{}.lock", encoded(name)))
}

/// Whether a file of the locks' directory is such a lock.
pub(super) fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("environment-"))
}

/// The names of all installed environments, sorted.
pub(super) fn names(home: &Home) -> Result<Vec<String>, EnvironmentError> {
    let dir = home.environments_dir();
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(io_error("read", &dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let file_name = entry.map_err(io_error("read", &dir))?.file_name();
        names.extend(file_name.to_str().and_then(decoded));
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads the manifest of an environment; `None` when there is no such environment.
pub(super) fn read(home: &Home, name: &str) -> Result<Option<Stored>, EnvironmentError> {
    let dir = dir_of(home, name);
    let path = dir.join(MANIFEST_FILE);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.exists() => return Ok(None),
        result => result.map_err(io_error("read", &path))?,
    };
    let malformed = |source| EnvironmentError::Manifest { name: name.to_owned(), path: path.clone(), source };
    let version: Version = serde_json::from_slice(&bytes).map_err(malformed)?;
    if version.version > ENVIRONMENT_RECORD_VERSION {
        return Err(EnvironmentError::Newer { name: name.to_owned(), version: version.version });
    }
    let record: EnvironmentRecord = serde_json::from_slice(&bytes).map_err(malformed)?;
    Ok(Some(Stored { dir, record, digest: hex::encode(&Sha256::digest(&bytes)) }))
}

#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

impl Stored {
    pub(super) fn rootfs(&self) -> PathBuf {
        self.dir.join(ROOTFS_FILE)
    }

    /// The cheap check: the image looks as it did when it was sealed. One that only looks younger or older (a cache that
    /// was copied) is read in full once.
    pub(super) fn check(&self) -> Result<(), EnvironmentError> {
        let path = self.rootfs();
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged("is missing"),
            _ => io_error("read", &path)(error),
        })?;
        let now = seal_of(&file).map_err(io_error("read", &path))?;
        if now.size_bytes != self.record.rootfs.size_bytes {
            return Err(self.damaged("has another size than when it was sealed"));
        }
        let mut superblock = [0; 1024];
        file.read_exact_at(&mut superblock, 1024).map_err(io_error("read", &path))?;
        if superblock[0x38..0x3a] != 0xef53_u16.to_le_bytes() {
            return Err(self.damaged("is not an ext4 filesystem"));
        }
        let sealed = std::fs::read(self.dir.join(SEAL_FILE)).ok();
        let sealed: Option<SealRecord> = sealed.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if sealed.is_some_and(|sealed| sealed == now) {
            return Ok(());
        }
        self.verify()
    }

    /// The whole check: the image's content has the digest of the manifest.
    pub(super) fn verify(&self) -> Result<(), EnvironmentError> {
        let path = self.rootfs();
        let (found, seal) = digest_of(&path).map_err(io_error("read", &path))?;
        if found != self.record.rootfs.sha256 {
            return Err(self.damaged("has another content than when it was sealed"));
        }
        write_seal(&self.dir, &seal)
    }

    fn damaged(&self, what: &'static str) -> EnvironmentError {
        EnvironmentError::Damaged { name: self.record.name.clone(), path: self.rootfs(), what }
    }
}

/// Makes a finished image read-only and durable; answers its digest and size.
pub(super) fn seal(dir: &Path) -> Result<(String, u64), EnvironmentError> {
    let path = dir.join(ROOTFS_FILE);
    std::fs::set_permissions(&path, Permissions::from_mode(0o400)).map_err(io_error("seal", &path))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(io_error("write", &path))?;
    let (digest, seal) = digest_of(&path).map_err(io_error("read", &path))?;
    write_seal(dir, &seal)?;
    Ok((digest, seal.size_bytes))
}

/// Writes the manifest, which is the last file of an environment.
pub(super) fn write_manifest(dir: &Path, record: &EnvironmentRecord) -> Result<(), EnvironmentError> {
    let path = dir.join(MANIFEST_FILE);
    let bytes = serde_json::to_vec_pretty(record).expect("a record has only strings and numbers");
    atomic::write(&path, &bytes).map_err(io_error("write", &path))
}

fn write_seal(dir: &Path, seal: &SealRecord) -> Result<(), EnvironmentError> {
    let path = dir.join(SEAL_FILE);
    let bytes = serde_json::to_vec(seal).expect("a record has only numbers");
    atomic::write(&path, &bytes).map_err(io_error("write", &path))
}

fn seal_of(file: &File) -> io::Result<SealRecord> {
    let metadata = file.metadata()?;
    Ok(SealRecord {
        size_bytes: metadata.len(),
        modified_seconds: metadata.mtime(),
        modified_nanoseconds: metadata.mtime_nsec(),
    })
}

fn digest_of(path: &Path) -> io::Result<(String, SealRecord)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok((hex::encode(&hash.finalize()), seal_of(&file)?))
}

/// Bytes a file or directory takes on its disk.
pub(super) fn disk_bytes(path: &Path) -> io::Result<u64> {
    let metadata = std::fs::symlink_metadata(path)?;
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += disk_bytes(&entry?.path())?;
        }
    }
    Ok(bytes)
}

/// A name as a file name: what is not a letter, a digit or one of `._:-` is written as `%` and two hex digits.
fn encoded(name: &str) -> String {
    let mut file_name = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_:-".contains(&byte) || (byte == b'.' && index > 0);
        match plain {
            true => file_name.push(byte.into()),
            false => file_name.push_str(&format!("%{byte:02X}")),
        }
    }
    file_name
}

fn decoded(file_name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(file_name.len());
    let mut rest = file_name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decoded, encoded};

    proptest! {
        #[test]
        fn a_name_survives_and_stays_in_its_directory(name in ".{1,40}") {
            let file_name = encoded(&name);
            prop_assert!(!file_name.contains('/') && !file_name.starts_with('.') && !file_name.contains('\0'));
            prop_assert_eq!(decoded(&file_name), Some(name));
        }
    }
}
