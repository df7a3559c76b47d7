//! `workspace create`: a directory, a disk with the seed on it, and a supervisor that brings the machine to life.
//!
//! As long as its maker lives and the machine does not run, the workspace is `creating`; a maker that gives up or dies
//! leaves nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use super::machines::{MachineSize, Machines};
use super::seed::{GitUser, Reach, SeedError, SeedNotes, SeedRequest, SeedSummary, survey, write_disk};
use crate::environment::InstalledEnvironment;
use crate::progress::{Progress, Reporter, Unit};
use crate::store::crossing_record::{CrossedFiles, Crossing};
use crate::store::crossings::Crossings;
use crate::store::disk_record::{BOTTOM, DiskRecord};
use crate::store::home::{WorkspaceDir, create_private_dir};
use crate::store::lock::Lock;
use crate::store::workspace_record::{
    NetworkRecord, Origin, SeedRecord, StateRecord, WORKSPACE_RECORD_VERSION, WorkspacePhase, WorkspaceRecord,
};
use crate::store::{atomic, hex, sparse};
use crate::supervisor::layers;
use crate::supervisor::notes::{now_seconds, read_json, write_state};
use crate::supervisor::plan::random_bytes;
use crate::supervisor::protocol::Birth;
use crate::supervisor::secrets::Secrets;
use crate::supervisor::spawn::spawn;

/// Shortest time to live.
pub const TTL_SECONDS_MIN: u64 = 60;
/// Longest time to live.
pub const TTL_SECONDS_MAX: u64 = 7 * 86_400;
/// Time to live when none is asked for.
pub const TTL_SECONDS_DEFAULT: u64 = 3600;

/// Most labels of a workspace.
pub const LABELS_MAX: usize = 64;

/// What a hypervisor takes besides its guest's memory, in emulation.
const HYPERVISOR_MIB: u64 = 128;

/// A workspace to be made.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Name of an installed environment.
    pub environment: String,
    /// Size of its machine.
    pub size: MachineSize,
    /// How long it may be unused before it is stopped.
    pub ttl: Duration,
    /// What its user calls it.
    pub name: Option<String>,
    /// What its user notes on it.
    pub labels: BTreeMap<String, String>,
    /// Who makes it.
    pub made_by: Origin,
    /// What it begins with; otherwise `/workspace` is empty.
    pub seed: Option<SeedSource>,
    /// What its commands can be given without anyone seeing it.
    pub secrets: Secrets,
    /// What its guest may reach.
    pub network: NetworkRecord,
}

/// What a workspace is to begin with.
#[derive(Debug, Clone)]
pub struct SeedSource {
    /// A directory, or an archive.
    pub path: PathBuf,
    /// What it is called where it is written down: the path as its user knows it.
    pub called: String,
    /// Take what is ignored, too.
    pub all: bool,
    /// Take what looks secret, too.
    pub secrets: bool,
    /// Whose commits are made in the workspace.
    pub git: GitUser,
    /// Where repository data outside of the source may be taken from.
    pub reach: Reach,
}

impl SeedSource {
    /// What to read for a workspace: an archive may unpack to as much as its disk holds, beside its other files.
    #[must_use]
    pub fn for_workspace(self, workspace: &Workspace) -> SeedRequest {
        self.on_disk(workspace.record.disk_gib, &workspace.dir)
    }

    fn on_disk(self, disk_gib: u32, dir: &WorkspaceDir) -> SeedRequest {
        SeedRequest {
            source: self.path,
            all: self.all,
            secrets: self.secrets,
            git: self.git,
            reach: self.reach,
            archive_bytes_max: u64::from(disk_gib) << 30,
            scratch_dir: dir.path().to_owned(),
        }
    }
}

/// A workspace that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// The workspace, which runs.
    pub workspace: Workspace,
    /// What its user should know of its seed.
    pub notes: SeedNotes,
}

