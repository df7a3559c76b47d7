//! Connections: streams from the host to ports of the guest, side by side with commands.
//!
//! The agent connects to the guest's own loopback, so that what listens only there is reached too. Each direction flows
//! under credit of its own ([`crate::credit`]) and ends by an empty frame; a connection is over when both have ended, or at
//! once when either side says that it was reset.

use serde::{Deserialize, Serialize};

/// Names one connection within a session. Chosen by the host, never used twice in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u32);

/// Most connections one agent has at once.
pub const CONNECTIONS_MAX: usize = 512;

/// Credit that the sender of each direction starts with. Less than a command's, because there may be many: at most
/// [`CONNECTIONS_MAX`] times this waits in the guest for services that do not read.
pub const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;
