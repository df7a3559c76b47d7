//! What a user would pick instead, on the same files: bubblewrap, `unshare` with `chroot`, podman. They share the host's
//! kernel, which is what a machine of its own is compared to here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, ENVIRONMENT};

/// One of them.
#[derive(Clone, Copy)]
pub(crate) enum Rival {
    Bwrap,
    Chroot,
    Podman,
}

impl Rival {
    fn program(self) -> &'static str {
        match self {
            Self::Bwrap => "bwrap",
            Self::Chroot => "unshare",
            Self::Podman => "podman",
        }
    }
}

/// The environment's files in a directory, or why this rival cannot be measured here.
pub(crate) fn prepare(bed: &Bed, rival: Rival) -> Result<Result<PathBuf, String>> {
    for program in [rival.program(), "debugfs"] {
        if !is_installed(program) {
            return Ok(Err(format!("{program} is not installed")));
        }
    }
    let root = files(bed)?;
    let probe = command(rival, &root, &["true"]).stdin(Stdio::null()).output().context("it does not start")?;
    if probe.status.success() {
        return Ok(Ok(root));
    }
    let stderr = String::from_utf8_lossy(&probe.stderr);
    Ok(Err(format!("{} fails here: {}", rival.program(), stderr.lines().last().unwrap_or("no reason given"))))
}

/// The command that runs `argv` in a fresh container over `root`.
pub(crate) fn command(rival: Rival, root: &Path, argv: &[&str]) -> Command {
    let mut command = Command::new(rival.program());
    match rival {
        Rival::Bwrap => {
            command.args(["--unshare-all", "--die-with-parent", "--ro-bind"]).arg(root);
            command.args(["/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"]);
        }
        Rival::Chroot => {
            command.args(["--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]);
            // A bare root has no devices; git wants /dev/null.
            command.args(["sh", "-c", "mount --rbind /dev \"$0/dev\" && exec chroot \"$0\" \"$@\""]).arg(root);
        }
        Rival::Podman => {
            command.args(["run", "--rm", "--network", "none", "--rootfs"]).arg(root);
        }
    }
    command.args(argv);
    command
}

/// Takes the files out of the environment's image, once, without root.
fn files(bed: &Bed) -> Result<PathBuf> {
    let root = bed.dir().join("root");
    if root.exists() {
        return Ok(root);
    }
    let image = image(bed.user_cache())?;
    std::fs::create_dir(&root)?;
    let dump = format!("rdump / {}", root.display());
    let output = Command::new("debugfs").args(["-R", &dump]).arg(&image).stdin(Stdio::null()).output()?;
    ensure!(output.status.success() && root.join("usr/bin/git").exists(), "debugfs cannot read {}", image.display());
    Ok(root)
}

/// The largest file of the installed environment: its root filesystem.
fn image(cache: &Path) -> Result<PathBuf> {
    let mut images = Vec::new();
    let mut dirs = vec![cache.join("environments")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
            let metadata = std::fs::metadata(entry.path())?;
            if metadata.is_dir() {
                dirs.push(entry.path());
            } else if entry.path().to_string_lossy().contains("debian") {
                images.push((metadata.len(), entry.path()));
            }
        }
    }
    images.sort();
    images.pop().map(|(_, path)| path).with_context(|| format!("{ENVIRONMENT} is not installed"))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}