impl Workspaces<'_> {
    /// Makes a workspace and starts its machine. When this is dropped half-way, nothing of it is left.
    ///
    /// # Errors
    /// See [`WorkspaceError`]; nothing of it is left then.
    pub async fn create(&self, request: CreateRequest, report: Reporter<'_>) -> Result<Created, WorkspaceError> {
        check(&request)?;
        let machines = Machines::new(self.settings);
        let environment = machines.environments().open(&request.environment)?;
        admit(request.size.mem_mib)?;
        let making = self.begin(&request, &environment)?;
        let notes = match request.seed {
            None => {
                making.share_blank_disk(&machines, request.size.disk_gib)?;
                SeedNotes::default()
            }
            Some(seed) => making.write_seeded_disk(seed, request.size.disk_gib, report).await?,
        };
        self.bring_to_life(&making.dir, &making.id, &request.secrets, report).await?;
        Ok(Created { workspace: making.finish()?, notes })
    }

    /// Starts the machine of a workspace that does not run. Its new supervisor knows only the secrets it is told now.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub async fn start(
        &self,
        word: &str,
        secrets: &Secrets,
        report: Reporter<'_>,
    ) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        let id = workspace.record.id;
        match workspace.state.phase {
            WorkspacePhase::Running => return Err(WorkspaceError::Running { id }),
            WorkspacePhase::Creating => return Err(WorkspaceError::Creating { id }),
            WorkspacePhase::Stopped | WorkspacePhase::Failed => {}
        }
        admit(workspace.record.mem_mib)?;
        note_secrets(&workspace.dir, secrets)?;
        self.bring_to_life(&workspace.dir, &id, secrets, report).await?;
        self.find(&id)
    }

    async fn bring_to_life(
        &self,
        dir: &WorkspaceDir,
        id: &str,
        secrets: &Secrets,
        report: Reporter<'_>,
    ) -> Result<(), WorkspaceError> {
        let file = |source| WorkspaceError::File { what: "start a supervisor in", path: dir.path().to_owned(), source };
        let mut spawned = spawn(dir, id, secrets).await.map_err(file)?;
        loop {
            match spawned.next().await {
                Some(Birth::Stage { name }) => {
                    report(Progress::Stage { name: stage(&name), unit: Unit::None, total: None })
                }
                Some(Birth::Note { text }) => report(Progress::Note(text)),
                Some(Birth::Running) => {
                    report(Progress::Over);
                    return Ok(());
                }
                Some(Birth::Failed { code, message, hint, console }) => {
                    return Err(WorkspaceError::Birth { code, message, hint, console });
                }
                None => return Err(WorkspaceError::StillBorn { id: id.to_owned(), log: dir.supervisor_log() }),
            }
        }
    }

    fn begin(&self, request: &CreateRequest, environment: &InstalledEnvironment) -> Result<Making<'_>, WorkspaceError> {
        let dir_error = |source| WorkspaceError::File { what: "write", path: self.home.workspaces_dir(), source };
        let id = hex::encode(&random_bytes(6).map_err(dir_error)?);
        let dir = self.home.workspace(&id);
        // Until its lock is taken a directory without a record looks like rubbish.
        let making_room = Lock::wait_for_directory(&self.home.workspaces_dir())?;
        create_private_dir(dir.path()).map_err(dir_error)?;
        let lock = Lock::try_take(&dir.maker_lock())?;
        drop(making_room);
        let making = Making { workspaces: self, dir, id, lock: Some(lock) };
        let now = now_seconds();
        let state = StateRecord {
            version: WORKSPACE_RECORD_VERSION,
            phase: WorkspacePhase::Creating,
            since_seconds: now,
            reason: None,
            disk: DiskRecord::new(),
            used_at_seconds: now,
            reset_count: 0,
            reset_at_seconds: None,
            changes_seen: None,
            accelerator: None,
            supervisor_pid: None,
            machine_pid: None,
        };
        write_state(&making.dir, &state).map_err(dir_error)?;
        let record = WorkspaceRecord {
            version: WORKSPACE_RECORD_VERSION,
            id: making.id.clone(),
            name: request.name.clone(),
            labels: request.labels.clone(),
            environment: request.environment.clone(),
            environment_digest: environment.digest.clone(),
            vcpu_count: request.size.vcpu_count,
            mem_mib: request.size.mem_mib,
            disk_gib: request.size.disk_gib,
            ttl_seconds: request.ttl.as_secs(),
            created_at_seconds: now,
            made_by: request.made_by.clone(),
            seed: None,
            secrets: request.secrets.names().map(str::to_owned).collect(),
            network: request.network.clone(),
        };
        // Two makers of one name: the lock lets the second see the first.
        let _names = Lock::wait_for_directory(&self.home.workspaces_dir())?;
        self.check_name_free(request.name.as_deref(), &making.id)?;
        write_record(&making.dir, &record)?;
        note_proxies(&making.dir, &record.network).map_err(dir_error)?;
        Ok(making)
    }

    pub(super) fn check_name_free(&self, name: Option<&str>, own_id: &str) -> Result<(), WorkspaceError> {
        let Some(name) = name else { return Ok(()) };
        let holder = self.list()?.into_iter().find(|other| {
            other.record.id != own_id && (other.record.name.as_deref() == Some(name) || other.record.id == name)
        });
        match holder {
            None => Ok(()),
            Some(other) => Err(WorkspaceError::NameTaken { name: name.to_owned(), id: other.record.id }),
        }
    }
}

