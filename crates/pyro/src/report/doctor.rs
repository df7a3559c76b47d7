//! What the facts about a host mean for its user: one line each, `ok`, `warn` or `fail`, and what to do about it.

use std::fmt::Write as _;
use std::time::Duration;

use pyro_engine::environment::{EnvironmentError, EnvironmentSummary, InstalledEnvironment, InstalledState};
use pyro_engine::machine::AcceleratorChoice;
use pyro_engine::machine::host::{CpuFacts, QEMU_OLDEST, QemuFacts, QemuProblem};
use pyro_engine::machine::kvm::KvmDevice;
use pyro_engine::supervisor::accelerator::Verdict;
use pyro_engine::workspace::doctor::{DirectoryFacts, HostMemory, Platform};
use pyro_engine::workspace::leftovers::Leftover;
use serde::Serialize;

use super::clean::one_line;
use super::usage::leftovers_in_words;
use super::{Report, units};
use crate::failure::{Failure, install_qemu};

/// Disk room that an environment, its kernel and its template take.
const ENVIRONMENT_BYTES: u64 = 1 << 30;
/// Disk room with which nobody has to think about room.
const COMFORTABLE_BYTES: u64 = 4 << 30;
/// Memory of a machine of the default size, with its hypervisor.
const MACHINE_BYTES: u64 = 1200 << 20;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// Something will not work.
    Fail,
}

/// One check.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    status: Status,
    /// What was found.
    found: String,
    /// What to do, unless all is well.
    fix: Option<String>,
    /// The last lines of the console of a guest that did not boot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    console: Vec<String>,
}

/// All checks.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorReport {
    #[serde(skip)]
    ready: bool,
    checks: Vec<Check>,
}

impl DoctorReport {
    /// Gathers checks.
    pub(crate) fn new(checks: Vec<Check>) -> Self {
        Self { ready: checks.iter().all(|check| check.status != Status::Fail), checks }
    }

    /// What failed, in one line.
    pub(crate) fn failed(&self) -> Option<String> {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|check| check.status == Status::Fail)
            .map(|check| format!("{}: {}; {}", check.name, check.found, check.fix.as_deref().unwrap_or_default()))
            .collect();
        (!failed.is_empty()).then(|| failed.join("; "))
    }
}

impl Check {
    /// All is well.
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), fix: None, console: Vec::new() }
    }

    /// It works, but.
    pub(crate) fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, found: found.into(), fix: Some(fix.into()), console: Vec::new() }
    }

    /// It does not work.
    pub(crate) fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, found: found.into(), fix: Some(fix.into()), console: Vec::new() }
    }

    /// Adds what the guest's console showed last.
    pub(crate) fn with_console(self, tail: &str) -> Self {
        Self { console: tail.lines().map(one_line).collect(), ..self }
    }
}

impl Report for DoctorReport {
    fn ok(&self) -> bool {
        self.ready
    }

    fn text(&self, color: bool) -> String {
        let mut text = check_lines(&self.checks, color);
        text.push_str(if self.ready { "\nThis host is ready.\n" } else { "\nThis host is not ready.\n" });
        text
    }
}

/// Checks, a line each, and what to do below the line.
pub(crate) fn check_lines(checks: &[Check], color: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let (paint, word) = match check.status {
            Status::Ok => ("\x1b[32m", "ok  "),
            Status::Warn => ("\x1b[33m", "warn"),
            Status::Fail => ("\x1b[31m", "fail"),
        };
        let (paint, plain) = if color { (paint, "\x1b[0m") } else { ("", "") };
        let _ = writeln!(text, "{paint}{word}{plain}  {:width$}  {}", check.name, one_line(&check.found));
        if let Some(fix) = &check.fix {
            let _ = writeln!(text, "      {:width$}  -> {}", "", one_line(fix));
        }
        if !check.console.is_empty() {
            let _ = writeln!(text, "      {:width$}  the guest's console ended with:", "");
        }
        for line in &check.console {
            let _ = writeln!(text, "      {:width$}      {line}", "");
        }
    }
    text
}

/// Judges the system.
pub(crate) fn platform(platform: &Platform, cpu: &CpuFacts) -> Check {
    const NAME: &str = "platform";
    let processors = if platform.cpu_count == 1 { "processor" } else { "processors" };
    let found = format!(
        "{} {} on {}, {} {processors}{}{}",
        platform.system,
        platform.kernel_release,
        platform.architecture,
        platform.cpu_count,
        cpu_words(cpu),
        platform.distribution.as_ref().map(|name| format!(", {name}")).unwrap_or_default()
    );
    if platform.system == "Linux" && platform.architecture == "x86_64" {
        return Check::ok(NAME, found);
    }
    Check::fail(NAME, found, "pyro runs on Linux on x86_64 only")
}

