//! Workspace disks before a guest writes to them: their layout, and the empty ones, made once a size and used as the bottom
//! of every workspace's disk.
//!
//! At the top: `upper` and `work`, for the overlay that is the guest's root; `workspace/lower` (the seed, empty here),
//! `workspace/upper` and `workspace/work`, for the one at its `/workspace`.

use std::fs::File;
use std::io;
use std::path::Path;

use pyro_store::hold;
use pyro_store::home::{Home, create_private_dir};
use pyro_store::staging::Staging;

use super::error::{EnvironmentError, io_error};
use super::ext4::{Attributes, Ext4Error, FormatOptions, Formatter};

/// What a workspace begins with; the guest never writes to it.
pub const SEED_DIR: &[u8] = b"workspace/lower";
/// What the guest changes of it.
pub const CHANGES_DIR: &[u8] = b"workspace/upper";

/// Changes when the same size would be formatted in another way: a workspace keeps the one it was made on.
const LAYOUT_VERSION: u32 = 2;
const GIB: u64 = 1 << 30;
/// Journals of 16 MiB, and of 32 MiB on disks from 4 GiB.
const JOURNAL_BLOCKS: (u32, u32) = (4096, 8192);
/// One inode for so many bytes, where a seed does not ask for more.
const BYTES_PER_INODE: u64 = 16_384;
/// Inodes that a guest has in any case, however many a seed takes.
const FREE_INODES_MIN: u64 = 65_536;

/// A workspace disk to begin.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceDisk {
    /// Its size.
    pub gib: u32,
    /// Inodes that its seed takes.
    pub seed_inodes: u64,
    /// When it is said to be made, in seconds since 1970.
    pub time_seconds: i64,
}

/// Formats `file`, an empty one, and makes the directories of the layout. `image` is its name for messages.
///
/// # Errors
/// The file cannot be written, or the disk is too small for the directories.
pub fn begin(image: &Path, file: File, disk: WorkspaceDisk) -> Result<Formatter, Ext4Error> {
    let size_bytes = u64::from(disk.gib) * GIB;
    let options = FormatOptions {
        size_bytes,
        bytes_per_inode: (size_bytes / (disk.seed_inodes + FREE_INODES_MIN)).min(BYTES_PER_INODE),
        uuid: *b"pyro-workspace-1",
        time_seconds: disk.time_seconds,
        journal_blocks: if size_bytes < 4 * GIB { JOURNAL_BLOCKS.0 } else { JOURNAL_BLOCKS.1 },
    };
    let mut formatter = Formatter::new(image, file, options)?;
    for path in [b"upper", &b"work"[..], b"workspace", SEED_DIR, CHANGES_DIR, b"workspace/work"] {
        formatter.add_directory(path, Attributes::of_root(0o755, disk.time_seconds))?;
    }
    Ok(formatter)
}

/// The empty disk of this size, made now if there is none yet. As long as it is open, no prune takes it.
///
/// # Errors
/// [`EnvironmentError::Io`] or [`EnvironmentError::BlankDisk`].
pub(super) fn provide(home: &Home, gib: u32) -> Result<File, EnvironmentError> {
    let path = home.blank_disks_dir().join(format!("{}{gib}gib.raw", prefix()));
    match open_held(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map_err(io_error("open", &path)),
    }
    let staging = Staging::create(home, "blank-disk")?;
    let staged = staging.dir().join("disk");
    format(&staged, gib)?;
    let disk = open_held(&staged).map_err(io_error("open", &staged))?;
    create_private_dir(&home.blank_disks_dir()).map_err(io_error("create", &home.blank_disks_dir()))?;
    // Two processes may make it at once: the same bytes, and the rename is atomic.
    std::fs::rename(&staged, &path).map_err(io_error("write", &path))?;
    pyro_store::atomic::sync_parent(&path).map_err(io_error("write", &path))?;
    Ok(disk)
}

/// One that was pruned in between is as good as any other: it has no name any more, and all of its content.
fn open_held(path: &Path) -> io::Result<File> {
    let disk = File::open(path)?;
    hold::share_file(&disk)?;
    Ok(disk)
}

/// Whether an empty disk is one that would be used today.
pub(super) fn is_current(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix()))
}

fn prefix() -> String {
    format!("ext4-v{LAYOUT_VERSION}-")
}

fn format(path: &Path, gib: u32) -> Result<(), EnvironmentError> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o400);
    let file = options.open(path).map_err(io_error("create", path))?;
    let sync = file.try_clone().map_err(io_error("write", path))?;
    begin(path, file, WorkspaceDisk { gib, seed_inodes: 0, time_seconds: 0 })
        .and_then(Formatter::finish)
        .map_err(|error: Ext4Error| EnvironmentError::from(error))?;
    sync.sync_all().map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use pyro_store::home::Home;

    #[test]
    fn a_large_disk_is_made_once_and_takes_little_room() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&dir.path().join("cache"), &dir.path().join("state"));
        let disk = super::provide(&home, 64).unwrap();
        let metadata = disk.metadata().unwrap();
        assert_eq!(metadata.len(), 64 << 30);
        assert!(metadata.blocks() * 512 < 8 << 20);
        let path = home.blank_disks_dir().join("ext4-v2-64gib.raw");
        let mut disk = arcbox_ext4::Reader::new(&path).unwrap();
        for name in ["/upper", "/work", "/workspace/lower", "/workspace/upper", "/workspace/work"] {
            assert!(disk.list_dir(name).unwrap().is_empty(), "{name}");
        }
        assert_eq!(super::provide(&home, 64).unwrap().metadata().unwrap().ino(), metadata.ino());
        assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 0);
    }
}
