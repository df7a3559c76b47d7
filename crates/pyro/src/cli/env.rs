//! `env`: environments, the root filesystems that machines start from.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use pyro_engine::Settings;
use pyro_engine::environment::{EnvironmentDetails, EnvironmentSummary, InstalledState, PruneOptions};
use pyro_engine::progress::Reporter;
use pyro_engine::workspace::env;

use super::Face;
use crate::failure::Failure;
use crate::report::env::{EnvDetails, EnvList, EnvPulled, EnvRemoved, EnvRow, Moment, PackageRow, RemovedRow};
use crate::report::usage::cached_row;
use crate::{interrupt, report};

/// The verbs of `env`.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvVerb {
    /// List the environments that there are
    List(ListArgs),
    /// Fetch an environment: verified packages, unpacked without root, configured in a guest
    Pull(PullArgs),
    /// Show what is in an installed environment
    Inspect(InspectArgs),
    /// Remove an installed environment
    Remove(RemoveArgs),
    /// Remove what no installed environment needs; 'pyro prune' looks at workspaces, too
    Prune(PruneArgs),
}

/// Arguments of `env list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `env pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Its name, such as debian:12
    environment: String,
    /// Make it again, even if it is installed
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `env inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Its name, such as debian:12
    environment: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `env remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name, such as debian:12
    environment: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `env prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Downloads and machine templates, too: they are made again when they are needed
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl EnvVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Pull(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Remove(args) => args.json,
            Self::Prune(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let (json, color) = (self.json(), face.color());
        let settings = face.settings()?;
        match self {
            Self::List(_) => report::print(&list(&settings)?, json, color)?,
            Self::Pull(args) => report::print(&pull(&args, &settings, face)?, json, color)?,
            Self::Inspect(args) => report::print(&inspect(&args.environment, &settings)?, json, color)?,
            Self::Remove(args) => report::print(&remove(&args.environment, &settings)?, json, color)?,
            Self::Prune(args) => report::print(&prune(&args, &settings)?, json, color)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Sees to it that an environment is installed, and says how many packages it has.
///
/// # Errors
/// It cannot be pulled.
pub(crate) async fn present(settings: &Settings, name: &str, report: Reporter<'_>) -> Result<usize, Failure> {
    env::pull(settings, name, false, report).await?;
    Ok(settings.environments().inspect(name)?.record.packages.len())
}

fn list(settings: &Settings) -> Result<EnvList, Failure> {
    let environments = settings.environments().list()?;
    Ok(EnvList { environments: environments.into_iter().map(row).collect() })
}

fn row(summary: EnvironmentSummary) -> EnvRow {
    let EnvironmentSummary { name, description, installed } = summary;
    let row = EnvRow { name, description, state: "available", problem: None, disk_bytes: None, built_at: None };
    match installed {
        InstalledState::No => row,
        InstalledState::Damaged(problem) => EnvRow { state: "damaged", problem: Some(problem), ..row },
        InstalledState::Yes { built_at_seconds, disk_bytes } => {
            EnvRow { state: "installed", disk_bytes: Some(disk_bytes), built_at: Some(Moment(built_at_seconds)), ..row }
        }
    }
}

fn pull(args: &PullArgs, settings: &Settings, face: &Face) -> Result<EnvPulled, Failure> {
    let begun = Instant::now();
    let painter = face.painter();
    let report = |progress| painter.report(progress);
    let pulled = interrupt::block_on(async { Ok(env::pull(settings, &args.environment, args.force, &report).await?) })?;
    let details = settings.environments().inspect(&args.environment)?;
    Ok(EnvPulled {
        name: args.environment.clone(),
        digest: pulled.environment.digest,
        built: pulled.fresh,
        disk_bytes: details.disk_bytes,
        package_count: details.record.packages.len(),
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn inspect(name: &str, settings: &Settings) -> Result<EnvDetails, Failure> {
    let EnvironmentDetails { description, digest, record, rootfs, disk_bytes, kernel_disk_bytes } =
        settings.environments().inspect(name)?;
    let packages = record.packages.into_iter().map(|package| PackageRow {
        name: package.name,
        version: package.version,
        architecture: package.architecture,
        sha256: package.sha256,
    });
    Ok(EnvDetails {
        name: record.name,
        description,
        origin: record.origin,
        digest,
        built_at: Moment(record.built_at_seconds),
        pyro_version: record.pyro_version,
        kernel_release: record.kernel.map(|kernel| kernel.release),
        size_bytes: record.rootfs.size_bytes,
        disk_bytes,
        kernel_disk_bytes,
        rootfs: rootfs.display().to_string(),
        packages: packages.collect(),
    })
}

fn remove(name: &str, settings: &Settings) -> Result<EnvRemoved, Failure> {
    let removed = env::remove(settings, name)?;
    let note = match removed.kernel_shared_with.as_slice() {
        [] => "its kernel, downloads and templates stay until 'pyro env prune --all'".to_owned(),
        others => format!("its kernel stays: {} boots it, too", others.join(", ")),
    };
    Ok(EnvRemoved {
        dry_run: false,
        removed: vec![RemovedRow { kind: "environment", what: name.to_owned(), disk_bytes: removed.disk_bytes }],
        freed_bytes: removed.disk_bytes,
        note: Some(note),
    })
}

fn prune(args: &PruneArgs, settings: &Settings) -> Result<EnvRemoved, Failure> {
    let items = env::prune(settings, PruneOptions { dry_run: args.dry_run, all: args.all })?;
    Ok(EnvRemoved {
        dry_run: args.dry_run,
        freed_bytes: items.iter().map(|item| item.disk_bytes).sum(),
        removed: items.into_iter().map(cached_row).collect(),
        note: None,
    })
}