/// A workspace that is being made. Dropping it removes it.
struct Making<'a> {
    workspaces: &'a Workspaces<'a>,
    dir: WorkspaceDir,
    id: String,
    lock: Option<Lock>,
}

impl Making<'_> {
    fn share_blank_disk(&self, machines: &Machines<'_>, disk_gib: u32) -> Result<(), WorkspaceError> {
        let blank = machines.environments().blank_disk(disk_gib)?;
        let base = self.dir.layer(BOTTOM);
        sparse::share(&blank, &base, self.dir.path()).map_err(|source| self.disk_error(source))?;
        self.make_first_layer()
    }

    /// Writes the bottom of the disk with the seed on it, on another thread: it may be large.
    async fn write_seeded_disk(
        &self,
        seed: SeedSource,
        disk_gib: u32,
        report: Reporter<'_>,
    ) -> Result<SeedNotes, WorkspaceError> {
        let called = seed.called.clone();
        let base = self.dir.layer(BOTTOM);
        let request = seed.on_disk(disk_gib, &self.dir);
        let (sender, mut stages) = mpsc::unbounded_channel();
        let work = move || -> Result<SeedSummary, SeedWork> {
            let report = move |progress| drop(sender.send(progress));
            report(Progress::Stage { name: "read seed", unit: Unit::None, total: None });
            let tree = survey(&request)?;
            let file = File::options().read(true).write(true).create_new(true).mode(0o400).open(&base)?;
            let sync = file.try_clone()?;
            let summary = write_disk(&tree, disk_gib, file, &report)?;
            // It holds what its user may have nowhere else: it must survive a crash of the host.
            sync.sync_data()?;
            Ok(summary)
        };
        let mut working = tokio::task::spawn_blocking(work);
        let written = loop {
            tokio::select! {
                biased;
                Some(progress) = stages.recv() => report(progress),
                written = &mut working => break written,
            }
        };
        let summary = match written {
            Ok(Ok(summary)) => summary,
            Ok(Err(SeedWork::Seed(error))) => return Err(error.into()),
            Ok(Err(SeedWork::File(source))) => return Err(self.disk_error(source)),
            Err(stopped) => return Err(self.disk_error(io::Error::other(stopped))),
        };
        let file = |source| WorkspaceError::File { what: "read", path: self.dir.record(), source };
        let mut record: WorkspaceRecord = read_json(&self.dir.record()).map_err(file)?;
        record.seed = Some(SeedRecord {
            source: called,
            entries: summary.files + summary.directories + summary.symlinks,
            bytes: summary.bytes,
            digest: summary.digest,
        });
        write_record(&self.dir, &record)?;
        if let Some(seed) = record.seed {
            let SeedRecord { source, entries, bytes, digest } = seed;
            let destination = "/workspace".to_owned();
            let crossed = CrossedFiles { source, destination, entries, removed: 0, bytes, digest };
            Crossings::of(&self.dir).append(Crossing::Seed(crossed)).map_err(|source| self.disk_error(source))?;
        }
        self.make_first_layer()?;
        Ok(summary.notes)
    }

    fn make_first_layer(&self) -> Result<(), WorkspaceError> {
        layers::create(&self.dir, DiskRecord::new().live).map_err(|source| self.disk_error(source))
    }

    fn disk_error(&self, source: io::Error) -> WorkspaceError {
        WorkspaceError::File { what: "make", path: self.dir.layer(BOTTOM), source }
    }

    fn finish(mut self) -> Result<Workspace, WorkspaceError> {
        self.lock = None;
        self.workspaces.find(&self.id)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What cannot be removed now is removed by the next command that looks.
            drop(self.workspaces.remove_files(&self.dir));
        }
    }
}

