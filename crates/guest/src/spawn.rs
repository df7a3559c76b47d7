//! Making a command's process, and the signals around it.
//!
//! A child is made as `posix_spawn` makes one: it shares the agent's memory, on a stack of its own, and the agent stands still
//! until the child has executed its program or given up. Nothing is copied, so a command starts in little more time than
//! its `execve` takes, and the child tells why it failed by writing it down. Unlike `posix_spawn` the kernel puts the
//! child into its cgroup at birth, which costs no migration.
//!
//! The price: an `execve` from a file system that hangs (a FUSE mount of the guest's own) holds up the agent with it. That
//! harms only the machine that did it to itself.

// UNSAFETY: `clone3` with shared memory, `execve`, signal masks, `signalfd` and `kill` have no safe wrappers.
#![expect(unsafe_code, reason = "creating processes and handling signals needs raw system calls")]

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::fs::{Access, Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions};

use crate::command::{Command, Image};

/// The child's calls are shallow; unoptimised builds need a few KiB of this.
const STACK_BYTES: usize = 128 * 1024;

/// What a command may open at first, and the most it may raise that to; the values of current distributions.
const CHILD_FILES: Rlimit = Rlimit { current: Some(1024), maximum: Some(FILES_MAX) };

/// Most descriptors the agent, or a command that asks for it, may have.
pub(crate) const FILES_MAX: u64 = 1024 * 1024;

const CLONE3_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What becomes the child's standard streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stdio<'a> {
    /// Three descriptors.
    Files {
        /// Read from.
        stdin: BorrowedFd<'a>,
        /// Written to.
        stdout: BorrowedFd<'a>,
        /// Written to.
        stderr: BorrowedFd<'a>,
    },
    /// A terminal, which becomes the child's controlling one.
    Terminal(BorrowedFd<'a>),
}

/// Why there is no process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnError {
    /// The kernel did not make one.
    Clone(Errno),
    /// Its session, terminal or standard streams could not be set up.
    Streams(Errno),
    /// It could not enter its working directory.
    WorkingDirectory(Errno),
    /// No candidate is there.
    NotFound,
    /// A candidate is there, but the interpreter it names is not.
    NoInterpreter,
    /// A candidate is there, but cannot be executed.
    Execute(Errno),
}

/// What the child is given, and what it leaves. It lives on the agent's stack.
struct Birth<'a> {
    stdio: Stdio<'a>,
    cwd: &'a CStr,
    image: &'a Image,
    agent: &'a OwnedFd,
    disk: Option<&'a OwnedFd>,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    limit_files: bool,
    failure: Option<SpawnError>,
}

/// Makes processes.
#[derive(Debug)]
pub(crate) struct Spawner {
    stack: Vec<u128>,
    limit_files: bool,
    /// The agent's own program, which tools are. Open, so that nothing that becomes of the guest's `/proc` matters.
    agent: OwnedFd,
    disk: Option<OwnedFd>,
}

impl Spawner {
    /// With `limit_files` children get the usual limit of open files instead of the agent's.
    pub(crate) fn new(limit_files: bool) -> Result<Self, Errno> {
        let agent = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { stack: vec![0; STACK_BYTES / size_of::<u128>()], limit_files, agent, disk: None })
    }

    /// From now on tools inherit `disk`, the directory at which the workspace disk is mounted.
    pub(crate) fn lend_disk(&mut self, disk: OwnedFd) {
        self.disk = Some(disk);
    }

    /// The number by which tools know the descriptor they inherit.
    pub(crate) fn disk(&self) -> Option<RawFd> {
        self.disk.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Starts `command` in a session and process group of its own, and in `cgroup` if there is one.
    pub(crate) fn spawn(
        &mut self,
        command: &Command,
        stdio: Stdio<'_>,
        cgroup: Option<&OwnedFd>,
    ) -> Result<Pid, SpawnError> {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
        };
        let Self { stack, limit_files, agent, disk } = self;
        let mut birth = Birth {
            stdio,
            cwd: &command.cwd,
            image: &command.image,
            agent,
            disk: disk.as_ref(),
            argv: &pointers(&command.argv),
            envp: &pointers(&command.env),
            limit_files: *limit_files,
            failure: None,
        };
        let pid = clone_child(stack, &mut birth, cgroup).map_err(SpawnError::Clone)?;
        let Some(failure) = birth.failure else { return Ok(pid) };
        // The child is about to be a zombie, and it is nobody's command: take it away here.
        while matches!(rustix::process::waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
        Err(failure)
    }
}

