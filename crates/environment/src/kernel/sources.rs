//! Where a kernel's files come from: a Debian package, or files of the user's.

use std::io::Read;
use std::path::Path;

use super::super::deb::{self, DataKind, DebError};
use super::super::package::Package;
use super::{KernelError, io_error, release};
use crate::settings::CustomKernel;

/// A kernel, read into memory.
#[derive(Debug, Default)]
pub(super) struct KernelFiles {
    pub(super) image: Vec<u8>,
    pub(super) release: String,
    /// Modules by their path below `/lib/modules/<release>`.
    pub(super) modules: Vec<(String, Vec<u8>)>,
    /// The lists the kernel's build made: `modules.order`, `modules.builtin`, `modules.builtin.modinfo`.
    pub(super) lists: Vec<(String, Vec<u8>)>,
    pub(super) time_seconds: i64,
}

const LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// Reads the kernel of a package.
pub(super) fn from_package(package: &Package) -> Result<KernelFiles, KernelError> {
    let mut files = KernelFiles { time_seconds: deb::packed_seconds(&package.file)?, ..KernelFiles::default() };
    deb::for_each_entry::<KernelError>(&package.file, &mut |entry, content| {
        let DataKind::File(_) = entry.kind else { return Ok(()) };
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let below = path.strip_prefix("usr/").unwrap_or(&path);
        if let Some(release) = below.strip_prefix("boot/vmlinuz-") {
            files.release = release.to_owned();
            files.image = read(package, content)?;
        } else if let Some((_, module)) = below.strip_prefix("lib/modules/").and_then(|rest| rest.split_once('/')) {
            files.take(module, || Ok(read(package, content)?))?;
        }
        Ok(())
    })?;
    if files.image.is_empty() {
        return Err(KernelError::NoImage { package: package.name.clone() });
    }
    Ok(files)
}

/// Reads a kernel from files of the user's.
pub(super) fn from_files(custom: &CustomKernel) -> Result<KernelFiles, KernelError> {
    let image = std::fs::read(&custom.image).map_err(io_error("read", &custom.image))?;
    let release = release::of_image(&image).ok_or_else(|| KernelError::NotAKernel { image: custom.image.clone() })?;
    let mut files = KernelFiles { image, release, ..KernelFiles::default() };
    if let Some(dir) = &custom.modules_dir {
        add_directory(dir, "", &mut files)?;
    }
    Ok(files)
}

fn add_directory(dir: &Path, below: &str, files: &mut KernelFiles) -> Result<(), KernelError> {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(io_error("read", dir))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        let inside = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(io_error("read", &path))?;
        // `build` and `source` are links to where the kernel was made.
        if kind.is_dir() {
            add_directory(&path, &inside, files)?;
        } else if kind.is_file() {
            files.take(&inside, || std::fs::read(&path).map_err(io_error("read", &path)))?;
        }
    }
    Ok(())
}

impl KernelFiles {
    /// Takes a file of the modules' directory, if it is one that counts.
    fn take(&mut self, path: &str, content: impl FnOnce() -> Result<Vec<u8>, KernelError>) -> Result<(), KernelError> {
        if path.ends_with(".ko") || path.ends_with(".ko.xz") {
            self.modules.push((path.to_owned(), content()?));
        } else if LISTS.contains(&path) {
            self.lists.push((path.to_owned(), content()?));
        }
        Ok(())
    }
}

fn read(package: &Package, content: &mut dyn Read) -> Result<Vec<u8>, DebError> {
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|source| DebError::Read { file: package.file.clone(), source })?;
    Ok(bytes)
}
