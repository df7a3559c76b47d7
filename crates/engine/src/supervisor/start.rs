//! From a plan to a machine that takes commands: restored from a template, or booted.
//!
//! The template is made by whoever needs it first. A template that turns out not to work is discarded and made again,
//! once; the start succeeds all the same.

use std::io;
use std::time::{Duration, Instant};

use super::boot::{BootError, Connected, Launched, Ready};
use super::plan::{MachinePlan, WorkspaceDisk, random_bytes};
use super::template::{self, OpenTemplate, TemplateDraft, TemplateKey};
use crate::machine::{Driver, LaunchError, Memory, SaveError, Start};
use crate::progress::{Progress, Reporter, Unit};
use crate::store::hex;
use crate::store::home::Home;
use crate::store::lock::LockError;

/// How long a guest may take from its kernel's first instruction to its agent's first word. In emulation it is about 5 s
/// on a quiet machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long a restored guest may take to its agent's first word. It is under 0.2 s on a quiet machine.
const RESTORE_LIMIT: Duration = Duration::from_secs(20);

/// To these come so many times what the hypervisor took to come up: on a host that is slow, everything is.
const BOOT_LIMIT_LAUNCHES: u32 = 60;
const RESTORE_LIMIT_LAUNCHES: u32 = 10;

/// How long the agent may take for its mounts.
const SET_UP_LIMIT: Duration = Duration::from_secs(60);

/// Opens the workspace disk of one machine, of the plan's size: none for a root of its own, otherwise its layers.
pub type OpenDisk<'a> = &'a (dyn Fn() -> io::Result<Option<WorkspaceDisk>> + Send + Sync);

/// The disks of a start.
#[derive(Clone, Copy)]
pub struct Disks<'a> {
    /// The disk of a template that is made on the way: blank, and gone with it.
    pub blank: OpenDisk<'a>,
    /// The disk of the machine itself.
    pub own: OpenDisk<'a>,
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
    let connected = match warmth {
        Warmth::Cold => boot(host, plan, disks.own, Memory::Anonymous).await?,
        Warmth::Warm => restore_or_make(host, plan, disks).await?,
    };
    let set_up = plan.set_up(hostname).map_err(file_error("make the guest's identity"))?;
    Ok(connected.set_up(set_up, SET_UP_LIMIT).await?)
}

/// Makes the template of `plan` if there is none.
///
/// # Errors
/// See [`StartError`].
pub async fn ensure_template(host: Host<'_>, plan: &MachinePlan, blank: OpenDisk<'_>) -> Result<(), StartError> {
    let key = TemplateKey::new(plan, host.driver.fingerprint(plan.accelerator)?);
    open_or_make(host, plan, blank, &key).await.map(drop)
}

async fn restore_or_make(host: Host<'_>, plan: &MachinePlan, disks: Disks<'_>) -> Result<Connected, StartError> {
    let key = TemplateKey::new(plan, host.driver.fingerprint(plan.accelerator)?);
    let template = open_or_make(host, plan, disks.blank, &key).await?;
    match restore(host, plan, disks, template).await {
        Err(StartError::Boot(error)) => {
            (host.report)(Progress::Note(format!("the machine template did not start ({error}); making it again")));
            template::discard(host.home, &key);
            let template = open_or_make(host, plan, disks.blank, &key).await?;
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
) -> Result<Connected, StartError> {
    let disk = (disks.own)().map_err(file_error("open the workspace disk"))?;
    let spec = plan
        .spec(disk, Memory::Private(template.memory), Start::Restore(template.state))
        .map_err(file_error("open the environment's files"))?;
    let began = Instant::now();
    let launched = Launched::launch(host.driver, spec).await?;
    let limit = RESTORE_LIMIT + began.elapsed() * RESTORE_LIMIT_LAUNCHES;
    Ok(launched.connect(&session()?, limit).await?)
}

async fn open_or_make(
    host: Host<'_>,
    plan: &MachinePlan,
    blank: OpenDisk<'_>,
    key: &TemplateKey,
) -> Result<OpenTemplate, StartError> {
    if let Some(template) = template::open(host.home, key) {
        return Ok(template);
    }
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
    (host.report)(Progress::Item(format!("{} vCPU, {} MiB", plan.vcpu_count, plan.mem_mib)));
    let memory = draft.create_memory().map_err(file_error("create the template's memory"))?;
    let state = draft.create_state().map_err(file_error("create the template's state"))?;
    let connected = boot(host, plan, blank, Memory::Shared(memory)).await?;
    connected.save(state).await?;
    draft.finish().map_err(file_error("seal the template"))?;
    template::open(host.home, key).ok_or(StartError::File {
        what: "open the template that was just made",
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Boots a machine up to the point at which a template would be saved.
async fn boot(
    host: Host<'_>,
    plan: &MachinePlan,
    open_disk: OpenDisk<'_>,
    memory: Memory,
) -> Result<Connected, StartError> {
    let disk = open_disk().map_err(file_error("open the workspace disk"))?;
    let spec = plan.spec(disk, memory, Start::Boot).map_err(file_error("open the environment's files"))?;
    let began = Instant::now();
    let launched = Launched::launch(host.driver, spec).await?;
    let limit = BOOT_LIMIT + began.elapsed() * BOOT_LIMIT_LAUNCHES;
    let connected = launched.connect(&session()?, limit).await?;
    Ok(connected.prepare(plan.prepare(), SET_UP_LIMIT).await?)
}

fn session() -> Result<String, StartError> {
    random_bytes(8).map(|bytes| hex::encode(&bytes)).map_err(file_error("name a session"))
}

fn file_error(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::File { what, source }
}
