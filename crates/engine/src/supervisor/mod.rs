//! A machine brought to life and talked to: its boot phases and the link to the agent in it.

pub mod accelerator;
pub mod boot;
pub mod guest_link;
pub mod plan;
pub mod start;
pub mod template;
