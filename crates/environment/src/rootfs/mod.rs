//! Makes the image of a root filesystem from package files, as if `dpkg --unpack` had run on an empty, merged-/usr system.
//!
//! [`build`] streams every package once: its entries go through [`merge`] (where they land, who owns them) into the image,
//! its control files into [`dpkg`]'s database. What only the packages' own scripts can do is left to the machine that runs
//! [`super::configure`]'s script.

mod dpkg;
mod merge;
mod own_files;
mod slim;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::deb::{self, DebError};
use super::ext4::{Ext4Error, FormatOptions, Formatted, Formatter};
use super::package::Package;
use crate::progress::{Progress, Reporter, Unit};
use merge::Merge;

/// Room beside the packages' content: for what their scripts make, and slack.
const HEADROOM_BYTES: u64 = 512 << 20;
/// Image sizes are multiples of this.
const SIZE_STEP_BYTES: u64 = 64 << 20;

/// What was built.
#[derive(Debug, Clone)]
pub struct BuiltRootfs {
    /// Its sizes.
    pub formatted: Formatted,
    /// Packages whose `preinst` has to run first, in their order.
    pub preinsts: Vec<String>,
    /// How many packages `dpkg --configure` will deal with.
    pub unconfigured_count: u64,
}

/// Why a root filesystem was not built.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A package file cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The image cannot be written.
    #[error(transparent)]
    Image(#[from] Ext4Error),
    /// Two packages have the same file and neither says that it replaces the other.
    #[error("{path} is in both {first} and {second}")]
    Conflict {
        /// The path.
        path: String,
        /// The package that came first.
        first: String,
        /// The package that came second.
        second: String,
    },
    /// A package's control file cannot be understood.
    #[error("the control file of {package} is malformed: {what}")]
    Control {
        /// The package.
        package: String,
        /// What is wrong.
        what: String,
    },
    /// A hard link's target is in no package.
    #[error("{path} of {package} is a hard link to {target}, which does not exist")]
    DanglingHardLink {
        /// The link.
        path: String,
        /// Its package.
        package: String,
        /// Where it leads.
        target: String,
    },
}

/// Builds the image in `file`, which is empty and open for writing; `image` is its name for messages.
///
/// # Errors
/// As [`RootfsError`] says. After an error the file is of no use.
pub fn build(packages: &[Package], image: &Path, file: File, report: Reporter<'_>) -> Result<BuiltRootfs, RootfsError> {
    report(Progress::Stage { name: "build image", unit: Unit::Packages, total: Some(packages.len() as u64) });
    let order = unpack_order(packages);
    let time_seconds = newest(&order)?;
    let options = FormatOptions {
        size_bytes: size_bytes(packages),
        bytes_per_inode: 16_384,
        uuid: identity(packages),
        time_seconds,
        journal_blocks: 0,
    };
    let mut merge = Merge::new(Formatter::new(image, file, options)?, time_seconds)?;
    for (index, package) in order.iter().enumerate() {
        report(Progress::Item(package.name.clone()));
        merge.add_package(package)?;
        report(Progress::Done(index as u64 + 1));
    }
    let (mut formatter, records) = merge.into_parts();
    dpkg::write(&mut formatter, &records, time_seconds)?;
    own_files::write(&mut formatter, time_seconds)?;
    Ok(BuiltRootfs {
        preinsts: records
            .iter()
            .filter(|record| record.needs_preinst())
            .map(|record| record.info_name.clone())
            .collect(),
        unconfigured_count: records.iter().filter(|record| record.needs_configure()).count() as u64,
        formatted: formatter.finish()?,
    })
}

/// `base-files` and `base-passwd` first, as their directories' modes and accounts count; the others as they come.
fn unpack_order(packages: &[Package]) -> Vec<&Package> {
    let rank = |package: &&Package| match package.name.as_str() {
        "base-files" => 0,
        "base-passwd" => 1,
        _ => 2,
    };
    let mut order: Vec<&Package> = packages.iter().collect();
    order.sort_by_key(rank);
    order
}

/// The time of the newest package: what pyro itself writes into the image is dated by it, so that the same packages
/// always give the same image.
fn newest(packages: &[&Package]) -> Result<i64, DebError> {
    packages
        .iter()
        .map(|package| deb::packed_seconds(&package.file))
        .try_fold(0, |newest, seconds| Ok(newest.max(seconds?)))
}

fn size_bytes(packages: &[Package]) -> u64 {
    let content_bytes: u64 = packages.iter().map(Package::installed_bytes).sum();
    (content_bytes + content_bytes / 8 + HEADROOM_BYTES).next_multiple_of(SIZE_STEP_BYTES)
}

/// Names the filesystem after what is in it.
fn identity(packages: &[Package]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for package in packages {
        hash.update(&package.sha256);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut uuid: [u8; 16] = digest[..16].try_into().expect("a slice of 16 bytes");
    // Version 8, "made up by the application", in the variant of RFC 9562.
    uuid[6] = 0x80 | (uuid[6] & 0x0f);
    uuid[8] = 0x80 | (uuid[8] & 0x3f);
    uuid
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}
