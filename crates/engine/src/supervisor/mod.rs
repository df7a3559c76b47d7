//! A machine brought to life and talked to: its boot phases ([`boot`], [`start`]) and the link to the agent in it
//! ([`guest_link`]); and the process that owns the machine of a workspace: its loop ([`driver`]), its rules ([`state`]), and
//! what its clients say to it ([`protocol`], [`socket`]).

pub mod accelerator;
pub mod boot;
mod commands;
pub mod driver;
pub mod guest_link;
pub mod layers;
pub mod plan;
pub mod protocol;
mod server;
pub mod socket;
pub mod spawn;
pub mod start;
pub mod state;
pub mod template;
