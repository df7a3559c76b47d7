//! Empty, formatted disks for workspaces: one file a size, made once, used as the bottom of every workspace's disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{EnvironmentError, io_error};
use super::ext4::{Ext4Error, FormatOptions, Formatter};
use crate::store::home::{Home, create_private_dir};
use crate::store::staging::Staging;

/// Changes when the same size would be formatted in another way: a workspace keeps the one it was made on.
const LAYOUT_VERSION: u32 = 1;
const GIB: u64 = 1 << 30;
/// Journals of 16 MiB, and of 32 MiB on disks from 4 GiB.
const JOURNAL_BLOCKS: (u32, u32) = (4096, 8192);

/// The empty disk of this size, made now if there is none yet.
///
/// # Errors
/// [`EnvironmentError::Io`] or [`EnvironmentError::BlankDisk`].
pub(super) fn provide(home: &Home, gib: u32) -> Result<PathBuf, EnvironmentError> {
    let path = home.blank_disks_dir().join(format!("ext4-v{LAYOUT_VERSION}-{gib}gib.raw"));
    if path.exists() {
        return Ok(path);
    }
    let staging = Staging::create(home, "blank-disk")?;
    let staged = staging.dir().join("disk");
    format(&staged, u64::from(gib) * GIB)?;
    create_private_dir(&home.blank_disks_dir()).map_err(io_error("create", &home.blank_disks_dir()))?;
    // Two processes may make it at once: the same bytes, and the rename is atomic.
    std::fs::rename(&staged, &path).map_err(io_error("write", &path))?;
    crate::store::atomic::sync_parent(&path).map_err(io_error("write", &path))?;
    Ok(path)
}

fn format(path: &Path, size_bytes: u64) -> Result<(), EnvironmentError> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o400);
    let file = options.open(path).map_err(io_error("create", path))?;
    let sync = file.try_clone().map_err(io_error("write", path))?;
    let format = FormatOptions {
        size_bytes,
        bytes_per_inode: 16_384,
        uuid: *b"pyro-workspace-1",
        time_seconds: 0,
        journal_blocks: if size_bytes < 4 * GIB { JOURNAL_BLOCKS.0 } else { JOURNAL_BLOCKS.1 },
    };
    Formatter::new(path, file, format)
        .and_then(Formatter::finish)
        .map_err(|error: Ext4Error| EnvironmentError::from(error))?;
    sync.sync_all().map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use crate::store::home::Home;

    #[test]
    fn a_large_disk_is_made_once_and_takes_little_room() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&dir.path().join("cache"), &dir.path().join("state"));
        let path = super::provide(&home, 64).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 64 << 30);
        assert!(metadata.blocks() * 512 < 8 << 20);
        assert_eq!(super::provide(&home, 64).unwrap(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), metadata.ino());
        assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 0);
    }
}
