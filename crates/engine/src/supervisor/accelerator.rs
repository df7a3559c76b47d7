//! KVM or emulation: decided by a real boot, remembered for as long as the host stays what it is.
//!
//! A `/dev/kvm` that opens proves nothing: there are hosts on which a stock kernel hangs or dies under it. `auto` takes KVM
//! only when the agent of a real guest answered under it, and otherwise emulates and says why.
//!
//! ```text
//! choice tcg or kvm -----------------------------------------> as asked
//! choice auto -> device opens? --no--------------------------> emulation
//!                  '-yes-> remembered? --yes-----------------> as it was found
//!                              '-no-> boot a guest under KVM -> KVM if its agent spoke, emulation otherwise
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::guest_link::{GuestLink, LinkError};
use crate::machine::kvm::KvmDevice;
use crate::machine::{
    Accelerator, AcceleratorChoice, Driver, ExitCause, LaunchError, Machine, MachineSpec, Memory, Start,
};
use crate::store::home::{Home, create_private_dir};
use crate::store::lock::Lock;
use crate::store::{atomic, hex};

/// A guest that has not spoken by then is given up, unless its console still moves; on a quiet machine it speaks within a
/// second or two. With what comes before and after, a kernel that hangs costs less than 10 s, once.
const PROBE_LIMIT: Duration = Duration::from_secs(8);

/// A console that showed nothing new for so long does not move. Only counts after [`PROBE_LIMIT`].
const CONSOLE_REST: Duration = Duration::from_secs(3);

/// To that comes this many times what the hypervisor took to come up: a tenth of a second on most hosts, seconds on one
/// that is itself emulated, where the guest's kernel takes its time between two lines as well.
const CONSOLE_REST_LAUNCHES: u32 = 8;

/// However much its console moves, a guest is given up by then. A host that is itself emulated needs most of it.
const PROBE_LIMIT_MOVING: Duration = Duration::from_secs(120);

/// A machine whose stream ended is gone within this time.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// How often the console is looked at.
const CONSOLE_TICK: Duration = Duration::from_millis(250);

/// Memory of the guest that is booted to find out.
const PROBE_MEM_MIB: u32 = 256;

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

/// Decides. Only `auto` on a host with a `/dev/kvm` that opens and was not tried before takes time: up to 10 s.
///
/// # Errors
/// The hypervisor is not installed, or cannot be started for a reason that has nothing to do with KVM.
pub async fn decide(
    driver: &dyn Driver,
    home: &Home,
    choice: AcceleratorChoice,
    guest: ProbeGuest<'_>,
) -> Result<Verdict, LaunchError> {
    let device = KvmDevice::examine();
    if let Some(verdict) = without_trial(choice, &device, || None) {
        return Ok(verdict);
    }
    let host = host_identity(driver)?;
    if let Some(verdict) = remembered(home, &host) {
        return Ok(verdict);
    }
    // Whoever comes while another tries waits for that outcome: many trials at once would only slow each other down.
    // Without the lock it still works.
    let lock_path = home.locks_dir().join("kvm-trial.lock");
    let _lock = tokio::task::spawn_blocking(move || Lock::wait(&lock_path)).await;
    if let Some(verdict) = remembered(home, &host) {
        return Ok(verdict);
    }
    let verdict = probe(driver, guest).await?;
    remember(home, host, &verdict);
    Ok(verdict)
}

/// The verdict that [`decide`] would give without trying anything; `None` when it would have to try.
#[must_use]
pub fn known(driver: &dyn Driver, home: &Home, choice: AcceleratorChoice) -> Option<Verdict> {
    without_trial(choice, &KvmDevice::examine(), || remembered(home, &host_identity(driver).ok()?))
}

/// Forgets the outcome of the last trial, so that the next [`decide`] tries again.
pub fn forget(home: &Home) {
    // What is not there need not be forgotten.
    drop(std::fs::remove_file(home.kvm_verdict_file()));
}

