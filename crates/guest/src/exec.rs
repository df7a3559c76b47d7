//! The commands of a session: started, fed, listened to, ended.
//!
//! A command ends when its own process does. What it had written until then is sent, each of its output streams is ended, and
//! then `Exited` is said. What it left running goes on, in its cgroup, until the session or the machine ends.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pyro_wire::exec::EXECS_MAX;
use pyro_wire::{ExecId, ExecRequest, Exit, Fault, FaultKind, GuestMessage, Stream, TerminalSize};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::cgroup::{Cgroup, Cgroups};
use crate::channel::Outbox;
use crate::command::Command;
use crate::events::{Change, Events, Source};
use crate::leftovers::Leftovers;
use crate::spawn::{SpawnError, Spawner, Stdio, Target, send_signal};
use crate::streams::{Input, Output};

/// The host did what the protocol forbids; its session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Breach {
    /// It gave more credit than it was owed.
    #[error("command {}: {error}", .exec.0)]
    CreditOverflow {
        /// The command.
        exec: ExecId,
        /// What is wrong.
        error: pyro_wire::credit::CreditOverflow,
    },
    /// It sent more than it had credit for.
    #[error("command {}: {error}", .exec.0)]
    CreditExceeded {
        /// The command.
        exec: ExecId,
        /// What is wrong.
        error: pyro_wire::credit::CreditExceeded,
    },
}

/// All commands of a session.
#[derive(Debug)]
pub(crate) struct Execs {
    running: BTreeMap<ExecId, Exec>,
    leftovers: Leftovers,
    cgroups: Cgroups,
    spawner: Spawner,
    null: OwnedFd,
    /// Nothing was started since everything was killed.
    is_clean: bool,
}

#[derive(Debug)]
struct Exec {
    pid: Pid,
    cgroup: Option<Cgroup>,
    terminal: Option<Rc<OwnedFd>>,
    input: Option<Input>,
    outputs: Vec<Output>,
    started: Instant,
    deadline: Option<Instant>,
    /// What the end will be called if it is not its own.
    verdict: Option<Exit>,
    /// The host does not want the rest of the output if it would have to wait for it.
    hurried: bool,
    ended: Option<Ended>,
    /// It is over only with everything it started.
    whole: bool,
    /// It was asked to end, and has until its deadline.
    terminated: bool,
    /// Its process ended, and where it is `whole` everything else of it too.
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    exit: Exit,
    duration_ms: u64,
}

/// Our ends of a command's streams, and its own until it has them.
struct Ends {
    terminal: Option<Rc<OwnedFd>>,
    input: Option<Input>,
    outputs: Vec<Output>,
    theirs: Theirs,
}