/// Makes the child, which runs on `stack`.
fn clone_child(stack_memory: &mut [u128], birth: &mut Birth<'_>, cgroup: Option<&OwnedFd>) -> Result<Pid, Errno> {
    const FLAGS: libc::c_int = libc::CLONE_VM | libc::CLONE_VFORK;
    let flags = u64::from(FLAGS.cast_unsigned());
    let stack = stack_memory.as_mut_ptr();
    let arguments = libc::clone_args {
        flags: flags | if cgroup.is_some() { CLONE3_INTO_CGROUP } else { 0 },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        stack: stack.expose_provenance() as u64,
        stack_size: size_of_val(stack_memory) as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |dir| u64::from(dir.as_raw_fd().cast_unsigned())),
    };
    let address = (&raw const arguments).expose_provenance();
    let birth: *mut Birth<'_> = birth;
    // SAFETY: the arguments are valid for `clone3`, `stack` is ours alone, and the child runs `child_main` on `birth`,
    // which outlives it: with CLONE_VFORK this returns only when the child has executed or ended.
    let mut result = unsafe { clone_and_call(libc::SYS_clone3, [address, size_of_val(&arguments)], birth.cast()) };
    if result == -i64::from(libc::ENOSYS) && cgroup.is_none() {
        // Some containers, in which the agent is tested, hide `clone3` from their processes.
        let top = stack.wrapping_add(stack_memory.len()).expose_provenance();
        let flags = (FLAGS | libc::SIGCHLD).cast_unsigned() as usize;
        // SAFETY: as above, in the words of the older system call.
        result = unsafe { clone_and_call(libc::SYS_clone, [flags, top], birth.cast()) };
    }
    let number = i32::try_from(result).map_err(|_| Errno::OVERFLOW)?;
    Pid::from_raw(number).filter(|_| number > 0).ok_or_else(|| Errno::from_raw_os_error(-number))
}

