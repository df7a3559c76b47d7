//! Every message that the host and the guest agent exchange, and how it is laid out in bytes.
//!
//! The two sides share one ordered byte stream (a virtio-serial port). [`frame`] cuts it into frames; a frame carries
//! either one JSON message ([`message`]) or raw bytes: of one stream of one command ([`exec`]), or of one connection to a port
//! of the guest ([`connection`]). Streams are under credit-based flow control ([`credit`]), so a reader that stalls stalls
//! only its own stream. A command is a program of the guest or a tool of the agent ([`tool`]).
//!
//! A session starts with [`message::HostMessage::Hello`], which settles the protocol version ([`version`]), and ends with
//! [`message::HostMessage::Detach`] or with the machine. There is no I/O here, no thread, no clock and no `unsafe`.

pub mod changes;
pub mod connection;
pub mod credit;
pub mod exec;
pub mod export;
pub mod fault;
pub mod files;
pub mod frame;
pub mod lifecycle;
pub mod message;
pub mod patch;
pub mod ready;
pub mod search;
pub mod sync;
pub mod tool;
pub mod version;

pub use connection::ConnectionId;
pub use exec::{ExecId, ExecRequest, Exit, Program, Stream, TerminalSize};
pub use fault::{Fault, FaultKind};
pub use frame::{Decoder, Frame, FrameError};
pub use message::{GuestMessage, HostMessage, RequestId};
pub use tool::Tool;

/// Name of the virtio-serial port on which the agent listens (`/dev/virtio-ports/<name>`; the agent finds it through
/// `/sys/class/virtio-ports/*/name`).
pub const PORT_NAME: &str = "org.pyro.agent.0";
