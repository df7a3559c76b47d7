//! The files of a workspace's disk: an immutable bottom, and layers above it that hold what was written since.
//!
//! Which of them there are, and what stands on what, is said by [`DiskRecord`]; here they are made, opened and removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::machine::qcow2::write_empty_layer;
use crate::machine::{DiskFormat, DiskLayer};
use crate::store::disk_record::{BOTTOM, DiskRecord};
use crate::store::home::WorkspaceDir;

/// What the names of layers above the bottom begin with.
const PREFIX: &str = "layer-";

/// Makes the layer `number` of a workspace's disk, empty. It is durable when this comes back.
///
/// # Errors
/// As the system calls, or it is there already.
pub fn create(dir: &WorkspaceDir, number: u64) -> io::Result<()> {
    let size_bytes = std::fs::metadata(dir.layer(BOTTOM))?.len();
    let file = File::options().write(true).create_new(true).mode(0o600).open(dir.layer(number))?;
    write_empty_layer(&file, size_bytes)?;
    file.sync_data()
}

/// Opens the top one of a chain for writing, as it is handed to a machine that runs.
///
/// # Errors
/// As the system calls.
pub fn open_top(dir: &WorkspaceDir, number: u64) -> io::Result<DiskLayer> {
    let file = File::options().read(true).write(true).open(dir.layer(number))?;
    Ok(DiskLayer { file: file.into(), format: DiskFormat::Qcow2 })
}

/// Opens a chain of layers, from the bottom up, only for reading.
///
/// # Errors
/// As the system calls.
pub fn open_below(dir: &WorkspaceDir, chain: &[u64]) -> io::Result<Vec<DiskLayer>> {
    let open = |&number: &u64| {
        let format = if number == BOTTOM { DiskFormat::Raw } else { DiskFormat::Qcow2 };
        Ok(DiskLayer { file: File::open(dir.layer(number))?.into(), format })
    };
    chain.iter().map(open).collect()
}

/// Opens a chain of layers, from the bottom up: only the last one for writing.
///
/// # Errors
/// As the system calls, or there is none above the bottom.
pub fn open(dir: &WorkspaceDir, chain: &[u64]) -> io::Result<Vec<DiskLayer>> {
    let Some((&top, below @ [_, ..])) = chain.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut layers = open_below(dir, below)?;
    layers.push(open_top(dir, top)?);
    Ok(layers)
}

/// Removes the layers that `disk` does not name: made by somebody who died over it, or not needed any more.
///
/// # Errors
/// As the system calls.
pub fn remove_others(dir: &WorkspaceDir, disk: &DiskRecord) -> io::Result<()> {
    others(dir, disk)?.iter().try_for_each(std::fs::remove_file)
}

/// The layers in a workspace's directory that `disk` does not name.
///
/// # Errors
/// As the system calls.
pub fn others(dir: &WorkspaceDir, disk: &DiskRecord) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.path())? {
        let entry = entry?;
        let name = entry.file_name();
        let is_layer = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_layer && !disk.layers.iter().any(|layer| dir.layer(layer.number).file_name() == Some(&name)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{create, open, remove_others};
    use crate::store::disk_record::{BOTTOM, DiskRecord};
    use crate::store::home::Home;

    #[test]
    fn only_what_the_record_names_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let dir = Home::new(home.path(), home.path()).workspace("0123456789ab");
        std::fs::create_dir_all(dir.path()).unwrap();
        std::fs::File::create(dir.layer(BOTTOM)).unwrap().set_len(1 << 30).unwrap();
        std::fs::write(dir.record(), "{}").unwrap();
        for number in 1..4 {
            create(&dir, number).unwrap();
        }
        assert!(create(&dir, 1).is_err(), "a layer is never made twice");
        let mut disk = DiskRecord::new();
        disk.grow(2);
        remove_others(&dir, &disk).unwrap();
        assert!(dir.layer(1).exists() && dir.layer(2).exists() && !dir.layer(3).exists() && dir.record().exists());
        assert_eq!(open(&dir, &disk.live_chain()).unwrap().len(), 3);
        assert!(open(&dir, &[BOTTOM]).is_err(), "the bottom is never written to");
    }
}
