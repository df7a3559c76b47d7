//! Guest kernels: from a package (or a file of the user's) to a directory that machines boot from.
//!
//! A kernel directory holds `vmlinuz`, `modules.ext4` (all its modules with what `depmod` would write beside them), `init/`
//! (the few modules the agent loads to reach its disks), `kernel.json`, and an initramfs for each agent it was used with.

mod index_trie;
mod initramfs;
mod module_file;
mod modules_index;
mod release;
mod sources;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use liblzma::read::XzDecoder;
use pyro_store::environment_record::{KERNEL_RECORD_VERSION, KernelRecord};
use pyro_store::hold::Hold;
use pyro_store::{atomic, hex};
use sha2::{Digest, Sha256};

use super::GuestKernel;
use super::deb::DebError;
use super::ext4::{Attributes, Ext4Error, FormatOptions, Formatter};
use super::package::Package;
use crate::settings::CustomKernel;
use initramfs::InitModule;
pub use module_file::MalformedModule;
use module_file::module_name;
pub use modules_index::ModuleOrderError;
use modules_index::{Module, ModuleSet};
use sources::KernelFiles;

/// What the agent needs before it can use the machine's own `modprobe`. Virtio first: everything else comes through it.
const INIT_MODULES: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "ext4", "overlay"];
/// Part of the digests: changes when this file makes other directories of the same input.
const LAYOUT_VERSION: u32 = 1;

const IMAGE_FILE: &str = "vmlinuz";
const MODULES_FILE: &str = "modules.ext4";
const INIT_DIR: &str = "init";
const RECORD_FILE: &str = "kernel.json";

