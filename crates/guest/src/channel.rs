//! The stream to the host: bytes in, cut into frames; frames out, through a bounded buffer.
//!
//! Two kinds of stream carry a session. A machine's is a virtio-serial port: it outlives its sessions, reads as ended while the
//! host side is closed, and comes back when it opens. Anything else (a socket, in tests) ends for good.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pyro_wire::frame::{DATA_BYTES_MAX, HEAD_BYTES, connection_head, data_head};
use pyro_wire::{ConnectionId, Decoder, ExecId, Frame, FrameError, GuestMessage, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Past this many unsent bytes no output of commands is taken.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Past this many, which only answers can bring about, nothing of the host is read either: it must first read itself. Far over
/// the other limit, so that a host may well write while output waits for it.
const UNANSWERED_BYTES_MAX: usize = 4 * UNSENT_BYTES_MAX;

/// Bytes read from the host between two looks at everything else.
const TURN_BYTES: usize = 256 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// What kind of stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A virtio-serial port.
    Port,
    /// A stream that ends once.
    Stream,
}

/// The stream to the host.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
    kind: Kind,
    readable: bool,
    writable: bool,
    decoder: Decoder,
    /// The host broke the format: what it sends means nothing until it opens its side anew.
    deaf: bool,
    read_buffer: Vec<u8>,
    outbox: Outbox,
}

/// What came from the host.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A whole frame.
    Frame(Frame),
    /// The host closed its side; it may open it again.
    HostLeft,
    /// The stream is over.
    Ended,
    /// Bytes that are no frame. Everything after them is thrown away.
    Nonsense(FrameError),
}

impl Channel {
    /// `fd` must not block.
    pub(crate) fn new(fd: OwnedFd, kind: Kind) -> Self {
        Self {
            fd,
            kind,
            readable: true,
            writable: true,
            decoder: Decoder::new(),
            deaf: false,
            read_buffer: vec![0; READ_BYTES],
            outbox: Outbox::default(),
        }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn note_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether [`Self::hear`] would do something now.
    pub(crate) fn has_more(&self) -> bool {
        self.readable && self.outbox.unsent().len() < UNANSWERED_BYTES_MAX
    }

    /// Whether [`Self::flush`] would do something now.
    pub(crate) fn can_flush(&self) -> bool {
        self.writable && !self.outbox.is_empty()
    }

    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Throws away what the host sends until it opens its side anew.
    pub(crate) fn turn_deaf(&mut self) {
        self.deaf = true;
    }

    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Reads what the host sent, at most [`TURN_BYTES`] of it.
    pub(crate) fn hear(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut taken_bytes = 0;
        while self.has_more() && taken_bytes < TURN_BYTES {
            match rustix::io::read(&self.fd, &mut self.read_buffer) {
                Ok(count) if count > 0 => {
                    taken_bytes += count;
                    if !self.deaf {
                        self.decoder.push(self.read_buffer.get(..count).unwrap_or_default());
                        self.decode(&mut heard);
                    }
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => {
                    self.readable = false;
                    self.deaf = false;
                    self.decoder = Decoder::new();
                    self.outbox = Outbox::default();
                    heard.push(if self.kind == Kind::Port { Heard::HostLeft } else { Heard::Ended });
                }
            }
        }
        heard
    }

    fn decode(&mut self, heard: &mut Vec<Heard>) {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => heard.push(Heard::Frame(frame)),
                Ok(None) => return,
                Err(error) => {
                    self.deaf = true;
                    heard.push(Heard::Nonsense(error));
                    return;
                }
            }
        }
    }

    /// Sends what is to be sent, as far as the stream takes it now. `false` when the stream is over.
    pub(crate) fn flush(&mut self) -> bool {
        while self.can_flush() {
            match rustix::io::write(&self.fd, self.outbox.unsent()) {
                Ok(count) => self.outbox.note_sent(count),
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                // A port whose host side just closed says so through a read.
                Err(_) if self.kind == Kind::Port => self.writable = false,
                Err(_) => return false,
            }
        }
        true
    }