fn without_trial(
    choice: AcceleratorChoice,
    device: &KvmDevice,
    remembered: impl FnOnce() -> Option<Verdict>,
) -> Option<Verdict> {
    match (choice, device.problem()) {
        // Whether it can be used, the launch tells.
        (AcceleratorChoice::Kvm, _) => Some(Verdict { kvm: true, reason: "the settings ask for it".to_owned() }),
        (AcceleratorChoice::Tcg, _) => Some(Verdict::emulate("the settings ask for it")),
        (AcceleratorChoice::Auto, Some(problem)) => Some(Verdict::emulate(problem)),
        (AcceleratorChoice::Auto, None) => remembered(),
    }
}

/// How the boot of a guest under KVM came out.
enum Trial {
    /// Its agent spoke.
    Spoke,
    /// It restarted itself; the words are for when it does so again.
    Restarted(String),
    /// Anything else, in words.
    Failed(String),
}

/// Boots a guest under KVM, and once more where it restarted itself: what happens once in many boots is no verdict.
async fn probe(driver: &dyn Driver, guest: ProbeGuest<'_>) -> Result<Verdict, LaunchError> {
    let mut outcome = trial(driver, guest).await?;
    if matches!(outcome, Trial::Restarted(_)) {
        outcome = trial(driver, guest).await?;
    }
    Ok(match outcome {
        Trial::Spoke => Verdict { kvm: true, reason: "a guest booted under it".to_owned() },
        Trial::Restarted(words) | Trial::Failed(words) => Verdict::emulate(format!("/dev/kvm opens, but {words}")),
    })
}

async fn trial(driver: &dyn Driver, guest: ProbeGuest<'_>) -> Result<Trial, LaunchError> {
    let began = Instant::now();
    let spec = MachineSpec {
        vcpu_count: 1,
        mem_mib: PROBE_MEM_MIB,
        accelerator: Accelerator::Kvm,
        kernel: guest.kernel.to_owned(),
        initramfs: guest.initramfs.to_owned(),
        disks: Vec::new(),
        network: None,
        memory: Memory::Anonymous,
        start: Start::Boot,
    };
    // A launch that is given up ends its hypervisor.
    let Ok(launched) = tokio::time::timeout(PROBE_LIMIT, driver.launch(spec)).await else {
        let seconds = PROBE_LIMIT.as_secs();
        return Ok(Trial::Failed(format!("QEMU did not come up with it within {seconds} s")));
    };
    let mut machine = match launched {
        Ok(machine) => machine,
        Err(LaunchError::Refused { reason } | LaunchError::AcceleratorUnusable { reason, .. }) => {
            return Ok(Trial::Failed(format!("QEMU does not start with it: {}", first_line(&reason))));
        }
        // Emulation would fail the same way: this says nothing about KVM, and is not to be remembered.
        Err(error) => return Err(error),
    };
    let rest_limit = CONSOLE_REST + began.elapsed() * CONSOLE_REST_LAUNCHES;
    let outcome = hear_agent(&mut *machine, began, rest_limit).await;
    machine.stop(Duration::ZERO).await;
    Ok(outcome)
}

/// Waits for the agent's first word, for as long as there is hope.
async fn hear_agent(machine: &mut dyn Machine, began: Instant, rest_limit: Duration) -> Trial {
    let Some(channel) = machine.take_guest_channel() else { return Trial::Failed("a guest has no agent".to_owned()) };
    let opening = GuestLink::open(channel, "probe");
    tokio::pin!(opening);
    let mut moved = began;
    let mut console = String::new();
    loop {
        tokio::select! {
            biased;
            result = &mut opening => match result {
                Ok(_) => return Trial::Spoke,
                // The stream goes down with the machine, whose end tells more.
                Err(LinkError::Lost) => return death(machine).await,
                Err(error) => return Trial::Failed(format!("a guest spoke nonsense under it: {error}")),
            },
            _ = machine.wait() => return death(machine).await,
            () = tokio::time::sleep(CONSOLE_TICK) => {}
        }
        let seen = machine.console_tail(2);
        if seen != console {
            console = seen;
            moved = Instant::now();
        }
        let (waited, rests) = (began.elapsed(), moved.elapsed() >= rest_limit);
        if waited >= PROBE_LIMIT_MOVING || (waited >= PROBE_LIMIT && rests) {
            return Trial::Failed(format!("a guest did not start under it within {} s", waited.as_secs()));
        }
    }
}

