//! The public shapes of environments: what there is, what is in one, what was fetched and removed.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::clean::one_line;
use super::{Report, units};

/// All environments that can be had.
#[derive(Debug, Serialize)]
pub(crate) struct EnvList {
    /// By name.
    pub(crate) environments: Vec<EnvRow>,
}

/// One environment in the list.
#[derive(Debug, Serialize)]
pub(crate) struct EnvRow {
    /// Its name.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) description: String,
    /// `available`, `installed` or `damaged`.
    pub(crate) state: &'static str,
    /// What is wrong with a damaged one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// Room it takes on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_bytes: Option<u64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) built_at: Option<Moment>,
}

/// A point in time: RFC 3339 in JSON, how long ago in text.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(into = "String")]
pub(crate) struct Moment(pub(crate) u64);

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        units::utc(moment.0)
    }
}

impl Moment {
    /// How long ago it was.
    pub(crate) fn ago(self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        units::ago(now.saturating_sub(Duration::from_secs(self.0)))
    }
}

impl Report for EnvList {
    fn text(&self, _: bool) -> String {
        let mut rows = vec![["NAME", "STATE", "SIZE", "BUILT", "CONTENTS"].map(str::to_owned)];
        rows.extend(self.environments.iter().map(|row| {
            [
                row.name.clone(),
                row.state.to_owned(),
                row.disk_bytes.map_or_else(|| "-".to_owned(), units::size),
                row.built_at.map_or_else(|| "-".to_owned(), Moment::ago),
                one_line(row.problem.as_ref().unwrap_or(&row.description)),
            ]
        }));
        units::columns(&rows)
    }
}

/// Everything about one installed environment.
#[derive(Debug, Serialize)]
pub(crate) struct EnvDetails {
    /// Its name.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) description: String,
    /// What it was made of.
    pub(crate) origin: String,
    /// SHA-256 of its manifest.
    pub(crate) digest: String,
    /// When it was made.
    pub(crate) built_at: Moment,
    /// The pyro that made it.
    pub(crate) pyro_version: String,
    /// `uname -r` in its machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_release: Option<String>,
    /// Size of its root filesystem as machines see it.
    pub(crate) size_bytes: u64,
    /// Room it takes on the disk, without its kernel.
    pub(crate) disk_bytes: u64,
    /// Room its kernel takes; environments share kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_disk_bytes: Option<u64>,
    /// The image of its root filesystem.
    pub(crate) rootfs: String,
    /// What is installed, by name.
    pub(crate) packages: Vec<PackageRow>,
}

/// A package of an environment.
#[derive(Debug, Serialize)]
pub(crate) struct PackageRow {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its architecture.
    pub(crate) architecture: String,
    /// SHA-256 of its file.
    pub(crate) sha256: String,
}

impl Report for EnvDetails {
    fn text(&self, _: bool) -> String {
        let room = self.kernel_disk_bytes.map(|bytes| format!(", {} on disk", units::size(bytes))).unwrap_or_default();
        let kernel = self.kernel_release.as_ref().map(|release| format!("{release}{room}"));
        let kernel = kernel.unwrap_or_else(|| "as the settings say".to_owned());
        let sizes = format!("{} on disk, {} in the guest", units::size(self.disk_bytes), units::size(self.size_bytes));
        let rows = [
            ("name", self.name.clone()),
            ("contents", self.description.clone()),
            ("origin", self.origin.clone()),
            ("digest", self.digest.clone()),
            (
                "built",
                format!("{} ({}) by pyro {}", units::utc(self.built_at.0), self.built_at.ago(), self.pyro_version),
            ),
            ("kernel", kernel),
            ("image", self.rootfs.clone()),
            ("size", sizes),
            ("packages", self.packages.len().to_string()),
        ];
        let mut text = units::columns(&rows.map(|(name, value)| [name.to_owned(), one_line(&value)]));
        let rows: Vec<_> =
            self.packages.iter().map(|package| [package.name.clone(), package.version.clone()]).collect();
        for line in units::columns(&rows).lines() {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// A pull that ended.
#[derive(Debug, Serialize)]
pub(crate) struct EnvPulled {
    /// The environment.
    pub(crate) name: String,
    /// SHA-256 of its manifest.
    pub(crate) digest: String,
    /// Whether it was made now, and not there before.
    pub(crate) built: bool,
    /// Room it takes on the disk.
    pub(crate) disk_bytes: u64,
    /// How many packages it has.
    pub(crate) package_count: usize,
    /// How long it took.
    pub(crate) duration_ms: u64,
}

impl Report for EnvPulled {
    fn text(&self, _: bool) -> String {
        let took = units::duration(Duration::from_millis(self.duration_ms));
        let size = units::size(self.disk_bytes);
        if self.built {
            return format!("{} is ready: {} packages, {size} on disk, after {took}\n", self.name, self.package_count);
        }
        format!("{} was here already: {} packages, {size} on disk\n", self.name, self.package_count)
    }
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
pub(crate) struct EnvRemoved {
    /// Whether it is only said what would be removed.
    pub(crate) dry_run: bool,
    /// What, in words.
    pub(crate) removed: Vec<RemovedRow>,
    /// Room that is free again.
    pub(crate) freed_bytes: u64,
    /// What else is to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// One thing that was removed.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedRow {
    /// `environment`, `kernel`, `initramfs`, `template`, `download`, `blank disk`, `staging`, or what is left of a workspace.
    pub(crate) kind: &'static str,
    /// Its name, or where it is.
    pub(crate) what: String,
    /// Room it took.
    pub(crate) disk_bytes: u64,
}

impl Report for EnvRemoved {
    fn text(&self, _: bool) -> String {
        if self.removed.is_empty() {
            return "nothing to remove\n".to_owned();
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let rows: Vec<_> = self
            .removed
            .iter()
            .map(|row| [verb.to_owned(), row.kind.to_owned(), units::size(row.disk_bytes), one_line(&row.what)])
            .collect();
        let freed = if self.dry_run { "would free" } else { "freed" };
        let note = self.note.as_ref().map(|note| format!("{}\n", one_line(note))).unwrap_or_default();
        format!("{}{freed} {}\n{note}", units::columns(&rows), units::size(self.freed_bytes))
    }
}
