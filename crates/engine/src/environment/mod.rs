//! Root filesystems: where they come from, how they are made without root, where they are kept.
//!
//! The last step of making one, `dpkg --configure`, needs a machine. This room knows no machines, so it asks a
//! [`Finisher`], which the `workspace` room implements.

pub mod deb;
pub mod ext4;
pub mod fetch;
pub mod kernel;
pub mod package;
pub mod rootfs;
pub mod sources;

use std::path::PathBuf;
use std::pin::Pin;

use crate::progress::Reporter;

/// An environment that is installed and sealed.
#[derive(Debug, Clone)]
pub struct InstalledEnvironment {
    /// Its name, such as `debian:12`.
    pub name: String,
    /// SHA-256 of its manifest, lower-case hex; names the environment in template keys.
    pub digest: String,
    /// Read-only ext4 image of the root filesystem.
    pub rootfs: PathBuf,
    /// The kernel its machines boot.
    pub kernel: GuestKernel,
}

/// A guest kernel, ready to boot.
#[derive(Debug, Clone)]
pub struct GuestKernel {
    /// Names the kernel, its initramfs and so the agent in template keys; lower-case hex.
    pub digest: String,
    /// `uname -r` of it.
    pub release: String,
    /// bzImage or vmlinux.
    pub image: PathBuf,
    /// The agent and the modules it needs to reach its disks.
    pub initramfs: PathBuf,
    /// Read-only ext4 image with `<release>/…` at its top; `None` when the kernel has no modules.
    pub modules_image: Option<PathBuf>,
}

/// Runs the last step of making an environment inside a machine.
pub trait Finisher: Send + Sync {
    /// Boots `job.kernel` with `job.rootfs` as its writable root, runs the script, shuts down in an orderly way.
    fn finish<'a>(
        &'a self,
        job: FinishJob,
        report: Reporter<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FinishError>> + Send + 'a>>;
}

/// What a [`Finisher`] does.
#[derive(Debug, Clone)]
pub struct FinishJob {
    /// A raw ext4 image, written to in place.
    pub rootfs: PathBuf,
    /// The kernel to boot.
    pub kernel: GuestKernel,
    /// A script for `/bin/sh -eu`. A line `pyro-progress: <n> <item>` on its standard output becomes progress.
    pub script: String,
    /// Give up after this long.
    pub timeout_seconds: u64,
}

/// Why an environment was not finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The machine did not come up, or went away.
    #[error("the machine that configures packages failed")]
    Machine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The script ended with an error.
    #[error("configuring the packages failed with code {code}")]
    Script {
        /// The script's exit code.
        code: i32,
        /// The end of what it printed, cleaned for a terminal.
        output_tail: String,
    },
    /// The script ran past its time.
    #[error("configuring the packages took more than {timeout_seconds} s")]
    TimedOut {
        /// The limit.
        timeout_seconds: u64,
    },
}
