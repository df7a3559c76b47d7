//! Writing everything to the workspace disk, and keeping the disk still while the host puts a layer on it.
//!
//! Both wait for the disk, so a thread of its own does them; the agent goes on meanwhile and hears of their end. What is
//! frozen thaws by itself when nobody asks for it in time: a host that died must not leave a guest that cannot write.

// UNSAFETY: FIFREEZE and FITHAW have no safe wrappers.
#![expect(unsafe_code, reason = "freezing a file system is an ioctl of its own")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use pyro_wire::lifecycle::FROZEN_MS_MAX;
use pyro_wire::{Fault, FaultKind, RequestId};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// `FIFREEZE` and `FITHAW` of `linux/fs.h`.
const FREEZE: libc::c_ulong = 0xc004_5877;
const THAW: libc::c_ulong = 0xc004_5878;

/// What is written and frozen.
#[derive(Debug)]
pub(crate) struct Quiesce {
    wake: Arc<OwnedFd>,
    ends: Receiver<End>,
    sender: Sender<End>,
    /// Counts sessions: what an earlier one asked for is answered to nobody.
    session: u64,
    /// Somebody waits for the disk to be frozen.
    freezing: bool,
    frozen: Option<Frozen>,
}

#[derive(Debug)]
struct Frozen {
    disk: OwnedFd,
    until: Instant,
}

/// A thread is done.
#[derive(Debug)]
struct End {
    session: u64,
    id: RequestId,
    /// With the disk that is frozen now, if that was asked.
    result: Result<Option<OwnedFd>, Fault>,
}

impl Quiesce {
    pub(crate) fn new() -> Result<Self, Errno> {
        let (sender, ends) = channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Self { wake, ends, sender, session: 0, freezing: false, frozen: None })
    }

    /// Becomes readable when a thread is done.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.wake
    }

    /// Begins to write everything to the disks.
    pub(crate) fn sync(&self, id: RequestId) -> Result<(), Fault> {
        self.begin(id, || {
            rustix::fs::sync();
            Ok(None)
        })
    }

    /// Begins to freeze the file system that is mounted at `disk`.
    pub(crate) fn freeze(&mut self, id: RequestId, disk: Option<&OwnedFd>) -> Result<(), Fault> {
        let wrong = |message: &str| Fault::new(FaultKind::WrongPhase, message);
        if self.freezing || self.frozen.is_some() {
            return Err(wrong("the workspace disk is being frozen already"));
        }
        let disk = disk.ok_or_else(|| wrong("this machine has no workspace disk to freeze"))?;
        let disk = rustix::fs::openat(disk, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Fault::new(FaultKind::Io, format!("cannot open the workspace disk: {error}")))?;
        self.begin(id, move || match quiesce_ioctl(&disk, FREEZE) {
            Ok(()) => Ok(Some(disk)),
            Err(error) => Err(Fault::new(FaultKind::Io, format!("cannot freeze the workspace disk: {error}"))),
        })?;
        self.freezing = true;
        Ok(())
    }

    /// Lets the disk be written again.
    pub(crate) fn thaw(&mut self) -> Result<(), Fault> {
        // One that is about to be frozen is thawed at once.
        self.freezing = false;
        match self.frozen.take() {
            Some(Frozen { disk, .. }) => quiesce_ioctl(&disk, THAW)
                .map_err(|error| Fault::new(FaultKind::Io, format!("cannot thaw the workspace disk: {error}"))),
            None => Err(Fault::new(FaultKind::WrongPhase, "the workspace disk is not frozen any more")),
        }
    }

    /// What is done, for whoever asked.
    pub(crate) fn take_ends(&mut self) -> Vec<(RequestId, Result<(), Fault>)> {
        // Only wakes; it may have been read already.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        let ends: Vec<End> = self.ends.try_iter().collect();
        ends.into_iter().filter_map(|end| self.take_end(end)).collect()
    }

    fn take_end(&mut self, End { session, id, result }: End) -> Option<(RequestId, Result<(), Fault>)> {
        let is_asked = session == self.session;
        let result = match result {
            Ok(None) => Ok(()),
            Ok(Some(disk)) if is_asked && self.freezing => {
                self.frozen = Some(Frozen { disk, until: Instant::now() + Duration::from_millis(FROZEN_MS_MAX) });
                Ok(())
            }
            Ok(Some(disk)) => {
                let _ = quiesce_ioctl(&disk, THAW);
                Err(Fault::new(FaultKind::WrongPhase, "the workspace disk was to be thawed before it was frozen"))
            }
            Err(fault) => Err(fault),
        };
        if self.frozen.is_none() && result.is_err() {
            self.freezing = false;
        }
        is_asked.then_some((id, result))
    }

    /// When the disk is thawed if nobody asks for it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.frozen.as_ref().map(|frozen| frozen.until)
    }

    /// Thaws what was frozen for too long.
    pub(crate) fn expire(&mut self) {
        if self.deadline().is_some_and(|until| until <= Instant::now()) {
            drop(self.thaw());
        }
    }

    /// Forgets what was asked: nobody waits for it any more.
    pub(crate) fn abandon(&mut self) {
        self.session += 1;
        drop(self.thaw());
    }

    fn begin(
        &self,
        id: RequestId,
        work: impl FnOnce() -> Result<Option<OwnedFd>, Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let (sender, wake, session) = (self.sender.clone(), Arc::clone(&self.wake), self.session);
        let run = move || {
            // The agent, which holds the other ends, lives as long as this process.
            drop(sender.send(End { session, id, result: work() }));
            let _ = rustix::io::write(&*wake, &1_u64.to_ne_bytes());
        };
        let begun = std::thread::Builder::new().name("quiesce".to_owned()).spawn(run);
        begun.map(drop).map_err(|error| Fault::new(FaultKind::LimitReached, format!("cannot begin a thread: {error}")))
    }
}

fn quiesce_ioctl(disk: &OwnedFd, what: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: both take no argument (the kernel ignores it) and touch no memory of this process.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), what, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
