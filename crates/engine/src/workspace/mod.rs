//! The operations a face can ask for; one file per noun.
//!
//! [`run`] has a machine for one command. A workspace lasts: [`directory`] finds it, [`create`] makes it, [`lifecycle`]
//! changes and ends it, [`client`] talks to the process that owns its machine, which [`supervise`] is. [`shell`] has terminals in it
//! that stay. The operations on a
//! workspace's files are written against [`tool`].

mod answer;
pub mod between;
pub mod client;
pub mod command;
pub mod create;
pub mod crossings;
pub mod diff;
pub mod directory;
pub mod disk;
pub mod doctor;
pub mod env;
pub mod error;
pub mod export;
pub mod files;
pub mod finish;
pub mod guest_path;
pub mod leftovers;
pub mod lifecycle;
pub mod logs;
pub mod looker;
pub mod machines;
pub mod network;
pub mod patch;
pub mod ports;
mod proxy;
pub mod removed;
pub mod run;
pub mod search;
pub mod seen;
pub mod services;
pub mod shell;
pub mod snapshot;
pub mod supervise;
pub mod sync;
pub mod tool;
pub mod usage;

pub use directory::{Workspace, Workspaces};
pub use error::WorkspaceError;
pub use pyro_seed as seed;