/// Why a kernel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A package file cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The image of the modules cannot be written.
    #[error(transparent)]
    Modules(#[from] Ext4Error),
    /// A file of the kernel cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The package has no kernel in it.
    #[error("the package {package} has no /boot/vmlinuz")]
    NoImage {
        /// Its name.
        package: String,
    },
    /// The image is neither a bzImage nor a vmlinux, or does not say its release.
    #[error("{} is not a kernel image: neither a bzImage nor a vmlinux that says its release", image.display())]
    NotAKernel {
        /// The file.
        image: PathBuf,
    },
    /// A module cannot be read.
    #[error("cannot read the kernel module {module}")]
    Module {
        /// Its path.
        module: String,
        /// The cause.
        #[source]
        source: MalformedModule,
    },
    /// The modules do not fit together.
    #[error("the modules of the kernel are incomplete")]
    Order(#[from] ModuleOrderError),
    /// What an earlier pyro wrote cannot be understood.
    #[error("{} is malformed", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Names the directory of a kernel package.
#[must_use]
pub fn debian_digest(package: &Package) -> String {
    digest(&["debian", &package.sha256])
}

/// Names the directory of a kernel of the user's: by where it lies and when it was changed, as reading it each time would
/// cost more than a start.
///
/// # Errors
/// [`KernelError::Io`] when it is not there.
pub fn custom_digest(custom: &CustomKernel) -> Result<String, KernelError> {
    let mut parts = vec!["custom".to_owned()];
    for path in std::iter::once(&custom.image).chain(&custom.modules_dir) {
        let io_error = |source| KernelError::Io { what: "read", path: path.clone(), source };
        let path = path.canonicalize().map_err(io_error)?;
        let metadata = path.metadata().map_err(io_error)?;
        use std::os::unix::fs::MetadataExt;
        parts.push(path.to_string_lossy().into_owned());
        parts.push(format!("{} {} {} {}", metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    }
    Ok(digest(&parts.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(LAYOUT_VERSION.to_le_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize())
}

/// Makes the directory of a kernel package in `dir`, which exists and is empty.
///
/// # Errors
/// As [`KernelError`] says.
pub fn build_debian(package: &Package, dir: &Path) -> Result<KernelRecord, KernelError> {
    let files = sources::from_package(package)?;
    let origin = format!("{} {}", package.name, package.version);
    build(files, debian_digest(package), origin, dir)
}

/// Makes the directory of a kernel of the user's in `dir`, which exists and is empty.
///
/// # Errors
/// As [`KernelError`] says.
pub fn build_custom(custom: &CustomKernel, dir: &Path) -> Result<KernelRecord, KernelError> {
    let files = sources::from_files(custom)?;
    build(files, custom_digest(custom)?, custom.image.display().to_string(), dir)
}

/// The kernel in `dir`, with an initramfs around `agent`, which is made now if there is none yet.
///
/// # Errors
/// [`KernelError::Io`] with `NotFound` when there is no kernel in it; otherwise as [`KernelError`] says.
pub fn open(dir: &Path, agent: &[u8]) -> Result<GuestKernel, KernelError> {
    let held = Hold::share(dir).map_err(io_error("use", dir))?;
    let record = read_record(dir)?;
    let agent_digest = hex::encode(&Sha256::digest(agent));
    let initramfs = dir.join(initramfs_name_of(&agent_digest));
    if !initramfs.exists() {
        let archive = initramfs_for(dir, &record, agent)?;
        atomic::write(&initramfs, &archive).map_err(io_error("write", &initramfs))?;
    }
    Ok(GuestKernel {
        digest: digest(&["with agent", &record.digest, &agent_digest]),
        release: record.release,
        image: dir.join(IMAGE_FILE),
        initramfs,
        modules_image: record.has_modules.then(|| dir.join(MODULES_FILE)),
        _held: Arc::new(held),
    })
}

/// File name of the initramfs around `agent` in a kernel's directory.
#[must_use]
pub fn initramfs_name(agent: &[u8]) -> String {
    initramfs_name_of(&hex::encode(&Sha256::digest(agent)))
}

fn initramfs_name_of(agent_digest: &str) -> String {
    format!("initramfs-{}.cpio", &agent_digest[..16])
}

/// What `dir` says about its kernel.
///
/// # Errors
/// As [`open`].
pub fn read_record(dir: &Path) -> Result<KernelRecord, KernelError> {
    let path = dir.join(RECORD_FILE);
    let bytes = std::fs::read(&path).map_err(io_error("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|source| KernelError::Record { path, source })
}

fn initramfs_for(dir: &Path, record: &KernelRecord, agent: &[u8]) -> Result<Vec<u8>, KernelError> {
    let mut contents = Vec::new();
    for name in &record.init_modules {
        let path = dir.join(INIT_DIR).join(name);
        contents.push(std::fs::read(&path).map_err(io_error("read", &path))?);
    }
    let modules: Vec<InitModule<'_>> =
        record.init_modules.iter().zip(&contents).map(|(path, bytes)| InitModule { path, bytes }).collect();
    Ok(initramfs::build(agent, &modules))
}

fn build(files: KernelFiles, digest: String, origin: String, dir: &Path) -> Result<KernelRecord, KernelError> {
    let image = dir.join(IMAGE_FILE);
    write_through(&image, &files.image)?;
    let set = module_set(&files)?;
    let mut init_modules = Vec::new();
    if !files.modules.is_empty() {
        write_modules_image(&files, &set, dir)?;
        init_modules = write_init_modules(&files, &set, dir)?;
    }
    let record = KernelRecord {
        version: KERNEL_RECORD_VERSION,
        digest,
        release: files.release,
        origin,
        has_modules: !files.modules.is_empty(),
        init_modules,
    };
    let path = dir.join(RECORD_FILE);
    let bytes = serde_json::to_vec_pretty(&record).expect("a record has only strings and numbers");
    atomic::write(&path, &bytes).map_err(io_error("write", &path))?;
    Ok(record)
}

fn module_set(files: &KernelFiles) -> Result<ModuleSet, KernelError> {
    let mut modules = Vec::with_capacity(files.modules.len());
    for (path, bytes) in &files.modules {
        let elf = uncompressed(path, bytes)?;
        let info = module_file::read(&elf).map_err(|source| KernelError::Module { module: path.clone(), source })?;
        modules.push(Module { path: path.clone(), name: module_name(path), info });
    }
    let text = |name: &str| {
        let file = files.lists.iter().find(|(list, _)| list == name);
        file.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    let builtin_info = files.lists.iter().find(|(list, _)| list == "modules.builtin.modinfo");
    let builtin_info = builtin_info.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
    Ok(ModuleSet::new(modules, &text("modules.order"), &text("modules.builtin"), builtin_info))
}

fn write_modules_image(files: &KernelFiles, set: &ModuleSet, dir: &Path) -> Result<(), KernelError> {
    let path = dir.join(MODULES_FILE);
    let file = File::options().write(true).create_new(true).open(&path).map_err(io_error("create", &path))?;
    let mut all: Vec<(&str, &[u8])> = files.modules.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect();
    all.extend(files.lists.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])));
    let indexes = set.index_files()?;
    all.extend(indexes.iter().map(|(path, bytes)| (*path, &bytes[..])));
    all.sort_unstable_by_key(|(path, _)| *path);

    let content_bytes: u64 = all.iter().map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(4096) + 512).sum();
    let options = FormatOptions {
        size_bytes: content_bytes + content_bytes / 32 + (8 << 20),
        bytes_per_inode: 16_384,
        uuid: *b"pyro-kernel-mods",
        time_seconds: files.time_seconds,
        journal_blocks: 0,
    };
    let whole = file.try_clone().map_err(io_error("write", &path))?;
    let mut formatter = Formatter::new(&path, file, options)?;
    let attributes = |mode| Attributes::of_root(mode, files.time_seconds);
    for (path, bytes) in all {
        let path = format!("{}/{path}", files.release);
        for (end, _) in path.match_indices('/') {
            formatter.add_directory(&path.as_bytes()[..end], attributes(0o755))?;
        }
        formatter.add_file(path.as_bytes(), attributes(0o644), bytes.len() as u64, &mut &bytes[..])?;
    }
    formatter.finish()?;
    whole.sync_all().map_err(io_error("write", &path))
}

/// Writes a file that is on the disk when its directory gets its name.
fn write_through(path: &Path, bytes: &[u8]) -> Result<(), KernelError> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", path))
}

/// Writes the modules the agent loads into `init/`; answers their file names in the order of loading.
fn write_init_modules(files: &KernelFiles, set: &ModuleSet, dir: &Path) -> Result<Vec<String>, KernelError> {
    let init_dir = dir.join(INIT_DIR);
    std::fs::create_dir(&init_dir).map_err(io_error("create", &init_dir))?;
    let mut names = Vec::new();
    for path in set.load_order(&INIT_MODULES)? {
        let Some((_, bytes)) = files.modules.iter().find(|(module, _)| module == path) else { continue };
        let name = format!("{}.ko", module_name(path));
        let target = init_dir.join(&name);
        write_through(&target, &uncompressed(path, bytes)?)?;
        names.push(name);
    }
    Ok(names)
}

/// A module's ELF file, whether it is stored as `.ko` or `.ko.xz`.
fn uncompressed<'a>(path: &str, bytes: &'a [u8]) -> Result<std::borrow::Cow<'a, [u8]>, KernelError> {
    if !path.ends_with(".xz") {
        return Ok(bytes.into());
    }
    let mut elf = Vec::new();
    let read = XzDecoder::new_multi_decoder(bytes).read_to_end(&mut elf);
    read.map_err(|source| KernelError::Io { what: "decompress", path: PathBuf::from(path), source })?;
    Ok(elf.into())
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> KernelError + 'a {
    move |source| KernelError::Io { what, path: path.to_owned(), source }
}
