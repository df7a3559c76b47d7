//! What the host has for machines: the hypervisor's program, `/dev/kvm`, the processor.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::jail::KVM_DEVICE;

/// Finds a program: a path as it is, a bare name in `path_dirs`.
pub(super) fn locate(program: &Path, path_dirs: &[PathBuf]) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return is_program(program).then(|| program.to_owned());
    }
    path_dirs.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).find(|path| is_program(path))
}

/// Whether a hypervisor of this identity can open `/dev/kvm`; if not, why, and what would help.
pub(super) fn check_kvm_reach(identity: &Identity) -> Result<(), String> {
    let describe = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {KVM_DEVICE}"),
        io::ErrorKind::PermissionDenied => format!("{KVM_DEVICE} may not be opened by this user"),
        _ => format!("{KVM_DEVICE} cannot be opened: {error}"),
    };
    File::options().read(true).write(true).open(KVM_DEVICE).map_err(describe)?;
    let Identity::Own { groups, .. } = identity else { return Ok(()) };
    let metadata = std::fs::metadata(KVM_DEVICE).map_err(describe)?;
    if metadata.mode() & 0o006 == 0o006 || !groups.is_empty() {
        return Ok(());
    }
    Err(format!(
        "only root may open {KVM_DEVICE}, and machines do not run as root; \
         `chgrp kvm {KVM_DEVICE} && chmod 660 {KVM_DEVICE}` lets them"
    ))
}