    /// Sends everything, waiting at most `limit` for the stream to take it.
    pub(crate) fn flush_within(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.flush() && !self.outbox.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { return };
            let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
            match poll(&mut fds, Some(&left)) {
                Ok(count) if count > 0 && !fds[0].revents().contains(PollFlags::HUP) => self.writable = true,
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

/// Frames on their way out. Grows only by control frames past [`UNSENT_BYTES_MAX`]; data goes in while there is room.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// All of it is initialised; what is to be sent lies in `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Whether more output may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.end - self.start < UNSENT_BYTES_MAX
    }

    /// Adds a message.
    pub(crate) fn say(&mut self, message: &GuestMessage) {
        let mut bytes = Vec::new();
        if message.encode(&mut bytes).is_err() {
            // Only a fault's text could be this long, and those are cut when they are made.
            crate::console::say("session: a message too long for its frame was dropped");
            return;
        }
        self.space(bytes.len()).copy_from_slice(&bytes);
        self.end += bytes.len();
    }

    /// Ends a stream.
    pub(crate) fn end_stream(&mut self, exec: ExecId, stream: Stream) {
        self.data(exec, stream, 0, |_| Ok(0)).expect("the closure does not fail");
    }

    /// Lets `fill` write up to `count_max` bytes of a stream; what it wrote becomes one data frame. It becomes none when
    /// `fill` fails or, unless `count_max` is zero, writes nothing.
    pub(crate) fn data(
        &mut self,
        exec: ExecId,
        stream: Stream,
        count_max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.frame(|count| data_head(exec, stream, count), count_max, fill)
    }

    /// Ends the guest's direction of a connection.
    pub(crate) fn end_connection(&mut self, connection: ConnectionId) {
        self.connection_data(connection, 0, |_| Ok(0)).expect("the closure does not fail");
    }

    /// As [`Self::data`], of a connection.
    pub(crate) fn connection_data(
        &mut self,
        connection: ConnectionId,
        count_max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.frame(|count| connection_head(connection, count), count_max, fill)
    }

    fn frame(
        &mut self,
        head: impl FnOnce(usize) -> Result<[u8; HEAD_BYTES], FrameError>,
        count_max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let count_max = count_max.min(DATA_BYTES_MAX);
        let (head_room, payload) = self.space(HEAD_BYTES + count_max).split_at_mut(HEAD_BYTES);
        let count = fill(payload)?;
        if count == 0 && count_max > 0 {
            return Ok(0);
        }
        head_room.copy_from_slice(&head(count).map_err(|_| Errno::MSGSIZE)?);
        self.end += HEAD_BYTES + count;
        Ok(count)
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn unsent(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn note_sent(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// `count` free bytes after what is to be sent.
    fn space(&mut self, count: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < count && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < count {
            let wanted = (self.end + count).max(UNSENT_BYTES_MAX + HEAD_BYTES + DATA_BYTES_MAX);
            self.buffer.resize(wanted, 0);
        }
        &mut self.buffer[self.end..self.end + count]
    }
}

#[cfg(test)]
mod tests {
    use pyro_wire::{Decoder, ExecId, Exit, Frame, GuestMessage, Stream};

    use super::{Outbox, UNSENT_BYTES_MAX};

    #[test]
    fn frames_leave_in_order_whatever_is_taken_at_a_time() {
        let mut outbox = Outbox::default();
        let (mut decoder, mut frames, mut expected) = (Decoder::new(), Vec::new(), Vec::new());
        for round in 0..200_u32 {
            let exec = ExecId(round);
            let length = usize::try_from(round * 331 % 65_000).expect("small") + 1;
            let taken = outbox.data(exec, Stream::Stdout, length, |room| {
                room.fill(7);
                Ok(room.len())
            });
            assert_eq!(taken, Ok(length));
            expected.push(Frame::Data { exec, stream: Stream::Stdout, bytes: vec![7; length] });
            let message = GuestMessage::Exited { exec, exit: Exit::Code(0), duration_ms: 1 };
            outbox.say(&message);
            let mut bytes = Vec::new();
            message.encode(&mut bytes).expect("short");
            decoder.push(&bytes);
            expected.push(decoder.next_frame().expect("valid").expect("whole"));
            // Take a part that never fits the frames.
            let count = outbox.unsent().len().min(40_001);
            frames.extend_from_slice(&outbox.unsent()[..count]);
            outbox.note_sent(count);
        }
        frames.extend_from_slice(outbox.unsent());
        decoder.push(&frames);
        for frame in expected {
            assert_eq!(decoder.next_frame(), Ok(Some(frame)));
        }
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn it_says_when_it_is_full() {
        let mut outbox = Outbox::default();
        let mut rounds = 0;
        while outbox.has_room() {
            outbox.data(ExecId(1), Stream::Stdout, 60_000, |room| Ok(room.len())).expect("fills");
            rounds += 1;
        }
        assert_eq!(rounds, UNSENT_BYTES_MAX.div_ceil(60_012));
    }
}