enum Theirs {
    Files { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal(OwnedFd),
}

impl Execs {
    pub(crate) fn new(cgroups: Cgroups, spawner: Spawner) -> Result<Self, Errno> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { running: BTreeMap::new(), leftovers: Leftovers::default(), cgroups, spawner, null, is_clean: true })
    }

    /// From now on tools see the workspace disk, which is mounted at `disk`.
    pub(crate) fn lend_disk(&mut self, disk: OwnedFd) {
        self.spawner.lend_disk(disk);
    }

    /// Starts a command and says so, or why not.
    pub(crate) fn start(&mut self, id: ExecId, request: &ExecRequest, events: &Events, outbox: &mut Outbox) {
        let message = match self.try_start(id, request, events) {
            Ok(pid) => GuestMessage::Started { exec: id, pid: pid.as_raw_pid().unsigned_abs() },
            Err(fault) => GuestMessage::NotStarted { exec: id, fault },
        };
        outbox.say(&message);
    }

    fn try_start(&mut self, id: ExecId, request: &ExecRequest, events: &Events) -> Result<Pid, Fault> {
        if self.running.contains_key(&id) {
            return Err(Fault::new(FaultKind::InvalidArgument, format!("command {} runs already", id.0)));
        }
        if self.running.len() >= EXECS_MAX {
            return Err(Fault::new(FaultKind::LimitReached, format!("{EXECS_MAX} commands run already")));
        }
        let command = Command::read(request, self.spawner.disk())?;
        let ends = Ends::open(request).map_err(|error| io_fault("the command's streams", error))?;
        ends.watch(id, events).map_err(|error| io_fault("the command's streams", error))?;
        let cgroup = self.cgroups.create().map_err(|error| io_fault("the command's cgroup", error))?;
        self.is_clean = false;
        let started = Instant::now();
        let spawned = self.spawner.spawn(&command, ends.theirs.as_stdio(&self.null), cgroup.as_ref().map(Cgroup::dir));
        let pid = match spawned {
            Ok(pid) => pid,
            Err(error) => {
                if let Some(cgroup) = cgroup {
                    self.cgroups.release(cgroup);
                }
                return Err(spawn_fault(error, &command));
            }
        };
        let deadline = request.timeout_ms.and_then(|limit| started.checked_add(Duration::from_millis(limit)));
        let Ends { terminal, input, outputs, theirs: _ } = ends;
        let exec = Exec {
            pid,
            cgroup,
            terminal,
            input,
            outputs,
            started,
            deadline,
            verdict: None,
            hurried: false,
            ended: None,
            whole: request.whole,
            terminated: false,
            over: false,
        };
        self.running.insert(id, exec);
        Ok(pid)
    }

    /// Takes standard input from the host. For a command that is gone, or that has no input, it is thrown away.
    pub(crate) fn receive(&mut self, id: ExecId, bytes: Vec<u8>) -> Result<(), Breach> {
        let Some(input) = self.running.get_mut(&id).and_then(|exec| exec.input.as_mut()) else { return Ok(()) };
        input.receive(bytes).map_err(|error| Breach::CreditExceeded { exec: id, error })
    }

    /// Takes credit from the host.
    pub(crate) fn give_credit(&mut self, id: ExecId, stream: Stream, bytes: u32) -> Result<(), Breach> {
        let outputs = self.running.get_mut(&id).map(|exec| exec.outputs.iter_mut());
        let Some(output) = outputs.into_iter().flatten().find(|output| output.stream() == stream) else {
            return Ok(());
        };
        output.give_credit(bytes).map_err(|error| Breach::CreditOverflow { exec: id, error })
    }

    /// Signals the foreground process group of a command's terminal, or the command's own.
    pub(crate) fn signal(&self, id: ExecId, number: u8) {
        let Some(exec) = self.running.get(&id).filter(|exec| exec.ended.is_none()) else { return };
        let foreground = exec.terminal.as_ref().and_then(|terminal| rustix::termios::tcgetpgrp(&**terminal).ok());
        send_signal(Target::Group(foreground.unwrap_or(exec.pid)), i32::from(number));
    }

    /// Sets the size of a command's terminal.
    pub(crate) fn resize(&self, id: ExecId, size: TerminalSize) {
        if let Some(terminal) = self.running.get(&id).and_then(|exec| exec.terminal.as_ref()) {
            let _ = rustix::termios::tcsetwinsize(&**terminal, winsize(size));
        }
    }

    /// Kills a command and everything it started, and hurries its end.
    pub(crate) fn kill(&mut self, id: ExecId) {
        if let Some(exec) = self.running.get_mut(&id) {
            exec.hurried = true;
            exec.kill(Exit::Killed);
        }
    }

    /// Asks a command and everything it started to end, and kills what has not after `grace`.
    pub(crate) fn terminate(&mut self, id: ExecId, grace: Duration) {
        if let Some(exec) = self.running.get_mut(&id).filter(|exec| !exec.over) {
            let deadline = Instant::now().checked_add(grace);
            exec.deadline = exec.deadline.into_iter().chain(deadline).min();
            exec.terminated = true;
            exec.ask_to_end();
        }
    }

    /// Kills the commands that ran past their time.
    pub(crate) fn expire(&mut self) {
        if self.running.values().all(|exec| exec.deadline.is_none()) {
            return;
        }
        let now = Instant::now();
        for exec in self.running.values_mut().filter(|exec| exec.deadline.is_some_and(|deadline| deadline <= now)) {
            exec.kill(if exec.terminated { Exit::Killed } else { Exit::TimedOut });
        }
    }

    /// When the next command runs out of time.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.running.values().filter_map(|exec| exec.deadline).min()
    }

    /// Takes all ended children away, the commands' and the orphans that became ours.
    pub(crate) fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note_end(pid, status),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
        // Whoever ends last of a command is an orphan, and so ours.
        self.running.values_mut().for_each(Exec::see_if_over);
        self.cgroups.sweep();
    }

    fn note_end(&mut self, pid: Pid, status: WaitStatus) {
        let ended = |exec: &&mut Exec| exec.pid == pid && exec.ended.is_none();
        if let Some(exec) = self.running.values_mut().find(ended) {
            exec.note_end(status);
        }
    }

    /// Notes what a change of a descriptor makes possible.
    pub(crate) fn note_ready(&mut self, change: Change) {
        match change.source {
            Source::Exec(id, stream) => {
                if let Some(exec) = self.running.get_mut(&id) {
                    exec.note_ready(stream, change);
                }
            }
            Source::Leftover(number) => self.leftovers.note_readable(number),
            Source::Channel | Source::Children | Source::Quiesce | Source::Connection(_) => {}
        }
    }

    /// Whether [`Self::pump_round`] would do something now, given room.
    pub(crate) fn can_pump(&self) -> bool {
        self.leftovers.can_drain() || self.running.values().any(Exec::can_pump)
    }

    /// Gives commands what they take now of their input.
    pub(crate) fn feed(&mut self, outbox: &mut Outbox) {
        for (id, exec) in &mut self.running {
            if let Some(input) = &mut exec.input {
                input.pump(*id, outbox);
            }
        }
    }

    /// Sends a frame of each stream that has one, while there is room. Whether any had.
    pub(crate) fn pump_round(&mut self, outbox: &mut Outbox) -> bool {
        let mut moved = false;
        for (id, exec) in &mut self.running {
            for output in &mut exec.outputs {
                moved |= output.pump(*id, outbox);
            }
        }
        moved
    }

    /// Says which commands ended, and drops what was written by what they left running.
    pub(crate) fn finish(&mut self, events: &Events, outbox: &mut Outbox) {
        for (id, exec) in self.running.extract_if(.., |_, exec| exec.is_finished()) {
            let Some(Ended { exit, duration_ms }) = exec.ended else { continue };
            for output in exec.outputs {
                outbox.end_stream(id, output.stream());
                if let Some(fd) = output.into_leftover() {
                    self.leftovers.adopt(fd, events);
                }
            }
            outbox.say(&GuestMessage::Exited { exec: id, exit, duration_ms });
            if let Some(cgroup) = exec.cgroup {
                self.cgroups.release(cgroup);
            }
        }
        self.leftovers.drain();
    }

    /// Kills every command and what all commands left running, and forgets them.
    pub(crate) fn abandon(&mut self) {
        if std::mem::replace(&mut self.is_clean, true) {
            return;
        }
        for exec in self.running.values_mut() {
            exec.kill(Exit::Killed);
        }
        self.cgroups.kill_all();
        for (_, exec) in std::mem::take(&mut self.running) {
            if let Some(cgroup) = exec.cgroup {
                self.cgroups.release(cgroup);
            }
        }
        self.leftovers.clear();
    }

    /// As [`Self::abandon`], and says of each command that was running that it was killed.
    pub(crate) fn abandon_aloud(&mut self, outbox: &mut Outbox) {
        for (id, exec) in &self.running {
            let duration_ms = milliseconds(exec.started.elapsed());
            let ended = exec.ended.unwrap_or(Ended { exit: Exit::Killed, duration_ms });
            outbox.say(&GuestMessage::Exited { exec: *id, exit: ended.exit, duration_ms: ended.duration_ms });
        }
        self.abandon();
    }
}