fn cpu_words(cpu: &CpuFacts) -> String {
    let model = if cpu.model.is_empty() { String::new() } else { format!(" ({})", cpu.model) };
    format!("{model}{}", if cpu.virtual_machine { ", itself a virtual machine" } else { "" })
}

/// Judges QEMU.
pub(crate) fn qemu(facts: Result<QemuFacts, QemuProblem>) -> Check {
    const NAME: &str = "qemu";
    let facts = match facts {
        Ok(facts) => facts,
        Err(problem @ QemuProblem::NotFound { .. }) => return Check::fail(NAME, problem.to_string(), install_qemu()),
        Err(problem @ QemuProblem::Silent { .. }) => {
            return Check::fail(NAME, problem.to_string(), "install it anew; or name another one: qemu in config.toml");
        }
    };
    let found = format!("{} at {}", facts.version, facts.path.display());
    if facts.release < QEMU_OLDEST {
        let (major, minor) = QEMU_OLDEST;
        return Check::fail(NAME, found, format!("pyro needs QEMU {major}.{minor} or later"));
    }
    if !facts.sandbox {
        return Check::fail(
            NAME,
            format!("{found}, built without its system call filter"),
            "install your distribution's QEMU",
        );
    }
    Check::ok(NAME, found)
}

/// Judges `/dev/kvm`, as far as it is wanted.
pub(crate) fn kvm(device: &KvmDevice, choice: AcceleratorChoice) -> Check {
    const NAME: &str = "kvm";
    match (device.problem(), choice) {
        (None, _) => Check::ok(NAME, "/dev/kvm opens and answers"),
        (Some(problem), AcceleratorChoice::Tcg) => Check::ok(NAME, format!("{problem}; not asked for")),
        (Some(problem), AcceleratorChoice::Auto) => Check::warn(NAME, problem, device.fix().unwrap_or_default()),
        (Some(problem), AcceleratorChoice::Kvm) => Check::fail(NAME, problem, device.fix().unwrap_or_default()),
    }
}

/// Judges what machines will run on.
pub(crate) fn accelerator(verdict: Option<&Verdict>) -> Check {
    const NAME: &str = "accelerator";
    match verdict {
        Some(verdict) if verdict.kvm => Check::ok(NAME, format!("kvm: {}", verdict.reason)),
        Some(verdict) => Check::warn(
            NAME,
            format!("software emulation: {}", verdict.reason),
            "good for trying and for tests: slower, and QEMU does not call its emulator a security boundary",
        ),
        None => Check::ok(
            NAME,
            "auto: /dev/kvm opens; the first run tries a guest under it, 'pyro doctor --boot' does so now",
        ),
    }
}

/// Judges the memory.
pub(crate) fn memory(memory: Option<HostMemory>) -> Check {
    const NAME: &str = "memory";
    let Some(memory) = memory else {
        return Check::warn(NAME, "/proc/meminfo does not tell", "mount /proc");
    };
    let whose = if memory.limited_by_cgroup { " (limit of this process's cgroup)" } else { "" };
    let found =
        format!("{} of {} available{whose}", units::size(memory.available_bytes), units::size(memory.total_bytes));
    if memory.available_bytes >= MACHINE_BYTES {
        return Check::ok(NAME, found);
    }
    if memory.available_bytes >= MACHINE_BYTES / 3 {
        return Check::warn(NAME, found, "end other programs, or run smaller machines with --mem-mib 512");
    }
    Check::fail(NAME, found, "end other programs, or give this host more memory")
}

/// Judges the cache directory.
pub(crate) fn cache(facts: &DirectoryFacts) -> Check {
    directory("cache", facts, "PYRO_CACHE_DIR")
}

/// Judges the state directory.
pub(crate) fn state(facts: &DirectoryFacts) -> Check {
    directory("state", facts, "PYRO_STATE_DIR")
}

/// Judges what dead processes left behind.
pub(crate) fn leftovers(found: std::io::Result<Vec<Leftover>>) -> Check {
    const NAME: &str = "leftovers";
    match found {
        Ok(found) if found.is_empty() => Check::ok(NAME, "none"),
        Ok(found) => Check::warn(
            NAME,
            format!("{}; none of it does harm", leftovers_in_words(&found)),
            "'pyro prune --dry-run' names them, 'pyro prune' removes them",
        ),
        Err(error) => Check::fail(NAME, format!("cannot look for them: {error}"), "are the directories yours to read?"),
    }
}

