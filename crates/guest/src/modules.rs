//! The kernel's modules: those in the initramfs by their files, those on the modules' disk by their names.
//!
//! No tool of the guest is needed: what a module needs first stands in `modules.dep`, which came with the kernel.

use std::path::Path;

use pyro_wire::{Fault, FaultKind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// Longest list of what modules need; Debian's is under 1 MiB.
const DEPENDENCIES_BYTES_MAX: u64 = 16 << 20;

/// Loads a module from its file.
pub(crate) fn load_file(path: impl AsRef<Path>) -> Result<(), Errno> {
    let path = path.as_ref();
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let flags =
        if path.extension().is_some_and(|extension| extension == "ko") { 0 } else { MODULE_INIT_COMPRESSED_FILE };
    rustix::system::finit_module(&file, c"", flags)
}

/// Loads a module and what it needs from `modules`, the directory above those of the kernels' releases. One that is not
/// there is built in, or missed when its device is.
pub(crate) fn load(modules: &Path, name: &str) -> Result<(), Fault> {
    let fault =
        |error: std::io::Error| Fault::new(FaultKind::Io, format!("cannot load the kernel module {name}: {error}"));
    let dir = modules.join(rustix::system::uname().release().to_string_lossy().as_ref());
    let list = dir.join("modules.dep");
    match std::fs::metadata(&list) {
        Ok(data) if data.len() <= DEPENDENCIES_BYTES_MAX => {}
        _ => return Ok(()),
    }
    let text = std::fs::read_to_string(&list).map_err(fault)?;
    for path in load_order(&text, name) {
        match load_file(dir.join(path)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fault(error.into())),
        }
    }
    Ok(())
}

/// The files to load for a module, what is needed first in front.
fn load_order<'a>(dependencies: &'a str, name: &str) -> Vec<&'a str> {
    let is_wanted = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == name)
    };
    let line = dependencies.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| is_wanted(path));
    // Each line names all that a module needs, the last to be loaded in front.
    line.map(|(path, needed)| needed.split_ascii_whitespace().rev().chain([path]).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::load_order;

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let text = "kernel/net/core/failover.ko:\n\
            kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
            kernel/drivers/net/virtio-net.ko.xz: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n";
        assert_eq!(
            load_order(text, "virtio_net"),
            [
                "kernel/net/core/failover.ko",
                "kernel/drivers/net/net_failover.ko",
                "kernel/drivers/net/virtio-net.ko.xz"
            ]
        );
        assert!(load_order(text, "net").is_empty());
        assert!(load_order("", "net").is_empty());
    }
}
