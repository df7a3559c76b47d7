//! The two directions of a command's streams, under credit: what it prints, and what it is given to read.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use pyro_wire::credit::{CreditExceeded, CreditOverflow, ReceiveCredit, SendCredit};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::{ExecId, GuestMessage, Stream};
use rustix::io::Errno;
use rustix::termios::{LocalModes, SpecialCodeIndex};

use crate::channel::Outbox;

/// Most bytes of a terminal that are still sent after its command ended. A terminal holds less than this, but says only by
/// being empty that it is.
const TERMINAL_TAIL_BYTES_MAX: usize = 128 * 1024;

/// Standard output or standard error of a command.
#[derive(Debug)]
pub(crate) struct Output {
    stream: Stream,
    fd: Rc<OwnedFd>,
    terminal: bool,
    credit: SendCredit,
    readable: bool,
    rest: Rest,
}

/// What is still to come of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Anything: the command runs.
    Open,
    /// The command ended; this much of what it wrote is still in the pipe.
    Tail { left_bytes: usize },
    /// The command ended and all it wrote was sent; something else may still hold the other end.
    Sent,
    /// Nothing: the other end is closed.
    Closed,
}

impl Output {
    pub(crate) fn new(stream: Stream, fd: Rc<OwnedFd>, terminal: bool) -> Self {
        Self { stream, fd, terminal, credit: SendCredit::default(), readable: false, rest: Rest::Open }
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn note_readable(&mut self) {
        self.readable = true;
    }

    pub(crate) fn give_credit(&mut self, bytes: u32) -> Result<(), CreditOverflow> {
        self.credit.give(bytes)
    }

    /// Whether everything the command wrote was sent.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.rest, Rest::Sent | Rest::Closed)
    }

    /// Whether nothing can be sent until the host gives credit.
    pub(crate) fn waits_for_credit(&self) -> bool {
        self.credit.left_bytes() == 0
    }

    /// Whether [`Self::pump`] would do something now, given room.
    pub(crate) fn can_pump(&self) -> bool {
        self.readable && !self.is_sent() && !self.waits_for_credit()
    }

    /// Sends at most one frame of what the command wrote. Whether it did.
    pub(crate) fn pump(&mut self, exec: ExecId, outbox: &mut Outbox) -> bool {
        if !self.can_pump() || !outbox.has_room() {
            return false;
        }
        let tail_bytes = if let Rest::Tail { left_bytes } = self.rest { left_bytes } else { usize::MAX };
        let count_max = DATA_BYTES_MAX.min(self.credit.left_bytes()).min(tail_bytes);
        match outbox.data(exec, self.stream, count_max, |room| rustix::io::read(&self.fd, room)) {
            Ok(0) => self.rest = Rest::Closed,
            Ok(count) => self.note_sent(count, count_max),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                self.readable = false;
                if self.rest != Rest::Open {
                    self.rest = Rest::Sent;
                }
            }
            // A terminal that nobody has open reads as an error, until its command opens it again.
            Err(_) if self.terminal && self.rest == Rest::Open => self.readable = false,
            Err(_) => self.rest = Rest::Closed,
        }
        true
    }

    fn note_sent(&mut self, count: usize, count_max: usize) {
        self.credit.take(count);
        // A pipe gives all it has; a change after that is reported. A terminal gives a line or a page at a time, and so may a
        // pipe whose writer asked for packets: what is left in one at the end must not wait for a change.
        if count < count_max && !self.terminal && self.rest == Rest::Open {
            self.readable = false;
        }
        if let Rest::Tail { left_bytes } = self.rest {
            let left_bytes = left_bytes.saturating_sub(count);
            self.rest = if left_bytes == 0 { Rest::Sent } else { Rest::Tail { left_bytes } };
        }
    }

    /// The command ended: what is in the pipe now is all that remains to be sent.
    pub(crate) fn begin_tail(&mut self) {
        if self.rest != Rest::Open {
            return;
        }
        let left_bytes = if self.terminal {
            TERMINAL_TAIL_BYTES_MAX
        } else {
            rustix::io::ioctl_fionread(&*self.fd).ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
        };
        self.readable = true;
        self.rest = if left_bytes == 0 { Rest::Sent } else { Rest::Tail { left_bytes } };
    }

    /// The descriptor, if something may still write to its other end.
    pub(crate) fn into_leftover(self) -> Option<Rc<OwnedFd>> {
        if self.rest == Rest::Closed {
            return None;
        }
        let mut byte = [0];
        match rustix::io::read(&*self.fd, &mut byte) {
            Ok(count) if count > 0 => Some(self.fd),
            Err(Errno::AGAIN | Errno::INTR) => Some(self.fd),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Standard input of a command.
#[derive(Debug)]
pub(crate) struct Input {
    /// `None` once it is closed: what still comes is thrown away.
    fd: Option<Rc<OwnedFd>>,
    terminal: bool,
    writable: bool,
    credit: ReceiveCredit,
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were written already.
    written_bytes: usize,
    ends: bool,
}

impl Input {
    pub(crate) fn new(fd: Rc<OwnedFd>, terminal: bool) -> Self {
        Self {
            fd: Some(fd),
            terminal,
            writable: true,
            credit: ReceiveCredit::default(),
            queue: VecDeque::new(),
            written_bytes: 0,
            ends: false,
        }
    }

    pub(crate) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_deref()
    }

    pub(crate) fn note_writable(&mut self) {
        self.writable = true;
    }

    /// Takes bytes from the host; none are the end.
    pub(crate) fn receive(&mut self, bytes: Vec<u8>) -> Result<(), CreditExceeded> {
        self.credit.receive(bytes.len())?;
        if bytes.is_empty() {
            self.ends = true;
        } else if !self.ends {
            self.queue.push_back(bytes);
        }
        Ok(())
    }

    /// Whether [`Self::pump`] would do something now.
    pub(crate) fn can_pump(&self) -> bool {
        if self.fd.is_none() { !self.queue.is_empty() } else { self.writable && (self.ends || !self.queue.is_empty()) }
    }

    /// Gives the command what it takes now, and the host credit for it.
    pub(crate) fn pump(&mut self, exec: ExecId, outbox: &mut Outbox) {
        while self.can_pump() {
            let Some(piece) = self.queue.front() else { return self.end() };
            let rest = piece.get(self.written_bytes..).unwrap_or_default();
            let result = self.fd.as_ref().map_or(Ok(rest.len()), |fd| rustix::io::write(&**fd, rest));
            match result {
                Ok(count) => {
                    self.written_bytes += count;
                    if self.written_bytes >= piece.len() {
                        self.queue.pop_front();
                        self.written_bytes = 0;
                    }
                    if let Some(bytes) = self.credit.consume(count) {
                        outbox.say(&GuestMessage::Credit { exec, bytes });
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                // Nobody reads any more. The host's bytes are thrown away, but it gets its credit, so that it can go on.
                Err(_) => self.fd = None,
            }
        }
    }

    fn end(&mut self) {
        // A terminal has no end, but a character that its reader takes for one.
        if let Some(fd) = self.fd.take().filter(|_| self.terminal)
            && let Ok(modes) = rustix::termios::tcgetattr(&*fd)
            && modes.local_modes.contains(LocalModes::ICANON)
        {
            let _ = rustix::io::write(&*fd, &[modes.special_codes[SpecialCodeIndex::VEOF]]);
        }
    }
}
