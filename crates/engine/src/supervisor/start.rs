//! From a plan to a machine that takes commands: restored from a template, or booted.
//!
//! The template is made by whoever needs it first. A template that turns out not to work is discarded and made again,
//! once; a guest that restarts itself before its first word is booted once more. The start succeeds all the same.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::boot::{BootError, Connected, Launched, Ready};
use super::plan::{MachineParts, MachinePlan, WorkspaceDisk, random_bytes};
use super::template::{self, OpenTemplate, TemplateDraft, TemplateKey};
use super::traffic::{self, Traffic};
use crate::machine::{Driver, LaunchError, Memory, SaveError, Start};
use crate::progress::{Progress, Reporter, Unit};
use crate::store::hex;
use crate::store::home::Home;
use crate::store::lock::LockError;
use crate::store::sparse;

/// How long a guest may take from its kernel's first instruction to its agent's first word. In emulation it is about 5 s
/// on a quiet machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long a restored guest may take to its agent's first word. It is under 0.2 s on a quiet machine.
const RESTORE_LIMIT: Duration = Duration::from_secs(20);

/// To these come so many times what the hypervisor took to come up: on a host that is slow, everything is.
const BOOT_LIMIT_LAUNCHES: u32 = 60;
const RESTORE_LIMIT_LAUNCHES: u32 = 10;

/// What a failure to have the workspace disk is called.
const OPEN_DISK: &str = "open the workspace disk";

/// How long the agent may take for its mounts.
const SET_UP_LIMIT: Duration = Duration::from_secs(60);

/// Opens the workspace disk of one machine, of the plan's size.
pub type OpenDisk<'a> = &'a (dyn Fn() -> io::Result<WorkspaceDisk> + Send + Sync);

/// The workspace disk of a machine.
#[derive(Clone, Copy)]
pub enum Disks<'a> {
    /// None: the root is a disk of its own.
    Absent,
    /// A copy of this blank one, which vanishes with the machine. The plan's `fresh_disk` says the same.
    Fresh(&'a File),
    /// The machine's own.
    Own {
        /// What the machine has that a template is made of.
        blank: &'a File,
        /// Opens it.
        open: OpenDisk<'a>,
    },
}

/// What a start needs of the host.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Runs the machine.
    pub driver: &'a dyn Driver,
    /// Where templates are.
    pub home: &'a Home,
    /// Hears what is going on.
    pub report: Reporter<'a>,
    /// The network, for a plan with one.
    pub network: Option<&'a Traffic>,
}

/// Whether a template is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// Restore a template, making it first where there is none.
    Warm,
    /// Boot.
    Cold,
}

