//! What is written beside an environment and a kernel, and read back by later versions of pyro.
//!
//! Every record has a `version`; a field that is added gets a default, a field that changes its meaning gets a new version and
//! the old one stays readable. The fixtures are under `crates/store/fixtures`.

use serde::{Deserialize, Serialize};

/// The version of [`EnvironmentRecord`] that is written.
pub const ENVIRONMENT_RECORD_VERSION: u32 = 1;
/// The version of [`KernelRecord`] that is written.
pub const KERNEL_RECORD_VERSION: u32 = 1;

/// `manifest.json` of an installed environment. Its SHA-256 names the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRecord {
    /// Version of this format.
    pub version: u32,
    /// Name of the environment.
    pub name: String,
    /// What it was made of, for people: `Debian 12 (bookworm)`.
    pub origin: String,
    /// When it was made, seconds since 1970.
    pub built_at_seconds: u64,
    /// The pyro that made it.
    pub pyro_version: String,
    /// The kernel that was fetched with it; none when the user named a kernel of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelReference>,
    /// The image of the root filesystem.
    pub rootfs: RootfsRecord,
    /// What is installed, by name.
    pub packages: Vec<PackageRecord>,
}

/// The kernel of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReference {
    /// Names its directory.
    pub digest: String,
    /// `uname -r`.
    pub release: String,
    /// Package it came from.
    pub package: PackageRecord,
    /// Packages that only led to that one; an offline pull follows them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub led_by: Vec<PackageRecord>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsRecord {
    /// SHA-256 of the whole file, holes read as zeros.
    pub sha256: String,
    /// Size of the file as machines see it.
    pub size_bytes: u64,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// SHA-256 of its file.
    pub sha256: String,
}

/// `seal.json`: how the image looked when it was last known to be whole. A cheap check on every use compares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRecord {
    /// Size of the image.
    pub size_bytes: u64,
    /// Its modification time, seconds since 1970.
    pub modified_seconds: i64,
    /// Nanoseconds of it.
    pub modified_nanoseconds: i64,
}

/// `kernel.json` of a guest kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRecord {
    /// Version of this format.
    pub version: u32,
    /// Names its directory.
    pub digest: String,
    /// `uname -r`.
    pub release: String,
    /// Where it came from, for people.
    pub origin: String,
    /// Whether there is an image with its modules.
    pub has_modules: bool,
    /// Files under `init`, in the order in which they are loaded.
    pub init_modules: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{EnvironmentRecord, KernelRecord};

    /// What an earlier pyro wrote is read, and written again as it was.
    fn check<T: Serialize + DeserializeOwned>(text: &str) {
        let record: T = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&record).unwrap(), text.trim_end());
    }

    #[test]
    fn saved_records_stay_readable() {
        check::<EnvironmentRecord>(include_str!("../fixtures/environment-v1.json"));
        check::<EnvironmentRecord>(include_str!("../fixtures/environment-v1-led-by.json"));
        check::<KernelRecord>(include_str!("../fixtures/kernel-v1.json"));
    }
}
