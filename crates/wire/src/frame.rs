//! Frames: how the byte stream between host and guest is cut.
//!
//! ```text
//!  0      1      2..4      4..8         8..12           12..
//! +------+------+---------+------------+---------------+----------+
//! | kind |stream| zero    | exec (LE)  | length (LE)   | payload  |
//! +------+------+---------+------------+---------------+----------+
//! ```
//!
//! `kind` 1 is a control frame (one JSON message; `stream` and `exec` are zero), `kind` 2 is data of one stream of one
//! command, `kind` 3 is data of one connection, whose number stands in place of the command's (`stream` is zero). A data
//! frame of length zero is the end of that stream. Anything else is an error, and an error ends the session: a peer that
//! lost the frame boundary cannot be trusted to find it again.

use crate::connection::ConnectionId;
use crate::exec::{ExecId, Stream};

/// Length of a frame's head in bytes.
pub const HEAD_BYTES: usize = 12;

/// Most bytes a data frame may carry.
pub const DATA_BYTES_MAX: usize = 64 * 1024;

/// Most bytes a control frame may carry. Argument lists, environments and file pages travel in control frames.
pub const CONTROL_BYTES_MAX: usize = 4 * 1024 * 1024;

const KIND_CONTROL: u8 = 1;
const KIND_DATA: u8 = 2;
const KIND_CONNECTION: u8 = 3;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One JSON message, see [`crate::message`].
    Control(Vec<u8>),
    /// Bytes of one stream of one command; empty at the end of the stream.
    Data {
        /// The command.
        exec: ExecId,
        /// Which of its streams.
        stream: Stream,
        /// At most [`DATA_BYTES_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// Bytes of one connection, of the direction in which the frame goes; empty at the end of that.
    Connection {
        /// The connection.
        connection: ConnectionId,
        /// At most [`DATA_BYTES_MAX`] bytes.
        bytes: Vec<u8>,
    },
}

/// What is wrong with a peer's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte names no kind of frame.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The byte found.
        kind: u8,
    },
    /// The second byte names no stream, or a control frame names one.
    #[error("unknown stream {stream} in a frame of kind {kind}")]
    UnknownStream {
        /// The kind byte.
        kind: u8,
        /// The stream byte.
        stream: u8,
    },
    /// Bytes that must be zero are not.
    #[error("reserved bytes of a frame head are not zero")]
    ReservedNotZero,
    /// The frame is longer than its kind allows.
    #[error("frame of {length_bytes} bytes, at most {length_bytes_max} are allowed")]
    TooLong {
        /// Length announced.
        length_bytes: usize,
        /// Length allowed.
        length_bytes_max: usize,
    },
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the payload is over its limit; `out` is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let (kind, stream, exec, payload, length_bytes_max) = match self {
            Self::Control(payload) => (KIND_CONTROL, 0, 0, payload, CONTROL_BYTES_MAX),
            Self::Data { exec, stream, bytes } => (KIND_DATA, stream.to_byte(), exec.0, bytes, DATA_BYTES_MAX),
            Self::Connection { connection, bytes } => (KIND_CONNECTION, 0, connection.0, bytes, DATA_BYTES_MAX),
        };
        if payload.len() > length_bytes_max {
            return Err(FrameError::TooLong { length_bytes: payload.len(), length_bytes_max });
        }
        let length = u32::try_from(payload.len()).expect("both limits fit 32 bits");
        out.reserve(HEAD_BYTES + payload.len());
        out.extend_from_slice(&[kind, stream, 0, 0]);
        out.extend_from_slice(&exec.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(payload);
        Ok(())
    }
}

/// The head of a data frame whose `length_bytes`, at most [`DATA_BYTES_MAX`], of payload the caller writes behind it. For
/// a sender that reads its payload straight into its send buffer.
///
/// # Errors
/// [`FrameError::TooLong`] when the payload is over its limit.
pub fn data_head(exec: ExecId, stream: Stream, length_bytes: usize) -> Result<[u8; HEAD_BYTES], FrameError> {
    head([KIND_DATA, stream.to_byte()], exec.0, length_bytes)
}

/// As [`data_head`], of a frame of a connection.
///
/// # Errors
/// [`FrameError::TooLong`] when the payload is over its limit.
pub fn connection_head(connection: ConnectionId, length_bytes: usize) -> Result<[u8; HEAD_BYTES], FrameError> {
    head([KIND_CONNECTION, 0], connection.0, length_bytes)
}

fn head([kind, stream]: [u8; 2], number: u32, length_bytes: usize) -> Result<[u8; HEAD_BYTES], FrameError> {
    let too_long = FrameError::TooLong { length_bytes, length_bytes_max: DATA_BYTES_MAX };
    let length = u32::try_from(length_bytes).ok().filter(|_| length_bytes <= DATA_BYTES_MAX).ok_or(too_long)?;
    let [n0, n1, n2, n3] = number.to_le_bytes();
    let [l0, l1, l2, l3] = length.to_le_bytes();
    Ok([kind, stream, 0, 0, n0, n1, n2, n3, l0, l1, l2, l3])
}

/// Cuts a byte stream into frames. Holds at most one incomplete frame and what was pushed after it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    consumed: usize,
}

impl Decoder {
    /// A decoder at a frame boundary.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they came from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The peer broke the format; the session is over and the decoder must not be used again.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let pending = &self.buffer[self.consumed..];
        let Some((head, rest)) = pending.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let head = Head::parse(*head)?;
        let Some(payload) = rest.get(..head.length_bytes) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.consumed += HEAD_BYTES + head.length_bytes;
        Ok(Some(match head.of {
            Of::Control => Frame::Control(payload),
            Of::Exec(exec, stream) => Frame::Data { exec, stream, bytes: payload },
            Of::Connection(connection) => Frame::Connection { connection, bytes: payload },
        }))
    }
}

