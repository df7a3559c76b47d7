// UNSAFETY: the last steps before a hypervisor is executed are system calls that no safe wrapper offers.
//! What a hypervisor may do: as little as it can do its work with.
//!
//! A [`Jail`] is made in the parent, where memory may be allocated and files opened, and entered in the child between
//! fork and exec, where only system calls are allowed. It gives the child
//! - an identity of its own (user and group) when pyro runs as root, and in any case no capabilities and no way to new ones;
//! - no file but those it was handed open and those of [`JailRequest::reopened`], its libraries and its firmware (Landlock);
//! - no way to make, remove or rename a file, to reach a network, or to look into another process (seccomp, beside QEMU's own);
//! - limits on memory, threads, descriptors, and no core file;
//! - a session of its own, so that a terminal's signals pass it by, and death together with its parent.
//!
//! Landlock is as good as the host's kernel has it, also not at all; the other layers do not depend on it.

#![expect(unsafe_code, reason = "a few system calls have no safe wrapper")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::identity::Identity;
use super::kvm::KVM_DEVICE;

/// The newest Landlock whose rights are asked for; an older kernel gives what it has.
const LANDLOCK_ABI: ABI = ABI::V6;

/// Flag of `landlock_create_ruleset`: tell the version instead of making anything.
const LANDLOCK_TELL_VERSION: libc::c_ulong = 1;

/// Threads and processes of a machine's user: virtual processors and QEMU's file workers (64 at most) need far fewer.
const THREADS_MAX: u64 = 512;

/// Open files of a hypervisor.
const FILES_MAX: u64 = 1024;

/// Directories and files that a program and its libraries, modules and firmware are loaded from.
const PROGRAM_PATHS: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/share/ipxe",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/nix/store",
];

/// Devices a hypervisor opens itself.
const DEVICE_PATHS: &[&str] = &["/dev/null", "/dev/urandom"];

/// What a process needs beyond what every hypervisor does.
#[derive(Debug)]
pub(super) struct JailRequest<'a> {
    /// The program that will be executed.
    pub(super) program: &'a Path,
    /// Who it runs as.
    pub(super) identity: Identity,
    /// Whether it uses `/dev/kvm`.
    pub(super) kvm: bool,
    /// Descriptors it keeps, under the numbers they have now.
    pub(super) kept: &'a [OwnedFd],
    /// Those of them that it opens a second time, through `/proc/self/fd`.
    pub(super) reopened: &'a [Reopened],
    /// Private writable memory it may have.
    pub(super) data_bytes_max: u64,
}

/// A kept file that the hypervisor opens again by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reopened {
    /// Its number.
    pub(super) number: RawFd,
    /// Whether it is opened for writing too.
    pub(super) write: bool,
}

/// A jail, ready to be entered by a child.
#[derive(Debug)]
pub(super) struct Jail {
    identity: Identity,
    landlock: Option<OwnedFd>,
    seccomp: BpfProgram,
    kept: Vec<RawFd>,
    data_bytes_max: u64,
    parent: Pid,
}

impl Jail {
    /// Prepares a jail in the parent.
    ///
    /// # Errors
    /// The kernel refused a rule.
    pub(super) fn build(request: &JailRequest<'_>) -> io::Result<Self> {
        Ok(Self {
            identity: request.identity.clone(),
            landlock: landlock_rules(request).map_err(io::Error::other)?,
            seccomp: seccomp_filter().map_err(io::Error::other)?,
            kept: request.kept.iter().map(AsRawFd::as_raw_fd).collect(),
            data_bytes_max: request.data_bytes_max,
            parent: rustix::process::getpid(),
        })
    }

