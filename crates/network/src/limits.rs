//! Every limit of the network in one place: the guest is hostile, so nothing here is without one.

use std::time::Duration;

/// Bytes of an IP packet that fit into one frame. Frames cross a local socket, where large ones cost no more than small ones.
pub const MTU_BYTES: usize = 65_520;

/// Longest Ethernet frame: a header and a packet.
pub(crate) const FRAME_BYTES_MAX: usize = 14 + MTU_BYTES;

/// Frames that wait for the guest to take them. Beyond this, streams wait and datagrams are dropped.
pub(crate) const OUTPUT_BYTES_MAX: usize = 2 << 20;

/// TCP connections at once, those included that are being made.
pub(crate) const CONNECTIONS_MAX: usize = 512;

/// TCP connections that are being made at once.
pub(crate) const CONNECTING_MAX: usize = 128;

/// What a connection holds of the bytes of each direction. Memory is taken as it is used.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Longest packet that may begin a connection: a header and options. It is kept while the connection is being made.
pub(crate) const SYN_BYTES_MAX: usize = 256;

/// How long the host may take to make a connection.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long a guest may leave sent bytes unacknowledged.
pub(crate) const GUEST_SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// How long a connection may carry nothing.
pub(crate) const TCP_IDLE_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// How long a connection may carry nothing when one of its sides has closed.
pub(crate) const TCP_HALF_CLOSED_LIMIT: Duration = Duration::from_secs(5 * 60);

/// UDP conversations at once.
pub(crate) const CONVERSATIONS_MAX: usize = 256;

/// How long a UDP conversation may carry nothing.
pub(crate) const UDP_IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Longest question that is read; questions are a name and a few numbers.
pub(crate) const DNS_QUESTION_BYTES_MAX: usize = 1024;

/// Longest answer that is passed on over UDP, and the size we answer to have.
pub(crate) const DNS_ANSWER_BYTES_MAX: usize = 4096;

/// Questions that are being answered at once; more are dropped, and asked again by the guest.
pub(crate) const DNS_QUESTIONS_MAX: usize = 64;

/// How long the host's resolver may take.
pub(crate) const DNS_LIMIT: Duration = Duration::from_secs(10);

/// What the guest is told about how long an address stands for a name.
pub(crate) const DNS_TTL_SECONDS: u32 = 60;

/// For how long an address may be connected to after a name was resolved to it: longer than it is told, because programs
/// look a name up and connect some time later.
pub(crate) const LEARNED_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Addresses that are remembered with their names.
pub(crate) const LEARNED_ADDRESSES_MAX: usize = 4096;

/// Names that are remembered of one address.
pub(crate) const LEARNED_NAMES_MAX: usize = 16;

/// Addresses of one name that are told.
pub(crate) const DNS_ADDRESSES_MAX: usize = 16;

/// For how long what the host's resolver said is used again.
pub(crate) const DNS_CACHE_LIMIT: Duration = Duration::from_secs(10);

/// Names of which that is remembered.
pub(crate) const DNS_CACHE_NAMES_MAX: usize = 512;

/// Most rules of each kind in a policy.
pub const RULES_MAX: usize = 64;

/// Refusals and failures that are recorded one by one within [`NOTES_WINDOW`]; of more only the number is told.
pub(crate) const NOTES_MAX: u32 = 50;

/// See [`NOTES_MAX`].
pub(crate) const NOTES_WINDOW: Duration = Duration::from_secs(10);