struct Head {
    of: Of,
    length_bytes: usize,
}

/// What a frame is of.
enum Of {
    Control,
    Exec(ExecId, Stream),
    Connection(ConnectionId),
}

impl Head {
    fn parse(bytes: [u8; HEAD_BYTES]) -> Result<Self, FrameError> {
        let [kind, stream, zero_1, zero_2, n0, n1, n2, n3, l0, l1, l2, l3] = bytes;
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        let length_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let unknown_stream = FrameError::UnknownStream { kind, stream };
        let (of, length_bytes_max) = match (kind, stream) {
            (KIND_CONTROL, 0) => (Of::Control, CONTROL_BYTES_MAX),
            (KIND_DATA, stream) => {
                (Of::Exec(ExecId(number), Stream::from_byte(stream).ok_or(unknown_stream)?), DATA_BYTES_MAX)
            }
            (KIND_CONNECTION, 0) => (Of::Connection(ConnectionId(number)), DATA_BYTES_MAX),
            (KIND_CONTROL | KIND_CONNECTION, _) => return Err(unknown_stream),
            _ => return Err(FrameError::UnknownKind { kind }),
        };
        if (zero_1, zero_2) != (0, 0) || (kind == KIND_CONTROL && number != 0) {
            return Err(FrameError::ReservedNotZero);
        }
        if length_bytes > length_bytes_max {
            return Err(FrameError::TooLong { length_bytes, length_bytes_max });
        }
        Ok(Self { of, length_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CONTROL_BYTES_MAX, DATA_BYTES_MAX, Decoder, Frame, FrameError, HEAD_BYTES};
    use crate::connection::ConnectionId;
    use crate::exec::{ExecId, Stream};

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        let stream = prop::sample::select(vec![Stream::Stdin, Stream::Stdout, Stream::Stderr]);
        prop_oneof![
            bytes().prop_map(Frame::Control),
            (any::<u32>(), stream, bytes()).prop_map(|(exec, stream, bytes)| Frame::Data {
                exec: ExecId(exec),
                stream,
                bytes
            }),
            (any::<u32>(), bytes())
                .prop_map(|(number, bytes)| Frame::Connection { connection: ConnectionId(number), bytes }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(frames in prop::collection::vec(any_frame(), 0..8), cut in 1_usize..64) {
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.encode(&mut bytes).expect("within limits");
            }
            let mut decoder = Decoder::new();
            let mut decoded = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().expect("own frames are valid") {
                    decoded.push(frame);
                }
            }
            prop_assert_eq!(decoded, frames);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[track_caller]
    fn check_refused(head: [u8; HEAD_BYTES], expected: &FrameError) {
        let mut decoder = Decoder::new();
        decoder.push(&head);
        assert_eq!(decoder.next_frame().as_ref(), Err(expected));
    }

    #[test]
    fn a_broken_head_is_refused_before_its_payload_arrives() {
        check_refused([9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &FrameError::UnknownKind { kind: 9 });
        check_refused([2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &FrameError::UnknownStream { kind: 2, stream: 7 });
        check_refused([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &FrameError::UnknownStream { kind: 1, stream: 1 });
        check_refused([3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &FrameError::UnknownStream { kind: 3, stream: 1 });
        check_refused([1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], &FrameError::ReservedNotZero);
        check_refused([3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &FrameError::ReservedNotZero);
        check_refused([1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], &FrameError::ReservedNotZero);
        let too_long = |length_bytes, length_bytes_max| FrameError::TooLong { length_bytes, length_bytes_max };
        check_refused([2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0], &too_long(DATA_BYTES_MAX + 1, DATA_BYTES_MAX));
        check_refused([3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, 0], &too_long(DATA_BYTES_MAX + 1, DATA_BYTES_MAX));
        check_refused([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 64, 0], &too_long(CONTROL_BYTES_MAX + 1, CONTROL_BYTES_MAX));
    }

    #[test]
    fn a_head_alone_is_the_head_of_the_frame() {
        let mut out = Vec::new();
        let frame = Frame::Data { exec: ExecId(70_000), stream: Stream::Stderr, bytes: vec![7; DATA_BYTES_MAX] };
        frame.encode(&mut out).expect("just short enough");
        let head = super::data_head(ExecId(70_000), Stream::Stderr, DATA_BYTES_MAX).expect("just short enough");
        assert_eq!(out.first_chunk(), Some(&head));
        assert!(super::data_head(ExecId(1), Stream::Stdout, DATA_BYTES_MAX + 1).is_err());
        let mut out = Vec::new();
        let frame = Frame::Connection { connection: ConnectionId(70_000), bytes: vec![7; 3] };
        frame.encode(&mut out).expect("short");
        assert_eq!(out.first_chunk(), super::connection_head(ConnectionId(70_000), 3).ok().as_ref());
    }

    #[test]
    fn the_bytes_of_a_data_frame_are_fixed() {
        let mut out = Vec::new();
        let frame = Frame::Data { exec: ExecId(0x0102), stream: Stream::Stdout, bytes: b"hi".to_vec() };
        frame.encode(&mut out).expect("short");
        assert_eq!(out, [2, 1, 0, 0, 2, 1, 0, 0, 2, 0, 0, 0, b'h', b'i']);
        let mut out = Vec::new();
        Frame::Connection { connection: ConnectionId(0x0102), bytes: b"hi".to_vec() }.encode(&mut out).expect("short");
        assert_eq!(out, [3, 0, 0, 0, 2, 1, 0, 0, 2, 0, 0, 0, b'h', b'i']);
    }
}