/// Judges whether the hypervisor is confined to its own files.
pub(crate) fn confinement(confines_files: bool) -> Check {
    const NAME: &str = "confinement";
    if confines_files {
        return Check::ok(NAME, "system call filter and Landlock");
    }
    let fix =
        "machines run all the same; a kernel of 5.13 or later with landlock in its 'lsm=' list confines QEMU further";
    Check::warn(NAME, "system call filter only: this kernel has no Landlock", fix)
}

/// Judges what is installed.
pub(crate) fn environments(list: Result<Vec<EnvironmentSummary>, EnvironmentError>) -> Check {
    const NAME: &str = "environments";
    let list = match list {
        Ok(list) => list,
        Err(error) => return Failure::from(error).into_check(NAME),
    };
    let names = |wanted: fn(&InstalledState) -> bool| -> Vec<String> {
        list.iter().filter(|summary| wanted(&summary.installed)).map(|summary| summary.name.clone()).collect()
    };
    let damaged = names(|state| matches!(state, InstalledState::Damaged(_)));
    if let Some(first) = damaged.first() {
        let fix = format!("pyro env pull --force {first}");
        return Check::fail(NAME, format!("damaged: {}", damaged.join(", ")), fix);
    }
    let installed = names(|state| matches!(state, InstalledState::Yes { .. }));
    if installed.is_empty() {
        return Check::warn(NAME, "none is installed", "pyro env pull debian:12");
    }
    Check::ok(NAME, installed.join(", "))
}

/// Judges the guest kernel of an installed environment.
pub(crate) fn kernel(environment: Result<InstalledEnvironment, EnvironmentError>) -> Check {
    const NAME: &str = "kernel";
    match environment {
        Ok(environment) => Check::ok(NAME, environment.kernel.release),
        Err(error) => Failure::from(error).into_check(NAME),
    }
}

/// Judges the way to the archive. What is installed goes on working without it.
pub(crate) fn archive(mirror_url: &str, answer: Result<Duration, Failure>, any_installed: bool) -> Check {
    const NAME: &str = "archive";
    match answer {
        Ok(took) => Check::ok(NAME, format!("{mirror_url} answered after {}", units::duration(took))),
        Err(failure) if any_installed => failure.into_warning(NAME),
        Err(failure) => failure.into_check(NAME),
    }
}

/// Judges a guest that was booted to see whether it does: what it said, or why it did not.
pub(crate) fn boot(outcome: Result<String, Failure>) -> Check {
    const NAME: &str = "boot";
    match outcome {
        Ok(seen) => Check::ok(NAME, seen),
        Err(failure) => failure.into_check(NAME),
    }
}

fn directory(name: &'static str, facts: &DirectoryFacts, variable: &str) -> Check {
    let found = format!(
        "{}{}, {}, {} free",
        facts.path.display(),
        if facts.exists { "" } else { " (not made yet)" },
        facts.filesystem,
        units::size(facts.free_bytes)
    );
    let elsewhere = format!("set {variable} to a directory on a local disk with room");
    if !facts.writable {
        let fix = format!("make {} writable for you, or {elsewhere}", facts.nearest.display());
        return Check::fail(name, format!("{found}, not writable"), fix);
    }
    if facts.free_bytes < ENVIRONMENT_BYTES {
        return Check::fail(name, found, format!("free some room, or {elsewhere}"));
    }
    let kind = facts.filesystem.as_str();
    if kind.starts_with("nfs") || kind.starts_with("fuse") || ["cifs", "smb3", "9p", "ceph", "afs"].contains(&kind) {
        return Check::warn(name, format!("{found}, over the network"), elsewhere);
    }
    if kind == "tmpfs" || kind == "ramfs" {
        return Check::warn(name, format!("{found}, in memory: gone after a reboot"), elsewhere);
    }
    if facts.free_bytes < COMFORTABLE_BYTES {
        return Check::warn(name, found, format!("free some room, or {elsewhere}"));
    }
    Check::ok(name, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_guest_that_does_not_boot_is_shown_with_its_last_words() {
        let failure = Failure::new(Kind::Guest, "the guest restarted itself")
            .hint("'pyro doctor' says what this host lacks")
            .console("[    0.1] one\n[    0.2] \u{1b}[31mtwo\n");
        let text = check_lines(&[boot(Err(failure))], false);
        let expected = "fail  boot  the guest restarted itself\n\
                        \x20           -> 'pyro doctor' says what this host lacks\n\
                        \x20           the guest's console ended with:\n\
                        \x20               [    0.1] one\n\
                        \x20               [    0.2] ";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
