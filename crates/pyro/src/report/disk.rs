//! The public shape of a disk that was taken home.

use pyro_engine::workspace::disk::ExportedDisk;
use serde::Serialize;

use super::clean::one_line;
use super::{Report, units};

/// A disk that was taken home.
#[derive(Debug, Serialize)]
pub(crate) struct DiskExport {
    /// Id of the workspace.
    workspace: String,
    /// Where the image is.
    output: String,
    /// How large the disk is.
    size_bytes: u64,
    /// How much of it takes room.
    allocated_bytes: u64,
    /// SHA-256 of the image.
    sha256: String,
}

impl From<ExportedDisk> for DiskExport {
    fn from(ExportedDisk { workspace, output, size_bytes, allocated_bytes, sha256 }: ExportedDisk) -> Self {
        Self { workspace, output, size_bytes, allocated_bytes, sha256 }
    }
}

impl Report for DiskExport {
    fn text(&self, _: bool) -> String {
        let (size, room) = (units::size(self.size_bytes), units::size(self.allocated_bytes));
        format!("{}: the disk of workspace {}, {size}, takes {room}\n", one_line(&self.output), self.workspace)
    }
}
