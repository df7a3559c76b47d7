//! The files of a workspace's disk: an immutable bottom, and layers above it that hold what was written since.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use crate::machine::qcow2::write_empty_layer;
use crate::machine::{DiskFormat, DiskLayer};
use crate::store::home::WorkspaceDir;

/// File name of the bottom: the formatted disk, with the seed on it.
pub const BASE: &str = "base.raw";

/// File name of the layer of this number.
#[must_use]
pub fn name(number: u64) -> String {
    format!("layer-{number}.qcow2")
}

/// A disk's files, from the bottom to the top.
#[derive(Debug, Clone)]
pub struct Layers {
    dir: WorkspaceDir,
    names: Vec<String>,
}

impl Layers {
    /// Those of these names in a workspace's directory.
    #[must_use]
    pub fn new(dir: &WorkspaceDir, names: Vec<String>) -> Self {
        Self { dir: dir.clone(), names }
    }

    /// Creates the top one, empty.
    ///
    /// # Errors
    /// As the system calls, or there is no layer below it.
    pub fn create_top(&self) -> io::Result<()> {
        let (Some(base), Some(top)) = (self.names.first(), self.names.last()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let size_bytes = std::fs::metadata(self.dir.layer(base))?.len();
        let file = File::options().write(true).create_new(true).mode(0o600).open(self.dir.layer(top))?;
        write_empty_layer(&file, size_bytes)
    }

    /// Opens them: only the top one for writing.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(&self) -> io::Result<Vec<DiskLayer>> {
        let top = self.names.len().saturating_sub(1);
        let open = |(level, name): (usize, &String)| {
            let file = File::options().read(true).write(level == top && level > 0).open(self.dir.layer(name))?;
            let format = if level == 0 { DiskFormat::Raw } else { DiskFormat::Qcow2 };
            Ok(DiskLayer { file: file.into(), format })
        };
        self.names.iter().enumerate().map(open).collect()
    }
}

/// Removes layers that are not among `names`: made by a supervisor that died, or given up by a reset.
///
/// # Errors
/// As the system calls.
pub fn remove_others(dir: &WorkspaceDir, names: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(dir.path())? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("layer-") && !names.contains(&name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
