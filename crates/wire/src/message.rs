//! The control messages, one enum a direction.
//!
//! A session: `Hello` → `Welcome`, then requests, each answered by one `Reply` of the same id, and commands, each
//! answered by `Started` and `Exited`, or by `NotStarted`, and connections, each answered by `Connected` or `NotConnected`. `Detach` ends the session at a frame boundary and puts the agent back to waiting
//! for a `Hello`; what was mounted stays mounted.

use serde::{Deserialize, Serialize};

use crate::connection::ConnectionId;
use crate::exec::{ExecId, ExecRequest, Exit, Stream, TerminalSize};
use crate::fault::Fault;
use crate::frame::{Frame, FrameError};
use crate::lifecycle::{Prepare, Ready, SetUp};
use crate::version::ProtocolRange;

/// Names one request within a session. Chosen by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u32);

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum HostMessage {
    /// Opens a session. The agent ends whatever an earlier session left running.
    Hello {
        /// What the host speaks.
        protocol: ProtocolRange,
        /// Random name of this session, echoed in `Welcome`.
        session: String,
    },
    /// Asks for one thing, answered by [`GuestMessage::Reply`].
    Request {
        /// Names the answer.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// Starts a command.
    Exec {
        /// Names the command from now on.
        exec: ExecId,
        /// What to run.
        request: ExecRequest,
    },
    /// The host's consumer took bytes of `stream`: that many more may be sent.
    Credit {
        /// The command.
        exec: ExecId,
        /// Standard output or standard error.
        stream: Stream,
        /// Bytes given back.
        bytes: u32,
    },
    /// Sends a signal to the command's foreground process group.
    Signal {
        /// The command.
        exec: ExecId,
        /// A signal number of Linux.
        signal: u8,
    },
    /// Kills the command and everything it started; answered by `Exited` with [`Exit::Killed`], or with the command's own
    /// end if that came first. Also what an ended command left running is killed, as long as `Exited` waits for credit.
    Kill {
        /// The command.
        exec: ExecId,
    },
    /// Asks the command and everything it started to end: all of it gets `TERM`, and what is left after the grace is killed.
    Terminate {
        /// The command.
        exec: ExecId,
        /// How long it has.
        grace_ms: u64,
    },
    /// The terminal has a new size.
    Resize {
        /// The command.
        exec: ExecId,
        /// The new size.
        size: TerminalSize,
    },
    /// Connects to a port of the guest's loopback, by IPv4 or else by IPv6.
    Connect {
        /// Names the connection from now on.
        connection: ConnectionId,
        /// The port.
        port: u16,
    },
    /// The host's end took bytes of the connection: that many more may be sent.
    ConnectionCredit {
        /// The connection.
        connection: ConnectionId,
        /// Bytes given back.
        bytes: u32,
    },
    /// The host's end of the connection broke off; it is forgotten, and the guest's end is broken off too.
    ConnectionReset {
        /// The connection.
        connection: ConnectionId,
    },
    /// Ends the session; the agent waits for the next `Hello`.
    Detach,
}

/// What can be asked of the agent besides running a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Mount what all machines of the environment share; once in a machine's life.
    Prepare(Prepare),
    /// Make the machine one of a kind and ready for commands; once in a machine's life, after `Prepare`.
    SetUp(SetUp),
    /// End all commands, write everything to the disks, unmount or remount read-only, discard unused blocks of a
    /// writable root, and then power off. The answer comes before the power goes.
    ShutDown,
    /// Write everything to the disks.
    Sync,
    /// Keep the workspace disk as it is from the answer on, with everything on it that was written: what writes to it waits.
    /// [`Request::Thaw`] ends it, the end of the session, or [`crate::lifecycle::FROZEN_MS_MAX`].
    Freeze,
    /// Let the frozen workspace disk be written again. Refused when it was not frozen any more.
    Thaw,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Prepare`, `ShutDown`, `Sync`, `Freeze` and `Thaw`.
    Done,
    /// To `SetUp`.
    Ready(Ready),
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum GuestMessage {
    /// Answers `Hello`.
    Welcome {
        /// The session named in `Hello`.
        session: String,
        /// The version settled on; `None` when the two have none in common, and the session is over.
        protocol: Option<u16>,
        /// What the agent speaks.
        speaks: ProtocolRange,
        /// Version of the agent.
        agent_version: String,
    },
    /// Answers a `Request`.
    Reply {
        /// The request.
        id: RequestId,
        /// How it went.
        result: Result<Answer, Fault>,
    },
    /// The command's process exists.
    Started {
        /// The command.
        exec: ExecId,
        /// Its process id in the guest.
        pid: u32,
    },
    /// The command could not be started; nothing of it remains.
    NotStarted {
        /// The command.
        exec: ExecId,
        /// Why.
        fault: Fault,
    },
    /// The command's process ended. Everything it had written until then was sent before this, and each of its output
    /// streams was ended; what it left running may go on, its output is dropped. After [`HostMessage::Kill`] output for
    /// which there is no credit is dropped too.
    Exited {
        /// The command.
        exec: ExecId,
        /// How it ended.
        exit: Exit,
        /// How long it ran, by the guest's clock.
        duration_ms: u64,
    },
    /// The command took bytes of its standard input: that many more may be sent.
    Credit {
        /// The command.
        exec: ExecId,
        /// Bytes given back.
        bytes: u32,
    },
    /// Something in the guest accepted the connection.
    Connected {
        /// The connection.
        connection: ConnectionId,
    },
    /// Nothing did; the connection is forgotten.
    NotConnected {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        fault: Fault,
    },
    /// The guest's end took bytes of the connection: that many more may be sent.
    ConnectionCredit {
        /// The connection.
        connection: ConnectionId,
        /// Bytes given back.
        bytes: u32,
    },
    /// The guest's end of the connection broke off; it is forgotten.
    ConnectionReset {
        /// The connection.
        connection: ConnectionId,
    },
}

/// A control frame that holds no message of this protocol.
#[derive(Debug, thiserror::Error)]
#[error("control frame holds no message this version knows")]
pub struct MessageError(#[from] serde_json::Error);

macro_rules! in_frames {
    ($message:ty) => {
        impl $message {
            /// Appends the message as one control frame.
            ///
            /// # Errors
            /// The message is longer than a control frame may be.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
                let json = serde_json::to_vec(self).expect("messages have string keys and no failing serialiser");
                Frame::Control(json).encode(out)
            }

            /// Reads the message of a control frame.
            ///
            /// # Errors
            /// The payload is not such a message.
            pub fn decode(payload: &[u8]) -> Result<Self, MessageError> {
                Ok(serde_json::from_slice(payload)?)
            }
        }
    };
}

in_frames!(HostMessage);
in_frames!(GuestMessage);