async fn death(machine: &mut dyn Machine) -> Trial {
    let exit = tokio::time::timeout(LAST_WORDS_LIMIT, machine.wait()).await.ok();
    let words = match &exit {
        Some(exit) if exit.cause == ExitCause::HypervisorFailed => exit.stderr_tail.clone(),
        _ => machine.console_tail(1),
    };
    let restarted = exit.is_some_and(|exit| exit.cause == ExitCause::Reset);
    let what = if restarted { "a guest restarted itself under it" } else { "a guest died under it" };
    let told = match first_line(&words) {
        words if words.is_empty() => what.to_owned(),
        words => format!("{what}: {words}"),
    };
    if restarted { Trial::Restarted(told) } else { Trial::Failed(told) }
}

/// What it says first, without who says it: what is an error of QEMU's under KVM is none of pyro's.
fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default().trim_end_matches('.');
    let said = match line.split_once(": ") {
        Some((program, said)) if program.starts_with("qemu-system-") => said,
        _ => line,
    };
    said.strip_prefix("error: ").unwrap_or(said).to_owned()
}

/// What the verdict depends on: the hypervisor, the processor and the kernel, who we are, and the device's permissions.
fn host_identity(driver: &dyn Driver) -> Result<String, LaunchError> {
    let hypervisor = driver.fingerprint(Accelerator::Kvm)?;
    let device = KvmDevice::mark();
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

#[cfg(test)]
mod tests {
    use super::{Verdict, first_line, forget, remember, remembered, without_trial};
    use crate::machine::AcceleratorChoice::{Auto, Kvm, Tcg};
    use crate::machine::kvm::{KvmDenial, KvmDevice};
    use crate::machine::spec::GUEST_PORT_NAME;
    use crate::store::home::Home;

    fn found(kvm: bool) -> Option<Verdict> {
        Some(Verdict { kvm, reason: "found".to_owned() })
    }

    #[test]
    fn of_what_a_hypervisor_says_the_first_line_is_told_without_who_said_it() {
        let check = |text: &str, told: &str| assert_eq!(first_line(text), told);
        check(
            "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nAborted\n",
            "failed to set MSR 0x10a to 0x69",
        );
        check(
            "qemu-system-x86_64: failed to initialize kvm: No such device.",
            "failed to initialize kvm: No such device",
        );
        check("kernel panic: not syncing", "kernel panic: not syncing");
        check("", "");
    }

    #[test]
    fn what_is_asked_for_is_not_tried() {
        for device in [KvmDevice::Opens, KvmDevice::Missing] {
            assert!(without_trial(Kvm, &device, || found(false)).unwrap().kvm);
            assert!(!without_trial(Tcg, &device, || found(true)).unwrap().kvm);
        }
    }

    #[test]
    fn a_device_that_does_not_open_is_not_tried_whatever_is_remembered() {
        for device in [KvmDevice::Missing, KvmDevice::Denied(KvmDenial::OwnerOnly)] {
            let verdict = without_trial(Auto, &device, || found(true)).unwrap();
            assert_eq!((verdict.kvm, Some(verdict.reason)), (false, device.problem()));
        }
    }

    #[test]
    fn a_device_that_opens_is_tried_once() {
        assert_eq!(without_trial(Auto, &KvmDevice::Opens, || None), None);
        assert_eq!(without_trial(Auto, &KvmDevice::Opens, || found(true)), found(true));
        assert_eq!(without_trial(Auto, &KvmDevice::Opens, || found(false)), found(false));
    }

    #[test]
    fn an_outcome_counts_only_on_the_host_it_was_found_on() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&dir.path().join("cache"), dir.path());
        assert_eq!(remembered(&home, "a"), None);
        remember(&home, "a".to_owned(), &found(true).unwrap());
        assert_eq!(remembered(&home, "a"), found(true));
        assert_eq!(remembered(&home, "b"), None);
        std::fs::write(home.kvm_verdict_file(), b"torn").unwrap();
        assert_eq!(remembered(&home, "a"), None);
        forget(&home);
        assert!(!home.kvm_verdict_file().exists());
    }

    #[test]
    fn machine_and_wire_name_the_agents_port_alike() {
        assert_eq!(GUEST_PORT_NAME, pyro_wire::PORT_NAME);
    }
}
