//! The hypervisors. Adding one is a file here, an arm in [`DriverKind`] and a row in the conformance list.

use std::path::{Path, PathBuf};

use super::driver::Driver;

pub mod qemu;

/// A hypervisor, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverKind {
    /// QEMU.
    #[default]
    Qemu,
}

impl DriverKind {
    /// Its driver. `program` is a name to look up in `path_dirs`, or a path.
    #[must_use]
    pub fn driver(self, program: &Path, path_dirs: &[PathBuf]) -> Box<dyn Driver> {
        match self {
            Self::Qemu => Box::new(qemu::QemuDriver::new(program, path_dirs)),
        }
    }
}
