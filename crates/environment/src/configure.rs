//! The script that finishes a root filesystem inside a machine.

use super::rootfs::BuiltRootfs;

const SCRIPT: &str = include_str!("configure.sh");

/// The machine gives up after this long. Emulated and with other work beside it, it took 5 minutes at the worst.
pub(super) const TIMEOUT_SECONDS: u64 = 30 * 60;

/// The script for what was built.
pub(super) fn script(built: &BuiltRootfs) -> String {
    format!("PREINSTS='{}'\n{SCRIPT}", built.preinsts.join(" "))
}