impl Exec {
    fn kill(&mut self, verdict: Exit) {
        self.deadline = None;
        if self.ended.is_none() {
            self.verdict.get_or_insert(verdict);
        }
        let group_killed = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.kill().is_ok());
        if !group_killed && self.ended.is_none() {
            send_signal(Target::Group(self.pid), libc::SIGKILL);
        }
        if self.ended.is_some() {
            self.be_over();
        }
    }

    fn ask_to_end(&self) {
        // The group of processes is for where there is no cgroup; who hears it twice hears the same.
        let asked = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.ask_to_end().is_ok());
        if !asked && self.ended.is_none() {
            send_signal(Target::Group(self.pid), libc::SIGTERM);
            send_signal(Target::Group(self.pid), libc::SIGCONT);
        }
    }

    fn note_end(&mut self, status: WaitStatus) {
        let own = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Exit::Signal(signal.and_then(|signal| u8::try_from(signal).ok()).unwrap_or(u8::MAX)),
        };
        let exit = self.verdict.unwrap_or(own);
        self.ended = Some(Ended { exit, duration_ms: milliseconds(self.started.elapsed()) });
        self.input = None;
        if self.whole && self.terminated {
            // What else there is of it has its grace, too.
            return;
        }
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| self.whole) {
            let _ = cgroup.kill();
        }
        self.be_over();
    }

    /// Its process ended: looks whether everything else of it did, too.
    fn see_if_over(&mut self) {
        if self.ended.is_some() && !self.over && self.cgroup.as_ref().is_none_or(Cgroup::is_empty) {
            self.be_over();
        }
    }

    fn be_over(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.deadline = None;
        for output in &mut self.outputs {
            output.begin_tail();
        }
    }

    fn note_ready(&mut self, stream: Stream, change: Change) {
        if change.readable
            && let Some(output) = self.outputs.iter_mut().find(|output| output.stream() == stream)
        {
            output.note_readable();
        }
        if change.writable
            && let Some(input) = self.input.as_mut().filter(|_| stream == Stream::Stdin || self.terminal.is_some())
        {
            input.note_writable();
        }
    }

    fn can_pump(&self) -> bool {
        self.is_finished()
            || self.input.as_ref().is_some_and(Input::can_pump)
            || self.outputs.iter().any(Output::can_pump)
    }

    fn is_finished(&self) -> bool {
        let passes = |output: &Output| output.is_sent() || (self.hurried && output.waits_for_credit());
        self.over && self.outputs.iter().all(passes)
    }
}

