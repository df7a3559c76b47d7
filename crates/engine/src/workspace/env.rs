//! `env`: environments as a user sees them, with what machines add to them: packages configured in a guest, templates.

use std::path::PathBuf;

use super::directory::Workspaces;
use super::finish::GuestFinisher;
use super::machines::{MachineError, MachineRequest, MachineSize, Machines};
use crate::Settings;
use crate::environment::{EnvironmentError, PruneOptions, PrunedItem, PrunedKind, Pull, Pulled, Removed};
use crate::progress::Reporter;
use crate::store::home::Home;
use crate::supervisor::template;

/// Most processors that configuring packages makes use of: their scripts run one after the other.
const BUILD_VCPU_MAX: u32 = 2;

/// Why an environment could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It could not be made.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// It is installed, but the first machine of it did not start.
    #[error("the environment {name} is installed, but its first machine did not start")]
    FirstMachine {
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: Box<MachineError>,
    },
}

/// Makes an environment, or finds it made, and then its first machine template, so that the first run is a warm one.
///
/// # Errors
/// See [`PullError`].
pub async fn pull(settings: &Settings, name: &str, force: bool, report: Reporter<'_>) -> Result<Pulled, PullError> {
    if force {
        check_unused(settings, name)?;
    }
    let machines = Machines::new(settings);
    let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
    let finisher = GuestFinisher {
        driver: machines.driver(),
        home: machines.home(),
        choice: settings.accelerator,
        vcpu_count: u32::try_from(cpu_count).unwrap_or(1).min(BUILD_VCPU_MAX),
    };
    let pulled = machines.environments().pull(name, Pull { force, finisher: &finisher }, report).await?;
    let first_machine = async {
        let verdict = machines.verdict(&pulled.environment.kernel).await?;
        let request = MachineRequest {
            environment: &pulled.environment,
            size: MachineSize::default(),
            accelerator: verdict.accelerator(),
            network: None,
        };
        machines.ensure_templates(request, report).await
    };
    first_machine
        .await
        .map_err(|source| PullError::FirstMachine { name: name.to_owned(), source: Box::new(source) })?;
    Ok(pulled)
}

/// Removes an installed environment that no workspace is made of.
///
/// # Errors
/// [`EnvironmentError::HasWorkspaces`] and those of [`Environments::remove`](crate::environment::Environments::remove).
pub fn remove(settings: &Settings, name: &str) -> Result<Removed, EnvironmentError> {
    check_unused(settings, name)?;
    settings.environments().remove(name)
}

/// The disk of a workspace fits the very environment it was made over, and no other of the same name.
fn check_unused(settings: &Settings, name: &str) -> Result<(), EnvironmentError> {
    // A state directory that cannot be read has no workspaces that could be used.
    let all = Workspaces::new(settings).list().unwrap_or_default();
    let users = all.iter().filter(|workspace| workspace.record.environment == name);
    let workspaces: Vec<String> = users.map(|workspace| workspace.called().to_owned()).collect();
    if workspaces.is_empty() {
        Ok(())
    } else {
        Err(EnvironmentError::HasWorkspaces { name: name.to_owned(), workspaces })
    }
}

/// Removes what no installed environment needs: templates of environments that are gone, and what the environments' own
/// prune finds. With `all`, every template goes; the next machine makes its own again. One that a running machine was
/// restored from stays: its memory would not be freed.
///
/// # Errors
/// Something is being pulled, or cannot be removed.
pub fn prune(settings: &Settings, options: PruneOptions) -> Result<Vec<PrunedItem>, EnvironmentError> {
    let home = Home::new(&settings.cache_dir, &settings.state_dir);
    let environments = Machines::new(settings).environments();
    let mut items = environments.prune(options)?;
    let mut wanted = Vec::new();
    for summary in environments.list()? {
        if let Ok(environment) = environments.open(&summary.name) {
            wanted.push((environment.digest, environment.kernel.digest));
        }
    }
    for found in template::list(&home).map_err(|source| io_error(home.templates_dir(), source))? {
        let is_wanted = found.made_from.as_ref().is_some_and(|made_from| wanted.contains(made_from));
        if found.in_use || (is_wanted && !options.all) {
            continue;
        }
        // One that somebody came to use just now stays.
        if !options.dry_run && !template::remove_unused(&found).map_err(|source| io_error(found.dir.clone(), source))? {
            continue;
        }
        items.push(PrunedItem { kind: PrunedKind::Template, path: found.dir, disk_bytes: found.disk_bytes });
    }
    Ok(items)
}

fn io_error(path: PathBuf, source: std::io::Error) -> EnvironmentError {
    EnvironmentError::Io { what: "prune", path, source }
}
