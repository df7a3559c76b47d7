//! Black-box tests of the pyro binary on real microVMs: what the tests in `tests/` share.
//!
//! [`Home`] is a user of one test: own state, configuration and temporary files, and either the machine's shared cache
//! of environments or an empty one. [`Pyro`] is one call of the program, [`Outcome`] what came of it, [`Running`] the time
//! between, [`Terminal`] the same on a terminal. [`Workspace`] is a workspace of such a user, [`mcp`] a chat host as far as
//! the protocol goes, [`attacks`] what a hostile model has it do, [`hosts`] the real ones, [`conformance`] programs of
//! others. [`leftovers`] finds what a call left behind, [`trees`] compares directories, [`host_tools`] calls git and its
//! like, [`project`] makes what is worked on. [`Networks`] are two namespaces of the kernel's in which names and hosts are
//! a test's own.
//! [`archive`] makes a Debian archive with a key of its own and [`http`] serves it, with faults to order; [`Mirror`] is a
//! user of such an archive, and [`tiny`] a system that is small enough to be installed by a test.
//!
//! Deliberately absent: any crate of pyro. What is tested is the program as a user has it, from `PYRO_BIN` or the
//! release build. `PYRO_KEEP=1` keeps the homes for a look, `PYRO_TEST_CACHE` names another shared cache.

pub mod archive;
pub mod attacks;
pub mod conformance;
pub mod false_qemu;
mod guests;
mod home;
pub mod host_tools;
pub mod hosts;
pub mod http;
pub mod leftovers;
pub mod mcp;
mod mirror;
mod networks;
mod outcome;
pub mod project;
mod pyro;
mod running;
mod surroundings;
mod terminal;
pub mod tiny;
pub mod trees;
mod workspace;

pub use home::Home;
pub use mirror::Mirror;
pub use networks::{NEAR, Networks};
pub use outcome::Outcome;
pub use pyro::Pyro;
pub use running::Running;
pub use surroundings::{long_command_seconds, pyro_binary, variable};
pub use terminal::Terminal;
pub use workspace::Workspace;

/// The environment most tests run in.
pub const DEBIAN: &str = "debian:12";

/// The same with compilers.
pub const DEBIAN_BUILD: &str = "debian:12-build";
