//! A machine brought to life and talked to: its boot phases ([`boot`], [`start`]) and the link to the agent in it
//! ([`guest_link`]); and the process that owns the machine of a workspace: its loop ([`driver`]), its rules ([`state`]),
//! what it writes down ([`notes`]), its secrets ([`secrets`]), and what its clients say to it ([`protocol`],
//! [`shell_protocol`], [`socket`]).

pub mod accelerator;
pub mod boot;
mod commands;
pub mod driver;
mod ending;
mod events;
mod filters;
pub mod guest_link;
mod input;
pub mod layers;
pub mod notes;
mod pace;
pub mod plan;
pub mod ports;
pub mod protocol;
mod reset;
pub mod secrets;
mod server;
pub mod services;
pub mod shell_protocol;
mod shells;
mod snapshot;
pub mod socket;
pub mod spawn;
pub mod start;
pub mod state;
pub mod template;
pub mod traffic;