/// Makes the system call `number`; the child calls [`child_main`] on its new stack and never comes back, the parent gets
/// the result.
///
/// # Safety
/// The call must be `clone` or `clone3` with CLONE_VM, CLONE_VFORK and a new 16-byte aligned stack; `birth` must point to
/// a [`Birth`].
unsafe fn clone_and_call(number: libc::c_long, arguments: [usize; 2], birth: *mut libc::c_void) -> i64 {
    let entry: extern "C" fn(*mut Birth<'_>) -> ! = child_main;
    let result: i64;
    // SAFETY: only the parent leaves the block, with every register but the result as it was: the child has copies of them.
    // The child touches no memory of the parent's frame but through `birth`.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") 0_usize,
            in("r10") 0_usize,
            in("r8") 0_usize,
            in("r12") birth,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// The child's life until it is the program. It must not allocate, unwind or return: its memory is the agent's.
extern "C" fn child_main(birth: *mut Birth<'_>) -> ! {
    // SAFETY: the parent stands still and gave us the only pointer it uses until it goes on.
    let birth = unsafe { &mut *birth };
    let failure = become_program(birth);
    birth.failure = Some(failure);
    // SAFETY: ends this process and nothing else: no handler of the agent's may run in it.
    unsafe { libc::_exit(127) }
}

fn become_program(birth: &Birth<'_>) -> SpawnError {
    if let Err(error) = set_up_streams(birth.stdio) {
        return SpawnError::Streams(error);
    }
    if let Err(error) = rustix::process::chdir(birth.cwd) {
        return SpawnError::WorkingDirectory(error);
    }
    if birth.limit_files {
        // Without the limit the command runs as well.
        let _ = rustix::process::setrlimit(Resource::Nofile, CHILD_FILES);
    }
    if let (Image::Agent, Some(disk)) = (birth.image, birth.disk) {
        // The child's table of descriptors is a copy: the agent's own descriptor stays as it is.
        if let Err(error) = rustix::io::fcntl_setfd(disk, FdFlags::empty()) {
            return SpawnError::Streams(error);
        }
    }
    // SAFETY: an all-zero set is the empty set on Linux, and the pointer is valid.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
    execute(birth)
}

fn set_up_streams(stdio: Stdio<'_>) -> Result<(), Errno> {
    rustix::process::setsid()?;
    let (stdin, stdout, stderr) = match stdio {
        Stdio::Files { stdin, stdout, stderr } => (stdin, stdout, stderr),
        Stdio::Terminal(terminal) => {
            rustix::process::ioctl_tiocsctty(terminal)?;
            (terminal, terminal, terminal)
        }
    };
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

/// Becomes the program, or says why not.
fn execute(birth: &Birth<'_>) -> SpawnError {
    match birth.image {
        Image::At(candidates) => execute_at(birth, candidates),
        Image::Agent => {
            // SAFETY: the descriptor is open, the vectors are NUL-terminated and outlive the call.
            unsafe { libc::fexecve(birth.agent.as_raw_fd(), birth.argv.as_ptr(), birth.envp.as_ptr()) };
            SpawnError::Execute(last_error())
        }
    }
}

/// Tries the candidates as a shell does: one that is not there is passed over, one that may not be executed is remembered.
fn execute_at(birth: &Birth<'_>, candidates: &[CString]) -> SpawnError {
    let mut verdict = SpawnError::NotFound;
    for path in candidates {
        // SAFETY: path and vectors are NUL-terminated and outlive the call.
        unsafe { libc::execve(path.as_ptr(), birth.argv.as_ptr(), birth.envp.as_ptr()) };
        let error = last_error();
        match error {
            Errno::NOENT if rustix::fs::access(path.as_c_str(), Access::EXISTS).is_ok() => {
                return SpawnError::NoInterpreter;
            }
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => verdict = SpawnError::Execute(error),
            _ => return SpawnError::Execute(error),
        }
    }
    verdict
}

/// This thread's error number; reading it allocates nothing.
fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Prepares the agent's own process: no signal is ignored (its children would inherit that) and those the agent must not die
/// of are blocked. Answers with a descriptor that is readable once a child ended.
pub(crate) fn take_over_signals() -> Result<OwnedFd, Errno> {
    for number in 1..=64 {
        // SAFETY: the default action has no handler that could be wrong. Numbers that cannot be set are refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is a valid, empty one, and every pointer is valid.
    unsafe {
        let mut children: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        let mut blocked = children;
        libc::sigaddset(&raw mut blocked, libc::SIGPIPE);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const children, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Empties the descriptor of [`take_over_signals`].
pub(crate) fn clear_signals(fd: impl AsFd) {
    let mut records = [0; 8 * size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(fd.as_fd(), &mut records).is_ok_and(|count| count > 0) {}
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The process group that this process leads.
    Group(Pid),
    /// All processes but the caller. Only for the first process of a machine.
    Everyone,
}

/// Sends a signal. A target that is gone, or a number that is no signal, is nothing to anyone.
pub(crate) fn send_signal(target: Target, number: i32) {
    let target = match target {
        Target::Group(leader) => -leader.as_raw_pid(),
        Target::Everyone if rustix::process::getpid().is_init() => -1,
        Target::Everyone => return,
    };
    // SAFETY: `kill` has no memory effects here. -1 is used by the first process of a machine alone, see above.
    unsafe { libc::kill(target, number) };
}
