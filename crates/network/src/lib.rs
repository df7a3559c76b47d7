//! What a guest's network is: its frames on one side, the host's sockets on the other, and judgement in between.
//!
//! A machine with a network has one interface, whose frames come to [`Network`] over a stream. There is no device, no
//! address and no rule of the host for it, and it needs no privilege: connections of the guest end in a TCP/IP stack of this
//! process, and go on as sockets of this process. Policy ([`Policy`]), names and the record of connections ([`Observer`]) are
//! all in this one place, and nothing goes around it.
//!
//! Deliberately absent: machines, workspaces, the words between host and guest. Who starts a network gives it a descriptor.

mod address;
mod contain;
mod dns;
mod learned;
mod limits;
mod packet;
mod policy;
mod pump;
mod record;
mod resolve;
mod stack;
pub mod trial;

pub use address::{
    GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6, HOST_NAME, PREFIX_V4, PREFIX_V6, Place,
};
pub use contain::contains_panics;
pub use limits::{MTU_BYTES, RULES_MAX};
pub use policy::{AllowRule, DomainRule, HostRule, Policy, Protocol, RefuseRule, RuleError};
pub use pump::Network;
pub use record::{Conversation, Counters, Observer, Outcome, Spoken};
