//! KVM or emulation: decided by a real boot, remembered for as long as the host stays what it is.
//!
//! A `/dev/kvm` that opens proves nothing: there are hosts on which a stock kernel hangs or dies under it. `auto` takes KVM
//! only when the agent of a real guest answered under it, and otherwise emulates and says why.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::boot::{BootCause, BootError, Launched};
use crate::machine::{Accelerator, AcceleratorChoice, Driver, LaunchError, MachineSpec, Memory, Start};
use crate::store::home::{Home, create_private_dir};
use crate::store::{atomic, hex};

/// How long a guest under KVM may take to its agent's first word; on a quiet machine it is about a second.
const PROBE_LIMIT: Duration = Duration::from_secs(8);

/// Memory of the guest that is booted to find out.
const PROBE_MEM_MIB: u32 = 256;

const KVM_DEVICE: &str = "/dev/kvm";

/// What to run machines on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether KVM is used.
    pub kvm: bool,
    /// Why, in one line, without a full stop.
    pub reason: String,
}

/// `kvm-verdict.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerdictRecord {
    format: u32,
    host: String,
    verdict: Verdict,
}

const RECORD_FORMAT: u32 = 1;

/// The guest that is booted to find out.
#[derive(Debug, Clone, Copy)]
pub struct ProbeGuest<'a> {
    /// bzImage or vmlinux.
    pub kernel: &'a Path,
    /// Initial RAM filesystem with the agent.
    pub initramfs: &'a Path,
}

impl Verdict {
    /// The accelerator.
    #[must_use]
    pub fn accelerator(&self) -> Accelerator {
        if self.kvm { Accelerator::Kvm } else { Accelerator::Tcg }
    }

    fn emulate(reason: impl Into<String>) -> Self {
        Self { kvm: false, reason: reason.into() }
    }
}

/// Decides. Only `auto` on a host with a `/dev/kvm` that was not examined before takes time: up to 10 s.
///
/// # Errors
/// The hypervisor is not installed.
pub async fn decide(
    driver: &dyn Driver,
    home: &Home,
    choice: AcceleratorChoice,
    guest: ProbeGuest<'_>,
) -> Result<Verdict, LaunchError> {
    match choice {
        AcceleratorChoice::Kvm => Ok(Verdict { kvm: true, reason: "the settings ask for it".to_owned() }),
        AcceleratorChoice::Tcg => Ok(Verdict::emulate("the settings ask for it")),
        AcceleratorChoice::Auto => {
            let host = host_identity(driver)?;
            if let Some(verdict) = remembered(home, &host) {
                return Ok(verdict);
            }
            let verdict = probe(driver, guest).await?;
            remember(home, host, &verdict);
            Ok(verdict)
        }
    }
}

/// The verdict that `auto` would give without trying anything; `None` when it would have to try.
#[must_use]
pub fn known(driver: &dyn Driver, home: &Home, choice: AcceleratorChoice) -> Option<Verdict> {
    match choice {
        AcceleratorChoice::Kvm => Some(Verdict { kvm: true, reason: "the settings ask for it".to_owned() }),
        AcceleratorChoice::Tcg => Some(Verdict::emulate("the settings ask for it")),
        AcceleratorChoice::Auto => match host_identity(driver) {
            Ok(host) => remembered(home, &host),
            Err(_) => None,
        },
    }
}

async fn probe(driver: &dyn Driver, guest: ProbeGuest<'_>) -> Result<Verdict, LaunchError> {
    if !Path::new(KVM_DEVICE).exists() {
        return Ok(Verdict::emulate(format!("there is no {KVM_DEVICE}")));
    }
    let spec = MachineSpec {
        vcpu_count: 1,
        mem_mib: PROBE_MEM_MIB,
        accelerator: Accelerator::Kvm,
        kernel: guest.kernel.to_owned(),
        initramfs: guest.initramfs.to_owned(),
        disks: Vec::new(),
        memory: Memory::Anonymous,
        start: Start::Boot,
    };
    let attempt = async { Launched::launch(driver, spec).await?.connect("probe", PROBE_LIMIT).await };
    match attempt.await {
        Ok(connected) => {
            connected.abandon().await;
            Ok(Verdict { kvm: true, reason: "a guest booted under it".to_owned() })
        }
        Err(BootError { cause: BootCause::Launch(error @ LaunchError::ProgramNotFound { .. }), .. }) => Err(error),
        Err(BootError { cause, .. }) => Ok(Verdict::emulate(explain(&cause))),
    }
}

fn explain(cause: &BootCause) -> String {
    match cause {
        BootCause::Launch(LaunchError::AcceleratorUnusable { reason, .. }) => first_line(reason),
        BootCause::TimedOut { .. } => {
            format!("{KVM_DEVICE} opens, but a guest kernel did not start under it within {} s", PROBE_LIMIT.as_secs())
        }
        BootCause::MachineEnded { exit } if exit.stderr_tail.trim().is_empty() => {
            format!("{KVM_DEVICE} opens, but a guest died under it")
        }
        BootCause::MachineEnded { exit } => {
            format!("{KVM_DEVICE} opens, but a guest died under it: {}", first_line(&exit.stderr_tail))
        }
        other => format!("{KVM_DEVICE} opens, but a guest did not start under it: {}", first_line(&other.to_string())),
    }
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// What the verdict depends on: the hypervisor, the processor and the kernel, who we are, and the device's permissions.
fn host_identity(driver: &dyn Driver) -> Result<String, LaunchError> {
    let hypervisor = driver.fingerprint(Accelerator::Kvm)?;
    let device = std::fs::metadata(KVM_DEVICE).map_or_else(
        |error| error.kind().to_string(),
        |meta| format!("{:o} {} {} {}", meta.mode(), meta.uid(), meta.gid(), meta.rdev()),
    );
    let me = format!("{} {:?}", rustix::process::geteuid().as_raw(), rustix::process::getgroups().unwrap_or_default());
    Ok(hex::encode(&Sha256::digest(format!("{hypervisor}\n{device}\n{me}"))))
}

fn remembered(home: &Home, host: &str) -> Option<Verdict> {
    let bytes = std::fs::read(home.kvm_verdict_file()).ok()?;
    let record: VerdictRecord = serde_json::from_slice(&bytes).ok()?;
    (record.format == RECORD_FORMAT && record.host == host).then_some(record.verdict)
}

/// A verdict that cannot be kept is found again next time.
fn remember(home: &Home, host: String, verdict: &Verdict) {
    let record = VerdictRecord { format: RECORD_FORMAT, host, verdict: verdict.clone() };
    if let Ok(json) = serde_json::to_vec_pretty(&record)
        && create_private_dir(home.cache_dir()).is_ok()
    {
        drop(atomic::write(&home.kvm_verdict_file(), &json));
    }
}