    /// Whether this kernel confines a process to its files.
    pub(super) fn confines_files() -> bool {
        // SAFETY: with these arguments the call only tells the version, and touches no memory.
        let version = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0, LANDLOCK_TELL_VERSION)
        };
        version > 0
    }

    /// Enters the jail. Called in the child between fork and exec: allocates nothing and takes no lock.
    ///
    /// # Errors
    /// A step failed; [`step_of`] and the errno are in the code of the error.
    pub(super) fn enter(&self) -> io::Result<()> {
        step(Step::Session, rustix::process::setsid().map(drop))?;
        step(Step::Descriptors, self.keep_descriptors())?;
        step(Step::Limits, self.set_limits())?;
        step(Step::Identity, self.drop_privileges())?;
        // A change of user clears the death signal, so it comes after. It follows the thread that forked, which is why
        // a thread that lives as long as the process starts every machine.
        step(Step::DeathSignal, rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
        let orphaned = rustix::process::getppid() != Some(self.parent);
        step(Step::DeathSignal, if orphaned { Err(rustix::io::Errno::SRCH) } else { Ok(()) })?;
        step(Step::NoNewPrivileges, rustix::thread::set_no_new_privs(true))?;
        step(Step::Landlock, self.restrict_files())?;
        match seccompiler::apply_filter(&self.seccomp) {
            Ok(()) => Ok(()),
            Err(_) => step(Step::Seccomp, Err(rustix::io::Errno::INVAL)),
        }
    }

    fn keep_descriptors(&self) -> rustix::io::Result<()> {
        const FIRST_BEYOND_STANDARD: libc::c_uint = 3;
        // SAFETY: close_range touches no memory; with CLOEXEC it closes nothing before exec, and so leaves the pipe
        // over which the standard library reports a failed exec.
        let result = unsafe {
            libc::syscall(libc::SYS_close_range, FIRST_BEYOND_STANDARD, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        if result != 0 {
            // Kernels before 5.11 lack it. All that pyro itself opens is close-on-exec anyway.
            for number in 3..1024 {
                // SAFETY: fcntl on a number that may not be open fails with EBADF, which is the wanted outcome then.
                unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
        }
        for &number in &self.kept {
            // SAFETY: the parent owns these descriptors until the child was started, and the child has its copies.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    }

    fn set_limits(&self) -> rustix::io::Result<()> {
        limit(Resource::Core, 0)?;
        limit(Resource::Nofile, FILES_MAX)?;
        limit(Resource::Data, self.data_bytes_max)?;
        // The limit on threads counts all of a user's: it is only meaningful for a user with nothing but this machine.
        if self.identity.is_own() { limit(Resource::Nproc, THREADS_MAX) } else { Ok(()) }
    }

    fn drop_privileges(&self) -> rustix::io::Result<()> {
        // Without CAP_SETPCAP the bounding set stays as it is; no_new_privs makes it meaningless anyway.
        let mut capability = 0;
        while capability < u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << capability);
            if rustix::thread::remove_capability_from_bounding_set(one).is_err() {
                break;
            }
            capability += 1;
        }
        if let Identity::Own { user, group, groups } = &self.identity {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*group, *group, *group)?;
            rustix::thread::set_thread_res_uid(*user, *user, *user)?;
        }
        rustix::thread::clear_ambient_capability_set()?;
        let none = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
    }

    fn restrict_files(&self) -> rustix::io::Result<()> {
        let Some(rules) = &self.landlock else { return Ok(()) };
        // SAFETY: the call takes a descriptor that is open in this process and touches no memory.
        let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
        if result == 0 {
            Ok(())
        } else {
            Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::INVAL))
        }
    }
}

/// The steps of entering a jail, for the message when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Session = 1,
    Descriptors,
    Limits,
    Identity,
    DeathSignal,
    NoNewPrivileges,
    Landlock,
    Seccomp,
}

/// The standard library carries only one number from a child that failed before exec to its parent: the errno. The step is
/// packed above it.
const STEP_SHIFT: i32 = 16;

fn step(step: Step, result: rustix::io::Result<()>) -> io::Result<()> {
    result.map_err(|errno| io::Error::from_raw_os_error((step as i32) << STEP_SHIFT | errno.raw_os_error()))
}