/// What may go wrong on the thread that writes a seeded disk.
#[derive(Debug, thiserror::Error)]
enum SeedWork {
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Adds the names of secrets that a workspace did not have before to its record.
fn note_secrets(dir: &WorkspaceDir, secrets: &Secrets) -> Result<(), WorkspaceError> {
    if secrets.is_empty() {
        return Ok(());
    }
    let _record = Lock::wait(&dir.record_lock())?;
    let read = |source| WorkspaceError::File { what: "read", path: dir.record(), source };
    let mut record: WorkspaceRecord = read_json(&dir.record()).map_err(read)?;
    record.secrets.extend(secrets.names().map(str::to_owned));
    write_record(dir, &record)
}

/// Writes down which proxies of the host a guest is offered.
fn note_proxies(dir: &WorkspaceDir, network: &NetworkRecord) -> io::Result<()> {
    let mut proxies: Vec<&String> =
        network.proxy.iter().flat_map(|proxy| proxy.http.iter().chain(&proxy.https)).collect();
    proxies.dedup();
    for proxy in proxies {
        Crossings::of(dir).append(Crossing::ProxyOffer { proxy: proxy.clone() })?;
    }
    Ok(())
}

/// Writes the record.
pub(super) fn write_record(dir: &WorkspaceDir, record: &WorkspaceRecord) -> Result<(), WorkspaceError> {
    let json = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    json.and_then(|json| atomic::write(&dir.record(), &json)).map_err(|source| WorkspaceError::File {
        what: "write",
        path: dir.record(),
        source,
    })
}

fn check(request: &CreateRequest) -> Result<(), WorkspaceError> {
    check_ttl(request.ttl)?;
    check_size(request.size)?;
    check_labels(&request.labels)?;
    request.name.as_deref().map_or(Ok(()), check_name)
}

fn check_size(size: MachineSize) -> Result<(), WorkspaceError> {
    let host = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let within = |what, value: u32, (low, high): (u32, u32)| {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(WorkspaceError::BadValue { what, value: value.to_string(), expected: format!("{low} to {high}") })
    };
    within("the number of virtual processors", size.vcpu_count, (1, host))?;
    within("the memory in MiB", size.mem_mib, (256, 32_768))?;
    within("the disk in GiB", size.disk_gib, (1, 256))
}

pub(super) fn check_ttl(ttl: Duration) -> Result<(), WorkspaceError> {
    if (TTL_SECONDS_MIN..=TTL_SECONDS_MAX).contains(&ttl.as_secs()) {
        return Ok(());
    }
    Err(WorkspaceError::BadValue {
        what: "the time to live",
        value: format!("{} s", ttl.as_secs()),
        expected: format!("{TTL_SECONDS_MIN} s to {TTL_SECONDS_MAX} s (7 days)"),
    })
}

/// `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`
pub(super) fn check_name(name: &str) -> Result<(), WorkspaceError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.len() <= 64 && name.bytes().all(good) {
        return Ok(());
    }
    Err(WorkspaceError::BadValue {
        what: "the name",
        value: name.chars().take(80).collect(),
        expected: "1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit".to_owned(),
    })
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), WorkspaceError> {
    let bad = |value: String, expected: &str| {
        Err(WorkspaceError::BadValue { what: "a label", value, expected: expected.to_owned() })
    };
    if labels.len() > LABELS_MAX {
        return bad(format!("{} labels", labels.len()), "64 at most");
    }
    for (name, value) in labels {
        check_name(name)
            .or_else(|_| bad(name.chars().take(80).collect(), "a name of the same form as a workspace's"))?;
        if value.chars().count() > 256 || value.chars().any(char::is_control) {
            return bad(format!("{name}=…"), "a value of 256 characters at most, without control characters");
        }
    }
    Ok(())
}

/// Refuses a machine that the host's memory would not hold.
fn admit(mem_mib: u32) -> Result<(), WorkspaceError> {
    let needed_mib = u64::from(mem_mib) + HYPERVISOR_MIB;
    // A host that does not tell is not second-guessed.
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return Ok(()) };
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    match kib.map(|kib| kib / 1024) {
        Some(available_mib) if available_mib < needed_mib => {
            Err(WorkspaceError::NoMemory { available_mib, needed_mib })
        }
        _ => Ok(()),
    }
}

/// The stages that a supervisor tells of, as the names that progress has.
fn stage(name: &str) -> &'static str {
    ["start machine", "make machine template"].into_iter().find(|known| *known == name).unwrap_or("start machine")
}