impl Ends {
    fn open(request: &ExecRequest) -> Result<Self, Errno> {
        match request.terminal {
            Some(size) => Self::open_terminal(size, request.stdin),
            None => Self::open_pipes(request.stdin),
        }
    }

    fn open_pipes(with_input: bool) -> Result<Self, Errno> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (stdout_ours, stdout) = pipe()?;
        let (stderr_ours, stderr) = pipe()?;
        let (stdin, stdin_ours) =
            if with_input { pipe().map(|(read, write)| (Some(read), Some(write)))? } else { (None, None) };
        let ours = |fd: OwnedFd| rustix::io::ioctl_fionbio(&fd, true).map(|()| Rc::new(fd));
        let input = stdin_ours.map(|fd| ours(fd).map(|fd| Input::new(fd, false))).transpose()?;
        let outputs = vec![
            Output::new(Stream::Stdout, ours(stdout_ours)?, false),
            Output::new(Stream::Stderr, ours(stderr_ours)?, false),
        ];
        Ok(Self { terminal: None, input, outputs, theirs: Theirs::Files { stdin, stdout, stderr } })
    }

    fn open_terminal(size: TerminalSize, with_input: bool) -> Result<Self, Errno> {
        let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        rustix::pty::unlockpt(&ours)?;
        rustix::termios::tcsetwinsize(&ours, winsize(size))?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
        let ours = Rc::new(ours);
        Ok(Self {
            input: with_input.then(|| Input::new(Rc::clone(&ours), true)),
            outputs: vec![Output::new(Stream::Stdout, Rc::clone(&ours), true)],
            terminal: Some(ours),
            theirs: Theirs::Terminal(theirs),
        })
    }

    fn watch(&self, id: ExecId, events: &Events) -> Result<(), Errno> {
        if let Some(input) = self.input.as_ref().filter(|_| self.terminal.is_none())
            && let Some(fd) = input.fd()
        {
            events.add(fd, Source::Exec(id, Stream::Stdin))?;
        }
        self.outputs.iter().try_for_each(|output| events.add(output.fd(), Source::Exec(id, output.stream())))
    }
}

impl Theirs {
    fn as_stdio<'a>(&'a self, null: &'a OwnedFd) -> Stdio<'a> {
        match self {
            Self::Files { stdin, stdout, stderr } => Stdio::Files {
                stdin: stdin.as_ref().unwrap_or(null).as_fd(),
                stdout: stdout.as_fd(),
                stderr: stderr.as_fd(),
            },
            Self::Terminal(terminal) => Stdio::Terminal(terminal.as_fd()),
        }
    }
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn io_fault(what: &str, error: Errno) -> Fault {
    // Running out of descriptors is a limit like any other.
    let kind = if matches!(error, Errno::MFILE | Errno::NFILE) { FaultKind::LimitReached } else { FaultKind::Io };
    Fault::new(kind, format!("cannot set up {what}: {error}"))
}

fn spawn_fault(error: SpawnError, command: &Command) -> Fault {
    let program = command.shown_program();
    let (kind, message) = match error {
        SpawnError::Clone(error) => (FaultKind::Io, format!("cannot make a process for {program}: {error}")),
        SpawnError::Streams(error) => return io_fault("the command's streams", error),
        SpawnError::WorkingDirectory(error) => {
            (FaultKind::BadWorkingDirectory, format!("cannot work in {}: {error}", command.shown_cwd()))
        }
        SpawnError::NotFound => (FaultKind::ProgramNotFound, format!("{program} is not there")),
        SpawnError::NoInterpreter => {
            (FaultKind::ProgramNotExecutable, format!("{program} needs an interpreter that is not there"))
        }
        SpawnError::Execute(Errno::TOOBIG) => (
            FaultKind::InvalidArgument,
            format!("the arguments and variables of {program} are too long for the kernel"),
        ),
        SpawnError::Execute(error) => (FaultKind::ProgramNotExecutable, format!("cannot execute {program}: {error}")),
    };
    Fault::new(kind, message)
}