/// What was being done when [`Jail::enter`] failed, and the error; `None` if `error` comes from elsewhere.
pub(super) fn step_of(error: &io::Error) -> Option<(&'static str, io::Error)> {
    let code = error.raw_os_error()?;
    let what = match code >> STEP_SHIFT {
        code if code == Step::Session as i32 => "give the hypervisor a session of its own",
        code if code == Step::Descriptors as i32 => "hand files to the hypervisor",
        code if code == Step::Limits as i32 => "limit the hypervisor",
        code if code == Step::Identity as i32 => "take the hypervisor's privileges away",
        code if code == Step::DeathSignal as i32 => "tie the hypervisor's life to pyro's",
        code if code == Step::NoNewPrivileges as i32 => "keep the hypervisor from new privileges",
        code if code == Step::Landlock as i32 => "confine the hypervisor to its files",
        code if code == Step::Seccomp as i32 => "filter the hypervisor's system calls",
        _ => return None,
    };
    Some((what, io::Error::from_raw_os_error(code & ((1 << STEP_SHIFT) - 1))))
}

fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    // A hard limit can be lowered by anyone and raised by no one; one that is lower already stays.
    let value = rustix::process::getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
}

fn landlock_rules(request: &JailRequest<'_>) -> Result<Option<OwnedFd>, landlock::RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?;
    for path in program_paths(request.program) {
        rules = allow(rules, &path, read)?;
    }
    for path in DEVICE_PATHS {
        rules = allow(rules, Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    if request.kvm {
        rules = allow(rules, Path::new(KVM_DEVICE), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    for file in request.reopened {
        let access = if file.write { AccessFs::ReadFile | AccessFs::WriteFile } else { AccessFs::ReadFile.into() };
        if let Some(file) = request.kept.iter().find(|kept| kept.as_raw_fd() == file.number) {
            rules = rules.add_rule(PathBeneath::new(file, access))?;
        }
    }
    Ok(rules.into())
}

/// Allows `access` beneath a path, if it exists. A file takes only those rights that files have.
fn allow(
    rules: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, landlock::RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK_ABI) };
    rules.add_rule(PathBeneath::new(place, access))
}

/// Where a program's own files are: itself, and, for one that is installed below a prefix of its own, that prefix's
/// libraries and data.
fn program_paths(program: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = PROGRAM_PATHS.iter().map(PathBuf::from).collect();
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let prefix = real.parent().and_then(Path::parent).filter(|prefix| prefix.as_os_str() != "/");
    if let Some(prefix) = prefix.filter(|prefix| *prefix != Path::new("/usr")) {
        paths.extend(["lib", "lib64", "libexec", "share/qemu"].map(|name| prefix.join(name)));
    }
    paths.push(real);
    paths
}

/// System calls that no hypervisor needs once its files were handed over, refused with EPERM. QEMU's own filter refuses
/// others (it ends the process when one of them is tried).
const REFUSED: &[libc::c_long] = &[
    // Reaching anything but the streams that were handed over.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_kill,
    // Names of files, and who may use them.
    libc::SYS_creat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_utimensat,
    libc::SYS_openat2,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Corners of the kernel with a record of holes.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_modify_ldt,
    libc::SYS_personality,
    libc::SYS_vmsplice,
];

fn seccomp_filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    // Opening is allowed, creating is not.
    for (call, flags_argument) in [(libc::SYS_open, 1), (libc::SYS_openat, 2)] {
        let creating = u64::from(libc::O_CREAT.cast_unsigned());
        let condition =
            SeccompCondition::new(flags_argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(creating), creating)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    let refusal = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Step, program_paths, step, step_of};

    #[test]
    fn a_failed_step_is_named_across_the_fork() {
        let error = step(Step::Landlock, Err(rustix::io::Errno::PERM)).unwrap_err();
        let (what, cause) = step_of(&error).unwrap();
        assert_eq!(what, "confine the hypervisor to its files");
        assert_eq!(cause.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(step_of(&std::io::Error::from_raw_os_error(2)).is_none());
    }

    #[test]
    fn a_program_of_another_prefix_reaches_its_own_files() {
        let paths = program_paths(Path::new("/opt/qemu/bin/qemu-system-x86_64"));
        assert!(paths.contains(&"/opt/qemu/share/qemu".into()));
        assert!(!paths.contains(&"/".into()) && !paths.contains(&"/usr".into()));
    }
}
