//! Templates: machines that were booted and prepared once, saved, and from then on restored in a fraction of a boot.
//!
//! ```text
//! templates/<key>/memory          the guest's RAM, sparse; restored machines map it privately
//! templates/<key>/state           the devices' state
//! templates/<key>/disk            the empty workspace disk, where the guest has it mounted; restored machines get copies
//! templates/<key>/template.json   what these were made from, and how to recognise them
//! ```
//!
//! The key is a hash of everything the saved state depends on, so a template never needs to be updated: when anything
//! changes, another key is asked for. A template is made in the staging directory and renamed into place whole; it is
//! checked each time it is used, and one that does not look exactly as it was left is discarded. No secret and nothing of a
//! user is ever in one: it is saved before a user's disk is mounted and before the guest has an identity.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::{DEVICE_SET, MachinePlan};
use crate::machine::Accelerator;
use crate::store::hold::{self, Hold};
use crate::store::home::Home;
use crate::store::lock::{Lock, LockError};
use crate::store::staging::Staging;
use crate::store::{atomic, hex, sparse};

const MEMORY_FILE: &str = "memory";
const STATE_FILE: &str = "state";
const DISK_FILE: &str = "disk";
const RECORD_FILE: &str = "template.json";

/// Most bytes a device state may have; they are about 400 KB.
const STATE_BYTES_MAX: u64 = 64 << 20;

/// Names a template by everything it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateKey {
    facts: TemplateFacts,
    name: String,
    /// Whether the guest has its disk mounted.
    has_disk: bool,
}

/// Everything a saved state depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFacts {
    environment: String,
    kernel: String,
    vcpu_count: u32,
    mem_mib: u32,
    accelerator: String,
    hypervisor: String,
    device_set: u32,
    disk_gib: u32,
    network: bool,
    prepare: String,
}

/// `template.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateRecord {
    format: u32,
    facts: TemplateFacts,
    memory: FileMark,
    disk: Option<FileMark>,
    state_sha256: String,
    state_bytes: u64,
}

/// How a file that is too big to hash at each use is recognised. The change time moves with every write and cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMark {
    inode: u64,
    bytes: u64,
    changed_ns: i128,
}

const RECORD_FORMAT: u32 = 2;

/// A template, opened: it stays usable when it is removed meanwhile.
#[derive(Debug)]
pub struct OpenTemplate {
    /// The guest's RAM.
    pub memory: OwnedFd,
    /// The devices' state.
    pub state: OwnedFd,
    /// The workspace disk as the guest knows it, if it has one mounted.
    pub disk: Option<File>,
}

/// A template in the making. Dropping it removes what there is of it.
#[derive(Debug)]
pub struct TemplateDraft {
    key: TemplateKey,
    staging: Staging,
    target: PathBuf,
    _lock: Lock,
}

impl TemplateKey {
    /// The key of a plan on a hypervisor of this fingerprint.
    #[must_use]
    pub fn new(plan: &MachinePlan, hypervisor: String) -> Self {
        let facts = TemplateFacts {
            environment: plan.environment_digest.clone(),
            kernel: plan.kernel_digest.clone(),
            vcpu_count: plan.vcpu_count,
            mem_mib: plan.mem_mib,
            accelerator: match plan.accelerator {
                Accelerator::Kvm => "kvm".to_owned(),
                Accelerator::Tcg => "tcg".to_owned(),
            },
            hypervisor,
            device_set: DEVICE_SET,
            disk_gib: plan.disk_gib,
            network: plan.network,
            prepare: serde_json::to_string(&plan.prepare()).expect("strings and flags serialise"),
        };
        let json = serde_json::to_vec(&facts).expect("strings and numbers serialise");
        let mut name = hex::encode(&Sha256::digest(json));
        name.truncate(32);
        Self { facts, name, has_disk: plan.fresh_disk }
    }

    /// The template's directory name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Opens the template of `key`, if there is one and it is as it was left. One that is not is removed.
#[must_use]
pub fn open(home: &Home, key: &TemplateKey) -> Option<OpenTemplate> {
    let dir = home.templates_dir().join(&key.name);
    match open_checked(&dir, key) {
        Ok(template) => Some(template),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound || dir.exists() {
                discard(home, key);
            }
            None
        }
    }
}

