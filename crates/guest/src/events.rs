//! Waiting for any of many descriptors, edge-triggered.
//!
//! Every source is registered once and reports only changes; its owner remembers what it may still read or write. That
//! costs no system call per turn, and, what matters more, a port whose host side is closed reports its hang-up once
//! instead of for ever: the agent of a saved machine sleeps, without polling, until the host opens its side again.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use pyro_wire::{ConnectionId, ExecId, Stream};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 64;

/// Who a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The stream to the host.
    Channel,
    /// A child ended.
    Children,
    /// A stream of a command.
    Exec(ExecId, Stream),
    /// Output that nobody waits for any more.
    Leftover(u32),
    /// What waited for the disk is done.
    Quiesce,
    /// A connection to a port.
    Connection(ConnectionId),
}

/// A change of one source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// Whose.
    pub(crate) source: Source,
    /// Reading may give something: bytes, the end, or an error.
    pub(crate) readable: bool,
    /// Writing may go on, or give an error.
    pub(crate) writable: bool,
}

/// The set of all sources.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: OwnedFd,
}

impl Events {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `fd` until it is closed.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, source.data(), interest())
    }

    /// Reports `fd`, which is watched already, as another source from now on; what it is ready for is reported anew.
    pub(crate) fn rename(&self, fd: impl AsFd, source: Source) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, source.data(), interest())
    }

    /// Waits until something changes, at most `limit`; without one as long as it takes.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Vec<Change>, Errno> {
        let limit = limit.map(|limit| Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let mut list = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
        let count = match epoll::wait(&self.epoll, &mut list, limit.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        Ok(list.iter().take(count).filter_map(change).collect())
    }
}

fn interest() -> EventFlags {
    EventFlags::IN | EventFlags::OUT | EventFlags::ET
}

fn change(event: &Event) -> Option<Change> {
    let (flags, data) = (event.flags, event.data);
    let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
    Some(Change {
        source: Source::from_data(data.u64())?,
        readable: over || flags.contains(EventFlags::IN),
        writable: over || flags.contains(EventFlags::OUT),
    })
}

impl Source {
    fn data(self) -> EventData {
        let (kind, stream, number) = match self {
            Self::Channel => (0, 0, 0),
            Self::Children => (1, 0, 0),
            Self::Exec(exec, stream) => (2, stream.to_byte(), exec.0),
            Self::Leftover(number) => (3, 0, number),
            Self::Quiesce => (4, 0, 0),
            Self::Connection(connection) => (5, 0, connection.0),
        };
        let [n0, n1, n2, n3] = number.to_le_bytes();
        EventData::new_u64(u64::from_le_bytes([kind, stream, 0, 0, n0, n1, n2, n3]))
    }

    fn from_data(data: u64) -> Option<Self> {
        let [kind, stream, _, _, n0, n1, n2, n3] = data.to_le_bytes();
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        match kind {
            0 => Some(Self::Channel),
            1 => Some(Self::Children),
            2 => Stream::from_byte(stream).map(|stream| Self::Exec(ExecId(number), stream)),
            3 => Some(Self::Leftover(number)),
            4 => Some(Self::Quiesce),
            5 => Some(Self::Connection(ConnectionId(number))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_wire::{ConnectionId, ExecId, Stream};

    use super::Source;

    #[test]
    fn sources_survive_the_kernel() {
        for source in [
            Source::Channel,
            Source::Children,
            Source::Exec(ExecId(u32::MAX), Stream::Stderr),
            Source::Exec(ExecId(0), Stream::Stdin),
            Source::Leftover(7),
            Source::Quiesce,
            Source::Connection(ConnectionId(u32::MAX)),
        ] {
            assert_eq!(Source::from_data(source.data().u64()), Some(source));
        }
    }
}