/// Why there is no machine. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine did not come up.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The hypervisor cannot even be named.
    #[error(transparent)]
    Driver(#[from] LaunchError),
    /// A host file could not be made or opened.
    #[error("cannot {what}")]
    File {
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The template's lock or directory could not be had.
    #[error("cannot begin the machine template")]
    TemplateLock(#[from] LockError),
    /// The template's machine could not be saved.
    #[error("cannot save the machine template")]
    TemplateSave(#[from] SaveError),
}

/// Starts a machine of `plan`.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    host: Host<'_>,
    plan: &MachinePlan,
    disks: Disks<'_>,
    hostname: &str,
    warmth: Warmth,
) -> Result<Ready, StartError> {
    let awake = match warmth {
        Warmth::Cold => {
            let first = boot_cold(host, plan, disks).await;
            if deserves_another(host, &first) { boot_cold(host, plan, disks).await? } else { first? }
        }
        Warmth::Warm => restore_or_make(host, plan, disks).await?,
    };
    let set_up = plan.set_up(hostname).map_err(file_error("make the guest's identity"))?;
    let network = match (awake.frames, host.network) {
        (Some(frames), Some(traffic)) => Some(traffic.start(frames).map_err(file_error("start the network"))?),
        _ => None,
    };
    let ready = awake.connected.set_up(set_up, network, SET_UP_LIMIT).await?;
    Ok(match host.network {
        Some(traffic) => Ready { link: ready.link.with_variables(&traffic.variables), ..ready },
        None => ready,
    })
}

/// A machine whose agent answers.
struct Awake {
    connected: Connected,
    /// The host's end of its network.
    frames: Option<OwnedFd>,
}

/// Makes the template of `plan` if there is none.
///
/// # Errors
/// See [`StartError`].
pub async fn ensure_template(host: Host<'_>, plan: &MachinePlan, blank: &File) -> Result<(), StartError> {
    let key = TemplateKey::new(plan, host.driver.fingerprint(plan.accelerator)?);
    open_or_make(host, plan, Some(blank), &key).await.map(drop)
}

impl Disks<'_> {
    fn blank(&self) -> Option<&File> {
        match self {
            Self::Absent => None,
            Self::Fresh(blank) | Self::Own { blank, .. } => Some(blank),
        }
    }

    fn of_machine(&self, home: &Home) -> io::Result<Option<WorkspaceDisk>> {
        match self {
            Self::Absent => Ok(None),
            Self::Fresh(blank) => copy_of(blank, home).map(Some),
            Self::Own { open, .. } => open().map(Some),
        }
    }
}

fn copy_of(disk: &File, home: &Home) -> io::Result<WorkspaceDisk> {
    Ok(WorkspaceDisk::of_the_moment(sparse::unnamed_copy(disk, &home.staging_dir())?.into()))
}

async fn restore_or_make(host: Host<'_>, plan: &MachinePlan, disks: Disks<'_>) -> Result<Awake, StartError> {
    let key = TemplateKey::new(plan, host.driver.fingerprint(plan.accelerator)?);
    let template = open_or_make(host, plan, disks.blank(), &key).await?;
    match restore(host, plan, disks, template).await {
        Err(StartError::Boot(error)) => {
            (host.report)(Progress::Note(format!("the machine template did not start ({error}); making it again")));
            template::discard(host.home, &key);
            let template = open_or_make(host, plan, disks.blank(), &key).await?;
            restore(host, plan, disks, template).await
        }
        result => result,
    }
}

async fn restore(
    host: Host<'_>,
    plan: &MachinePlan,
    disks: Disks<'_>,
    template: OpenTemplate,
) -> Result<Awake, StartError> {
    let disk = match &template.disk {
        Some(disk) => copy_of(disk, host.home).map(Some),
        None => disks.of_machine(host.home),
    };
    let (frames, parts) = parts(plan, disk.map_err(file_error(OPEN_DISK))?)?;
    let spec = plan
        .spec(parts, Memory::Private(template.memory), Start::Restore(template.state))
        .map_err(file_error("open the environment's files"))?;
    let began = Instant::now();
    let launched = Launched::launch(host.driver, spec).await?;
    let limit = RESTORE_LIMIT + began.elapsed() * RESTORE_LIMIT_LAUNCHES;
    Ok(Awake { connected: launched.connect(&session()?, limit).await?, frames })
}

async fn open_or_make(
    host: Host<'_>,
    plan: &MachinePlan,
    blank: Option<&File>,
    key: &TemplateKey,
) -> Result<OpenTemplate, StartError> {
    if let Some(template) = template::open(host.home, key) {
        return Ok(template);
    }
    let first = make(host, plan, blank, key).await;
    if deserves_another(host, &first) { make(host, plan, blank, key).await } else { first }
}

/// Makes a template, unless whoever holds its lock does.
async fn make(
    host: Host<'_>,
    plan: &MachinePlan,
    blank: Option<&File>,
    key: &TemplateKey,
) -> Result<OpenTemplate, StartError> {
    let (home, draft_key) = (host.home.clone(), key.clone());
    let draft =
        tokio::task::spawn_blocking(move || TemplateDraft::begin(&home, draft_key)).await.map_err(|error| {
            StartError::File { what: "wait for the template's lock", source: io::Error::other(error) }
        })??;
    // Whoever held the lock before us may have made it.
    if let Some(template) = template::open(host.home, key) {
        return Ok(template);
    }
    (host.report)(Progress::Stage { name: "make machine template", unit: Unit::None, total: None });
    let what_for = if plan.fresh_disk { "a run" } else { "a workspace" };
    (host.report)(Progress::Item(format!("{} vCPU, {} MiB, for {what_for}", plan.vcpu_count, plan.mem_mib)));
    let memory = draft.create_memory().map_err(file_error("create the template's memory"))?;
    let state = draft.create_state().map_err(file_error("create the template's state"))?;
    let disk =
        blank.map(|blank| draft.create_disk(blank)).transpose().map_err(file_error("create the template's disk"))?;
    let awake = boot(host, plan, disk.map(WorkspaceDisk::of_the_moment), Memory::Shared(memory)).await?;
    awake.connected.save(state).await?;
    // Only now: the interface is saved with its link up.
    drop(awake.frames);
    draft.finish().map_err(file_error("seal the template"))?;
    template::open(host.home, key).ok_or(StartError::File {
        what: "open the template that was just made",
        source: io::ErrorKind::NotFound.into(),
    })
}

async fn boot_cold(host: Host<'_>, plan: &MachinePlan, disks: Disks<'_>) -> Result<Awake, StartError> {
    let disk = disks.of_machine(host.home).map_err(file_error(OPEN_DISK))?;
    boot(host, plan, disk, Memory::Anonymous).await
}

/// Whether it failed because the guest restarted itself before its first word. Nothing was done in it yet, and where virtual
/// machines are nested a processor now and then loses its way in the first seconds: decision 0019.
fn deserves_another<T>(host: Host<'_>, start: &Result<T, StartError>) -> bool {
    let restarted = matches!(start, Err(StartError::Boot(error)) if error.is_early_restart());
    if restarted {
        (host.report)(Progress::Note("the guest restarted itself while it booted; booting it once more".to_owned()));
    }
    restarted
}

/// Boots a machine up to the point at which a template would be saved.
async fn boot(
    host: Host<'_>,
    plan: &MachinePlan,
    disk: Option<WorkspaceDisk>,
    memory: Memory,
) -> Result<Awake, StartError> {
    let (frames, parts) = parts(plan, disk)?;
    let spec = plan.spec(parts, memory, Start::Boot).map_err(file_error("open the environment's files"))?;
    let began = Instant::now();
    let launched = Launched::launch(host.driver, spec).await?;
    let limit = BOOT_LIMIT + began.elapsed() * BOOT_LIMIT_LAUNCHES;
    let connected = launched.connect(&session()?, limit).await?;
    Ok(Awake { connected: connected.prepare(plan.prepare(), SET_UP_LIMIT).await?, frames })
}

/// What a machine has of its own, and the host's end of its network.
fn parts(
    plan: &MachinePlan,
    workspace_disk: Option<WorkspaceDisk>,
) -> Result<(Option<OwnedFd>, MachineParts), StartError> {
    if !plan.network {
        return Ok((None, MachineParts { workspace_disk, frames: None }));
    }
    let (ours, theirs) = traffic::frames().map_err(file_error("make the network's stream"))?;
    Ok((Some(ours), MachineParts { workspace_disk, frames: Some(theirs) }))
}

fn session() -> Result<String, StartError> {
    random_bytes(8).map(|bytes| hex::encode(&bytes)).map_err(file_error("name a session"))
}

fn file_error(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::File { what, source }
}