/// Removes the template of `key`. Machines that were restored from it go on.
pub fn discard(home: &Home, key: &TemplateKey) {
    // What cannot be removed now is found torn, and discarded, by the next use.
    drop(std::fs::remove_dir_all(home.templates_dir().join(&key.name)));
}

/// A template on the disk, used or not.
#[derive(Debug, Clone)]
pub struct FoundTemplate {
    /// Its directory.
    pub dir: PathBuf,
    /// Digests of the environment and the kernel it was made from; none when it is torn.
    pub made_from: Option<(String, String)>,
    /// What it takes on the disk.
    pub disk_bytes: u64,
    /// Whether a machine of it runs.
    pub in_use: bool,
}

/// All templates on the disk.
///
/// # Errors
/// The templates' directory cannot be read.
pub fn list(home: &Home) -> io::Result<Vec<FoundTemplate>> {
    let entries = match std::fs::read_dir(home.templates_dir()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let found = |entry: std::fs::DirEntry| -> io::Result<FoundTemplate> {
        let dir = entry.path();
        let made_from = read_record(&dir).ok().map(|record| (record.facts.environment, record.facts.kernel));
        let mut disk_bytes = 0;
        for file in std::fs::read_dir(&dir)? {
            disk_bytes += file?.metadata()?.blocks() * 512;
        }
        let in_use = matches!(Hold::alone(&dir.join(MEMORY_FILE)), Ok(None));
        Ok(FoundTemplate { dir, made_from, disk_bytes, in_use })
    };
    entries.map(|entry| found(entry?)).collect()
}

/// Removes a template unless a machine uses it; whether it did. Who is about to use it waits, and finds it gone.
///
/// # Errors
/// As the system calls.
pub fn remove_unused(found: &FoundTemplate) -> io::Result<bool> {
    let _alone = match Hold::alone(&found.dir.join(MEMORY_FILE)) {
        Ok(None) => return Ok(false),
        // Nobody can use one without memory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        held => held?,
    };
    std::fs::remove_dir_all(&found.dir)?;
    Ok(true)
}

impl TemplateDraft {
    /// Begins a template, waiting for anyone who is making the same one. Blocks the thread.
    ///
    /// # Errors
    /// The lock or the directory cannot be made.
    pub fn begin(home: &Home, key: TemplateKey) -> Result<Self, LockError> {
        let lock_path = home.locks_dir().join(format!("template-{}.lock", key.name));
        let lock = Lock::wait(&lock_path)?;
        let staging = Staging::create(home, "template")?;
        let target = home.templates_dir().join(&key.name);
        Ok(Self { key, staging, target, _lock: lock })
    }

    /// Creates the file for the guest's RAM, of its full size, sparse.
    ///
    /// # Errors
    /// As the system calls.
    pub fn create_memory(&self) -> io::Result<OwnedFd> {
        let file =
            File::options().read(true).write(true).create_new(true).open(self.staging.dir().join(MEMORY_FILE))?;
        file.set_len(u64::from(self.key.facts.mem_mib) << 20)?;
        Ok(file.into())
    }

    /// Creates the file for the devices' state.
    ///
    /// # Errors
    /// As the system calls.
    pub fn create_state(&self) -> io::Result<OwnedFd> {
        Ok(File::options().read(true).write(true).create_new(true).open(self.staging.dir().join(STATE_FILE))?.into())
    }

    /// Creates the workspace disk, a copy of `blank`.
    ///
    /// # Errors
    /// As the system calls.
    pub fn create_disk(&self, blank: &File) -> io::Result<OwnedFd> {
        let file = File::options().read(true).write(true).create_new(true).open(self.disk_path())?;
        sparse::copy(blank, &file)?;
        Ok(file.into())
    }

    fn disk_path(&self) -> PathBuf {
        self.staging.dir().join(DISK_FILE)
    }

    /// Seals the files and moves the template into place.
    ///
    /// # Errors
    /// As the system calls; nothing is in place then.
    pub fn finish(self) -> io::Result<()> {
        let memory_path = self.staging.dir().join(MEMORY_FILE);
        let memory = File::open(&memory_path)?;
        memory.sync_all()?;
        let state_path = self.staging.dir().join(STATE_FILE);
        File::open(&state_path)?.sync_all()?;
        let state = std::fs::read(&state_path)?;
        let disk = if self.key.has_disk { Some(File::open(self.disk_path())?) } else { None };
        match &disk {
            Some(disk) => disk.sync_all()?,
            // The guest knows it is there, and not what is on it.
            None if self.disk_path().exists() => std::fs::remove_file(self.disk_path())?,
            None => {}
        }
        let record = TemplateRecord {
            format: RECORD_FORMAT,
            facts: self.key.facts.clone(),
            memory: mark(&memory)?,
            disk: disk.as_ref().map(mark).transpose()?,
            state_sha256: hex::encode(&Sha256::digest(&state)),
            state_bytes: state.len() as u64,
        };
        let json = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        atomic::write(&self.staging.dir().join(RECORD_FILE), &json)?;
        self.staging.publish(&self.target)
    }
}

fn open_checked(dir: &Path, key: &TemplateKey) -> io::Result<OpenTemplate> {
    let torn = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let record = read_record(dir)?;
    if record.format != RECORD_FORMAT || record.facts != key.facts {
        return Err(torn("the template was made from something else"));
    }
    // Opened for writing because some hypervisors map privately only what they could write; nothing is written.
    let memory = File::options().read(true).write(true).open(dir.join(MEMORY_FILE))?;
    // Held for as long as anyone has it open, which a hypervisor has that was started with it.
    hold::share_file(&memory)?;
    if mark(&memory)? != record.memory {
        return Err(torn("the template's memory is not as it was left"));
    }
    let state_path = dir.join(STATE_FILE);
    let state = File::open(&state_path)?;
    if record.state_bytes > STATE_BYTES_MAX || state.metadata()?.len() != record.state_bytes {
        return Err(torn("the template's device state has another size"));
    }
    if hex::encode(&Sha256::digest(std::fs::read(&state_path)?)) != record.state_sha256 {
        return Err(torn("the template's device state is not as it was left"));
    }
    let disk = if key.has_disk { Some(File::open(dir.join(DISK_FILE))?) } else { None };
    if disk.as_ref().map(mark).transpose()? != record.disk {
        return Err(torn("the template's disk is not as it was left"));
    }
    Ok(OpenTemplate { memory: memory.into(), state: state.into(), disk })
}

fn read_record(dir: &Path) -> io::Result<TemplateRecord> {
    serde_json::from_slice(&std::fs::read(dir.join(RECORD_FILE))?).map_err(io::Error::from)
}

fn mark(file: &File) -> io::Result<FileMark> {
    let meta = file.metadata()?;
    Ok(FileMark {
        inode: meta.ino(),
        bytes: meta.len(),
        changed_ns: i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use pyro_wire::lifecycle::{RootKind, WorkspaceMount};

    use super::{DISK_FILE, MEMORY_FILE, MachinePlan, RECORD_FILE, STATE_FILE, TemplateDraft, TemplateKey, open};
    use crate::machine::Accelerator;
    use crate::store::home::Home;

    fn plan() -> MachinePlan {
        MachinePlan {
            environment_digest: "e".to_owned(),
            rootfs: PathBuf::new(),
            kernel_digest: "k".to_owned(),
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            modules_image: None,
            vcpu_count: 1,
            mem_mib: 256,
            disk_gib: 16,
            fresh_disk: false,
            accelerator: Accelerator::Tcg,
            root: RootKind::Overlay,
            workspace: WorkspaceMount::Absent,
            network: false,
        }
    }

    fn key() -> TemplateKey {
        TemplateKey::new(&plan(), "a hypervisor".to_owned())
    }

    fn make(home: &Home) -> PathBuf {
        let draft = TemplateDraft::begin(home, key()).unwrap();
        drop(draft.create_memory().unwrap());
        drop(draft.create_state().unwrap());
        std::fs::write(draft.staging.dir().join(STATE_FILE), b"state").unwrap();
        draft.finish().unwrap();
        home.templates_dir().join(key().name())
    }

    fn in_a_home(check: impl FnOnce(&Home)) {
        let dir = tempfile::tempdir().unwrap();
        check(&Home::new(dir.path(), dir.path()));
    }

    /// A template that `spoil` touched is neither used nor kept.
    #[track_caller]
    fn check_discarded(spoil: impl FnOnce(&Path)) {
        in_a_home(|home| {
            let dir = make(home);
            assert!(open(home, &key()).is_some());
            spoil(&dir);
            assert!(open(home, &key()).is_none());
            assert!(!dir.exists(), "a bad template was kept");
        });
    }

    #[test]
    fn a_template_that_is_not_as_it_was_left_is_discarded() {
        check_discarded(|dir| std::fs::write(dir.join(STATE_FILE), b"stole").unwrap());
        check_discarded(|dir| std::fs::write(dir.join(STATE_FILE), b"").unwrap());
        check_discarded(|dir| std::fs::remove_file(dir.join(STATE_FILE)).unwrap());
        check_discarded(|dir| std::fs::write(dir.join(RECORD_FILE), b"{}").unwrap());
        check_discarded(|dir| std::fs::remove_file(dir.join(RECORD_FILE)).unwrap());
        check_discarded(|dir| {
            use std::os::unix::fs::FileExt;
            // Same size; a write within the same tick of the filesystem's clock would go unseen.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let memory = std::fs::File::options().write(true).open(dir.join(MEMORY_FILE)).unwrap();
            memory.write_all_at(b"x", 4096).unwrap();
        });
    }

    #[test]
    fn a_template_is_in_use_while_its_memory_is_open() {
        in_a_home(|home| {
            make(home);
            let in_use = || super::list(home).unwrap()[0].in_use;
            assert!(!in_use());
            let opened = open(home, &key()).unwrap();
            assert!(in_use());
            let found = super::list(home).unwrap().remove(0);
            assert!(!super::remove_unused(&found).unwrap() && found.dir.exists());
            drop(opened);
            assert!(!in_use());
            assert!(super::remove_unused(&found).unwrap() && !found.dir.exists());
            assert!(open(home, &key()).is_none());
        });
    }

    #[test]
    fn a_fresh_disk_is_kept_as_the_guest_knows_it() {
        in_a_home(|home| {
            let make = |fresh_disk| {
                let key = TemplateKey::new(&MachinePlan { fresh_disk, ..plan() }, "h".to_owned());
                let draft = TemplateDraft::begin(home, key.clone()).unwrap();
                drop(draft.create_memory().unwrap());
                drop(draft.create_state().unwrap());
                let blank = tempfile::tempfile().unwrap();
                blank.set_len(1 << 20).unwrap();
                let mut disk = std::fs::File::from(draft.create_disk(&blank).unwrap());
                std::io::Write::write_all(&mut disk, b"mounted").unwrap();
                draft.finish().unwrap();
                key
            };
            let key = make(true);
            let mut text = [0; 7];
            let disk = open(home, &key).unwrap().disk.unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&disk, &mut text, 0).unwrap();
            assert_eq!((&text, disk.metadata().unwrap().len()), (b"mounted", 1 << 20));
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::fs::write(home.templates_dir().join(key.name()).join(DISK_FILE), b"other").unwrap();
            assert!(open(home, &key).is_none());
            let key = make(false);
            assert!(open(home, &key).unwrap().disk.is_none());
            assert!(!home.templates_dir().join(key.name()).join(DISK_FILE).exists());
        });
    }

    #[test]
    fn a_foreign_template_is_discarded() {
        in_a_home(|home| {
            let dir = make(home);
            let other = TemplateKey::new(&plan(), "another hypervisor".to_owned());
            let foreign = home.templates_dir().join(other.name());
            std::fs::rename(dir, &foreign).unwrap();
            assert!(open(home, &other).is_none());
            assert!(!foreign.exists());
        });
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        in_a_home(|home| {
            let draft = TemplateDraft::begin(home, key()).unwrap();
            drop(draft.create_memory().unwrap());
            drop(draft);
            assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 0);
            assert!(open(home, &key()).is_none());
        });
    }

    #[test]
    fn every_fact_changes_the_key() {
        let with = |change: fn(&mut MachinePlan)| {
            let mut plan = plan();
            change(&mut plan);
            TemplateKey::new(&plan, "a hypervisor".to_owned()).name().to_owned()
        };
        let names = [
            with(|_| {}),
            with(|plan| plan.environment_digest = "f".to_owned()),
            with(|plan| plan.kernel_digest = "l".to_owned()),
            with(|plan| plan.vcpu_count = 2),
            with(|plan| plan.mem_mib = 512),
            with(|plan| plan.disk_gib = 17),
            with(|plan| plan.fresh_disk = true),
            with(|plan| plan.accelerator = Accelerator::Kvm),
            with(|plan| plan.modules_image = Some(PathBuf::from("m"))),
            TemplateKey::new(&plan(), "b".to_owned()).name().to_owned(),
        ];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }
}
